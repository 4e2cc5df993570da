"""The output of all processes on one stdout, for ``oxherd run``: ``web:0 | line``."""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
import time
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from oxherd.system.loop import Loop

__all__ = ["Echo"]

_FULL = 1024 * 1024
_READY = 256 * 1024
_PIECE = 64 * 1024
# Bright enough on dark and dark enough on light backgrounds; red is left to errors.
_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)


class Echo:
    """Writes tagged lines to a descriptor without ever blocking on it, and without dropping any.

    A slow reader makes it `full`; whoever feeds it then waits for `when_ready`, the pipes of the children fill up, and
    the children wait: what back-pressure is.

    Args:
        loop: Watches the descriptor while something is pending.
        tags: The tags that are going to appear, such as ``web:0``; the longest sets the width.
        fd: Where to write.
        environ: For ``NO_COLOR`` and ``TERM``.
    """

    def __init__(self, *, loop: Loop, tags: Iterable[str], environ: Mapping[str, str], fd: int = 1) -> None:
        """Open the descriptor a second time, so that making it non-blocking does not touch those who share it."""
        self._loop = loop
        self._width = max((len(tag) for tag in tags), default=0)
        self._prefixes: dict[tuple[str, int], bytes] = {}
        self._colours: dict[str, int] = {}
        self._pending: deque[bytes | memoryview] = deque()
        self._size = 0
        self._waiting: list[Callable[[], None]] = []
        self._watching = False
        self.broken = False
        self._socket: socket.socket | None = None
        self._fd = self._open(fd)
        self._coloured = os.isatty(fd) and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"

    def _open(self, fd: int) -> int:
        mode = os.fstat(fd).st_mode
        if stat.S_ISSOCK(mode):
            # A socket (systemd's journal) cannot be opened again, but can be told per call not to block.
            self._socket = socket.socket(fileno=os.dup(fd))
            return self._socket.fileno()
        if stat.S_ISFIFO(mode) or os.isatty(fd):
            try:
                return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
            except OSError:
                # No /proc, or a terminal of another user (su): then it is written to as it is.
                return os.dup(fd)
        # Files and /dev/null never block. A second description would have an offset of its own.
        return os.dup(fd)

    # -- writing ------------------------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """Whether so much is pending that no more should be given."""
        return self._size > _FULL

    @property
    def pending(self) -> int:
        """Bytes not yet written."""
        return self._size

    def when_ready(self, callback: Callable[[], None]) -> None:
        """Call back once when it is no longer full."""
        self._waiting.append(callback)

    def write(self, process: str, slot: int, lines: bytes) -> None:
        """Write whole lines of an instance, each behind its tag."""
        prefix = self._prefix(process, slot)
        self._put(prefix + lines[:-1].replace(b"\n", b"\n" + prefix) + b"\n")

    def say(self, text: str) -> None:
        """Write a line of Oxherd's own, in order with the others."""
        self._put(f"{'oxherd':<{self._width}} | {text}\n".encode("utf-8", "backslashreplace"))

    def _put(self, data: bytes) -> None:
        if self.broken:
            return
        self._pending.append(data)
        self._size += len(data)
        if not self._watching:
            self._flush()

    def _prefix(self, process: str, slot: int) -> bytes:
        prefix = self._prefixes.get((process, slot))
        if prefix is None:
            tag = f"{process}:{slot}"
            if len(tag) > self._width:
                self._width = len(tag)
                self._prefixes.clear()
            text = f"{tag:<{self._width}} |"
            if self._coloured:
                colour = self._colours.setdefault(process, _COLOURS[len(self._colours) % len(_COLOURS)])
                text = f"\x1b[{colour}m{text}\x1b[0m"
            prefix = self._prefixes[process, slot] = f"{text} ".encode("utf-8", "backslashreplace")
        return prefix

    def _flush(self) -> None:
        """Write until all is written or the reader takes no more."""
        while self._pending:
            data = self._next_piece()
            try:
                done = self._write(data)
            except BlockingIOError:
                self._wait()
                return
            except OSError as error:
                self._give_up(error)
                return
            self._size -= done
            if done == len(data):
                self._pending.popleft()
            else:
                self._pending[0] = memoryview(data)[done:]
            self._wake_waiting()
        self._unwait()

    def _next_piece(self) -> bytes | memoryview:
        """Return what comes first, lines that wait one by one joined to something worth a system call."""
        if len(self._pending) > 1 and len(self._pending[0]) < _PIECE:
            parts: list[bytes | memoryview] = []
            size = 0
            while self._pending and size < _PIECE:
                parts.append(self._pending.popleft())
                size += len(parts[-1])
            self._pending.appendleft(b"".join(parts))
        return self._pending[0]

    def _write(self, data: bytes | memoryview) -> int:
        if self._socket is not None:
            return self._socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        return os.write(self._fd, data)

    def _wait(self) -> None:
        if not self._watching:
            self._watching = True
            self._loop.watch_write(self._fd, self._flush)

    def _unwait(self) -> None:
        if self._watching:
            self._watching = False
            self._loop.unwatch(self._fd)

    def _wake_waiting(self) -> None:
        if self._waiting and self._size <= _READY:
            waiting, self._waiting = self._waiting, []
            for callback in waiting:
                callback()

    def _give_up(self, error: OSError) -> None:
        """The reader has gone (EPIPE) or the terminal hung up (EIO): the log files go on without it."""
        if error.errno == errno.ENOSPC:
            # Stdout is a file on a full disk. The lines are in the logs as well; those have a ring for this.
            self._pending.clear()
        else:
            self.broken = True
            self._pending.clear()
        self._size = 0
        self._unwait()
        self._wake_waiting()

    def close(self, deadline: float = 2.0) -> None:
        """Write what is pending, waiting for the reader at most ``deadline`` seconds, and close.

        For the end of the program: it is the one call that may block.
        """
        end = time.monotonic() + deadline
        self._flush()
        while self._pending and (left := end - time.monotonic()) > 0:
            poll = select.poll()
            poll.register(self._fd, select.POLLOUT)
            poll.poll(left * 1000)
            self._flush()
        self._unwait()
        if self._socket is not None:
            self._socket.close()
        elif self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
        self._socket = None
        self.broken = True
