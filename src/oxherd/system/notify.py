"""What a service manager is told, and what it left in the environment: sd_notify(3), sd_listen_fds(3).

One datagram of ``NAME=value`` lines to the socket that ``NOTIFY_SOCKET`` names. Nothing here waits and nothing here
fails: a service manager that does not listen must not stop what it manages.
"""

from __future__ import annotations

import _socket
import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

__all__ = ["SERVICE_VARIABLES", "Notifier", "watchdog_seconds"]

# What a service manager gives to one process, which is no business of the programs that this process starts: a program
# with an sd_notify of its own would speak for the supervisor, one that counts LISTEN_FDS would take what is not there.
SERVICE_VARIABLES = frozenset(
    {
        "FDSTORE",
        "JOURNAL_STREAM",
        "LISTEN_FDNAMES",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_PIDFDID",
        "MAINPID",
        "MANAGERPID",
        "NOTIFY_SOCKET",
        "SYSTEMD_EXEC_PID",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
    }
)
# What a re-exec of the supervisor, which keeps its pid, needs again.
_KEPT_FOR_REEXEC = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")
# The machine is short of memory for a moment.
_PASSING = frozenset({errno.ENOBUFS, errno.ENOMEM})


class Notifier:
    """The socket of a service manager.

    The descriptor is opened once and kept: a supervisor that has run out of descriptors is not dead, and must be able
    to say so.

    Args:
        environ: Where ``NOTIFY_SOCKET`` and ``WATCHDOG_USEC`` may stand.
    """

    __slots__ = ("_address", "_socket", "environ", "watchdog")

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Open the socket; without one, or with one of a kind that is not known here, everything else does nothing."""
        self.environ = {name: environ[name] for name in _KEPT_FOR_REEXEC if name in environ}
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._socket: _socket.socket | None = None
        if self._address:
            try:
                self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
            except OSError:
                # No descriptor is left before anything has begun: the supervisor that cannot open its own socket
                # either says that, and ends.
                self._socket = None
        self.watchdog = watchdog_seconds(environ, os.getpid()) if self._socket is not None else 0.0

    @classmethod
    def taken_from(cls, environ: MutableMapping[str, str]) -> Notifier:
        """Return the notifier and take everything of the service manager out of ``environ``.

        What is started from now on inherits nothing of it; `environ` of the notifier is what a re-exec puts back.
        """
        notifier = cls(environ)
        for name in SERVICE_VARIABLES:
            environ.pop(name, None)
        return notifier

    @property
    def listens(self) -> bool:
        """Whether there is a service manager to tell anything."""
        return self._socket is not None

    def send(self, **variables: str) -> bool:
        """Send variables in one datagram.

        Args:
            **variables: Names and values; a line break in a value would begin another variable, so it becomes a space.

        Returns:
            False if the service manager is busy, its queue being full: the same may be sent again later. True if it was
            sent, and also where nobody listens (any more): trying again would not help.
        """
        if self._socket is None:
            return True
        lines = "".join(f"{name}={' '.join(value.splitlines())}\n" for name, value in variables.items())
        try:
            self._socket.sendto(
                lines.encode("utf-8", "replace"), _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL, self._address
            )
        except BlockingIOError:
            return False
        except OSError as error:
            return error.errno not in _PASSING
        return True

    def close(self) -> None:
        """Give the descriptor back."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _address(value: str) -> str:
    """Return the address as ``sendto`` wants it, "" for none: ``/path``, or ``@name`` for an abstract one; unix(7)."""
    if value.startswith("@") and len(value) > 1:
        return "\0" + value[1:]
    # sd_notify(3) knows vsock too, which is for the init of a virtual machine.
    return value if value.startswith("/") else ""


def watchdog_seconds(environ: Mapping[str, str], pid: int) -> float:
    """Return within how many seconds the service manager wants a sign of life, 0 if it wants none.

    sd_watchdog_enabled(3): ``WATCHDOG_PID`` says whom it wants it from, and may be missing.
    """
    wanted = environ.get("WATCHDOG_PID", str(pid))
    microseconds = environ.get("WATCHDOG_USEC", "")
    if wanted != str(pid) or not (microseconds.isascii() and microseconds.isdigit()):
        return 0.0
    return int(microseconds) / 1_000_000
