"""How captured lines are written: as they came, behind a date, or wrapped in JSON objects. Pure but for the time zone."""

from __future__ import annotations

import time
from enum import IntEnum

from oxherd import jsons as json
from oxherd.config.model import LogFormat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oxherd.config.model import LogSpec

__all__ = ["Form", "Stamper", "bears", "utc_text"]


class Form(IntEnum):
    """How lines are dressed in a log."""

    RAW = 0
    DATED = 1
    JSON = 2


def utc_text(nanoseconds: int) -> str:
    """Return ``2026-11-21T08:23:11.123456Z``."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest // 1000:06d}Z"


def bears(written: bytes, line: bytes, form: int, *, whole: bool = True) -> bool:
    """Return whether a line of a log is what became of a captured one; both without their newlines.

    Args:
        written: The line in the log.
        line: The line as it was captured.
        form: The `Form` of the log.
        whole: Whether ``line`` is all of it, not its end alone.
    """
    if form == Form.JSON:
        quoted = json.dumps(line.decode("utf-8", "backslashreplace"), ensure_ascii=False)
        ending = (quoted if whole else quoted[1:]) + "}"
        return written.endswith((', "line": ' if whole else "").encode() + ending.encode("utf-8", "backslashreplace"))
    if form == Form.DATED:
        return written.endswith(b" " + line if whole else line)
    return written == line if whole else written.endswith(line)


class Stamper:
    """Turns whole lines into what is written to the file.

    Args:
        spec: Of the process.
        process: Its name.
        stream: ``output``, ``stdout`` or ``stderr``.
    """

    __slots__ = ("_date_format", "_json", "_process", "_second", "_stream", "_text", "form", "raw")

    def __init__(self, spec: LogSpec, process: str, stream: str) -> None:
        """Choose the form once."""
        self._json = spec.format is LogFormat.JSON
        self._date_format = spec.date_format
        self._process = process
        self._stream = stream
        self._second = -1
        self._text = ""
        self.raw = not self._json and not self._date_format
        self.form = Form.RAW if self.raw else Form.JSON if self._json else Form.DATED

    def apply(self, lines: bytes, nanoseconds: int, slot: int) -> bytes:
        """Return the lines (each ending in a newline) in the form the oxfile asks for."""
        if self.raw:
            return lines
        if self._json:
            return self._wrap(lines, nanoseconds, slot)
        prefix = self._date(nanoseconds)
        return prefix + lines[:-1].replace(b"\n", b"\n" + prefix) + b"\n"

    def _date(self, nanoseconds: int) -> bytes:
        """Return the prefix; only the fraction is made anew within one second."""
        seconds, rest = divmod(nanoseconds, 1_000_000_000)
        if seconds != self._second:
            self._second = seconds
            # strftime(3) knows no fractions: they are put in afterwards, and must survive it.
            form = (self._date_format or "").replace("%3f", "%%3f").replace("%f", "%%f")
            # One line stays one line whatever the form says (%n): a recovery after a kill counts on it.
            self._text = time.strftime(form, time.localtime(seconds)).replace("\n", " ")
        text = self._text.replace("%3f", f"{rest // 1_000_000:03d}").replace("%f", f"{rest // 1000:06d}")
        return text.encode("utf-8", "backslashreplace") + b" "

    def _wrap(self, lines: bytes, nanoseconds: int, slot: int) -> bytes:
        head = {"time": utc_text(nanoseconds), "process": self._process, "instance": slot, "stream": self._stream}
        start = json.dumps(head)[:-1] + ', "line": '
        # Not UTF-8: b"\xff" becomes the four characters \xff, for JSON has no way to say it.
        text = lines[:-1].decode("utf-8", "backslashreplace")
        quoted = [start + json.dumps(line, ensure_ascii=False) + "}\n" for line in text.split("\n")]
        return "".join(quoted).encode("utf-8", "backslashreplace")
