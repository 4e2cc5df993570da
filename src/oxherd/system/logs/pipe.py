"""The pipe between one incarnation and the supervisor."""

from __future__ import annotations

import errno
import fcntl
import os

from oxherd.system.logs.lines import LineAssembler
from oxherd.system.logs.ring import TailRing
from oxherd.system.logs.spool import PIPE_READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oxherd.system.logs.sink import LogSink
    from oxherd.system.logs.spool import PipeSpool

__all__ = ["TURN_BUDGET", "OutputPipe", "make_pipe", "may_exceed_share"]

# What one pipe may bring in one turn of the loop; the others are to have theirs.
TURN_BUDGET = 1024 * 1024


_LARGE_PIPE = 1024 * 1024
# CAP_SYS_ADMIN and CAP_SYS_RESOURCE; capabilities(7).
_EXCEEDING = 1 << 21 | 1 << 24


def may_exceed_share() -> bool:
    """Return whether this process may have more pipe memory than a user's share (pipe-user-pages-soft, 64 MiB).

    Of everybody else it is the share of the apps as well: when it is used up, *their* new pipes hold 8 KiB.
    """
    try:
        with open("/proc/self/status", "rb") as file:
            for line in file:
                if line.startswith(b"CapEff:"):
                    return bool(int(line.split()[1], 16) & _EXCEEDING)
    except OSError:
        return False
    return False


def make_pipe(*, large: bool) -> tuple[int, int]:
    """Return the read end (non-blocking) and the child's end of a new pipe, both close-on-exec.

    The child's end is opened for reading too: as long as the child lives its pipe has a reader, so that the death of the
    supervisor sends it no SIGPIPE, and what it writes stays in the pipe for the next supervisor.

    Args:
        large: Whether the pipe shall hold a mebibyte at once; others grow when they are found full.

    Raises:
        OSError: No descriptors are left; none is leaked.
    """
    # For the end that is read; the child's is opened anew, and with that has flags of its own.
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        try:
            child_fd = os.open(f"/proc/self/fd/{write_fd}", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            # No /proc: a plain pipe, whose writer does notice the supervisor's death.
            child_fd = os.dup(write_fd)
            os.set_blocking(child_fd, True)
    except BaseException:
        os.close(read_fd)
        raise
    finally:
        os.close(write_fd)
    if large:
        _resize(read_fd, _LARGE_PIPE)
    return read_fd, child_fd


def _resize(fd: int, capacity: int) -> None:
    try:
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, capacity)
    except (OSError, AttributeError):
        # EPERM beyond the share, or a system without. A smaller pipe only blocks its writer sooner.
        return


def _capacity(fd: int) -> int:
    try:
        return fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)
    except (OSError, AttributeError):
        return 64 * 1024


class OutputPipe:
    """What one incarnation writes. Made by `LogSink.open_pipe`.

    Attributes:
        child_fd: The child's end; give it to the spawner, then call `close_child_end`. -1 once it is closed.
        capacity: Bytes it holds before its writer has to wait.
        closed: Whether all is read and written, and the descriptors are given back.
        slot: The instance.
    """

    __slots__ = ("_fd", "_growing", "_guard", "_lines", "_sink", "_tail", "capacity", "child_fd", "closed", "slot")

    def __init__(
        self,
        sink: LogSink,
        slot: int,
        read_fd: int,
        child_fd: int,
        *,
        held: bytes = b"",
        guard: PipeSpool | None = None,
    ) -> None:
        """Take over both descriptors, and the unfinished line an earlier reader had; `resume` delivers what that left."""
        self._sink = sink
        self._fd = read_fd
        self._guard = guard
        self._lines = LineAssembler()
        self._lines.feed(held)
        self._tail = TailRing()
        self.capacity = _capacity(read_fd)
        self._growing = self.capacity < _LARGE_PIPE
        self.child_fd = child_fd
        self.slot = slot
        self.closed = False

    @property
    def fd(self) -> int:
        """The read end; -1 once it is closed."""
        return self._fd

    def close_child_end(self) -> None:
        """Close the supervisor's copy of the child's end, so that the end of the output can be seen; idempotent."""
        if self.child_fd >= 0:
            os.close(self.child_fd)
            self.child_fd = -1

    def tail(self, count: int) -> list[bytes]:
        """Return the last lines of this incarnation, the unfinished one included."""
        return self._tail.lines(count, self._lines.held)

    def resume(self) -> None:
        """Deliver what a supervisor that was killed had read and not written."""
        guard = self._guard
        if guard is None or not guard.left:
            return
        guard.begin(self._sink.place(self.slot))
        left, guard.left = guard.left, b""
        self._hand_over(self._lines.feed(left))
        self._commit()

    def drain(self) -> None:
        """Read what is in the pipe now, without waiting."""
        if not self.closed:
            self.pull(TURN_BUDGET)

    def detach(self) -> tuple[int, bytes]:
        """Stop reading and give the read end away, with the unfinished line, for whoever goes on with `LogSink.attach`."""
        self.close_child_end()
        self.drain()
        if self.closed:
            return -1, b""
        self._sink.release(self)
        if self._guard is not None:
            self._guard.leave()
        fd, self._fd, self.closed = self._fd, -1, True
        return fd, self._lines.held

    def finish(self) -> None:
        """The incarnation is over: read what is left, write its unfinished line, close; idempotent."""
        if self.closed:
            return
        self.close_child_end()
        # Twice what a pipe holds: more can only come from a writer that is still there, and is not waited for.
        self.pull(2 * TURN_BUDGET)
        self._end()

    def pull(self, budget: int) -> int:
        """Read until the pipe is empty or the budget used up, and hand whole lines to the sink.

        Returns:
            Bytes read. At the end of the output the pipe closes itself.
        """
        total = 0
        while total < budget:
            try:
                data = self._read(PIPE_READ)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                data = b""
            if not data:
                self._end()
                break
            total += len(data)
            self._hand_over(self._lines.feed(data))
            self._commit()
            if len(data) < PIPE_READ:
                # A pipe gives all it has: a short read has emptied it.
                break
        if self._growing and not self.closed and total * 4 >= self.capacity * 3:
            self._grow()
        return total

    def _read(self, size: int) -> bytes:
        if self._guard is None:
            return os.read(self._fd, size)
        return self._guard.read(self._fd, size, self._sink.place(self.slot))

    def _hand_over(self, lines: bytes) -> None:
        if lines:
            self._tail.add(lines)
            self._sink.deliver(self.slot, lines)

    def _commit(self) -> None:
        if self._guard is not None:
            self._guard.commit(self._lines.held, self._sink.log_of(self.slot))

    def _grow(self) -> None:
        """Its writer has waited for us, or nearly so: hold four times as much, as long as the kernel gives it."""
        before = self.capacity
        _resize(self._fd, min(_LARGE_PIPE, before * 4))
        self.capacity = _capacity(self._fd)
        self._growing = before < self.capacity < _LARGE_PIPE

    def _end(self) -> None:
        if self.closed:
            return
        self.closed = True
        if self._lines.held:
            if self._guard is not None:
                self._guard.begin(self._sink.place(self.slot), last=True)
            self._hand_over(self._lines.flush())
            self._commit()
        if self._guard is not None:
            self._guard.cancel()
            self._guard.remove()
        self._sink.release(self)
        self.close_child_end()
        os.close(self._fd)
        self._fd = -1
