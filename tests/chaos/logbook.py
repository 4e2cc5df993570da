"""Whether every line a writer wrote stands in its log exactly once.

The log is read as it grows, over all its rotations: a number is given to a rotated file once and for all (ADR 10), so what
was read of the current file is what was read of the file that gets the next number. Compressed files hold the same bytes.
"""

from __future__ import annotations

import gzip
import re
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["LogBook", "Tail"]

LINE = re.compile(rb"writer (\S+) (\d+) (\.*)")
DROPPED = re.compile(rb"oxherd: (\d+) lines? dropped")


class Tail:
    """A log file and all its rotations, read once from the first byte to the last.

    Args:
        path: Of the current file.
    """

    def __init__(self, path: Path) -> None:
        """Begin at the first file there will be."""
        self.path = path
        self._number, self._offset, self._rest = 1, 0, b""

    def lines(self) -> list[bytes]:
        """Return the whole lines that have come since the last call."""
        found = []
        while (data := self._rotated(self._number)) is not None:
            found.append(data[self._offset :])
            self._number, self._offset = self._number + 1, 0
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            data = b""
        # Rotated between the two looks: what was read is of the next file, and will be read again, from its number.
        if self._name(self._number) is None:
            found.append(data)
            self._offset += len(data)
        *lines, self._rest = (self._rest + b"".join(found)).split(b"\n")
        return lines

    def _name(self, number: int) -> Path | None:
        for name in (f"{self.path.name}.{number}", f"{self.path.name}.{number}.gz"):
            if (path := self.path.with_name(name)).exists():
                return path
        return None

    def _rotated(self, number: int) -> bytes | None:
        while (path := self._name(number)) is not None:
            try:
                return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            except FileNotFoundError:
                # Compressed between the two looks.
                continue
        return None


class LogBook:
    """The account of one writer.

    Args:
        path: Its log.
        counters: The folder in which each incarnation counts the lines it has written.

    Attributes:
        doubled, lost, torn: Lines that stand there again, are missing between two that are there, or are no line of anybody.
        dropped: Lines that Oxherd itself says it dropped.
        unread: Lines that died unread: with a program, in whose pipe they were while there was no supervisor, or with a
            supervisor that held them for a full disk.
    """

    def __init__(self, path: Path, counters: Path) -> None:
        """Nothing has been read."""
        self._tail = Tail(path)
        self._counters = counters
        self._next: dict[str, int] = {}
        self.doubled = self.lost = self.dropped = self.unread = 0
        self.torn: list[str] = []
        self.findings: list[str] = []

    def read(self) -> None:
        """Take what has come."""
        for line in self._tail.lines():
            if match := LINE.fullmatch(line):
                self._count(match[1].decode(), int(match[2]), len(match[3]))
            elif match := DROPPED.match(line):
                self.dropped += int(match[1])
            elif line and not line.startswith(b"oxherd: "):
                self.torn.append(repr(line[:120]))
                self.findings.append(f"a torn line: {line[:120]!r}")

    def _count(self, name: str, number: int, padding: int) -> None:
        expected = self._next.get(name, 0)
        if padding != number % 61:
            self.torn.append(f"{name} {number} with {padding} dots")
            self.findings.append(f"line {number} of {name} is cut: {padding} dots instead of {number % 61}")
        if number < expected:
            self.doubled += 1
            self.findings.append(f"line {number} of {name} stands there again, {expected} was due")
            return
        if number > expected:
            self.lost += number - expected
            self.findings.append(f"lines {expected} to {number - 1} of {name} are missing")
        self._next[name] = number + 1

    def behind(self, written: dict[str, int]) -> dict[str, int]:
        """Return how many lines are not there yet of those that had been written, by incarnation."""
        self.read()
        return {
            name: count - self._next.get(name, 0) for name, count in written.items() if count > self._next.get(name, 0)
        }

    def beyond(self) -> dict[str, int]:
        """Return the incarnations of which the log holds more lines than they can have written."""
        held = dict(self._next)
        written = self.written()
        # One line may have been written and not counted.
        return {name: count for name, count in held.items() if count > written.get(name, 0) + 1}

    def forgive(self, pid: int) -> None:
        """Take as unread what a process wrote last: nobody held its pipe when it died."""
        self.read()
        for name, count in self.written().items():
            if name.startswith(f"{pid}-"):
                self.unread += max(0, count - self._next.get(name, 0))
                self._next[name] = max(count, self._next.get(name, 0))

    def excuse(self) -> None:
        """Take as unread what is missing and was not said to be dropped: the supervisor that held it was killed."""
        self.read()
        gone = max(0, self.lost - self.dropped)
        self.lost -= gone
        self.unread += gone

    def written(self) -> dict[str, int]:
        """Return the lines that each incarnation says it has written."""
        found = {}
        for path in self._counters.iterdir():
            data = path.read_bytes()
            if path.suffix != ".new" and len(data) == 8:
                found[path.name] = struct.unpack("<q", data)[0]
        return found

    @property
    def lines(self) -> int:
        """The lines that were found whole."""
        return sum(self._next.values())
