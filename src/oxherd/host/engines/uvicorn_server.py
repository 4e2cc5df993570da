"""uvicorn's server as a lame duck: listeners come and go, and what is connected is answered before it leaves."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import signal
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.server import ServerState

from .base import EngineError, Job, StartupError
from .uvicorn_idle import Idle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..counting import Draining
    from ..meters import Meters
    from ..tally import Tally
    from .base import Told

__all__ = ["LameDuck"]

TICK = 0.1


class LameDuck(uvicorn.Server):  # type: ignore[misc]
    """The server. Everything but `handle_exit` and `on_loop` happens on the loop."""

    def __init__(
        self,
        config: Any,
        private: Any,
        *,
        job: Job,
        meters: Meters,
        tally: Tally,
        told: Told,
        draining: Draining,
    ) -> None:
        """Nothing happens yet."""
        super().__init__(config)
        self.loop_name = ""
        self._private_config = private
        self._private_state = ServerState()
        self._private_socket: socket.socket | None = None
        self._job = job
        self._meters = meters
        self._tally = tally
        self._over = threading.Event()
        self._told = told
        self._draining = draining
        self._listeners: dict[str, Any] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._idle: Idle | None = None
        self._turn: asyncio.Future[None] | None = None
        self._serving: asyncio.Task[Any] | None = None
        self._is_up = threading.Event()
        self._graceful_end = 0.0
        self._silent_end = 0.0
        self._due = 0.0

    # -- life ---------------------------------------------------------------------------------------------------

    def live(self, private: socket.socket) -> int:
        """Run until it is over and return the exit code.

        Raises:
            StartupError: The app's startup failed.
        """
        self._private_socket = private
        # Not before: a thread of the zygote would not be there after its fork.
        self._tally.watch(self._over)
        errors = _Errors()
        logging.getLogger("uvicorn.error").addHandler(errors)
        try:
            self.run()
        except SystemExit as error:
            if self.started or error.code != 3:  # what else exits is the app
                return error.code if isinstance(error.code, int) else 1
            raise StartupError(*errors.told()) from error
        except asyncio.CancelledError:
            # Told to go while the app was starting: nothing was served, nothing is lost.
            self._told.draining()
        finally:
            logging.getLogger("uvicorn.error").removeHandler(errors)
            self._is_up.set()
            self._over.set()
            self._tally.flush(time.monotonic())
        return 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002 - uvicorn's signature
        """Start the app, then serve the private listener."""
        self._loop = asyncio.get_running_loop()
        self._serving = asyncio.current_task()
        self.loop_name = type(self._loop).__module__.partition(".")[0]
        self._idle = Idle(self._loop, self.config.timeout_keep_alive)
        self._due = self._loop.time() + TICK
        self._loop.call_later(TICK, self._tick)
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(3)
        assert self._private_socket is not None
        self.servers: list[Any] = []
        self._private_server = await self._serve_on(self._private_socket, self._private_config, self._private_state)
        self.started = True
        self._is_up.set()
        self._told.started()

    async def _serve_on(self, listener: socket.socket, config: Any, state: Any) -> Any:
        assert self._loop is not None
        assert self._idle is not None
        protocol, loop_for = config.http_protocol_class, self._idle.loop_for

        def connection() -> Any:
            made = protocol(config=config, server_state=state, app_state=self.lifespan.state, _loop=loop_for(protocol))
            if state is self._private_state:
                made.access_log = False  # a probe is nobody's access
            return made

        create: Any = self._loop.create_server
        if listener.family == socket.AF_UNIX:
            create = self._loop.create_unix_server
        return await create(connection, sock=listener, ssl=config.ssl, backlog=config.backlog)

    async def main_loop(self) -> None:
        """Do what uvicorn does every tenth of a second, with our tick: one timer wakes an idle worker, not two."""
        assert self._loop is not None
        counter = 0
        while not await self.on_tick(counter):
            counter = (counter + 1) % 864000  # uvicorn's: a day
            self._turn = self._loop.create_future()
            await self._turn

    async def on_tick(self, counter: int) -> bool:
        """Keep the private side's headers as the public side's are."""
        over = bool(await super().on_tick(counter))
        self._private_state.default_headers = self.server_state.default_headers
        return over

    def _tick(self) -> None:
        assert self._loop is not None
        assert self._idle is not None
        now = self._loop.time()
        at = time.monotonic()
        self._tally.flush(at)
        self._meters.tick(at, max(0.0, now - self._due))
        self._meters.connected(len(self.server_state.connections))
        self._idle.tick(now)
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(None)
        self._due = now + TICK
        self._loop.call_later(TICK, self._tick)

    # -- listeners ----------------------------------------------------------------------------------------------

    def on_loop(self, work: Callable[[], Any]) -> None:
        """Do something on the loop, from another thread, and return when it is done.

        Raises:
            EngineError: The server is not running any more.
        """
        self._is_up.wait()
        if self._loop is None or not self.started or self._loop.is_closed():
            raise EngineError("the worker has stopped")
        try:
            asyncio.run_coroutine_threadsafe(work(), self._loop).result()
        except concurrent.futures.CancelledError as error:
            raise EngineError("the worker has stopped") from error

    async def add(self, key: str, listener: socket.socket) -> None:
        """Accept on a listener."""
        if self._draining.on or self.should_exit:
            listener.close()
            raise EngineError("the worker is draining")
        await self.remove(key)
        server = await self._serve_on(listener, self.config, self.server_state)
        self._listeners[key] = (server, listener)
        self.servers.append(server)

    async def remove(self, key: str) -> None:
        """Accept on a listener no more, and have its descriptor closed."""
        server, listener = self._listeners.pop(key, (None, None))
        if server is None:
            return
        self.servers.remove(server)
        await self._stop_accepting(listener)
        server.close()
        # uvloop closes the descriptor in a later round of the loop.
        while listener.fileno() >= 0:
            await self._pause(0.001)

    async def _stop_accepting(self, listener: socket.socket) -> None:
        # A connection asyncio has accepted a moment ago is not the server's yet, and is dropped if that is closed
        # before it is: first no more of them, then a round of the loop for those there are.
        if isinstance(self._loop, asyncio.SelectorEventLoop) and listener.fileno() >= 0:
            self._loop.remove_reader(listener.fileno())
            await self._pause(0)

    async def _pause(self, seconds: float) -> None:
        assert self._loop is not None
        over = self._loop.create_future()
        self._loop.call_later(seconds, over.set_result, None)
        await over

    # -- leaving ------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take signals for as long as the server runs; unlike uvicorn, do not raise them again: the exit code is 0.

        The handler is a method of the server: sse-starlette looks there for the server it has to end streams with.
        """
        taken = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in taken.items():
                signal.signal(number, handler)

    def install_signal_handlers(self) -> None:
        """Do nothing: uvicorn before 0.29 would take them here and keep them."""

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Drain at SIGTERM, stop at any other; in a signal handler, or from any thread."""
        del frame
        if self._loop is None:
            raise SystemExit(0)
        leave = self._drain if sig == signal.SIGTERM else self._stop
        # A loop that is closed has left already.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(leave)

    def _drain(self) -> None:
        assert self._loop is not None
        assert self._serving is not None
        if not self.started:
            self._serving.cancel()
            return
        now = self._loop.time()
        if self._draining.on:
            self._silent_end = now
            return
        self._draining.on = True
        self._silent_end = now + min(self._job.linger, self._job.graceful_timeout)
        self._graceful_end = now + self._job.graceful_timeout
        for connection in list(self.server_state.connections):
            # HTTP/2 has a farewell of its own and finishes what it has.
            if hasattr(connection, "shutdown_requested"):
                connection.shutdown()
        self._leaving = self._loop.create_task(self._linger())

    async def _linger(self) -> None:
        assert self._loop is not None
        for _, listener in self._listeners.values():
            await self._stop_accepting(listener)
        for server in self.servers:
            server.close()
        self.servers.clear()
        self._listeners.clear()
        # Only now is it true: nothing new is accepted from here on.
        self._told.draining()
        while self.server_state.connections and self._loop.time() < self._silent_end:
            await self._pause(0.02)
        self._leave()

    def _stop(self) -> None:
        assert self._loop is not None
        assert self._serving is not None
        if not self.started:
            self._serving.cancel()
            return
        if self.should_exit:
            self.force_exit = True
        self._draining.on = True
        self._graceful_end = self._loop.time()
        self._leave()

    def _leave(self) -> None:
        # uvicorn's own way of being told: libraries that end long streams at shutdown hook into it.
        super().handle_exit(signal.SIGTERM, None)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002 - uvicorn's signature
        """Close what is silent, wait for what is in flight, and end the app."""
        assert self._loop is not None
        silent = sum(map(_is_silent, self.server_state.connections))
        if silent:
            self._told.closed(silent)
        self.config.timeout_graceful_shutdown = max(0.0, self._graceful_end - self._loop.time())
        self._private_server.close()
        for connection in list(self._private_state.connections):
            connection.transport.abort()
        await super().shutdown()

    async def _wait_tasks_to_complete(self) -> None:
        try:
            await super()._wait_tasks_to_complete()
        except asyncio.CancelledError:
            # The graceful time is over: what is left is cancelled.
            if self.server_state.connections:
                self._told.closed(len(self.server_state.connections))
            raise


def _is_silent(connection: Any) -> bool:
    """Tell whether nothing is being answered on a connection; websockets have no request and count as silent."""
    cycle = getattr(connection, "cycle", None)
    return cycle is None or bool(getattr(cycle, "response_complete", True))


class _Errors(logging.Handler):
    """Keeps what uvicorn says is wrong while the app starts."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if len(self._said) < 20:
            self._said.append(self.format(record))

    def told(self) -> tuple[str, str]:
        """Return what went wrong in one line, and all that was said."""
        said = [text for text in self._said if not text.startswith("Application startup failed")]
        lines = "\n".join(said).strip().splitlines()
        reason = lines[-1] if lines else "the app's lifespan said nothing more"
        return f"the app's startup failed: {reason}", "\n".join(said)
