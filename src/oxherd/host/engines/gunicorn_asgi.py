"""gunicorn's own ASGI worker: its protocol and its lifespan, our listeners and our way out."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import socket
import threading
import time
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from gunicorn.asgi.protocol import ASGIProtocol

from .base import EngineError
from .gunicorn_hosting import LEAVING, Ticker, keep_signals

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from .gunicorn_hosting import Course

__all__ = ["hosted", "import_early"]

# WebSocket: the service restarts (RFC 6455, registry of close codes).
_RESTARTS = 1012
# Seconds an app has between being told that its client is gone and being cancelled.
_LAST_WORDS = 1.0
_LOOK = 0.05


def hosted(base: type[Any]) -> type[Any]:
    """Return the hosted form of a worker class that is gunicorn's ASGI worker or made of it."""
    return type(f"Hosted{base.__name__}", (_Asgi, base), {})


def import_early(cfg: Any) -> None:
    """Import what gunicorn's worker imports when it starts."""
    names = ["gunicorn.asgi.lifespan", "gunicorn.instrument.statsd"]
    if cfg.asgi_loop != "asyncio":
        names.append("uvloop")
    for name in names:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


class _Connection(ASGIProtocol):  # type: ignore[misc]
    """A client's connection, known to its worker.

    gunicorn's own closes a connection whose answer has just said that it stays open, when the worker begins to drain
    right then. So the worker's ``alive`` stays true, and it is the answers that change: `_will_close`.
    """

    def __init__(self, worker: Any) -> None:
        super().__init__(worker)
        self.app = worker.course.app.counted
        worker.arriving.add(self)
        self.silent_since = time.monotonic()

    def connection_made(self, transport: Any) -> None:
        self.worker.arriving.discard(self)
        self.worker.clients.add(self)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.worker.clients.discard(self)
        super().connection_lost(exc)

    def _will_close(self, request: Any, response_requires_close: Any) -> bool:
        return self.worker.course.draining or bool(super()._will_close(request, response_requires_close))

    def _arm_keepalive_timer(self) -> None:
        self.silent_since = time.monotonic()
        super()._arm_keepalive_timer()

    def is_silent(self) -> bool:
        """Tell whether nothing is being asked or answered on it."""
        return self._websocket is None and not self._h2_tasks and self._current_request is None

    def goes_on_draining(self) -> None:
        """HTTP/2: go when the streams that are open have ended."""
        h2 = getattr(self, "_h2_conn", None)
        if h2 is not None:
            h2.draining = True

    def let_go(self) -> None:
        """Close a silent connection, as its own timeout does."""
        self._close_transport()
        if self._request_ready is not None:
            self._request_ready.set()

    async def bid_farewell(self) -> None:
        """Tell the client and the app that it is over: a websocket is closed with 1012."""
        websocket = self._websocket
        if websocket is not None and not websocket.closed and websocket.accepted:
            with contextlib.suppress(Exception):
                await websocket._send_close(_RESTARTS, "Service Restart")  # noqa: SLF001 - there is no other way to a code
                await websocket._receive_queue.put({"type": "websocket.disconnect", "code": _RESTARTS})  # noqa: SLF001
        elif self._body_receiver is not None:
            self._body_receiver.signal_disconnect()


