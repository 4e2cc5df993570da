"""The blocking client of the control socket.

It uses ``_socket``, the C half of ``socket``: the Python half costs 3 ms of import time, which is a sixth of what
``oxherd status`` takes as a whole. For the same reason errors are imported when there is one to raise.
"""

from __future__ import annotations

import _socket
import os
import struct
import sys
import time

from oxherd import __version__
from oxherd.control.ownership import as_owner, owner_of, peer_uid, user_text
from oxherd.control.protocol import LineBuffer, decode_line, error_of, request_line, version_note

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ClassVar, Self

    from oxherd.control.paths import Home

__all__ = ["Client"]

# Seconds a supervisor may take to accept. It accepts within one turn of its loop; seconds mean that it is stuck.
_CONNECT_SECONDS = 10


class Client:
    """One connection to a supervisor, for requests one after the other. Use it as a context manager.

    Attributes:
        server_version: What the supervisor said its version is, or "" before the first answer.
        path: The socket it is connected to.
        noted: What was said of other versions, by any of them.
    """

    noted: ClassVar[set[str]] = set()

    __slots__ = ("_buffer", "_last_id", "_pending", "_socket", "path", "server_version")

    def __init__(self, connected: _socket.socket, path: str) -> None:
        """Take over a connected stream socket; see `connect`."""
        self._socket = connected
        self._buffer = LineBuffer()
        self._pending: list[dict[str, object]] = []
        self._last_id = 0
        self.server_version = ""
        self.path = path

    @classmethod
    def connect(cls, home: Home, *, socket_path: str | None = None) -> Client:
        """Connect to the supervisor of ``home``.

        Args:
            home: Whose supervisor.
            socket_path: Another socket than the background supervisor's, such as ``home.run_socket(...)``.

        Raises:
            NoSupervisorError: Nobody listens there. A socket file that a dead supervisor left behind is the same.
            SystemFault: The socket belongs to somebody else, the supervisor does not accept, or the path of the home is
                too long for a socket.
        """
        path = home.socket if socket_path is None else socket_path
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            # A non-blocking connect() to a unix socket whose backlog is full fails with EAGAIN at once instead of
            # waiting (connect(2)), so twenty clients at the same time need a blocking one, with the kernel's timeout.
            connection.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, struct.pack("ll", _CONNECT_SECONDS, 0))
            connection.connect(path)
            connection.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, struct.pack("ll", 0, 0))
        except OSError as error:
            connection.close()
            raise home.path_fault() or _connect_fault(path, error) from error
        # Whoever put a socket there first would be sent an oxfile and the caller's environment. Root may command
        # everybody's supervisor, and sends it neither: see `Home.refuse_foreign`.
        owner = peer_uid(connection)
        if owner is not None and owner != os.geteuid() and os.geteuid() != 0:
            connection.close()
            raise _foreign_fault(path, owner)
        return cls(connection, path)

    def request(
        self,
        verb: str,
        on_progress: Callable[[dict[str, object]], None] | None = None,
        timeout: float | None = None,
        **args: object,
    ) -> dict[str, object]:
        """Ask for ``verb`` and wait for its result.

        Args:
            verb: What to do.
            on_progress: Called with each progress object as it comes.
            timeout: Seconds after which to give up, whatever progress there is; None waits for ever.
            args: The verb's arguments.

        Raises:
            OxherdError: The subclass and code that the supervisor answered.
            ProtocolError: The connection ended, or what came is not the protocol.
            OperationError: No result within ``timeout`` seconds.
        """
        self._last_id += 1
        line = request_line(identity=self._last_id, version=__version__, verb=verb, args=args)
        deadline = None if timeout is None else time.monotonic() + timeout
        self._socket.settimeout(timeout)
        ending = "it hung up"
        try:
            self._socket.sendall(line)
        except TimeoutError as error:
            raise _timeout_fault(verb, timeout) from error
        except OSError as error:
            # Refused before it was read whole (a line too long, not our supervisor): the answer that says why is
            # there to be read although nothing can be written any more.
            ending = os.strerror(error.errno or 0)
        while True:
            if deadline is not None:
                self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            message = self._next_message(verb, timeout, ending)
            identity = message.get("id")
            if identity is not None and identity != self._last_id:
                continue
            self._note_version(message.get("server"))
            if "error" in message:
                raise error_of(message["error"])
            if "result" in message:
                return _object(message, "result")
            progress = _object(message, "progress")
            if on_progress is not None:
                on_progress(progress)

    def close(self) -> None:
        """Hang up; the supervisor forgets what this connection subscribed to."""
        self._socket.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up."""
        self.close()

    def _next_message(self, verb: str, timeout: float | None, ending: str) -> dict[str, object]:
        while not self._pending:
            try:
                data = self._socket.recv(65536)
            except TimeoutError as error:
                raise _timeout_fault(verb, timeout) from error
            except OSError as error:
                raise _ended_fault(verb, os.strerror(error.errno or 0)) from error
            if not data:
                raise _ended_fault(verb, ending)
            self._pending.extend(decode_line(line) for line in self._buffer.feed(data))
        return self._pending.pop(0)

    def _note_version(self, server: object) -> None:
        if not isinstance(server, str):
            return
        self.server_version = server
        # Once in the life of this process: a command may connect several times.
        if (note := version_note(__version__, server)) and note not in Client.noted:
            Client.noted.add(note)
            sys.stderr.write(f"note: {note}\n")


def _object(message: dict[str, object], key: str) -> dict[str, object]:
    value = message.get(key)
    if isinstance(value, dict):
        return value
    from oxherd.errors import ProtocolError  # noqa: PLC0415 - see the head of this module

    raise ProtocolError(f'the supervisor sent an answer whose "{key}" is not an object', code="OX503")


def _connect_fault(path: str, error: OSError) -> Exception:
    from oxherd.errors import NoSupervisorError, SystemFault  # noqa: PLC0415 - see the head of this module

    if isinstance(error, (FileNotFoundError, ConnectionRefusedError, NotADirectoryError)):
        return NoSupervisorError("no supervisor is running", hint="oxherd start")
    if isinstance(error, BlockingIOError):
        return SystemFault(
            f"the supervisor at {path} did not take the connection within {_CONNECT_SECONDS} s",
            hint="look at it with `ps`, and at supervisor.log beside its state",
            code="OX610",
        )
    owner = owner_of(path)
    if isinstance(error, PermissionError) and owner is not None and owner != os.geteuid():
        return _foreign_fault(path, owner)
    return SystemFault(
        f"cannot connect to {path}: {error.strerror or error}",
        hint="run oxherd as the user the supervisor belongs to, or set OXHERD_HOME to a directory of your own",
        code="OX611",
    )


def _foreign_fault(path: str, owner: int) -> Exception:
    from oxherd.errors import SystemFault  # noqa: PLC0415 - see the head of this module

    return SystemFault(
        f"the supervisor at {path} belongs to {user_text(owner)}: it is not yours to command",
        hint=as_owner(owner),
        code="OX614",
    )


def _timeout_fault(verb: str, timeout: float | None) -> Exception:
    from oxherd.errors import OperationError  # noqa: PLC0415 - see the head of this module

    return OperationError(
        f"{verb} did not end within {timeout or 0:g} s; it goes on in the background",
        hint="oxherd status shows where it is",
        code="OX440",
    )


def _ended_fault(verb: str, reason: str) -> Exception:
    from oxherd.errors import ProtocolError  # noqa: PLC0415 - see the head of this module

    return ProtocolError(
        f"the connection to the supervisor ended before {verb} was answered: {reason}",
        hint="oxherd status shows what became of it",
        code="OX508",
    )
