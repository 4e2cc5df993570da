"""What granian's runtime calls for a request: the app, counted, without a layer more than granian itself has.

Granian answers a request in some fourteen microseconds, of which a wrapper around the app and one around its ``send``
would be a fifth. So the counting is done in place of granian's own two functions around the app, not around those.
"""

from __future__ import annotations

import os
import sys
from time import monotonic
from typing import TYPE_CHECKING, Any

from granian.wsgi import _callback_wrapper

from ..counting import CLOSE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from ..counting import Draining
    from ..tally import Tally

__all__ = ["asgi_call", "asgi_text", "wsgi_call", "wsgi_text"]


def asgi_text(watcher: Any) -> str:
    """Return "GET /path" of what stands for a request of an ASGI app."""
    return f"{watcher.scope['method']} {watcher.scope['path']}"


def wsgi_text(answer: Any) -> str:
    """Return "GET /path" of what stands for a request of a WSGI app."""
    return f"{answer.scope['REQUEST_METHOD']} {answer.scope['PATH_INFO']}"


def asgi_call(
    app: Callable[..., Awaitable[None]],
    prefix: str,
    state: dict[str, Any],
    *,
    tally: Tally | None = None,
    draining: Draining | None = None,
    log: Callable[[Any, int, float], None] | None = None,
    websocket: Callable[[Any], Awaitable[None]] | None = None,
    is_tls: bool = False,
) -> Callable[[Any], Awaitable[None]]:
    """Return what granian's scheduler runs for a request of an ASGI app.

    Args:
        app: The app.
        prefix: Its root path.
        state: Of its lifespan; every request gets a copy.
        tally: What counts HTTP requests; None: nothing is counted.
        draining: While it is on, HTTP/1 answers say ``Connection: close``.
        log: Called when a request is over, with scope, status (0: no whole answer) and seconds.
        websocket: What is run for a websocket instead, if anything.
        is_tls: Whether the app is to see https where the connection is plain: on the private listener of a worker
            that has TLS on its public ones.
    """

    async def plain(watcher: Any) -> None:
        scope, proto = watcher.scope, watcher.proto
        scope["root_path"], scope["state"] = prefix, state.copy()
        if is_tls and scope["type"] == "http":
            scope["scheme"] = "https"
        try:
            await app(scope, proto.receive, proto.send)
        except BaseException as error:  # noqa: BLE001 - granian answers with 500 and logs it
            watcher.err(error)
        else:
            watcher.done()

    if tally is None or draining is None:
        return plain
    flying, fine, over = tally.flying, tally.fine.append, tally.over.append

    async def counted(watcher: Any) -> None:
        scope = watcher.scope
        if scope["type"] != "http":
            await (websocket or plain)(watcher)
            return
        proto = watcher.proto
        scope["root_path"], scope["state"] = prefix, state.copy()
        send = proto.send
        if draining.on and scope["http_version"][0] == "1":
            send = _closing(send)
        flying[watcher] = started = monotonic()
        try:
            await app(scope, proto.receive, send)
        except BaseException as error:  # noqa: BLE001 - granian answers with 500 and logs it
            watcher.err(error)
            # 500 is what it has until the app has begun to answer; an answer that was begun is left a torso.
            status = 500 if proto.sent_response_code == 500 else 0
        else:
            watcher.done()
            status = proto.sent_response_code
        seconds = monotonic() - started
        del flying[watcher]
        if status == 200:
            fine(seconds)
        else:
            over((status, seconds))
        if log is not None:
            log(scope, status, seconds)

    return counted


def _closing(send: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
    async def closing(message: Any) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), CLOSE]}
        await send(message)

    return closing


def wsgi_call(
    app: Callable[..., Any],
    prefix: str,
    *,
    tally: Tally | None = None,
    draining: Draining | None = None,
    log: Callable[[Any, int, float], None] | None = None,
    is_tls: bool = False,
) -> Callable[[Any, dict[str, Any]], int]:
    """Return what granian's threads run for a request of a WSGI app; see `asgi_call`."""
    if tally is None or draining is None:
        return _callback_wrapper(_as_tls(app) if is_tls else app, {"url_path_prefix": prefix})  # type: ignore[no-any-return]
    base = _base_environ(prefix)
    flying, fine, over = tally.flying, tally.fine.append, tally.over.append

    def counted(proto: Any, scope: dict[str, Any]) -> int:
        answer = _Answer()
        answer.scope = scope
        flying[answer] = started = monotonic()
        status = 500
        environ = base | scope
        try:
            if prefix:
                environ["PATH_INFO"] = scope["PATH_INFO"][len(prefix) :] or "/"
            result = app(environ, answer)
            headers = [*answer.headers, ("Connection", "close")] if draining.on else answer.headers
            if isinstance(result, list):
                proto.response_bytes(answer.status, headers, b"".join(result))
                status = answer.status
            else:
                watched = _Watched(result)
                # Returns when everything was taken by the connection, or its client has gone.
                proto.response_iter(answer.status, headers, watched)
                status = answer.status if watched.is_whole else 0
        finally:
            seconds = monotonic() - started
            del flying[answer]
            if status == 200:
                fine(seconds)
            else:
                over((status, seconds))
            if log is not None:
                log(environ, status, seconds)
        return status

    return counted


class _Codes(dict[str, int]):
    """The codes of status lines that apps have given, such as "200 OK"."""

    # An app may make up any text after the code.
    _MOST = 200

    def __missing__(self, status: str) -> int:
        code = int(status.split(" ", 1)[0])
        if len(self) < self._MOST:
            self[status] = code
        return code


class _Answer:
    """The ``start_response`` of a request, and what stands for it; its class has the defaults, so that none is set.

    Attributes:
        scope: Of the request.
        status: Its code.
        headers: Names and values.
    """

    scope: dict[str, Any]
    status = 200
    headers: Sequence[tuple[str, str]] = ()
    _codes = _Codes()

    def __call__(self, status: str, headers: Sequence[tuple[str, str]], exc_info: Any = None) -> None:  # noqa: ARG002 - WSGI's
        self.status = self._codes[status]
        self.headers = headers


class _Watched:
    """An iterable of which one knows afterwards whether it came to its end."""

    __slots__ = ("_iterable", "_iterator", "is_whole")

    def __init__(self, iterable: Any) -> None:
        self._iterable = iterable
        self._iterator = iter(iterable)
        self.is_whole = False

    def __next__(self) -> Any:
        try:
            return next(self._iterator)
        except StopIteration:
            self.is_whole = True
            raise

    def close(self) -> None:
        """Close what is watched."""
        close = getattr(self._iterable, "close", None)
        if close is not None:
            close()


def _base_environ(prefix: str) -> dict[str, Any]:
    """Return what every environ has: granian's own, which is inside of its wrapper."""
    return {
        **os.environ,
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SCRIPT_NAME": prefix,
        "SERVER_SOFTWARE": "Granian",
        "wsgi.errors": sys.stderr,
        "wsgi.input_terminated": True,
        "wsgi.multiprocess": False,
        "wsgi.multithread": True,
        "wsgi.run_once": False,
        "wsgi.version": (1, 0),
    }


def _as_tls(app: Callable[..., Any]) -> Callable[..., Any]:
    def with_tls(environ: dict[str, Any], start_response: Any) -> Any:
        return app({**environ, "wsgi.url_scheme": "https"}, start_response)

    return with_tls
