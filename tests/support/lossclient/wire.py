"""One connection: a raw socket that knows whether it has answered before, and whether its other end has hung up."""

from __future__ import annotations

import asyncio
import errno
import socket
import time

from support.lossclient.http1 import Response
from support.lossclient.outcome import Closed, Lost, Outcome

__all__ = ["Wire"]

# What the client's own machine says when it has no more of something; connect(2), socket(2).
OWN_LIMITS = {errno.EADDRNOTAVAIL, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}
READ = 65536


class Wire:
    """A connection to the server.

    Attributes:
        answered: Answers that have come over it.
        made: When it was, monotonic.
        pid: The process that gave the last one, None before that.
        stage: What the request under way was at when something went wrong, for the sample of failures.
    """

    __slots__ = ("_loop", "_socket", "answered", "made", "pid", "stage")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._socket: socket.socket | None = None
        self.answered = 0
        self.made = 0.0
        self.pid: int | None = None
        self.stage = "connect"

    async def connect(self, address: str) -> None:
        """Connect to ``host:port`` or ``unix:/path``.

        Raises:
            Lost: It did not come about.
        """
        self.stage = "connect"
        path = address.removeprefix("unix:")
        try:
            if path != address:
                self._socket = socket.socket(socket.AF_UNIX)
                target: object = path
            else:
                host, _, port = address.rpartition(":")
                host = host.strip("[]")
                self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                target = (host, int(port))
            self._socket.setblocking(False)
            await self._loop.sock_connect(self._socket, target)
        except OSError as error:
            self.close()
            raise Lost(_of_connect(error), str(error)) from None
        self.made = time.monotonic()

    def ended(self) -> Closed | None:
        """Look whether the server has closed, which is no loss as long as no request has been sent."""
        assert self._socket is not None
        try:
            seen = self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return None
        except OSError:
            return Closed.IDLE_RESET if self.answered else Closed.SILENT
        if seen:
            return Closed.UNASKED
        return Closed.IDLE if self.answered else Closed.SILENT

    async def send(self, data: bytes) -> None:
        """Send all of it.

        Raises:
            Lost: The connection is gone.
        """
        assert self._socket is not None
        try:
            # Nearly always it goes at once, which spares a turn of the loop.
            sent = self._socket.send(data)
            if sent < len(data):
                await self._loop.sock_sendall(self._socket, data[sent:])
        except BlockingIOError:
            await self._loop.sock_sendall(self._socket, data)
        except OSError as error:
            raise Lost(self._reset(), str(error)) from None

    async def some(self, *, begun: bool = False) -> bytes:
        """Return the next bytes, none at the end of the connection.

        Args:
            begun: Whether a byte of what is being received has come.

        Raises:
            Lost: The connection was reset.
        """
        assert self._socket is not None
        try:
            return await self._loop.sock_recv(self._socket, READ)
        except OSError as error:
            raise Lost(Outcome.RESET_MID if begun else self._reset(), str(error)) from None

    async def quiet(self, seconds: float) -> bool:
        """Wait that long for something to come; return whether nothing has. Nothing is read."""
        assert self._socket is not None
        woken = self._loop.create_future()
        self._loop.add_reader(self._socket, lambda: woken.done() or woken.set_result(None))
        try:
            await asyncio.wait([woken], timeout=max(0.0, seconds))
        finally:
            self._loop.remove_reader(self._socket)
        return not woken.done()

    async def response(self) -> Response:
        """Return the whole next answer.

        Raises:
            Lost: It did not come, or is none.
        """
        answer = Response()
        self.stage = "answer"
        while not answer.complete:
            data = await self.some(begun=answer.begun)
            if data:
                answer.feed(data)
            elif not answer.end():
                raise Lost(Outcome.RESET_MID if answer.begun else self._reset(), "end of file")
        self.answered += 1
        pid = answer.headers.get("x-pid", "")
        self.pid = int(pid) if pid.isdecimal() else None
        return answer

    def close(self) -> None:
        """Close this end."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _reset(self) -> Outcome:
        return Outcome.RESET_REUSED if self.answered else Outcome.RESET_FRESH


def _of_connect(error: OSError) -> Outcome:
    if error.errno in OWN_LIMITS:
        return Outcome.CLIENT
    if error.errno in {errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE}:
        return Outcome.RESET_FRESH
    if error.errno == errno.ETIMEDOUT:
        return Outcome.TIMEOUT
    return Outcome.REFUSED
