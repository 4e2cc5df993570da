"""The line of every key of a TOML document.

`tomllib` gives values and no places. This scanner gives places and no values: it walks over text that `tomllib` has
already accepted, so it needs to know where keys begin and strings end, and nothing else. What it cannot follow it
leaves out, and it never raises.
"""

from __future__ import annotations

import tomllib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    KeyPath = tuple[str | int, ...]

__all__ = ["key_lines", "nearest_line"]

_BARE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
_SPACE = frozenset(" \t")
_BLANK = frozenset(" \t\r\n")


class _Lost(Exception):  # noqa: N818 - it never leaves this module and is no error of anybody
    """The scanner met something it cannot follow."""


class _Scanner:
    """One pass over the text; ``lines`` fills up with the line of each key path."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.line = 1
        self.counted = 0
        self.lines: dict[KeyPath, int] = {}
        self.lengths: dict[KeyPath, int] = {}
        self.table: KeyPath = ()

    def here(self) -> int:
        """Return the line of the current position."""
        self.line += self.text.count("\n", self.counted, self.at)
        self.counted = self.at
        return self.line

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def skip(self, chars: frozenset[str]) -> None:
        while self.peek() in chars and self.at < len(self.text):
            self.at += 1

    def skip_blank_and_comments(self) -> None:
        while True:
            self.skip(_BLANK)
            if self.peek() != "#":
                return
            end = self.text.find("\n", self.at)
            self.at = len(self.text) if end < 0 else end

    def document(self) -> None:
        while True:
            self.skip_blank_and_comments()
            if self.at >= len(self.text):
                return
            if self.peek() == "[":
                self.header()
            else:
                self.pair(self.table)

    def header(self) -> None:
        array = self.text.startswith("[[", self.at)
        line = self.here()
        self.at += 2 if array else 1
        path: KeyPath = ()
        parts = self.key()
        for index, part in enumerate(parts):
            path = (*path, part)
            self.lines.setdefault(path, line)
            if array and index == len(parts) - 1:
                count = self.lengths.get(path, 0)
                self.lengths[path] = count + 1
                path = (*path, count)
                self.lines[path] = line
            elif path in self.lengths:
                path = (*path, self.lengths[path] - 1)
        if not array:
            # A header after its own sub-tables is still the line that names it.
            self.lines[path] = line
        self.table = path
        self.skip(_SPACE)
        self.at += 2 if array else 1

    def key(self) -> list[str]:
        parts: list[str] = []
        while True:
            self.skip(_SPACE)
            parts.append(self.key_part())
            self.skip(_SPACE)
            if self.peek() != ".":
                return parts
            self.at += 1

    def key_part(self) -> str:
        start = self.at
        if self.peek() in ('"', "'"):
            self.string()
            raw = self.text[start : self.at]
            return str(next(iter(tomllib.loads(f"{raw} = 0")))) if raw.startswith('"') else raw[1:-1]
        while self.peek() in _BARE and self.at < len(self.text):
            self.at += 1
        if self.at == start:
            raise _Lost
        return self.text[start : self.at]

    def pair(self, table: KeyPath) -> None:
        self.skip_blank_and_comments()
        line = self.here()
        path = table
        for part in self.key():
            path = (*path, part)
            self.lines.setdefault(path, line)
        self.skip(_SPACE)
        self.at += 1  # the equals sign
        self.value(path)

    def value(self, path: KeyPath) -> None:
        self.skip(_SPACE)
        char = self.peek()
        if char in ('"', "'"):
            self.string()
        elif char == "[":
            self.array(path)
        elif char == "{":
            self.inline_table(path)
        else:
            self.scalar()

    def scalar(self) -> None:
        start = self.at
        while self.at < len(self.text) and self.text[self.at] not in ",]}#\n":
            self.at += 1
        if self.at == start:
            raise _Lost

    def string(self) -> None:
        quote = self.peek()
        if self.text.startswith(quote * 3, self.at):
            self.multi_line_string(quote)
            return
        self.at += 1
        while self.peek() != quote:
            if self.at >= len(self.text):
                raise _Lost
            self.at += 2 if self.peek() == "\\" and quote == '"' else 1
        self.at += 1

    def multi_line_string(self, quote: str) -> None:
        self.at += 3
        while not self.text.startswith(quote * 3, self.at):
            if self.at >= len(self.text):
                raise _Lost
            self.at += 2 if self.peek() == "\\" and quote == '"' else 1
        self.at += 3
        # Up to two quotes may stand directly before the closing three.
        for _ in range(2):
            if self.peek() == quote:
                self.at += 1

    def array(self, path: KeyPath) -> None:
        self.at += 1
        index = 0
        while True:
            self.skip_blank_and_comments()
            if self.peek() == "]":
                self.at += 1
                return
            self.lines.setdefault((*path, index), self.here())
            self.value((*path, index))
            index += 1
            self.skip_blank_and_comments()
            if self.peek() == ",":
                self.at += 1

    def inline_table(self, path: KeyPath) -> None:
        self.at += 1
        while True:
            self.skip_blank_and_comments()
            if self.peek() == "}":
                self.at += 1
                return
            self.pair(path)
            self.skip_blank_and_comments()
            if self.peek() == ",":
                self.at += 1


def key_lines(text: str) -> dict[KeyPath, int]:
    """Return the line, from 1, of every key path of a valid TOML document.

    Args:
        text: The document. Elements of arrays, tables included, count from 0: ``("apps", 0, "name")``.
    """
    scanner = _Scanner(text)
    try:
        scanner.document()
    except (_Lost, RecursionError, ValueError):
        # A place is a courtesy; without one the key path still says where the problem is.
        return scanner.lines
    return scanner.lines


def nearest_line(lines: Mapping[KeyPath, int], path: KeyPath) -> int:
    """Return the line of a key path, or of the nearest table around it, or 0."""
    for length in range(len(path), 0, -1):
        line = lines.get(path[:length])
        if line:
            return line
    return 0
