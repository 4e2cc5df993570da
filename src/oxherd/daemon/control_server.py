"""The supervisor's end of the control socket.

Rules: one client, however slow, greedy or broken, delays neither another client nor the supervisor. Everything that is
kept for a client has a bound: half a line 16 MiB, unread answers 16 MiB, open requests 256. Only the owner (and root)
is listened to.
"""

from __future__ import annotations

import errno
import os

from oxherd.control.ownership import as_owner, peer_uid, user_text
from oxherd.control.protocol import MAX_LINE, LineBuffer, error_answer, progress_answer, result_answer
from oxherd.control.request import Request, parse_request
from oxherd.daemon.control_socket import accept, again, inode, listen
from oxherd.errors import OxherdError, ProtocolError, SystemFault
from oxherd.system.loop import readable

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable

    from oxherd.system.loop import Loop, Timer

__all__ = ["ControlServer", "Reply"]

# Bytes of answers that may wait for a client that does not read. One answer of the largest size fits.
_MAX_PENDING = MAX_LINE

# Requests of one connection that may be unanswered at a time; followers of events stay open.
_MAX_OPEN = 256

# accept() fails with these when that one client is gone again; accept(2).
_CLIENT_GONE = (errno.ECONNABORTED, errno.EPROTO, errno.EINTR)

_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)

# Seconds without accepting when it fails otherwise: EMFILE, ENFILE, ENOBUFS, ENOMEM. The listener stays readable, so
# trying again at once would spin.
_ACCEPT_PAUSE = 1.0

# Descriptors kept back for clients: a supervisor that has used up its own can still be told to stop something.
_RESERVE = 4

# Connections taken in one turn of the loop, so that a flood of them does not keep the children waiting.
_ACCEPT_BATCH = 64

_READ_SIZE = 65536


