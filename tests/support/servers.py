"""Small servers that behave as a test wants: answer, hang, close, send garbage, trickle."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

    Behaviour = Callable[[socket.socket, bytes], None]

__all__ = ["Server", "answer", "closes", "free_port", "hangs", "says", "trickles"]

CERTIFICATE = Path(__file__).parent / "localhost.pem"


def free_port() -> int:
    """Return a TCP port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answer(status: int, body: bytes = b"ok", *, length: bool = True) -> Behaviour:
    """Answer with a status; without a length the end of the connection is the end of the body."""
    head = f"HTTP/1.1 {status} Whatever\r\n" + (f"Content-Length: {len(body)}\r\n" if length else "")
    return says(head.encode() + b"\r\n" + body)


def says(data: bytes) -> Behaviour:
    """Answer with these bytes and close."""

    def behave(connection: socket.socket, _request: bytes) -> None:
        connection.sendall(data)

    return behave


def trickles(data: bytes) -> Behaviour:
    """Answer one byte at a time."""

    def behave(connection: socket.socket, _request: bytes) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in data:
            connection.sendall(bytes([byte]))

    return behave


def closes(connection: socket.socket, _request: bytes) -> None:
    """Close without an answer."""


def hangs(connection: socket.socket, _request: bytes) -> None:
    """Say nothing until the client gives up."""
    while connection.recv(65536):
        pass


class Server:
    """Accepts in a thread and treats every connection as told.

    Attributes:
        behaviour: What to do with a connection once its request was read; may be changed at any time.
        requests: The requests that were read, as bytes.
    """

    def __init__(self, behaviour: Behaviour, *, path: str | None = None, tls: bool = False) -> None:
        self.behaviour = behaviour
        self.requests: list[bytes] = []
        self._context: ssl.SSLContext | None = None
        if tls:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(CERTIFICATE)
        self._listener = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
        self._listener.bind(path or ("127.0.0.1", 0))
        self._listener.listen(512)
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, raw: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection = raw if self._context is None else self._context.wrap_socket(raw, server_side=True)
            with connection:
                request = b""
                while b"\r\n\r\n" not in request:
                    data = connection.recv(65536)
                    if not data:
                        return
                    request += data
                self.requests.append(request)
                self.behaviour(connection, request)
        raw.close()
