"""uvicorn, as a lame duck that leaves no connection without an answer.

Plain uvicorn closes idle keep-alive connections and connections that have not yet spoken the moment it is told to stop,
and a client that has just sent a request there gets an end of file for an answer. Here it stops accepting, answers
everything with ``Connection: close``, and closes what stays silent only after the linger.
"""

from __future__ import annotations

import contextlib
import copy
import signal
import sys
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from ..access import opened
from ..counting import Draining, tally_asgi
from ..tally import Tally
from .base import App, EngineError, Job
from .uvicorn_counted import counted
from .uvicorn_options import Prepared, prepare
from .uvicorn_server import LameDuck

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Mapping

    from ..counting import AsgiLog
    from ..meters import Meters
    from .base import Told

__all__ = ["Uvicorn", "make", "prepare"]

# What uvicorn's middleware looks for in headers.
_BY_PROXIES = frozenset((b"x-forwarded-proto", b"x-forwarded-for"))


def make(job: Job, app: App, meters: Meters, told: Told) -> Uvicorn:
    """Return the engine of one worker; see `engines.base.Loader`.

    Raises:
        EngineError: It cannot serve this app.
    """
    if not isinstance(job, Prepared):
        job = prepare(job)
    assert isinstance(job, Prepared)
    if app.interface == "wsgi":
        # Neither is there for it: the middleware knows HTTP alone.
        job.config.lifespan, job.config.ws = "off", "none"
    return Uvicorn(job, _as_asgi(job, app), meters, told)


def _as_asgi(job: Prepared, app: App) -> Any:
    """Return the app as ASGI 3."""
    if job.config.interface == "asgi2":
        from uvicorn.middleware.asgi2 import ASGI2Middleware  # noqa: PLC0415 - rarely needed

        return ASGI2Middleware(app.call)
    if app.interface == "asgi":
        return app.call
    try:
        from a2wsgi import WSGIMiddleware  # noqa: PLC0415 - for WSGI apps alone
    except ImportError as error:
        if job.source == "command":
            # What uvicorn itself falls back to, with its own warning.
            from uvicorn.middleware.wsgi import WSGIMiddleware as Fallback  # noqa: PLC0415

            return Fallback(app.call)
        raise EngineError(
            f"{app.label} is a WSGI app, which uvicorn serves through a2wsgi; type:"
            f" {sys.executable} -m pip install a2wsgi"
        ) from error
    return WSGIMiddleware(app.call, workers=job.threads)


class Uvicorn:
    """uvicorn in one worker; see `engines.base.Engine`."""

    def __init__(self, job: Prepared, app: Any, meters: Meters, told: Told) -> None:
        """Load the configuration for the app."""
        self._draining = Draining()
        log = opened(job)
        tally = Tally(meters)
        self._server = LameDuck(
            public_config(job.config, app, tally, self._draining, log.asgi if log else None),
            private_config(job.config, app),
            job=job,
            meters=meters,
            tally=tally,
            told=told,
            draining=self._draining,
        )
        self._job = job

    def run(self, private: socket.socket) -> int:
        """Serve until drained or stopped; see `engines.base.Engine`."""
        return self._server.live(private)

    def accept(self, key: str, listener: socket.socket) -> None:
        """Accept on one more listener; see `engines.base.Engine`."""
        self._server.on_loop(lambda: self._server.add(key, listener))

    def release(self, key: str) -> None:
        """Accept on a listener no more; see `engines.base.Engine`."""
        # A server that has stopped has closed all of them.
        with contextlib.suppress(EngineError):
            self._server.on_loop(lambda: self._server.remove(key))

    def drain(self) -> None:
        """Become a lame duck; see `engines.base.Engine`."""
        self._server.handle_exit(signal.SIGTERM, None)

    def stop(self) -> None:
        """Stop quickly; see `engines.base.Engine`."""
        self._server.handle_exit(signal.SIGINT, None)

    def connections(self) -> int:
        """Return how many client connections are open, private ones left out."""
        return len(self._server.server_state.connections)

    def facts(self) -> Mapping[str, str]:
        """Return the version and the loop."""
        return {"engine_version": uvicorn.__version__, "loop": self._server.loop_name}


def _loaded(config: Any, app: Any) -> Any:
    """Return the configuration for an app that is ASGI 3."""
    made = copy.copy(config)
    made.app, made.interface, made.factory = app, "asgi3", False
    made.load()
    middleware = made.loaded_app
    if type(middleware) is ProxyHeadersMiddleware:
        made.loaded_app = _unless_proxied(middleware)
    return made


def _unless_proxied(middleware: Any) -> Callable[[Any, Any, Any], Awaitable[None]]:
    """Return its app, with the middleware around it from the first request on that has the word of a proxy.

    Without one the middleware changes nothing, and is a twentieth of what a small request takes. A server that has seen
    one stands behind a proxy, and does not look any more.
    """
    app = middleware.app
    is_proxied = False

    # No coroutine of its own.
    def served(scope: Any, receive: Any, send: Any) -> Awaitable[None]:
        nonlocal is_proxied
        if not is_proxied and scope["type"] != "lifespan":
            for name, _ in scope["headers"]:
                if name in _BY_PROXIES:
                    is_proxied = True
                    break
        return (middleware if is_proxied else app)(scope, receive, send)  # type: ignore[no-any-return]

    return served


def public_config(config: Any, app: Any, tally: Tally, draining: Draining, log: AsgiLog | None) -> Any:
    """Return what clients are served by: counted in uvicorn's own object of a request, where that can be."""
    made = _loaded(config, app)
    protocol = counted(made.http_protocol_class, tally, draining, log)
    # A context of its own for each request is made where uvicorn makes its task.
    if protocol is None or getattr(made, "reset_contextvars", False):
        return _loaded(config, tally_asgi(app, tally, draining, log))
    made.http_protocol_class = protocol
    return made


def private_config(config: Any, app: Any) -> Any:
    """Return what the private listener is served by: the same app, uncounted, and never with TLS."""
    private = copy.copy(config)
    is_tls = bool(config.is_ssl)

    async def probed(scope: Any, receive: Any, send: Any) -> None:
        if is_tls and scope["type"] == "http":
            # The app must not answer a probe with a redirect to https.
            scope["scheme"] = "https"
        await app(scope, receive, send)

    private.ssl_certfile = private.ssl_keyfile = private.ssl_context_factory = None
    private.access_log = False
    return _loaded(private, probed)
