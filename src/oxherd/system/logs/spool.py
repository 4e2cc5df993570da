"""What makes "read from a pipe, write to its log" one step that a SIGKILL of the supervisor cannot tear.

A pipe outlives the supervisor, and so does what is in it. What the supervisor has taken out of it and not written yet
would die with it; so it is taken into a file. One area is enough, for one pipe is read at a time:

    FIONREAD   how much will come: only we read
    pwrite     the header: which pipe, how much, where its lines are going to be written; and a nonce at the end of the area
    readv      from the pipe into the area, which is mapped; pipe(7): all of it, for it is there
    write      the lines into the log
    pwrite     the unfinished line into the file of this pipe, if there is one (`oxherd.system.logs.held`)
    pwrite     the header: done

Whoever comes after a kill finds the header open: if the nonce is there the read did not happen, else the bytes are. Which
of the lines have been written is looked up in the log itself (`oxherd.system.logs.recovery`); the others are put before
what the pipe still has. Every step leaves something that can be recovered again should that be killed as well.

All this is about the death of a process. Nothing is synced: what the kernel has it keeps until the machine goes down.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import select
import sys
from struct import Struct

from oxherd.system.identity import boot_id
from oxherd.system.logs.held import HeldFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oxherd.system.logs.landed import Place
    from oxherd.system.logs.recovery import Left

__all__ = ["AREA", "AREA_NAME", "DONE", "HEADER", "MAGIC_AT", "NONCE", "PIPE_READ", "PipeSpool", "Spool"]

# The most that is read at once. Larger reads were measured to save nothing.
PIPE_READ = 64 * 1024

AREA = PIPE_READ
_PAGE = 4096
# Behind the area: two pages for the header with a path of whatever length, and one that says what this is.
MAGIC_AT = AREA + 2 * _PAGE
_SIZE = AREA + 3 * _PAGE
_FIONREAD = 0x541B
# No UTF-8 text has one of these bytes, let alone all in a row.
NONCE = b"\xc1\xfe\xff\xc0\xfd\xf9\xfb\xfa"
# open, form, last, slot, bytes, pipe, sequence, lines landed, device, inode, size, length of the path; the path follows
HEADER = Struct("<BBBxIIQQQQQQH")
DONE = b"\0"
_PROGRESS = Struct("<QQQQ")
_PROGRESS_AT = AREA + Struct("<BBBxIIQQ").size
AREA_NAME = "area"


class Spool:
    """The spool of one supervisor.

    Args:
        directory: Where its files are; made when it is first needed. Nobody else may use it.
        on_trouble: Called once when the spool cannot be used, with the reason; reading goes on without it.
    """

    __slots__ = ("_directory", "_fd", "_left", "_magic", "_map", "_on_trouble", "_pages", "_sequence", "_view", "off")

    def __init__(self, directory: str, on_trouble: Callable[[str], None]) -> None:
        """Recover what a killed supervisor has left; has to happen before anything is written to a log."""
        self._directory = directory
        self._on_trouble = on_trouble
        self._fd = -1
        self._map: mmap.mmap | None = None
        self._view: memoryview | None = None
        self._pages: list[memoryview] = []
        self._left: dict[int, Left] = {}
        self._sequence = 0
        # Without /proc the death of the supervisor breaks the pipes: there would be nothing to go on with.
        self.off = sys.platform != "linux"
        self._magic = b"OXSPOOL1" + boot_id().encode()
        if not self.off and os.path.isdir(directory):
            try:
                from oxherd.system.logs.recovery import recover  # noqa: PLC0415 - mostly there is nothing to recover

                self._left, self._sequence = recover(directory, self._magic)
            except OSError as error:
                self.fail(error)

    def _path(self, pipe: int) -> str:
        return os.path.join(self._directory, str(pipe))

    # -- for the sinks ------------------------------------------------------------------------------------------

    def open(self, read_fd: int, slot: int) -> PipeSpool:
        """Return what guards the reading of a pipe; its `PipeSpool.left` is what an earlier supervisor has read of it."""
        return self._guard(os.fstat(read_fd).st_ino, slot)

    def claim(self, orphan: Left) -> PipeSpool:
        """Return what guards the delivery of what is left of a pipe that is gone."""
        return self._guard(orphan.pipe, orphan.slot)

    def _guard(self, pipe: int, slot: int) -> PipeSpool:
        if self._fd < 0 and not self.off:
            try:
                self._make_area()
            except (OSError, ValueError) as error:
                self.fail(error)
        file = HeldFile(self._path(pipe))
        left = self._left.pop(pipe, None)
        if left is not None:
            try:
                file.open()
            except OSError as error:
                self.fail(error)
        return PipeSpool(self, file, pipe, slot, b"" if left is None else left.text)

    def orphans(self) -> list[Left]:
        """Return what was found of pipes that have not been opened; ask when all survivors are adopted."""
        return list(self._left.values())

    def drop_orphans(self) -> int:
        """Forget what nobody has claimed; returns how many lines that were."""
        lost = sum(left.lines for left in self._left.values())
        for pipe in self._left:
            try:
                os.unlink(self._path(pipe))
            except OSError as error:
                self.fail(error)
        self._left.clear()
        return lost

    def close(self) -> None:
        """Give everything back and remove what is not needed any more; idempotent."""
        if self._fd < 0:
            return
        self._release()
        try:
            if os.listdir(self._directory) == [AREA_NAME]:
                os.unlink(os.path.join(self._directory, AREA_NAME))
                os.rmdir(self._directory)
        except OSError:
            # It is taken away with the whole runtime directory, or what is there is in nobody's way.
            return

    def _release(self) -> None:
        self._pages.clear()
        if self._view is not None:
            self._view.release()
            self._view = None
        if self._map is not None:
            self._map.close()
            self._map = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    # -- for the pipes ------------------------------------------------------------------------------------------

    def _make_area(self) -> None:
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        path = os.path.join(self._directory, AREA_NAME)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        # Room for all of it now: a mapped page for which there is none later would be a SIGBUS.
        os.posix_fallocate(self._fd, 0, _SIZE)
        os.pwrite(self._fd, self._magic, MAGIC_AT)
        self._map = mmap.mmap(self._fd, AREA)
        self._view = memoryview(self._map)
        self._pages = [self._view[start : start + 1] for start in range(0, AREA, _PAGE)]

    def fail(self, error: Exception) -> None:
        """Go on without a spool."""
        if not self.off:
            self.off = True
            try:
                if self._fd >= 0:
                    self.end()
            except OSError as another:
                error = another
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            self._on_trouble(
                f"{self._directory}: {reason}; should the supervisor be killed, log lines it has just read are lost"
            )

    def begin(self, pipe: int, slot: int, place: Place, *, size: int = 0, last: bool = False) -> int:
        """Open a step; returns its number.

        Raises:
            OSError: The file system refuses.
        """
        sequence = self._sequence = self._sequence + 1
        header = HEADER.pack(
            1,
            place.form,
            last,
            slot,
            size,
            pipe,
            sequence,
            0,
            place.device,
            place.inode,
            place.size,
            len(place.path),
        )
        nonce = NONCE[-size:] if size else b""
        # Within one page each, and the nonce first: an open header always has its nonce.
        os.pwritev(self._fd, (nonce, header, place.path), AREA - len(nonce))
        return sequence

    def take(self, fd: int, size: int) -> bytes:
        """Read up to that many bytes from a pipe into the area, and return them.

        Raises:
            BlockingIOError: The pipe is empty.
            OSError: It cannot be read, or there is no memory for the area.
        """
        if self._view is None:
            raise ValueError(fd)
        start = AREA - size
        done = os.readv(fd, (self._view[start:],))
        return self._view[start : start + done].tobytes()

    def touch(self, size: int) -> None:
        """Have the pages of the area there that a read of that size needs.

        A page that has to be fetched in the middle of a read could leave half of it undone if the SIGKILL comes then.
        The kernel does the touching (one byte of each), so that a file system that has no room answers EFAULT to us and
        not SIGBUS.

        Raises:
            OSError: One cannot be had.
        """
        os.preadv(self._fd, self._pages[(AREA - size) // _PAGE :], 0)

    def advance(self, place: Place, lines: int) -> None:
        """Say that a rotation came in the middle of the step: so many of its lines are in files before this one."""
        if self.off or self._fd < 0:
            return
        try:
            os.pwrite(self._fd, _PROGRESS.pack(lines, place.device, place.inode, place.size), _PROGRESS_AT)
        except OSError as error:
            self.fail(error)

    def end(self) -> None:
        """Close the step."""
        os.pwrite(self._fd, DONE, AREA)


class PipeSpool:
    """Guards the reading of one pipe. Made by `Spool.open`.

    Every reading is a step: `read` (or `begin`, where there is nothing to read) opens it, `commit` closes it.

    Attributes:
        left: What an earlier supervisor has read and not written. It has to go through a step of its own first.
    """

    __slots__ = ("_file", "_holds", "_pipe", "_sequence", "_slot", "_spool", "left")

    def __init__(self, spool: Spool, file: HeldFile, pipe: int, slot: int, left: bytes) -> None:
        """Begin with what is left."""
        self._spool = spool
        self._file = file
        self._pipe = pipe
        self._slot = slot
        self._sequence = 0
        self._holds = bool(left)
        self.left = left

    def read(self, fd: int, size: int, place: Place) -> bytes:
        """Read from the pipe, as os.read does, and open a step.

        Raises:
            BlockingIOError: The pipe is empty.
            OSError: It cannot be read.
        """
        spool = self._spool
        self._sequence = 0
        if not spool.off:
            waiting = _waiting(fd)
            if not waiting and _ended(fd):
                return b""
            size = max(1, min(size, waiting))
            try:
                spool.touch(size)
                self._sequence = spool.begin(self._pipe, self._slot, place, size=size)
            except OSError as error:
                self._give_up(error)
        if not self._sequence:
            self._drop()
            return os.read(fd, size)
        try:
            return spool.take(fd, size)
        except OSError as error:
            self.cancel()
            if error.errno != errno.EFAULT:
                raise
            self._give_up(error)
        return os.read(fd, size)

    def cancel(self) -> None:
        """Close a step in which nothing was read."""
        try:
            if self._sequence:
                self._spool.end()
        except OSError as error:
            self._give_up(error)
        self._sequence = 0

    def begin(self, place: Place, *, last: bool = False) -> None:
        """Open a step for what is held; ``last`` ends the line that is unfinished."""
        self._sequence = 0
        if self._spool.off:
            self._drop()
            return
        try:
            self._sequence = self._spool.begin(self._pipe, self._slot, place, last=last)
        except OSError as error:
            self._give_up(error)

    def commit(self, held: bytes, log: bytes) -> None:
        """Close the step: all whole lines are written (or counted as lost), and this is what is held now."""
        if not self._sequence:
            return
        try:
            if held or self._holds:
                self._file.save(self._sequence, held, slot=self._slot, log=log)
            self._spool.end()
            if self._holds and not held:
                self._file.shrink()
            self._holds = bool(held)
        except OSError as error:
            self._give_up(error)
        self._sequence = 0

    def _give_up(self, error: OSError) -> None:
        self._spool.fail(error)
        self._sequence = 0
        self._drop()

    def _drop(self) -> None:
        """Without a spool a record would be of a line that is long over."""
        if not (self._holds or self._file.used):
            return
        self._holds = False
        try:
            self._file.remove()
        except OSError as error:
            self._spool.fail(error)

    def leave(self) -> None:
        """Close the file and leave what is held to whoever goes on reading."""
        self._file.close()

    def remove(self) -> None:
        """The pipe is over; idempotent."""
        self._drop()


def _waiting(fd: int) -> int:
    """Return how many bytes are in a pipe; ioctl_fionread is in pipe(7)."""
    return int.from_bytes(fcntl.ioctl(fd, _FIONREAD, b"\0\0\0\0"), sys.byteorder)


def _ended(fd: int) -> bool:
    """Return whether a pipe is empty and nobody can write to it any more: what brings nothing needs no step."""
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return poller.poll(0) == [(fd, select.POLLHUP)]