class _Asgi:
    """The part of the hosted class that comes before gunicorn's; `course` is set before `init_process`.

    The private listener is the one gunicorn's own loop serves, with its own protocol: what comes there is not counted.
    """

    course: Course
    says_close = True
    clients: set[_Connection]
    arriving: WeakSet[_Connection]
    cfg: Any
    log: Any
    loop: asyncio.AbstractEventLoop
    sockets: list[Any]
    servers: list[Any]
    lifespan: Any
    alive: bool

    def init_process(self) -> None:
        self.clients = set()
        # Accepted, and not yet connected as the loop sees it: TLS shakes hands. Those that fail are never heard of again.
        self.arriving = WeakSet()
        self._public: dict[str, tuple[asyncio.AbstractServer, socket.socket]] = {}
        self._serving: asyncio.Task[None] | None = None
        self._ticker: Ticker | None = None
        self._turn = asyncio.Event()
        self._tls: Any = None
        self._leaving = False
        self._over = threading.Event()
        super().init_process()  # type: ignore[misc]

    def init_signals(self) -> None:
        keep_signals(self)

    def notify(self) -> None:
        """Called by gunicorn's loop: the first time it serves."""
        if self._serving is not None:
            return
        self._serving = asyncio.current_task()
        self._ticker = Ticker(self.loop, self.course, self.count)
        self._ticker.start()
        self.course.app.tally.watch(self._over)
        self.course.ready()

    @property
    def loop_name(self) -> str:
        """The event loop."""
        return type(self.loop).__module__.partition(".")[0]

    # -- for the engine -----------------------------------------------------------------------------------------

    def attach(self, key: str, listener: socket.socket) -> None:
        """Accept on a listener, called from the control thread."""
        self._do(self._attach(key, listener))

    def detach(self, key: str) -> None:
        """Accept no more on a listener, called from the control thread."""
        self._do(self._detach(key))

    def drain(self) -> None:
        """Drain, or drain sooner."""
        self.course.drain()
        self.loop.call_soon_threadsafe(self._change)

    def halt(self) -> None:
        """Stop; `course.stopping` is set."""
        self._quick_shutdown = True
        self.loop.call_soon_threadsafe(self._change)

    def count(self) -> int:
        """Return the number of open connections that are not private."""
        return len(self.clients)

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            future = asyncio.run_coroutine_threadsafe(work, self.loop)
        except RuntimeError as error:
            work.close()
            raise EngineError(LEAVING) from error
        try:
            future.result()
        except asyncio.CancelledError as error:
            raise EngineError(LEAVING) from error

    # -- in the loop --------------------------------------------------------------------------------------------

    def _change(self) -> None:
        self._turn.set()
        if self._leaving:
            return
        self._leaving = True
        for server, _ in self._public.values():
            server.close()
        self._public.clear()
        if self.course.draining:
            self.course.announce()
        for client in self.clients:
            client.goes_on_draining()
        if self._serving is not None:
            # gunicorn's loop takes this as the end of its sleep, and shuts down.
            self._serving.cancel()

    async def _attach(self, key: str, listener: socket.socket) -> None:
        if self._leaving:
            listener.close()
            raise EngineError(LEAVING)
        await self._detach(key)
        listener.setblocking(False)
        server = await self.loop.create_server(
            lambda: _Connection(self), sock=listener, ssl=self._tls, backlog=self.course.job.backlog
        )
        if self._leaving:
            server.close()
            raise EngineError(LEAVING)
        self._public[key] = (server, listener)

    async def _detach(self, key: str) -> None:
        server, _ = self._public.pop(key, (None, None))
        if server is not None:
            server.close()

    def _get_ssl_context(self) -> Any:
        """Called by gunicorn's loop before it serves what it was given: the private listener, without TLS."""
        self._tls = super()._get_ssl_context()  # type: ignore[misc]
        if self.cfg.is_ssl and self._tls is None:
            raise EngineError("the TLS certificate cannot be used; the line above says why")
        return None

    async def _shutdown(self) -> None:
        """Called by gunicorn's loop when it has ended: the lame duck."""
        course = self.course
        if self._serving is not None and hasattr(self._serving, "uncancel"):
            self._serving.uncancel()
        await self._drained()
        if self.clients:
            course.told.closed(len(self.clients))
        for client in list(self.clients):
            await client.bid_farewell()
        tasks = [client._task for client in self.clients if client._task is not None]  # noqa: SLF001
        if tasks and not course.stopping:
            await asyncio.wait(tasks, timeout=_LAST_WORDS)
        for server in self.servers:
            server.close()
        if self._ticker is not None:
            self._ticker.stop()
        self._over.set()
        if self.lifespan and not self._quick_shutdown:
            await self.lifespan.shutdown()

    _quick_shutdown = False

    async def _drained(self) -> None:
        """Wait until all have gone or been given up, and let those go that have been silent for long enough."""
        course = self.course
        while not course.stopping and (left := course.give_up - time.monotonic()) > 0:
            if not self.clients and (not self.arriving or time.monotonic() >= course.linger_end):
                return
            quiet = [client for client in self.clients if client.is_silent()]
            quiet = [client for client in quiet if course.has_waited_enough(client.silent_since)]
            for client in quiet:
                client.let_go()
            if quiet:
                course.told.closed(len(quiet))
            self._turn.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._turn.wait(), min(left, _LOOK))