class Reply:
    """The way back to the client of one request. All methods are safe at any time; after the end they do nothing."""

    __slots__ = ("_connection", "_on_close", "_request_id")

    def __init__(self, connection: _Connection, request_id: int) -> None:
        """Made by the server for each request."""
        self._connection: _Connection | None = connection
        self._request_id = request_id
        self._on_close: list[Callable[[], None]] = []

    @property
    def closed(self) -> bool:
        """Whether the request is answered, or the client gone: nothing more can be said."""
        return self._connection is None

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call back once when the client goes away before the answer; at once if it has gone."""
        if self.closed:
            callback()
        else:
            self._on_close.append(callback)

    def progress(self, progress: dict[str, object]) -> None:
        """Tell the client how its request is coming along."""
        if self._connection is not None:
            self._connection.answer(self._request_id, lambda: progress_answer(self._request_id, progress))

    def result(self, result: dict[str, object]) -> None:
        """Answer; a result that does not fit into a line becomes an error."""
        connection = self._finish()
        if connection is not None:
            version = connection.server.version
            connection.answer(self._request_id, lambda: result_answer(self._request_id, version, result))

    def error(self, error: OxherdError) -> None:
        """Answer that it did not work."""
        connection = self._finish()
        if connection is not None:
            version = connection.server.version
            connection.answer(self._request_id, lambda: error_answer(self._request_id, version, error))

    def _finish(self) -> _Connection | None:
        connection, self._connection = self._connection, None
        self._on_close.clear()
        if connection is not None:
            connection.replies.discard(self)
        return connection

    def _client_gone(self) -> None:
        """The connection is closed: cancel what was subscribed to."""
        self._connection = None
        callbacks, self._on_close = self._on_close, []
        for callback in callbacks:
            callback()


class _Connection:
    """One client."""

    __slots__ = ("_broken", "_closing", "_input", "_output", "_socket", "fd", "replies", "server")

    def __init__(self, server: ControlServer, accepted: _socket.socket) -> None:
        self.server = server
        self.fd = accepted.fileno()
        self.replies: set[Reply] = set()
        self._socket = accepted
        self._input = LineBuffer()
        self._output = bytearray()
        # Hang up once the output is sent; nothing is read any more.
        self._closing = False
        # The client is gone or does not read; the hanging up is under way.
        self._broken = False

    def on_ready(self) -> None:
        """The client sent something, took something, or hung up."""
        taken = self._flush() if self._output else True
        if not taken or (self._closing and not self._output):
            self.close()
        elif not self._closing:
            self._read()

    def _read(self) -> None:
        try:
            data = self._socket.recv(_READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        try:
            for line in self._input.feed(data):
                self._dispatch(parse_request(line))
                if self._broken:
                    return
        except ProtocolError as error:
            self.refuse(error)

    def _dispatch(self, request: Request) -> None:
        if len(self.replies) >= _MAX_OPEN:
            raise ProtocolError(
                f"more than {_MAX_OPEN} requests of one connection are unanswered",
                hint="wait for answers, or use several connections",
                code="OX507",
            )
        reply = Reply(self, request.id)
        self.replies.add(reply)
        try:
            self.server.dispatch(request, reply)
        except OxherdError as error:
            reply.error(error)
        except Exception as error:  # noqa: BLE001 - a bug in one verb must not end the others; it is reported below
            reply.error(
                OxherdError(
                    f"the supervisor failed at {request.verb}: {type(error).__name__}: {error}",
                    hint="this is a bug in Oxherd; supervisor.log beside its state has the details",
                )
            )
            self.server.report(error)

    def refuse(self, error: OxherdError) -> None:
        """Say why and hang up: what comes after this cannot be understood or must not be listened to."""
        self._closing = True
        self.answer(None, lambda: error_answer(None, self.server.version, error))

    def answer(self, request_id: int | None, encode: Callable[[], bytes]) -> None:
        """Send what ``encode`` returns, as far as the client takes it; keep the rest."""
        if self._broken:
            return
        try:
            line = encode()
        except ProtocolError as error:
            line = error_answer(request_id, self.server.version, error)
        if not self._output:
            # At the end of this turn: the start of a hundred processes is told in a few pieces, not in hundreds.
            self.server.loop.call_soon(self._flush_turn)
        self._output += line
        if len(self._output) > _MAX_PENDING:
            self._broken = True
            # Later, not now: closing calls back whoever subscribed, who may be in the middle of telling its
            # subscribers something, this one included.
            self.server.loop.call_soon(self.close)

    def _flush_turn(self) -> None:
        """Send what was said in this turn of the loop."""
        self.server.before_sending()
        if not self._broken and (not self._flush() or (self._closing and not self._output)):
            self.close()

    def _flush(self) -> bool:
        """Send what the client takes; return False if it is gone."""
        try:
            sent = self._socket.send(self._output)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            return False
        del self._output[:sent]
        if not self._output:
            self.server.loop.watch_read(self.fd, self.on_ready)
        elif self._closing:
            # Not for reading: what a refused client goes on sending is never read, and would make the loop spin.
            self.server.loop.watch_write(self.fd, self.on_ready)
        else:
            self.server.loop.watch_both(self.fd, self.on_ready)
        return True

    def close(self, *, refill: bool = True) -> None:
        """Hang up and cancel what the client waits for; ``refill``: the descriptor may go to the server's reserve."""
        if self._socket.fileno() < 0:
            return
        self._broken = True
        self.server.loop.unwatch(self.fd)
        self._socket.close()
        self._output.clear()
        self.server.forget(self, refill=refill)
        replies, self.replies = self.replies, set()
        for reply in replies:
            reply._client_gone()  # noqa: SLF001 - the reply is the connection's own half


