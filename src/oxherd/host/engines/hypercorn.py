"""Hypercorn: its protocols, configuration and lifespan, on listeners that come and go.

Hypercorn's own ``worker_serve`` takes its sockets once and, told to stop, closes idle connections at once. What it does
for one connection is all here still (`TCPServer`, one object a connection); accepting and leaving are done by Oxherd.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib.metadata
import ssl
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from hypercorn.asyncio.lifespan import Lifespan
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.events import RawData
from hypercorn.utils import LifespanFailureError, LifespanTimeoutError
from hyperframe.frame import GoAwayFrame

from .base import EngineError, StartupError
from .hypercorn_apps import Apps
from .hypercorn_connections import Connection, Server
from .hypercorn_options import config_of, read_command

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine, Mapping

    from ..meters import Meters
    from .base import App, Engine, Job, Told

__all__ = ["Hypercorn", "make", "prepare"]

# Read once a zygote: it is looked for in every directory of the path.
_VERSION = importlib.metadata.version("hypercorn")
_PRIVATE = ""
_TICK = 0.1
_LOOK = 0.05
# What an HTTP/2 client that was told to go (with the highest stream number: "no more requests, please") needs to hear
# it; only then is a connection without requests closed. RFC 9113, 6.8.
_GOODBYE = 1.0
_LAST_STREAM = 2**31 - 1


def prepare(job: Job) -> Job:
    """See `Loader.prepare`."""
    return read_command(job) if job.source == "command" else job


def make(job: Job, app: App, meters: Meters, told: Told) -> Engine:
    """See `Loader.make`."""
    return Hypercorn(job, app, meters, told)


class Hypercorn:
    """The engine; see `Engine`.

    Args:
        job: How to serve.
        app: The app.
        meters: Where it counts.
        told: Where it tells.

    Raises:
        EngineError: Hypercorn cannot serve with these options.
    """

    def __init__(self, job: Job, app: App, meters: Meters, told: Told) -> None:
        """Read the options; nothing is started yet."""
        self._job = job
        self._meters = meters
        self._told = told
        self._config, proxy = config_of(job)
        self._apps = Apps(job, app, meters, self._config, proxy)
        self._tls = self._config.create_ssl_context()
        self._context = WorkerContext(None)
        self._state: dict[str, Any] = {}
        self._servers: dict[str, tuple[Any, socket.socket]] = {}
        self._connections: set[Connection] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        # Asked from a signal handler, at any point of the loop or before there is one.
        self._drains = 0
        self._stopping = False
        self._news: asyncio.Event | None = None
        self._up = threading.Event()
        self._is_over = False

    # -- from other threads and from signal handlers ------------------------------------------------------------

    def accept(self, key: str, listener: socket.socket) -> None:
        """See `Engine.accept`."""
        try:
            self._on_loop(lambda: self._add(key, listener))
        except EngineError:
            listener.close()
            raise

    def release(self, key: str) -> None:
        """See `Engine.release`."""
        # One that has left has closed them all.
        with contextlib.suppress(EngineError):
            self._on_loop(lambda: self._close(key))

    def drain(self) -> None:
        """See `Engine.drain`."""
        self._drains += 1
        self._wake()

    def stop(self) -> None:
        """See `Engine.stop`."""
        self._stopping = True
        self._wake()

    def connections(self) -> int:
        """See `Engine.connections`."""
        return len(self._public())

    def facts(self) -> Mapping[str, str]:
        """See `Engine.facts`."""
        return {
            "engine_version": _VERSION,
            "loop": type(self._loop).__module__.partition(".")[0] if self._loop else "",
        }

    def _wake(self) -> None:
        if self._loop is not None and self._news is not None:
            self._loop.call_soon_threadsafe(self._news.set)

    def _on_loop(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do something on the loop as soon as the app is up, and return when it is done."""
        self._up.wait()
        loop = self._loop
        if loop is None or self._is_over:
            raise EngineError("the worker has stopped")
        asyncio.run_coroutine_threadsafe(work(), loop).result()

    # -- the loop -----------------------------------------------------------------------------------------------

    def run(self, private: socket.socket) -> int:
        """See `Engine.run`."""
        loop = self._new_loop()
        loop.set_exception_handler(_on_loop_error)
        loop.set_debug(bool(self._config.debug))
        asyncio.set_event_loop(loop)
        try:
            return loop.run_until_complete(self._main(private))
        finally:
            self._is_over = True
            self._up.set()
            self._end(loop)

    def _new_loop(self) -> asyncio.AbstractEventLoop:
        if self._config.worker_class == "uvloop":
            try:
                import uvloop  # noqa: PLC0415 - only where it is asked for
            except ImportError as error:
                raise EngineError(
                    f"hypercorn's worker_class is uvloop, which is not installed; {sys.executable} -m pip install uvloop"
                ) from error
            return uvloop.new_event_loop()  # type: ignore[no-any-return]
        return asyncio.new_event_loop()

    def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            if tasks:
                loop.run_until_complete(asyncio.wait(tasks, timeout=1.0))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            asyncio.set_event_loop(None)
            loop.close()

    async def _main(self, private: socket.socket) -> int:
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        lifespan = Lifespan(self._apps.public, self._config, self._loop, self._state)
        task = self._loop.create_task(lifespan.handle_lifespan())
        if not await self._started(lifespan, task):
            return 0
        self._tick(self._loop.time())
        await self._open(_PRIVATE, private, None)
        over = threading.Event()
        self._apps.tally.watch(over)
        self._told.started()
        self._up.set()
        await self._until(lambda: self._drains > 0, None)
        if not self._stopping:
            await self._leave()
        await self._close(_PRIVATE)
        await self._hang_up()
        over.set()
        self._apps.flush(time.monotonic())
        await self._shut_down(lifespan, task)
        return 0

    async def _started(self, lifespan: Any, task: asyncio.Task[None]) -> bool:
        """Wait for the app's startup; False where the worker is told to go meanwhile."""
        waiting = asyncio.ensure_future(lifespan.wait_for_startup())
        going = asyncio.ensure_future(self._until(lambda: self._drains > 0, None))
        await asyncio.wait({waiting, going}, return_when=asyncio.FIRST_COMPLETED)
        going.cancel()
        if not waiting.done():
            waiting.cancel()
            task.cancel()
            return False
        try:
            waiting.result()
            # A startup that failed ends the lifespan's task with the reason; one that went well leaves it running.
            await asyncio.wait({task}, timeout=0)
            if task.done():
                task.result()
        except (LifespanFailureError, LifespanTimeoutError) as error:
            said = str(error)
            sys.stderr.write(f"{said}\n")
            raise StartupError(_last_line(said), said) from error
        return True

    async def _shut_down(self, lifespan: Any, task: asyncio.Task[None]) -> None:
        try:
            await lifespan.wait_for_shutdown()
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.result()
        except (LifespanFailureError, LifespanTimeoutError) as error:
            sys.stderr.write(f"{error}\n")

    def _tick(self, due: float) -> None:
        assert self._loop is not None
        now = self._loop.time()
        at = time.monotonic()
        if self._apps.flush(at):
            self._meters.tick(at, max(0.0, now - due))
        self._meters.connected(len(self._public()))
        self._loop.call_at(now + _TICK, self._tick, now + _TICK)

    async def _until(self, done: Callable[[], bool], deadline: float | None) -> bool:
        """Wait until something is so, or it is time, or the worker is to stop; returns whether it is so.

        Without a deadline it is looked at when there is news only, with one every few milliseconds as well.
        """
        assert self._news is not None
        while not self._stopping:
            self._news.clear()
            if done():
                return True
            if deadline is None:
                await self._news.wait()
                continue
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._news.wait(), min(left, _LOOK))
        return done()

    async def _pause(self, seconds: float) -> None:
        assert self._loop is not None
        over = self._loop.create_future()
        timer = self._loop.call_later(seconds, over.set_result, None)
        try:
            await over
        finally:
            timer.cancel()

    # -- listeners and connections ------------------------------------------------------------------------------

    async def _add(self, key: str, listener: socket.socket) -> None:
        if self._drains or self._stopping:
            raise EngineError("the worker is draining")
        await self._close(key)
        await self._open(key, listener, self._tls)

    async def _open(self, key: str, listener: socket.socket, tls: ssl.SSLContext | None) -> None:
        listener.setblocking(False)
        server = await asyncio.start_server(
            functools.partial(self._serve, key),
            sock=listener,
            backlog=self._job.backlog,
            ssl=tls,
            ssl_handshake_timeout=self._config.ssl_handshake_timeout if tls is not None else None,
        )
        self._servers[key] = (server, listener)

    async def _close(self, key: str) -> None:
        if key not in self._servers:
            return
        server, listener = self._servers.pop(key)
        if isinstance(self._loop, asyncio.SelectorEventLoop):
            # A connection asyncio has accepted a moment ago is not the server's yet, and is dropped if that is closed
            # before it is: first no more of them, then a round of the loop for those there are.
            self._loop.remove_reader(listener.fileno())
            await self._pause(0)
        # Not wait_closed(): from Python 3.12 on it waits for the connections too.
        server.close()
        # uvloop closes the descriptor in a later round of the loop.
        while listener.fileno() >= 0:
            await self._pause(0.001)

    async def _serve(self, key: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._loop is not None
        task = asyncio.current_task()
        assert task is not None
        app = self._apps.private if key == _PRIVATE else self._apps.public
        server = Server(app, self._loop, self._config, self._context, self._state, reader, writer)
        connection = Connection(key, server, task)
        self._connections.add(connection)
        try:
            await server
        except asyncio.CancelledError:
            if not self._stopping and not self._drains:
                raise
        finally:
            self._connections.discard(connection)
            if self._drains and self._news is not None:
                self._news.set()

    def _public(self) -> list[Connection]:
        return [one for one in tuple(self._connections) if one.key != _PRIVATE]

    # -- leaving ------------------------------------------------------------------------------------------------

    async def _leave(self) -> None:
        began = time.monotonic()
        self._apps.draining.on = True
        for key in [key for key in self._servers if key != _PRIVATE]:
            await self._close(key)
        self._told.draining()
        farewell = asyncio.ensure_future(self._say_goodbye())
        await self._until(lambda: not self._public() or self._drains > 1, began + self._job.linger)
        farewell.cancel()
        idle = [one for one in self._public() if not one.busy]
        # From here on hypercorn closes what is idle, and what it answers after it has answered it.
        await self._apps.websockets.leave()
        await self._context.terminated.set()
        await self._until(lambda: not self._public(), began + self._job.graceful_timeout)
        self._told.closed(len({*idle, *self._public()}))

    async def _say_goodbye(self) -> None:
        """Tell HTTP/2 clients, who know no ``Connection: close``, to make no more requests, and hang up when they are done."""
        frame = GoAwayFrame(stream_id=0, last_stream_id=_LAST_STREAM).serialize()
        while True:
            for one in self._public():
                if (http2 := one.http2) is None:
                    continue
                if not one.told_to_go:
                    one.told_to_go = time.monotonic()
                    await one.server.protocol_send(RawData(data=frame))
                elif http2.idle and time.monotonic() >= one.told_to_go + _GOODBYE:
                    http2.connection.close_connection()
                    await one.server.protocol_send(RawData(data=http2.connection.data_to_send()))
                    one.server.writer.close()
            await self._pause(_LOOK)

    async def _hang_up(self) -> None:
        await self._context.terminated.set()
        tasks = {one.task for one in self._connections}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)


def _on_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # As hypercorn: a handshake that failed is the client's affair.
    if not isinstance(context.get("exception"), ssl.SSLError):
        loop.default_exception_handler(context)


def _last_line(text: str) -> str:
    lines = text.strip().strip("'").strip().splitlines()
    return lines[-1] if lines else text
