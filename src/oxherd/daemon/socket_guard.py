"""Puts the control socket back when somebody has removed it.

A supervisor whose socket is gone runs on and obeys nobody: commands say that there is none, and a new one cannot start
beside it, because the lock is held. Cleaners of ``/tmp`` and of runtime directories do that. The kernel tells of the
removal by a signal (dnotify: ``F_NOTIFY`` of fcntl(2)), which costs a descriptor and, as long as nothing happens, nothing
else. Where a kernel or a file system has no dnotify, SIGHUP to the supervisor does the same.
"""

from __future__ import annotations

import fcntl
import os
import signal

from oxherd.errors import SystemFault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oxherd.daemon.control_server import ControlServer
    from oxherd.system.loop import Loop, Timer

__all__ = ["SocketGuard"]

# Of the default action of which a process ends; systems without it have no dnotify either.
_SIGNAL = getattr(signal, "SIGIO", signal.SIGHUP)

# Seconds until the next try, where the socket could not be made: the disk may be full, the directory somebody else's.
_RETRY = 1.0


class SocketGuard:
    """Watches over the socket of a control server.

    Args:
        loop: The supervisor's loop; SIGIO is the guard's from now on.
        server: Whose socket it is.
        prepare: Makes the directories of the home, which may have been removed with all that was in them.
        tell: Is told in a sentence what happened.
    """

    __slots__ = ("_fd", "_inode", "_loop", "_prepare", "_retry", "_server", "_tell", "_told")

    def __init__(
        self, loop: Loop, server: ControlServer, *, prepare: Callable[[], None], tell: Callable[[str], None]
    ) -> None:
        """Begin to watch."""
        self._loop = loop
        self._server = server
        self._prepare = prepare
        self._tell = tell
        self._fd = self._inode = -1
        self._retry: Timer | None = None
        self._told = ""
        loop.on_signal(_SIGNAL, lambda _signum: self.look())
        self._watch()

    def look(self) -> None:
        """Put the socket back if it is not there."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        try:
            self._prepare()
            back = self._server.restore()
        except SystemFault as fault:
            self._say(f"the control socket was removed and cannot be put back yet: {fault.message}")
            self._retry = self._loop.call_later(_RETRY, self.look)
            return
        if back:
            self._told = ""
            self._say("the control socket was removed; it is back")
        self._watch()

    def close(self) -> None:
        """Watch no more; the server is about to remove its socket itself."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self._forget()

    def _say(self, text: str) -> None:
        if text != self._told:
            self._told = text
            self._tell(text)

    def _watch(self) -> None:
        """Watch the directory that has this name now: it may have been removed with all that was in it."""
        directory = os.path.dirname(self._server.path)
        if signal.getsignal(_SIGNAL) is signal.SIG_DFL:
            return
        try:
            if self._fd >= 0 and os.stat(directory).st_ino == self._inode:
                return
            self._forget()
            self._fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._inode = os.fstat(self._fd).st_ino
            fcntl.fcntl(self._fd, fcntl.F_NOTIFY, fcntl.DN_DELETE | fcntl.DN_RENAME | fcntl.DN_MULTISHOT)
        except (OSError, AttributeError):
            # No dnotify here (a kernel without it, a system other than Linux): SIGHUP is left.
            self._forget()

    def _forget(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = self._inode = -1
