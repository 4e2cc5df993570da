"""Granian 2.8, its Rust runtime driven by what its own server drives it with, on listeners that come and go.

Granian has no way to stop accepting and go on serving, so it is made a lame duck from outside, see `granian_acceptors`
and `ducks`. What it keeps to itself is called here; `granian_options.check_version` lets no other version in.
"""

from __future__ import annotations

import abc
import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import granian
from granian._futures import _new_cbscheduler
from granian._granian import ASGIWorker, WSGIWorker
from granian._loops import loops
from granian.constants import Interfaces, TaskImpl
from granian.server.common import WORKERS_METHODS

from .. import ducks
from ..access import opened
from ..counting import Draining
from ..tally import Tally
from ..websockets import Websockets
from .base import EngineError, StartupError
from .granian_acceptors import Acceptors
from .granian_calls import asgi_call, asgi_text, wsgi_call, wsgi_text
from .granian_options import prepare
from .granian_server import Lifespan, blocking_of, mode_of, server_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

    from ..meters import Meters
    from .base import App, Engine, Job, Told

__all__ = ["FOREIGN_THREADS", "GranianASGI", "GranianWSGI", "make", "prepare"]

# tokio's: they hold Python objects of connections that are closed a little later than they say.
FOREIGN_THREADS = True

_PRIVATE = ""
_TICK = 0.1
_NO_TLS: tuple[Any, ...] = (False, None, None, None, "tls1.3", None, [], False)


def make(job: Job, app: App, meters: Meters, told: Told) -> Engine:
    """See `Loader.make`."""
    return (GranianWSGI if app.interface == "wsgi" else GranianASGI)(job, app, meters, told)


