"""The app as gunicorn's workers get it: counted, and told apart from what comes through the private listener."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from ..counting import Draining, count_asgi, count_wsgi, tally_asgi
from ..tally import Tally

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from ..meters import Meters

__all__ = ["AsgiApp", "WsgiApp", "any_app"]


class WsgiApp:
    """A WSGI app for clients and probes.

    Args:
        app: The app itself.
        meters: Count what clients ask; probes are not counted.
        closing: Says ``Connection: close`` while it is on; None where the worker class does that itself.
        log: Writes the access log; None where nobody does, or gunicorn.

    Attributes:
        parts: How many parts of answers there were so far; a long stream is not a blocked thread.
        private_path: The address of the private listener.
        is_tls: Whether clients come through TLS. Probes do not, and must not be redirected to it.
    """

    def __init__(self, app: Any, meters: Meters, *, closing: Draining | None = None, log: Any = None) -> None:
        """Wrap the app."""
        self._app = app
        self._counted = count_wsgi(self._noted, meters, closing, log)
        self.parts = 0
        self.private_path: Any = None
        self.is_tls = False

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        """Answer a request."""
        client = environ.get("gunicorn.socket")
        if client is not None and client.family == socket.AF_UNIX and client.getsockname() == self.private_path:
            return self.probed(environ, start_response)
        return self._counted(environ, start_response)

    def probed(self, environ: dict[str, Any], start_response: Any) -> Any:
        """Answer a request that came through the private listener."""
        if self.is_tls:
            environ["wsgi.url_scheme"] = "https"
        return self._app(environ, start_response)

    def _noted(self, environ: dict[str, Any], start_response: Any) -> Any:
        answer = self._app(environ, start_response)
        wrapper = environ.get("wsgi.file_wrapper")
        if isinstance(answer, (list, tuple)) or (isinstance(wrapper, type) and isinstance(answer, wrapper)):
            return answer
        return _Parts(answer, self)


class _Parts:
    """An answer whose parts are noted."""

    __slots__ = ("_answer", "_app", "_parts")

    def __init__(self, answer: Any, app: WsgiApp) -> None:
        self._answer = answer
        self._app = app
        self._parts: Iterator[bytes] | None = None

    def __iter__(self) -> _Parts:
        return self

    def __next__(self) -> bytes:
        if self._parts is None:
            self._parts = iter(self._answer)
        part = next(self._parts)
        self._app.parts += 1
        return part

    def close(self) -> None:
        close = getattr(self._answer, "close", None)
        if close is not None:
            close()


class AsgiApp:
    """An ASGI app for probes and the lifespan; `counted` is the one for clients.

    Args:
        app: The app itself.
        meters: Count what clients ask.
        failed: Called with what the app says when its startup fails.
        closing: Says ``Connection: close`` to clients while it is on; None where the worker class does that itself.
        log: Writes the access log; None where nobody does, or gunicorn.

    Attributes:
        plain: The app itself.
        log: As given.
        counted: The app for clients.
        tally: What it counts with; flushed with every tick, and at the end.
        is_tls: Whether clients come through TLS. Probes do not, and must not be redirected to it.
    """

    def __init__(
        self,
        app: Any,
        meters: Meters,
        failed: Callable[[str], None],
        *,
        closing: Draining | None = None,
        log: Any = None,
    ) -> None:
        """Wrap the app."""
        self.plain = app
        self.log = log
        self._failed = failed
        self.tally = Tally(meters)
        self.counted = tally_asgi(app, self.tally, closing or Draining(), log)
        self.is_tls = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one connection's scope."""
        if scope["type"] == "lifespan":
            send = self._listening(send)
        elif self.is_tls and scope["type"] == "http":
            scope["scheme"] = "https"
        await self.plain(scope, receive, send)

    def _listening(self, send: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
        async def sending(message: Any) -> None:
            if message["type"] == "lifespan.startup.failed":
                self._failed(message.get("message", ""))
            await send(message)

        return sending


def any_app(app: Any, interface: str | None, meters: Meters, closing: Draining) -> Any:
    """Return an app for a worker class nobody knows: counted and closing if it is ASGI or WSGI, else as it is."""
    match interface:
        case "asgi":
            return count_asgi(app, meters, closing)
        case "wsgi":
            return count_wsgi(app, meters, closing)
        case _:
            return app