class ControlServer:
    """Listens on a unix socket and hands every request to ``dispatch``.

    Args:
        loop: The supervisor's loop.
        path: Where the socket is put; a socket that a dead supervisor left there is replaced. The caller holds the
            lock of the home, so no living one is.
        dispatch: Called with each request and the way back. It may answer at once or later; an `OxherdError` it
            raises is the answer.
        version: The supervisor's version, sent with each answer.
        owner_uid: Whom to listen to, besides root.
        before_sending: Called before anything is sent: what an answer says must be on the disk by then.

    Raises:
        SystemFault: The socket cannot be made.
    """

    def __init__(
        self,
        loop: Loop,
        path: str,
        dispatch: Callable[[Request, Reply], None],
        *,
        version: str,
        owner_uid: int,
        before_sending: Callable[[], None] = lambda: None,
        inherited: int = -1,
    ) -> None:
        """Bind, listen and begin to serve; on the socket of the supervisor before where there is one to inherit."""
        self.loop = loop
        self.path = path
        self.dispatch = dispatch
        self.version = version
        self.before_sending = before_sending
        self._owner_uid = owner_uid
        self._connections: dict[_Connection, None] = {}  # in the order of their coming
        self._paused: Timer | None = None
        self._reserve: list[int] = []
        self._socket = listen(path) if inherited < 0 else again(path, inherited)
        self._keep_reserve()
        self._inode = inode(path)
        loop.watch_read(self._socket.fileno(), self._on_acceptable)

    def fileno(self) -> int:
        """Return the descriptor of the listening socket."""
        return self._socket.fileno()

    @property
    def clients(self) -> int:
        """Number of open connections."""
        return len(self._connections)

    def close(self) -> None:
        """Hang up on everyone and remove the socket, if it is still this server's."""
        if self._socket.fileno() < 0:
            return
        if self._paused is not None:
            self._paused.cancel()
        self.loop.unwatch(self._socket.fileno())
        self._socket.close()
        for connection in tuple(self._connections):
            connection.close()
        while self._reserve:
            os.close(self._reserve.pop())
        try:
            if inode(self.path) == self._inode:
                os.unlink(self.path)
        except OSError:
            return  # removed already, or on a read-only disk: a socket nobody listens on is replaced one day

    def restore(self) -> bool:
        """Put the socket back if it is not at its path any more; return whether it had to be.

        Connections that are open stay open.

        Raises:
            SystemFault: It cannot be made.
        """
        if self._socket.fileno() < 0:
            return False
        if self._inode == inode(self.path):
            return False
        listener = listen(self.path)
        if self._paused is None:
            self._on_acceptable()  # who came before is in the old queue
            self.loop.unwatch(self._socket.fileno())
            self.loop.watch_read(listener.fileno(), self._on_acceptable)
        self._socket.close()
        self._socket = listener
        self._inode = inode(self.path)
        return True

    def forget(self, connection: _Connection, *, refill: bool) -> None:
        """Drop a connection that closed itself."""
        self._connections.pop(connection, None)
        if refill and self._socket.fileno() >= 0:
            self._keep_reserve()

    def report(self, error: Exception) -> None:
        """Hand an error that is nobody's answer to the loop's ``on_error``."""

        def fail() -> None:
            raise error

        self.loop.call_soon(fail)

    def _on_acceptable(self) -> None:
        for _ in range(_ACCEPT_BATCH):
            try:
                accepted = accept(self._socket)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _CLIENT_GONE:
                    continue
                if error.errno in _NO_DESCRIPTORS:
                    # accept(2) wants the descriptor before it looks whether anybody is there.
                    if not readable(self._socket.fileno()):
                        return
                    if self._make_room():
                        continue
                self._pause(error)
                return
            self._welcome(accepted)

    def _make_room(self) -> bool:
        """Find a descriptor for a client at the door: of the reserve, or of a client that has asked for nothing."""
        if self._reserve:
            os.close(self._reserve.pop())
            return True
        # The longest there first. Whoever waits for an answer is let alone.
        idle = next((connection for connection in self._connections if not connection.replies), None)
        if idle is None:
            return False
        idle.close(refill=False)
        return True

    def _keep_reserve(self) -> None:
        """Fill the reserve up, as far as there are descriptors."""
        while len(self._reserve) < _RESERVE:
            try:
                self._reserve.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
            except OSError:
                # There are none now; the end of the next connection is the next occasion.
                return

    def _pause(self, error: OSError) -> None:
        self.loop.unwatch(self._socket.fileno())
        self._paused = self.loop.call_later(_ACCEPT_PAUSE, self._resume)
        fault = SystemFault(
            f"no command can be taken on {self.path} for {_ACCEPT_PAUSE:g} s: {os.strerror(error.errno or 0)}",
            hint="raise the limit of open files of the supervisor (LimitNOFILE in its unit, or ulimit -n)",
            code="OX612",
        )
        fault.__cause__ = error
        self.report(fault)

    def _resume(self) -> None:
        self._paused = None
        self.loop.watch_read(self._socket.fileno(), self._on_acceptable)

    def _welcome(self, accepted: _socket.socket) -> None:
        accepted.setblocking(False)
        connection = _Connection(self, accepted)
        self._connections[connection] = None
        uid = peer_uid(accepted)
        if uid is not None and uid not in (self._owner_uid, 0):
            connection.refuse(
                ProtocolError(
                    f"this supervisor belongs to {user_text(self._owner_uid)}: it is not yours to command",
                    hint=as_owner(self._owner_uid),
                    code="OX510",
                )
            )
            return
        self.loop.watch_read(connection.fd, connection.on_ready)
