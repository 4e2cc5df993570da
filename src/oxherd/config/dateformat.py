"""``log_date_format``: the moment-style spelling (``YYYY-MM-DD HH:mm:ss``) translated to strftime.

A format with a percent sign is strftime already and is passed on. Milliseconds have no strftime directive; they become
``%3f``, which the writer of the log replaces by three digits (``%f`` stays six digits).
"""

from __future__ import annotations

__all__ = ["to_strftime"]

# Longest first, so that YYYY is not read as two times YY.
_TOKENS = (
    ("YYYY", "%Y"),
    ("MMMM", "%B"),
    ("dddd", "%A"),
    ("DDDD", "%j"),
    ("SSSSSS", "%f"),
    ("MMM", "%b"),
    ("ddd", "%a"),
    ("DDD", "%j"),
    ("SSS", "%3f"),
    ("YY", "%y"),
    ("MM", "%m"),
    ("DD", "%d"),
    ("HH", "%H"),
    ("hh", "%I"),
    ("mm", "%M"),
    ("ss", "%S"),
    ("ZZ", "%z"),
    ("Z", "%z"),
    ("A", "%p"),
    ("a", "%p"),
    ("X", "%s"),
)
_DIRECTIVES = frozenset("aAbBcdfFGHIjmMnpsSTuUVwWxXyYzZ%eDRCghklr")


def to_strftime(text: str) -> str:
    """Return the strftime format of a date format in either spelling.

    Args:
        text: ``"YYYY-MM-DD HH:mm:ss.SSS"`` or ``"%Y-%m-%d %H:%M:%S"``. Text in square brackets is literal.

    Raises:
        ValueError: Nothing in it stands for a date or time, or a percent directive is unknown.
    """
    return _checked(text) if "%" in text else _translated(text)


def _checked(text: str) -> str:
    rest = text
    while "%" in rest:
        rest = rest.partition("%")[2]
        directive = rest.removeprefix("3") if rest.startswith("3f") else rest
        if directive[:1] not in _DIRECTIVES or not directive:
            raise ValueError(f"a strftime format; %{rest[:1]} is no directive")
        rest = directive[1:]
    return text


def _translated(text: str) -> str:
    pieces: list[str] = []
    at = found = 0
    while at < len(text):
        if text[at] == "[" and "]" in text[at:]:
            end = text.index("]", at)
            pieces.append(text[at + 1 : end])
            at = end + 1
            continue
        token, directive = next(((t, d) for t, d in _TOKENS if text.startswith(t, at)), (text[at], ""))
        found += bool(directive)
        pieces.append(directive or token)
        at += len(token)
    if not found:
        raise ValueError('a date format such as "YYYY-MM-DD HH:mm:ss" or "%Y-%m-%d %H:%M:%S"')
    return "".join(pieces)
