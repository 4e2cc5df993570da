"""The supervisor's end of the channel to a zygote or a worker: SEQPACKET, non-blocking, descriptors beside messages.

What the other side cannot take yet waits here and is sent as soon as it can; descriptors that wait are duplicates, so
the caller may close its own at once. A packet nobody understands is dropped and told, never an end of the channel.
"""

from __future__ import annotations

import array
import collections
import errno
import os
import socket

from oxherd.host import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from oxherd.host.wire import Message
    from oxherd.system.loop import Loop, Timer

    OnMessage = Callable[[Message, list[int]], None]

__all__ = ["Channel", "channel_pair"]

# Packets read in one turn of the loop; a chatty worker must not keep the others waiting.
_TURN = 32

# What says nothing of the other side, but of the machine: no memory, or more descriptors in flight than this user may
# have (unix(7), ETOOMANYREFS). None of it makes the socket writable or readable again when it passes.
_SCARCE = frozenset({errno.ENOMEM, errno.ENOBUFS, errno.ETOOMANYREFS})

# Seconds until what failed for that reason is tried again.
_PAUSE = 0.1

# Packets that may wait. A worker that has not read for that long is blocked, and its messages are worth nothing.
_WAITING = 256


def channel_pair() -> tuple[socket.socket, socket.socket]:
    """Return (ours, theirs). Ours does not block; theirs is for the child and inheritable only where it is passed on.

    Raises:
        OSError: There are no descriptors.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    return ours, theirs


class Channel:
    """One end, watched by the loop.

    Args:
        loop: The loop.
        sock: Our end of the pair; owned from now on.
        on_message: Takes each message with its descriptors, which are the receiver's to close.
        on_close: Called once when the other side is gone; not after `close`.
    """

    def __init__(self, loop: Loop, sock: socket.socket, on_message: OnMessage, on_close: Callable[[], None]) -> None:
        """Watch the socket."""
        self._loop = loop
        self._socket: socket.socket | None = sock
        self._on_message = on_message
        self._on_close = on_close
        self._waiting: collections.deque[tuple[bytes, list[int]]] = collections.deque()
        self._paused: Timer | None = None
        loop.watch_read(sock.fileno(), self._turn)

    @property
    def open(self) -> bool:
        """Whether messages can be sent."""
        return self._socket is not None

    def send(self, kind: str, fds: Iterable[int] = (), **fields: object) -> bool:
        """Send a message, now or as soon as the other side takes it.

        Args:
            kind: The message's kind.
            fds: Descriptors that go with it; they may be closed when this returns.
            fields: The rest of the message.

        Returns:
            False when the other side is gone, or has not listened for too long.

        Raises:
            OSError: It has to wait, and there are no descriptors to keep those that go with it.
        """
        if self._socket is None or len(self._waiting) >= _WAITING:
            return False
        packet, passed = wire.encode(kind, **fields), list(fds)
        if self._waiting:
            self._waiting.append((packet, _duplicates(passed)))
            return True
        if self._try(packet, passed):
            return True
        if self._socket is None:
            return False
        self._waiting.append((packet, _duplicates(passed)))
        if self._paused is None:
            self._loop.watch_both(self._socket.fileno(), self._turn)
        return True

    def close(self) -> None:
        """Give the socket back; what waits is dropped. Idempotent."""
        sock, self._socket = self._socket, None
        if sock is not None:
            self._loop.unwatch(sock.fileno())
            sock.close()
        if self._paused is not None:
            self._paused.cancel()
            self._paused = None
        for _, fds in self._waiting:
            for fd in fds:
                os.close(fd)
        self._waiting.clear()

    # -- sending ------------------------------------------------------------------------------------------------

    def _try(self, packet: bytes, fds: list[int]) -> bool:
        """Send one packet; False when it has to wait or the other side is gone (the channel is closed then)."""
        assert self._socket is not None
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self._socket.sendmsg([packet], rights)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            if error.errno in _SCARCE:
                self._pause()
            else:
                self._lost()
            return False
        return True

    def _pause(self) -> None:
        """Leave the socket alone for a moment: it stays ready, and the loop would spin."""
        if self._socket is not None and self._paused is None:
            self._loop.unwatch(self._socket.fileno())
            self._paused = self._loop.call_later(_PAUSE, self._resume)

    def _resume(self) -> None:
        self._paused = None
        if self._socket is not None:
            watch = self._loop.watch_both if self._waiting else self._loop.watch_read
            watch(self._socket.fileno(), self._turn)

    def _flush(self) -> None:
        while self._waiting and self._socket is not None:
            packet, fds = self._waiting[0]
            if not self._try(packet, fds):
                return
            self._waiting.popleft()
            for fd in fds:
                os.close(fd)
        if self._socket is not None and self._paused is None:
            self._loop.watch_read(self._socket.fileno(), self._turn)

    # -- receiving ----------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        for _ in range(_TURN):
            if self._socket is None or not self._receive():
                break
        if self._waiting and self._socket is not None and self._paused is None:
            self._flush()

    def _receive(self) -> bool:
        assert self._socket is not None
        try:
            packet, rights, _, _ = self._socket.recvmsg(
                wire.LIMIT + 1, socket.CMSG_SPACE(wire.FDS * 4), socket.MSG_CMSG_CLOEXEC
            )
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            if error.errno in _SCARCE:
                self._pause()
            else:
                self._lost()
            return False
        fds = _descriptors(rights)
        if not packet:
            self._lost()
            return False
        try:
            message = wire.decode(packet)
        except (ValueError, RecursionError):  # the other side runs an app's code, and may send what it likes
            message = {"kind": "garbage", "text": repr(packet[:80])}
        self._on_message(message, fds)
        return True

    def _lost(self) -> None:
        if self._socket is not None:
            self.close()
            self._on_close()


def _duplicates(fds: list[int]) -> list[int]:
    """Return copies of descriptors, of all or of none."""
    copies: list[int] = []
    try:
        for fd in fds:
            copies.append(os.dup(fd))  # noqa: PERF401 - what was made before a failure is closed again
    except OSError:
        for fd in copies:
            os.close(fd)
        raise
    return copies


def _descriptors(rights: list[tuple[int, int, bytes]]) -> list[int]:
    found: list[int] = []
    for level, kind, data in rights:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers = array.array("i")
            numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
            found.extend(numbers)
    return found