class _Granian(abc.ABC):
    """What both interfaces have in common; see `Engine`.

    Args:
        job: How to serve.
        app: The app.
        meters: Where it counts.
        told: Where it tells.

    Raises:
        EngineError: Granian cannot serve with these options.
    """

    def __init__(self, job: Job, app: App, meters: Meters, told: Told) -> None:
        """Read the options; nothing is started yet."""
        self._job = job
        self._meters = meters
        self._told = told
        self._draining = Draining()
        self._log = opened(job)
        self._tally = Tally(meters, wsgi_text if app.interface == "wsgi" else asgi_text)
        self._server, self._call = server_of(job, app)
        self._public: Acceptors | None = None
        self._hurry = threading.Event()
        self._stopping = threading.Event()
        self._leaver: threading.Thread | None = None
        # Set when the app has started, or never will.
        self._up = threading.Event()
        self._looked = 0.0

    # -- from other threads and from signal handlers ------------------------------------------------------------

    def accept(self, key: str, listener: socket.socket) -> None:
        """See `Engine.accept`."""
        self._up.wait()
        if self._public is None or self._leaver is not None or self._stopping.is_set():
            listener.close()
            raise EngineError("the worker has stopped" if self._public is None else "the worker is draining")
        self._public.add(key, listener)

    def release(self, key: str) -> None:
        """See `Engine.release`."""
        if self._public is not None:
            self._public.remove(key)

    def drain(self) -> None:
        """See `Engine.drain`."""
        if self._leaver is not None:
            self._hurry.set()
            return
        # Not in the signal handler: it takes its time, and a lock.
        self._leaver = threading.Thread(target=self._leave, name="oxherd-drain", daemon=True)
        self._leaver.start()

    def stop(self) -> None:
        """See `Engine.stop`."""
        self._stopping.set()
        self._hurry.set()
        self._over()

    def connections(self) -> int:
        """See `Engine.connections`."""
        return 0 if self._public is None else ducks.established(self._public.names)

    def facts(self) -> Mapping[str, str]:
        """See `Engine.facts`."""
        return {"engine_version": granian.__version__, "loop": self._loop_name()}

    # -- what the interfaces do ---------------------------------------------------------------------------------

    @abc.abstractmethod
    def _loop_name(self) -> str:
        """Return what the app runs on."""

    @abc.abstractmethod
    def _over(self) -> None:
        """Let `run` return; from any thread."""

    def _farewell(self) -> None:  # noqa: B027 - WSGI has nothing of the kind
        """Tell what is open, and would stay so for ever, that this is the end; from any thread."""

    def _busy(self) -> int:
        """Return how many requests are in flight, websockets included."""
        return self._tally.busy

    # -- leaving ------------------------------------------------------------------------------------------------

    def _leave(self) -> None:
        began = time.monotonic()
        graceful = began + self._job.graceful_timeout
        self._draining.on = True
        public = self._public
        if public is not None:
            public.silence()
        self._told.draining()
        if public is None:
            # The app is starting; nobody was ever let in.
            self._over()
            return
        left = ducks.wait_until_gone(
            lambda: ducks.established(public.names), min(began + self._job.linger, graceful), self._hurry
        )
        idle = max(0, left - self._busy())
        self._farewell()
        # Granian's signal tells apps that their client has gone, so what is in flight ends first.
        ducks.wait_until_gone(self._busy, graceful, self._stopping)
        public.end()
        # The answers are written; how long their clients take to read them is for the rest of the time.
        ended = public.wait(graceful)
        self._told.closed(idle if ended else max(idle, ducks.established(public.names)))
        self._over()

    def _look_at_connections(self, now: float) -> None:
        """Count the connections, which takes a look at every descriptor: the longer it takes the rarer."""
        if now < self._looked:
            return
        self._meters.connected(self.connections())
        after = time.monotonic()
        self._looked = after + max(1.0, 500 * (after - now))

    def _acceptors(self, worker: Any, loop: Any, call: Any, tls: Any) -> Acceptors:
        server = self._server

        def serve(holder: Any, is_unix: bool, signal: Any) -> Any:
            sock = (None, holder)
            threads = (server.runtime_threads, blocking_of(server), server.blocking_threads)
            http = (server.http, server.http1_settings, server.http2_settings)
            upgrades = (server.websockets,) if worker is ASGIWorker else ()
            made = worker(
                1,
                sock,
                None,
                *threads,
                server.blocking_threads_idle_timeout,
                server.backpressure,
                *http,
                *upgrades,
                server.static_path,
                *tls,
                (None, None),
            )
            scheduler = _new_cbscheduler(loop, call, impl_asyncio=server.task_impl == TaskImpl.asyncio)
            getattr(made, WORKERS_METHODS[mode_of(server)][is_unix])(scheduler, loop, signal)
            return made

        return Acceptors(serve, self._job.backlog)


