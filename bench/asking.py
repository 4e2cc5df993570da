"""A client of HTTP that asks small questions: who answers, on how many connections, and whether anybody does."""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections import Counter
from collections.abc import Iterator

__all__ = ["answer", "burst", "connection", "kept", "pid", "request"]


def connection(port: int, timeout: float = 30.0) -> socket.socket:
    """Return a new connection to a service of the loopback; ``timeout`` in seconds is for each step on it."""
    return socket.create_connection(("127.0.0.1", port), timeout=timeout)


def request(path: str, *, last: bool) -> bytes:
    """Return a GET; ``last`` says that no other follows on its connection."""
    closing = "Connection: close\r\n" if last else ""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{closing}\r\n".encode()


def complete(data: bytes) -> bytes | None:
    """Return the body of an answer once it is whole, None before that.

    Raises:
        OSError: it is no answer with 200.
    """
    head, separator, body = data.partition(b"\r\n\r\n")
    if not separator:
        return None
    if not head.startswith(b"HTTP/1.1 200"):
        raise OSError(head.partition(b"\r\n")[0].decode(errors="replace"))
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return body if len(body) >= int(value) else None
    raise OSError("an answer without content-length")


def answer(stream: socket.socket, path: str, *, last: bool = False) -> bytes:
    """Ask on a connection and return the body.

    Raises:
        OSError: no whole answer with 200 came.
    """
    stream.sendall(request(path, last=last))
    data = b""
    while (body := complete(data)) is None:
        part = stream.recv(65536)
        if not part:
            raise ConnectionResetError("end of file before the end of an answer")
        data += part
    return body


def pid(port: int, timeout: float = 30.0) -> int:
    """Ask once, on a connection of its own; return the pid of the worker that answered.

    Raises:
        OSError: nobody did.
    """
    with connection(port, timeout) as stream:
        return int(answer(stream, "/pid", last=True))


def burst(port: int, count: int, timeout: float = 10.0) -> dict[int, float]:
    """Ask on so many connections at once, each held up for 20 ms by the worker that took it; who is busy takes no other.

    Return the workers that answered, each with the monotonic time of its first answer. Who fails is left out.
    """
    seen: dict[int, float] = {}
    end = time.monotonic() + timeout
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as stack:
        for _ in range(count):
            with contextlib.suppress(OSError):
                stream = stack.enter_context(connection(port, timeout))
                stream.sendall(request("/busy", last=True))
                stream.setblocking(False)
                selector.register(stream, selectors.EVENT_READ, bytearray())
        while selector.get_map() and time.monotonic() < end:
            for key, _ in selector.select(end - time.monotonic()):
                try:
                    part = key.fileobj.recv(65536)  # type: ignore[union-attr]
                    if not part:
                        raise ConnectionResetError
                    key.data.extend(part)
                    body = complete(bytes(key.data))
                except BlockingIOError:
                    continue
                except OSError:
                    selector.unregister(key.fileobj)
                    continue
                if body is not None:
                    selector.unregister(key.fileobj)
                    seen.setdefault(int(body), time.monotonic())
    return seen


@contextlib.contextmanager
def kept(port: int, count: int) -> Iterator[Counter[int]]:
    """Open so many connections in one burst, ask once on each, keep them; give how many each worker has."""
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(connection(port)) for _ in range(count)]
        for stream in streams:
            stream.sendall(request("/pid", last=False))
        counts: Counter[int] = Counter()
        for stream in streams:
            data = b""
            while (body := complete(data)) is None:
                part = stream.recv(65536)
                if not part:
                    raise ConnectionResetError("end of file before the end of an answer")
                data += part
            counts[int(body)] += 1
        yield counts
