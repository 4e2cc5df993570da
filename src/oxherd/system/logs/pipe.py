"""The pipe between one incarnation and the supervisor."""

from __future__ import annotations

import errno
import fcntl
import os

from oxherd.system.logs.lines import LineAssembler
from oxherd.system.logs.ring import TailRing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oxherd.system.logs.sink import LogSink

__all__ = ["TURN_BUDGET", "OutputPipe", "make_pipe"]

_SMALL_READ = 64 * 1024
_LARGE_READ = 256 * 1024
# What one pipe may bring in one turn of the loop; the others are to have theirs.
TURN_BUDGET = 1024 * 1024


def make_pipe(capacity: int) -> tuple[int, int]:
    """Return the read end (non-blocking) and the child's end of a new pipe, both close-on-exec.

    The child's end is opened for reading too: as long as the child lives its pipe has a reader, so that the death of the
    supervisor sends it no SIGPIPE, and what it writes stays in the pipe for the next supervisor.

    Args:
        capacity: Bytes the kernel should hold; what it refuses (pipe-user-pages-soft) is left as it is.

    Raises:
        OSError: No descriptors are left; none is leaked.
    """
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
    try:
        os.set_blocking(read_fd, False)
        try:
            child_fd = os.open(f"/proc/self/fd/{write_fd}", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            # No /proc: a plain pipe, whose writer does notice the supervisor's death.
            child_fd = os.dup(write_fd)
    except BaseException:
        os.close(read_fd)
        raise
    finally:
        os.close(write_fd)
    try:
        fcntl.fcntl(read_fd, fcntl.F_SETPIPE_SZ, capacity)
    except (OSError, AttributeError):
        # EPERM beyond the user's share of pipe memory. A smaller pipe only blocks its writer sooner.
        return read_fd, child_fd
    return read_fd, child_fd


class OutputPipe:
    """What one incarnation writes. Made by `LogSink.open_pipe`.

    Attributes:
        child_fd: The child's end; give it to the spawner, then call `close_child_end`. -1 once it is closed.
        closed: Whether all is read and written, and the descriptors are given back.
        slot: The instance.
    """

    __slots__ = ("_fd", "_lines", "_sink", "_tail", "child_fd", "closed", "slot")

    def __init__(self, sink: LogSink, slot: int, read_fd: int, child_fd: int) -> None:
        """Take over both descriptors."""
        self._sink = sink
        self._fd = read_fd
        self._lines = LineAssembler()
        self._tail = TailRing()
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

    def drain(self) -> None:
        """Read what is in the pipe now, without waiting."""
        if not self.closed:
            self.pull(TURN_BUDGET)

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
        size = _SMALL_READ
        while total < budget:
            try:
                data = os.read(self._fd, size)
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
            lines = self._lines.feed(data)
            if lines:
                self._tail.add(lines)
                self._sink.deliver(self.slot, lines)
            if len(data) < size:
                # A pipe gives all it has: a short read has emptied it.
                break
            size = _LARGE_READ
        return total

    def _end(self) -> None:
        if self.closed:
            return
        self.closed = True
        rest = self._lines.flush()
        if rest:
            self._tail.add(rest)
            self._sink.deliver(self.slot, rest)
        self._sink.release(self)
        self.close_child_end()
        os.close(self._fd)
        self._fd = -1
