"""The child's end of the channel to the supervisor."""

from __future__ import annotations

import array
import contextlib
import errno
import os
import socket
import struct
from typing import Any

from .wire import FDS, LIMIT, Message, decode, encode

__all__ = ["Channel", "close_fd", "user_of"]

# The class as it is before the app may have patched the module (gevent): the channel blocks a thread of its own, and a
# thread that has become a greenlet would wait for a hub that may not run.
_Socket = socket.socket
# Likewise: gevent's own puts a close off until its hub comes by, and in a thread without a running hub that is never.
close_fd = os.close
# struct ucred, unix(7): pid, user id, group id.
_UCRED = struct.Struct("=iII")
_FDS_ROOM = socket.CMSG_SPACE(FDS * array.array("i").itemsize)


class Channel:
    """One end of a SEQPACKET connection: at first of a pair, later perhaps of one that came through the door.

    No lock: a packet is one system call, whole or not at all, so any thread and any signal handler may send.

    Args:
        fd: The descriptor; owned from now on, and not inherited by what this process starts.
    """

    def __init__(self, fd: int) -> None:
        """Take over the descriptor."""
        os.set_inheritable(fd, False)
        self._socket = _Socket(fileno=fd)
        self._socket.setblocking(True)

    def fileno(self) -> int:
        """Return the descriptor, for a selector."""
        return self._socket.fileno()

    def receive(self) -> tuple[Message, list[int]] | None:
        """Wait for a message and return it with its descriptors, which are not inheritable; None at the end.

        The end means that the supervisor has closed its end or died. A packet that is no message is passed over: it
        comes from a supervisor of another version, and what this one does not understand it ignores. A message whose
        descriptors could not all be taken (there is no room for them: EMFILE) comes without any.
        """
        while True:
            try:
                packet, ancillary, flags, _ = self._socket.recvmsg(LIMIT, _FDS_ROOM, socket.MSG_CMSG_CLOEXEC)
            except ConnectionError:
                return None
            fds = _descriptors(ancillary)
            if not packet and not fds:
                return None
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                fds = _closed(fds)
            try:
                return decode(packet), fds
            except ValueError:
                _closed(fds)

    def send(self, kind: str, *, fds: list[int] | None = None, wait: bool = False, **fields: object) -> bool:
        """Send a message; return False where nobody takes it: there is no supervisor, or it has not read for long.

        Args:
            kind: The message's kind.
            fds: Descriptors to go with it; they stay open here.
            wait: Whether to wait for room. A worker does not: it serves, whatever its supervisor does.
            fields: The message's fields.
        """
        packet = encode(kind, **fields)
        flags = socket.MSG_NOSIGNAL | (0 if wait else socket.MSG_DONTWAIT)
        ancillary: list[tuple[int, int, Any]] = []
        if fds:
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
        try:
            self._socket.sendmsg([packet], ancillary, flags)
        except OSError as error:
            if error.errno in {errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.EAGAIN, errno.EBADF, errno.ENOBUFS}:
                return False
            raise
        return True

    def replace(self, fd: int) -> None:
        """Go on over another connection, whose descriptor is owned from now on; the one there was is closed.

        The number stays: dup2(2) is atomic, so whoever is sending meanwhile, in another thread or a signal handler,
        reaches the one or the other and never a descriptor that somebody has opened in between.
        """
        os.dup2(fd, self._socket.fileno(), inheritable=False)
        close_fd(fd)

    def hang_up(self) -> None:
        """End the connection for both sides: the other one is told, and `receive` returns None."""
        # ENOTCONN: the other side was faster.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close this end."""
        self._socket.close()


def user_of(fd: int) -> int:
    """Return the user id of whoever made the other end of a unix socket, by socketpair(2) or connect(2); unix(7)."""
    borrowed = _Socket(fileno=fd)
    try:
        credentials = borrowed.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    finally:
        borrowed.detach()
    return int(_UCRED.unpack(credentials)[1])


def _closed(fds: list[int]) -> list[int]:
    for fd in fds:
        close_fd(fd)
    return []


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return list(fds)
