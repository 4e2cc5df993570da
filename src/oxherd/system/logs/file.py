"""One log file that is being appended to: opening, whole-line writes, and what others do to it meanwhile."""

from __future__ import annotations

import errno
import os
import stat
from enum import Enum
from os import write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Change", "LogFile", "describe"]

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


class Change(Enum):
    """What somebody else did to an open log file."""

    NONE = "none"
    REMOVED = "removed"
    TRUNCATED = "truncated"


def describe(error: OSError) -> str:
    """Return ``disk full: No space left on device`` or ``cannot write: Permission denied``."""
    kind = "disk full" if error.errno in _FULL else "cannot write"
    return f"{kind}: {error.strerror or error}"


class LogFile:
    """The file behind one path. After every successful call it ends at a line end.

    Args:
        path: Where it is; directories that are missing are made.
        owner: uid and gid given to what is created, for a supervisor that runs as root for somebody else's process.

    Attributes:
        size: Bytes in the file, as far as this process knows.
        regular: Whether it is a file on a disk, not a device such as ``/dev/stdout``; only those rotate.
    """

    __slots__ = ("_fd", "_owner", "device", "inode", "path", "regular", "size")

    def __init__(self, path: str, owner: tuple[int, int] | None = None) -> None:
        """Remember the path; `open` opens."""
        self.path = path
        self._owner = owner
        self._fd = -1
        self.size = 0
        self.device = 0
        self.inode = 0
        self.regular = False

    def open(self) -> None:
        """Open or create the file and end its last line, should a crash have left it unfinished.

        Raises:
            OSError: That is not possible.
        """
        fd = self._open_or_create()
        try:
            status = os.fstat(fd)
            size = status.st_size
            if stat.S_ISREG(status.st_mode) and size and not _ends_line(self.path, size):
                size += write(fd, b"\n")
        except BaseException:
            os.close(fd)
            raise
        self.close()
        self._fd = fd
        self.size = size
        self.device, self.inode = status.st_dev, status.st_ino
        self.regular = stat.S_ISREG(status.st_mode)

    def _open_or_create(self) -> int:
        # A process that runs as somebody else owns its log directory, and could put a link to any file there for a
        # supervisor that is root to write to.
        flags = _FLAGS | (os.O_NOFOLLOW if self._owner is not None else 0)
        if os.path.lexists(self.path):
            return os.open(self.path, flags | os.O_CREAT, 0o640)
        directory = os.path.dirname(self.path)
        if directory:
            _make_directories(directory, self._owner)
        try:
            fd = os.open(self.path, flags | os.O_CREAT | os.O_EXCL, 0o640)
        except FileExistsError:
            # Somebody was quicker, or it is a link to a file that is not there yet.
            return os.open(self.path, flags | os.O_CREAT, 0o640)
        if self._owner is not None:
            try:
                os.fchown(fd, *self._owner)
            except OSError:
                # Some file systems have no owners (vfat, some network mounts); the log is worth more than its owner.
                return fd
        return fd

    def check(self) -> Change:
        """Return what others have done to the file since the last write, and take the size it has now."""
        if not self.regular:
            return Change.NONE
        status = os.fstat(self._fd)
        if status.st_nlink == 0:
            return Change.REMOVED
        shrunk = status.st_size < self.size
        self.size = status.st_size
        return Change.TRUNCATED if shrunk else Change.NONE

    def end(self) -> int:
        """Return how long the file is now, whoever has written to it."""
        return os.fstat(self._fd).st_size

    def moved(self) -> bool:
        """Return whether another file, or none, is at the path now."""
        try:
            status = os.stat(self.path)
        except OSError:
            return True
        return (status.st_dev, status.st_ino) != (self.device, self.inode)

    def append(self, data: bytes) -> tuple[int, OSError | None]:
        """Write whole lines.

        Returns:
            How many bytes of ``data`` are in the file, all or up to a line end, and the error that stopped the rest.
        """
        written = 0
        try:
            while written < len(data):
                written += write(self._fd, data[written:] if written else data)
        except OSError as error:
            kept = self._take_back(data, written) if self.regular else written
            self.size += kept
            return kept, error
        self.size += written
        return written, None

    def _take_back(self, data: bytes, written: int) -> int:
        """Cut the torn line off that a short write has left, so that nothing is ever glued to it."""
        kept = data.rfind(b"\n", 0, written) + 1
        if kept != written:
            try:
                os.ftruncate(self._fd, self.size + kept)
            except OSError:
                # The torn line stays and gets its end when the file is opened again; its rest follows as a line.
                return written
        return kept

    def rename(self, target: str) -> None:
        """Move the file to ``target`` and begin a new one at the path.

        Raises:
            OSError: That is not possible; the old file is back at its path and still open.
        """
        os.rename(self.path, target)
        try:
            self.open()
        except OSError:
            os.rename(target, self.path)
            raise

    def close(self) -> None:
        """Close the file; idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _ends_line(path: str, size: int) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return True
    try:
        return os.pread(fd, 1, size - 1) == b"\n"
    finally:
        os.close(fd)


def _make_directories(directory: str, owner: tuple[int, int] | None) -> None:
    missing: list[str] = []
    while directory and not os.path.lexists(directory):
        missing.append(directory)
        directory = os.path.dirname(directory)
    for path in reversed(missing):
        _ignoring(FileExistsError, lambda path=path: os.mkdir(path, 0o750))  # type: ignore[misc]
        if owner is not None:
            _ignoring(OSError, lambda path=path: os.chown(path, *owner, follow_symlinks=False))  # type: ignore[misc]


def _ignoring(kind: type[OSError], action: Callable[[], None]) -> None:
    try:
        action()
    except kind:
        return
