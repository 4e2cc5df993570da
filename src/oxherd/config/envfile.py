r"""The reader of env_files: ``NAME=value`` lines as dotenv tools, Docker and shells write them.

Understood: blank lines, ``#`` comments, an ``export`` prefix, unquoted values (a ``#`` after a space begins a comment),
single quotes (everything literal) and double quotes (``\n``, ``\t``, ``\"``, ``\\``, ``\$``; may span lines).
References such as ``${HOME}`` are left in place for the caller; ``literal`` says where they must stay.
"""

from __future__ import annotations

from oxherd.records import dataclass

__all__ = ["EnvFileError", "EnvLine", "parse_env_file"]

_FIRST = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_")
_REST = _FIRST | frozenset("0123456789.-")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "'": "'"}


class EnvFileError(ValueError):
    """A line cannot be understood.

    Attributes:
        line: Its number, from 1.
        reason: What is wrong, without the value.
    """

    def __init__(self, line: int, reason: str) -> None:
        """Keep the place and the reason; the value may be a secret and is not kept."""
        super().__init__(f"line {line}: {reason}")
        self.line = line
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvLine:
    """One assignment. ``literal`` values take no part in the expansion of ``${NAME}``."""

    name: str
    value: str
    line: int
    literal: bool = False


def parse_env_file(text: str) -> tuple[EnvLine, ...]:
    """Return the assignments of a file in their order.

    Args:
        text: The whole file.

    Raises:
        EnvFileError: A line is no assignment, or a quote is not closed.
    """
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    found: list[EnvLine] = []
    index = 0
    while index < len(lines):
        line = lines[index].strip()
        number = index + 1
        index += 1
        if not line or line.startswith("#"):
            continue
        name, value = _assignment(line, number)
        if value.startswith('"'):
            value, index = _double_quoted(value, lines, index, number)
            found.append(EnvLine(name=name, value=value, line=number))
        elif value.startswith("'"):
            found.append(EnvLine(name=name, value=_single_quoted(value, number), line=number, literal=True))
        else:
            found.append(EnvLine(name=name, value=_unquoted(value), line=number))
    return tuple(found)


def _assignment(line: str, number: int) -> tuple[str, str]:
    name, equals, value = line.partition("=")
    words = name.split()
    if len(words) == 2 and words[0] == "export":
        words = words[1:]
    if len(words) != 1 or not equals:
        raise EnvFileError(number, "this is not NAME=value")
    if words[0][0] not in _FIRST or not set(words[0]) <= _REST:
        raise EnvFileError(number, f'"{words[0]}" cannot be the name of a variable')
    if "\0" in value:
        raise EnvFileError(number, "a value cannot hold a NUL byte")
    return words[0], value.strip()


def _unquoted(value: str) -> str:
    if value.startswith("#"):
        return ""
    for mark in (" #", "\t#"):
        value = value.partition(mark)[0]
    return value.rstrip()


def _single_quoted(value: str, number: int) -> str:
    body, quote, rest = value[1:].partition("'")
    if not quote:
        raise EnvFileError(number, "a single quote is not closed on its line")
    _expect_end(rest, number)
    return body


def _double_quoted(value: str, lines: list[str], index: int, number: int) -> tuple[str, int]:
    pieces: list[str] = []
    text = value[1:]
    while True:
        at = 0
        while at < len(text):
            char = text[at]
            if char == '"':
                _expect_end(text[at + 1 :], index)
                return "".join(pieces), index
            if char == "\\" and at + 1 < len(text):
                following = text[at + 1]
                # A dollar sign that was escaped must stay one when ${NAME} is expanded later.
                pieces.append("$$" if following == "$" else _ESCAPES.get(following, f"\\{following}"))
                at += 2
                continue
            pieces.append(char)
            at += 1
        if index >= len(lines):
            raise EnvFileError(number, "a double quote is not closed")
        pieces.append("\n")
        text = lines[index]
        index += 1


def _expect_end(rest: str, number: int) -> None:
    rest = rest.strip()
    if rest and not rest.startswith("#"):
        raise EnvFileError(number, "there is text after the closing quote")
