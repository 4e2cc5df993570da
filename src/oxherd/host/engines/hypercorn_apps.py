"""An app as hypercorn calls it: WSGI in threads, public requests counted, private ones not."""

from __future__ import annotations

import asyncio
import functools
import os
from typing import TYPE_CHECKING, Any

from hypercorn.app_wrappers import ASGIWrapper, WSGIWrapper
from hypercorn.middleware import ProxyFixMiddleware

from ..access import opened
from ..counting import Draining, tally_asgi
from ..tally import Tally
from ..threads import Threads
from ..websockets import Websockets
from .base import EngineError

if TYPE_CHECKING:
    from ..meters import Meters
    from .base import App, Job
    from .hypercorn_options import Proxy

__all__ = ["Apps"]

# As many as the executor of the loop has that hypercorn itself takes.
_THREADS = min(32, (os.cpu_count() or 1) + 4)


class Apps:
    """The app, for both kinds of listener.

    Attributes:
        public: What public connections get: counted, and known to the drain.
        private: What the private listener is served by: the same app, uncounted, and never with TLS.
        draining: Whether answers say ``Connection: close``.
        websockets: The open ones.
        tally: What public requests are counted with.
    """

    def __init__(self, job: Job, app: App, meters: Meters, config: Any, proxy: Proxy | None) -> None:
        """Wrap the app.

        Raises:
            EngineError: It cannot be wrapped so.
        """
        if proxy is not None and app.interface == "wsgi":
            raise EngineError(
                "server_options.proxy_headers: hypercorn reads them for ASGI apps only;"
                ' use werkzeug.middleware.proxy_fix.ProxyFix in the app, or server = "gunicorn"'
            )
        self.draining = Draining()
        self.websockets = Websockets()
        self.tally = Tally(meters)
        self._threads = Threads(_THREADS, "hypercorn-wsgi") if app.interface == "wsgi" else None
        call = app.call if self._threads is None else self._threaded(WSGIWrapper(app.call, config.wsgi_max_body_size))
        log = opened(job)
        public = tally_asgi(self.websockets.wrap(call), self.tally, self.draining, log.asgi if log else None)
        if proxy is not None:
            public = ProxyFixMiddleware(public, mode=proxy.mode, trusted_hops=proxy.hops)
        self.public = ASGIWrapper(public)
        self.private = ASGIWrapper(_as_tls(call) if config.ssl_enabled else call)

    def flush(self, now: float) -> bool:
        """Write what was counted; returns whether a request that came now would be answered.

        For WSGI: whether a thread is free, or one was answered since the last time.
        """
        answered = self.tally.flush(now)
        return self._threads is None or answered > 0 or self.tally.busy < _THREADS

    def _threaded(self, wsgi: Any) -> Any:
        """Return hypercorn's ASGI app around a WSGI app, with threads whose number is known."""

        async def call(scope: Any, receive: Any, send: Any) -> None:
            loop = asyncio.get_running_loop()

            def call_soon(function: Any, *args: Any) -> Any:
                return asyncio.run_coroutine_threadsafe(function(*args), loop).result()

            await wsgi(scope, receive, send, functools.partial(loop.run_in_executor, self._threads), call_soon)

        return call


def _as_tls(call: Any) -> Any:
    async def probed(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            # The app must not answer a probe with a redirect to https.
            scope["scheme"] = "https"
        await call(scope, receive, send)

    return probed
