"""The door: where a process of the host waits for the next supervisor when its own is gone.

A listening SEQPACKET socket of the supervisor's private directory, which only its user and root can reach, and which this
process was given with its first message. A supervisor that dies leaves the file behind; the next one connects to it and
has a channel again, whatever user this process runs as and whatever Yama lets anybody see of it.

Whoever comes is let in if it is root or the user the first supervisor ran as, by what the kernel says, SO_PEERCRED of
unix(7). Others cannot enter the directory, but a descriptor can be handed on, and the file's mode be changed by mistake.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from typing import TYPE_CHECKING

from .channel import close_fd, user_of

if TYPE_CHECKING:
    from .channel import Channel

__all__ = ["VERSION", "Door"]

# Of what is said at the door: ``here`` and what follows it.
VERSION = 1

# As they are before the app may have patched the modules (gevent): this blocks a thread of its own.
_Socket = socket.socket
_sleep = time.sleep
_poll = select.poll

# There is no room for one more descriptor; the connection stays in the queue, and accept(2) would say so again at once.
_NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PAUSE = 0.2


class Door:
    """The door of this process.

    Args:
        fd: The listening socket; owned from now on, and not inherited by what this process starts.
        channel: To the first supervisor, whose user may come in.
    """

    def __init__(self, fd: int, channel: Channel) -> None:
        """Take over the descriptor."""
        os.set_inheritable(fd, False)
        self._socket = _Socket(fileno=fd)
        self._socket.setblocking(True)
        self._welcome = {0, user_of(channel.fileno())}

    def fileno(self) -> int:
        """Return the descriptor, for a selector."""
        return self._socket.fileno()

    def wait(self) -> int:
        """Wait for a supervisor, however long that takes; return the descriptor of the connection to it.

        Raises:
            OSError: The door was closed, by an app that closes whatever it finds.
        """
        while True:
            fd = self.answer()
            if fd is not None:
                return fd

    def answer(self) -> int | None:
        """Wait for somebody; return the descriptor of the connection, or None if they were turned away.

        Raises:
            OSError: The door was closed.
        """
        try:
            # Not `accept`, which would make an object of whatever class gevent has put into the module.
            fd, _ = self._socket._accept()  # type: ignore[attr-defined]  # noqa: SLF001 - what `accept` itself calls
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            _sleep(_PAUSE)
            return None
        if user_of(fd) in self._welcome:
            return int(fd)
        close_fd(fd)
        return None

    def is_knocked_at(self) -> bool:
        """Whether somebody waits to be let in."""
        poll = _poll()
        poll.register(self._socket.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Close it here; others who hold it keep it open."""
        self._socket.close()
