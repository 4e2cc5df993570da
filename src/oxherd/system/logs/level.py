"""How bad a line of somebody else's program is: levels found in JSON lines and in the usual text formats. Pure."""

from __future__ import annotations

import json
import re
from enum import IntEnum

__all__ = ["Level", "LevelTracker", "find_level", "may_reach", "parse_level"]


class Level(IntEnum):
    """Levels in the order of how bad they are, with the numbers of Python's logging."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40
    CRITICAL = 50


_NAMES = {
    "trace": Level.DEBUG,
    "debug": Level.DEBUG,
    "info": Level.INFO,
    "information": Level.INFO,
    "notice": Level.INFO,
    "log": Level.INFO,
    "success": Level.INFO,
    "warn": Level.WARNING,
    "warning": Level.WARNING,
    "err": Level.ERROR,
    "error": Level.ERROR,
    "exception": Level.ERROR,
    "crit": Level.CRITICAL,
    "critical": Level.CRITICAL,
    "fatal": Level.CRITICAL,
    "alert": Level.CRITICAL,
    "emerg": Level.CRITICAL,
    "emergency": Level.CRITICAL,
    "panic": Level.CRITICAL,
}
_KEYS = ("level", "levelname", "severity", "log_level", "loglevel", "lvl", "log.level", "levelno")

# Python, uvicorn, gunicorn, celery, loguru, PostgreSQL shout the word; nginx, structlog and Go put it in brackets;
# logfmt names it. A lower-case "error" elsewhere is prose.
_WORD = re.compile(
    r"(?<![\w./-])(?P<loud>TRACE|DEBUG|INFO|NOTICE|SUCCESS|WARN(?:ING)?|ERR(?:OR)?|CRIT(?:ICAL)?|FATAL|ALERT|EMERG(?:ENCY)?|PANIC)(?![\w.])"
    r"|\[\s*(?P<bracket>trace|debug|info|notice|warn(?:ing)?|err(?:or)?|exception|crit(?:ical)?|fatal|alert|emerg|panic)\s*\]"
    r"|\b(?:level|lvl|severity)=[\"']?(?P<named>[A-Za-z]+)"
)
# The level stands near the beginning; further on it is what the message is about.
_REACH = 200

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_TRACEBACK = "Traceback (most recent call last):"
_GROUP = "Exception Group Traceback (most recent call last):"
_BETWEEN = (
    "During handling of the above exception, another exception occurred:",
    "The above exception was the direct cause of the following exception:",
)


# Without one of these in it, in whatever case, no text can say that it is a warning, or an error, or worse.
_ERROR_MARKS = (b"err", b"exception", b"traceback", b"crit", b"fatal", b"alert", b"emerg", b"panic")
_WARNING_MARKS = (b"warn", *_ERROR_MARKS)
# Nor with one of these, unless a number follows.
_NUMBER_MARKS = (b'level"', b'levelno"', b'lvl"', b'severity"')
_NUMBER = re.compile(rb'(?:level|levelno|lvl|severity)"\s*:\s*\d')


def may_reach(text: bytes, least: int) -> bool:
    """Return whether a line of that level or worse may begin in ``text``; for skipping much of it quickly."""
    if least <= Level.INFO:
        return True
    lowered = text.lower()
    if any(mark in lowered for mark in (_WARNING_MARKS if least <= Level.WARNING else _ERROR_MARKS)):
        return True
    return any(mark in lowered for mark in _NUMBER_MARKS) and _NUMBER.search(lowered) is not None


def parse_level(text: str) -> Level:
    """Return the level a person names.

    Raises:
        ValueError: There is no such level; the text lists them.
    """
    level = _NAMES.get(text.strip().lower())
    if level is None:
        raise ValueError("one of debug, info, warning, error, critical")
    return level


def find_level(text: str) -> Level | None:
    """Return the level a line says it has, or None if it says none."""
    if "\x1b" in text:
        text = _COLOUR.sub("", text)
    if text.startswith("{"):
        found = _json_level(text)
        if found is not None:
            return found
    if text.startswith("Fatal Python error:"):
        return Level.CRITICAL
    match = _WORD.search(text, 0, _REACH)
    if match is None:
        return None
    return _NAMES.get((match["loud"] or match["bracket"] or match["named"]).lower())


def _json_level(text: str) -> Level | None:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict):
        return None
    for key in _KEYS:
        value = data.get(key)
        if isinstance(value, str) and value.lower() in _NAMES:
            return _NAMES[value.lower()]
        if isinstance(value, int) and not isinstance(value, bool):
            return _number_level(value)
    return None


def _number_level(value: int) -> Level:
    """Round down as Python's logging does; pino's 60 (fatal) is above everything."""
    return max((level for level in Level if level <= value), default=Level.DEBUG)


class LevelTracker:
    """Gives lines without a level that of the line they belong to: the frames of a traceback, indented continuations.

    One tracker for each instance and stream. A line that belongs to none and says nothing is `Level.INFO`.

    Args:
        cut: Whether there are lines before the first that are not going to be seen.
    """

    __slots__ = ("_after_traceback", "_cut", "_in_group", "_in_traceback", "_last")

    def __init__(self, *, cut: bool = False) -> None:
        """Nothing has been read yet."""
        self._cut = cut
        self._last: Level | None = None
        self._in_traceback = False
        self._in_group = False
        self._after_traceback = False

    def below(self, least: int) -> bool:
        """Return whether lines that say nothing and continue what was read last are known to be below that level."""
        return self._last is not None and self._last < least and not self._in_traceback

    def skip(self) -> None:
        """Lines that are below any level that matters have been left out."""
        self._last = Level.INFO
        self._after_traceback = False

    def classify(self, text: str) -> Level | None:
        """Return the level of the next line; None if it continues a line that has not been seen."""
        bare = text.strip(" |+-\t\r")
        if bare.startswith((_TRACEBACK, _GROUP)):
            self._in_traceback = True
            self._in_group = bare.startswith(_GROUP) or (self._in_group and text[0] == " ")
            # A traceback nobody has logged is an error in itself.
            self._last = max(self._last or Level.ERROR, Level.ERROR)
            return self._last
        if (self._in_traceback or self._after_traceback) and (not bare or bare in _BETWEEN):
            return self._last
        self._after_traceback = False
        if text[:1] in {" ", "\t"}:
            return self._last if self._in_traceback or find_level(text) is None else self._settle(text)
        if self._in_traceback:
            # The first line that is not indented ends the block, and is the exception itself. That of a group is not.
            part, self._in_traceback, self._in_group = not self._in_group, False, False
            if part and find_level(text) is None:
                self._after_traceback = True
                return self._last
        if self._cut:
            self._cut = False
            if find_level(text) is None:
                # The last line of a traceback that has been cut, or one of its own: nobody can say.
                return None
        return self._settle(text)

    def _settle(self, text: str) -> Level:
        self._last = find_level(text) or Level.INFO
        return self._last
