"""Doors, the supervisor's side: made for every host, and knocked at by the supervisor that comes after.

A door is a listening SEQPACKET socket whose file is beside the private listeners, where only the supervisor's user can
enter. The host holds the socket; the supervisor that made it lets go of its own descriptor once it was handed over, so
that the door is open for as long as the host lives, and nobody else seems to be behind it. See `oxherd.host.door`.
"""

from __future__ import annotations

import os
import socket

from oxherd.core.endpoint import Address
from oxherd.system.listener_errors import listen_error
from oxherd.system.listeners import within_reach

__all__ = ["Door", "knock"]

# Supervisors that have come and not been let in. A host that is blocked, or imports for long, may see a few of them.
_QUEUE = 16


class Door:
    """A door as its maker has it.

    Args:
        directory: Where its file is made; 0700 and the supervisor's own, so a file of that name is what an earlier
            supervisor left behind.
        name: Its file name, at most 80 bytes.

    Attributes:
        path: Its file, which may be longer than a socket address can be: `knock` copes with that.

    Raises:
        ListenError: It cannot be made.
    """

    __slots__ = ("_socket", "path")

    def __init__(self, directory: str, name: str) -> None:
        """Make it; it blocks, because whoever is behind it waits there."""
        self.path = os.path.join(directory, name)
        self._socket: socket.socket | None = None
        try:
            made = self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            forget(self.path)
            with within_reach(self.path) as short:
                made.bind(short)
            made.listen(_QUEUE)
        except OSError as error:
            self.handed_over()
            raise listen_error(Address(path=self.path), error) from None

    def fileno(self) -> int:
        """Return the descriptor, until it was handed over."""
        assert self._socket is not None
        return self._socket.fileno()

    def handed_over(self) -> None:
        """The host has its own copy: close this one. Idempotent."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def close(self) -> None:
        """Close it and remove its file. Idempotent."""
        self.handed_over()
        forget(self.path)


def knock(path: str) -> socket.socket:
    """Connect to the door of a host; return the connection, which does not block.

    The host lets one in when it comes to the door: at once, or after an import, or never if it is blocked for good.
    What is sent before that waits for it.

    Raises:
        OSError: Nobody is behind it (ECONNREFUSED, ENOENT), or its queue is full (EAGAIN).
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        made.setblocking(False)
        with within_reach(path) as short:
            made.connect(short)
    except BaseException:
        made.close()
        raise
    return made


def forget(path: str) -> None:
    """Remove the file of a socket, as far as that can be done: on a read-only disk it stays, and leads nowhere."""
    try:
        os.unlink(path)
    except OSError:
        return