class GranianASGI(_Granian):
    """ASGI: everything of the app on one event loop, in the main thread."""

    def __init__(self, job: Job, app: App, meters: Meters, told: Told) -> None:
        """Read the options; nothing is started yet."""
        super().__init__(job, app, meters, told)
        self._websockets = Websockets()
        self._loop: Any = None
        self._finished: asyncio.Event | None = None

    def run(self, private: socket.socket) -> int:
        """See `Engine.run`."""
        self._loop = loop = loops.get(self._server.loop)
        try:
            return int(loop.run_until_complete(self._main(private)))
        finally:
            self._up.set()
            loop.close()

    async def _main(self, private: socket.socket) -> int:
        self._finished = finished = asyncio.Event()
        if self._leaver is not None or self._stopping.is_set():
            return 0
        lifespan = Lifespan(self._call)
        if self._server.interface != Interfaces.ASGINL and not await self._started(lifespan):
            return 0
        state, prefix = lifespan.state, self._server.url_path_prefix or ""
        inner = asgi_call(self._call, prefix, state, is_tls=self._server.ssl_ctx[0])
        served = asgi_call(
            self._call,
            prefix,
            state,
            tally=self._tally,
            draining=self._draining,
            log=self._log.asgi if self._log else None,
            websocket=asgi_call(self._websockets.wrap(self._call), prefix, state),
        )
        self._tick(self._loop.time())
        behind = self._acceptors(ASGIWorker, self._loop, inner, _NO_TLS)
        behind.add(_PRIVATE, private)
        self._public = self._acceptors(ASGIWorker, self._loop, served, self._server.ssl_ctx)
        over = threading.Event()
        self._tally.watch(over)
        self._told.started()
        self._up.set()
        await finished.wait()
        over.set()
        self._tally.flush(time.monotonic())
        behind.end()
        if self._stopping.is_set():
            self._public.end()
        if self._server.interface != Interfaces.ASGINL:
            await lifespan.shutdown()
        return 0

    async def _started(self, lifespan: Lifespan) -> bool:
        """Wait for the app's startup; False where the worker is told to go meanwhile."""
        assert self._finished is not None
        starting = asyncio.ensure_future(lifespan.startup())
        going = asyncio.ensure_future(self._finished.wait())
        await asyncio.wait({starting, going}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            return False
        going.cancel()
        starting.result()
        if lifespan.interrupt:
            raise StartupError(*lifespan.why())
        return True

    def _tick(self, due: float) -> None:
        now = self._loop.time()
        at = time.monotonic()
        self._tally.flush(at)
        self._meters.tick(at, max(0.0, now - due))
        self._look_at_connections(at)
        self._loop.call_at(now + _TICK, self._tick, now + _TICK)

    def _loop_name(self) -> str:
        return type(self._loop).__module__.partition(".")[0]

    def _over(self) -> None:
        if self._loop is not None and self._finished is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._finished.set)

    def _farewell(self) -> None:
        asyncio.run_coroutine_threadsafe(self._websockets.leave(), self._loop).result()

    def _busy(self) -> int:
        return super()._busy() + len(self._websockets)


class GranianWSGI(_Granian):
    """WSGI: the app in granian's threads, nothing but waiting in the main thread.

    The tick is the main thread's, and it proves that a thread of the pool is free, or was lately: it is left out when
    every thread has a request and none has been answered since the tick before. It needs the interpreter lock too, so
    an extension that keeps that is noticed as well.
    """

    def __init__(self, job: Job, app: App, meters: Meters, told: Told) -> None:
        """Read the options; nothing is started yet."""
        super().__init__(job, app, meters, told)
        self._finished = threading.Event()

    def run(self, private: socket.socket) -> int:
        """See `Engine.run`."""
        # Granian makes a loop for WSGI too, and runs it never; it is there for its runtime to hold.
        loop = loops.get(self._server.loop)
        try:
            return self._serve(loop, private)
        finally:
            self._up.set()
            loop.close()

    def _serve(self, loop: Any, private: socket.socket) -> int:
        if self._leaver is not None or self._stopping.is_set():
            return 0
        prefix = self._server.url_path_prefix or ""
        behind = self._acceptors(
            WSGIWorker, loop, wsgi_call(self._call, prefix, is_tls=self._server.ssl_ctx[0]), _NO_TLS
        )
        behind.add(_PRIVATE, private)
        log = self._log.wsgi if self._log else None
        served = wsgi_call(self._call, prefix, tally=self._tally, draining=self._draining, log=log)
        self._public = self._acceptors(WSGIWorker, loop, served, self._server.ssl_ctx)
        self._told.started()
        self._up.set()
        due = time.monotonic()
        while not self._finished.wait(max(0.0, due - time.monotonic())):
            now = time.monotonic()
            answered = self._tally.flush(now)
            if answered or self._tally.busy < self._server.blocking_threads:
                self._meters.tick(now, max(0.0, now - due))
            self._look_at_connections(now)
            due = now + _TICK
        self._tally.flush(time.monotonic())
        behind.end()
        if self._stopping.is_set():
            self._public.end()
        return 0

    def _loop_name(self) -> str:
        return "threads"

    def _over(self) -> None:
        self._finished.set()
