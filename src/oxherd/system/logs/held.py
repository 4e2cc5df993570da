"""What has been read from one pipe and is in no log yet, in a file that outlives the supervisor.

Mostly there is nothing: a program that writes whole lines never has such a file. One that writes half a line has two
records in it that are written in turn, so that the one before stays whole until the next one is. All this is safe against
the death of the process, not of the machine: nothing is synced, for what the kernel has it keeps.
"""

from __future__ import annotations

import os
from struct import Struct

__all__ = ["LIMIT", "RECORD", "STRIDE", "HeldFile", "pwrite_all"]

# Of an unfinished line longer than this only the beginning is kept.
LIMIT = 256 * 1024
# Where the second record begins. Recovery writes the first one only, and that may hold a line and a whole read.
STRIDE = 1024 * 1024
# sequence, bytes held by the supervisor, bytes held here, slot, length of the log's path; the path and the data follow
RECORD = Struct("<QQIIH")

_PAGE = 4096
_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
# A file that has once held a long line gives its memory back when the line is over.
_LARGE = 64 * 1024


class HeldFile:
    """The file of one pipe.

    Args:
        path: Where it is; made when there is first something to hold.
    """

    __slots__ = ("_fd", "_large", "_path", "_second")

    def __init__(self, path: str) -> None:
        """Touch nothing yet."""
        self._path = path
        self._fd = -1
        self._second = False
        self._large = False

    @property
    def used(self) -> bool:
        """Whether there has been something to hold."""
        return self._fd >= 0

    def open(self) -> None:
        """Go on with a file that a recovery has left, which uses the first record.

        Raises:
            OSError: It cannot be opened.
        """
        self._fd = os.open(self._path, _FLAGS)
        self._second = self._large = True

    def save(self, sequence: int, data: bytes, *, slot: int, log: bytes) -> None:
        """Put a record beside the one before.

        Args:
            sequence: Number of the step it is the outcome of; higher than any before.
            data: The unfinished line, which may be empty.
            slot: The instance.
            log: Path of the log it belongs to.

        Raises:
            OSError: There is no room. The record before is as it was.
        """
        if self._fd < 0:
            self._fd = os.open(self._path, _FLAGS | os.O_CREAT | os.O_TRUNC, 0o600)
        place = STRIDE if self._second else 0
        kept = data[:LIMIT]
        head = RECORD.pack(sequence, len(data), len(kept), slot, len(log))
        body = log + kept
        if RECORD.size + len(body) <= _PAGE:
            # Within one page a write is done or not done when a SIGKILL comes.
            pwrite_all(self._fd, head + body, place)
        else:
            # Beyond that it may be torn: first what is said, then that it is said.
            pwrite_all(self._fd, body, place + RECORD.size)
            pwrite_all(self._fd, head, place)
        self._second = not self._second
        self._large = self._large or len(kept) > _LARGE

    def shrink(self) -> None:
        """Give the memory of a long line back; only when nothing is held and the step is closed."""
        if self._large:
            os.ftruncate(self._fd, 0)
            self._large = self._second = False

    def remove(self) -> None:
        """Remove the file; idempotent.

        Raises:
            OSError: It cannot be removed.
        """
        self.close()
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            return

    def close(self) -> None:
        """Close the file and leave it; idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def pwrite_all(fd: int, data: bytes, place: int) -> None:
    """Write all of the data at a place.

    Raises:
        OSError: There is no room for it.
    """
    while data:
        done = os.pwrite(fd, data, place)
        data, place = data[done:], place + done
