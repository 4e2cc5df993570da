"""gunicorn's gevent workers under our own servers: `gevent`, `gevent_wsgi`, `gevent_pywsgi` and what is made of them."""

from __future__ import annotations

import contextlib
import socket
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import Event
from gevent.pool import Pool
from gevent.server import StreamServer
from gunicorn.sock import ssl_context

from .base import EngineError
from .gunicorn_hosting import LEAVING, Errand, gunicorn_socket, keep_signals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .gunicorn_hosting import Course

__all__ = ["hosted"]


def hosted(base: type[Any]) -> type[Any]:
    """Return the hosted form of a worker class that is gevent's or made of it."""
    return type(f"Hosted{base.__name__}", (_Gevent, base), {})


class _Named:
    """A listener's name, which is asked for with each connection, when the listener may be closed already."""

    def __init__(self, name: Any) -> None:
        self._name = name

    def getsockname(self) -> Any:
        return self._name


class _Gevent:
    """The part of the hosted class that comes before gunicorn's; `course` is set before `init_process`."""

    course: Course
    plain: Any
    cfg: Any
    log: Any
    wsgi: Any
    sockets: list[Any]
    alive: bool
    worker_connections: int
    server_class: Any
    wsgi_handler: Any

    def init_process(self) -> None:
        self._servers: dict[str, Any] = {}
        # Clients that are not private: how many requests of each are being answered, and since when.
        self._clients: dict[Any, tuple[int, float]] = {}
        self._let_gone: set[Any] = set()
        self._pools: list[Any] = []
        self._ended = False
        super().init_process()  # type: ignore[misc]

    def init_signals(self) -> None:
        keep_signals(self)

    def notify(self) -> None:
        """The tick is the loop's."""

    # -- for the engine -----------------------------------------------------------------------------------------

    def attach(self, key: str, listener: socket.socket) -> None:
        """Accept on a listener, called from the control thread."""
        Errand(partial(self._attach, key, listener)).by(self._push)

    def detach(self, key: str) -> None:
        """Accept no more on a listener, called from the control thread."""
        Errand(partial(self._detach, key)).by(self._push)

    def drain(self) -> None:
        """Drain, or drain sooner."""
        self.course.drain()
        self.alive = False
        self._push(self._turn.set)

    def halt(self) -> None:
        """Stop; `course.stopping` is set."""
        self.alive = False
        self._push(self._turn.set)

    def count(self) -> int:
        """Return the number of open connections that are not private."""
        return len(self._clients)

    def _push(self, call: Callable[[], None]) -> bool:
        if self._ended:
            return False
        # In a greenlet of its own: a callback of the hub may not wait for anything.
        self._loop.run_callback_threadsafe(gevent.spawn, call)
        return True

    # -- the loop -----------------------------------------------------------------------------------------------

    def run(self) -> None:
        self._loop = gevent.get_hub().loop
        self._turn = Event()
        self._tls = {"ssl_context": ssl_context(self.cfg)} if self.cfg.is_ssl else {}
        self._private = self._server(self.sockets[0], private=True)
        self.course.ready()
        while self.alive:
            self._pause()
        for key in list(self._servers):
            self._detach(key)
        if self.course.draining:
            self.course.announce()
        while self._is_busy() and not self.course.stopping and time.monotonic() < self.course.give_up:
            self._let_go()
            self._pause()
        if self._clients:
            self.course.told.closed(sum(client not in self._let_gone for client in self._clients))
        self._ended = True
        for client in list(self._clients):
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        self._private.stop(timeout=0)

    def _pause(self) -> None:
        self._turn.wait(self.course.until_tick())
        self._turn.clear()
        self.course.passed(self.count())

    def _is_busy(self) -> bool:
        # A connection has its greenlet before that has its first turn.
        return any(len(pool) for pool in self._pools)

    def _let_go(self) -> None:
        """End the reading side of connections that have been silent for long enough; their greenlets close them."""
        for client, (requests, since) in list(self._clients.items()):
            if requests or client in self._let_gone or not self.course.has_waited_enough(since):
                continue
            self._let_gone.add(client)
            self.course.told.closed(1)
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RD)

    # -- listeners ----------------------------------------------------------------------------------------------

    def _attach(self, key: str, listener: socket.socket) -> None:
        if not self.alive:
            listener.close()
            raise EngineError(LEAVING)
        self._detach(key)
        wrapped = gunicorn_socket(listener, self.cfg, self.log)
        self._servers[key] = self._server(self._own(wrapped), private=False)

    def _detach(self, key: str) -> None:
        server = self._servers.pop(key, None)
        if server is not None:
            server.close()

    @staticmethod
    def _own(wrapped: Any) -> Any:
        return gevent.socket.socket(wrapped.FAMILY, socket.SOCK_STREAM, fileno=wrapped.sock.detach())

    def _server(self, listener: Any, *, private: bool) -> Any:
        listener.setblocking(1)
        pool = Pool(self.worker_connections)
        if not private:
            self._pools = [one for one in self._pools if len(one)] + [pool]
        tls = {} if private else self._tls
        if self.server_class is None:
            name = _Named(listener.getsockname())
            server = StreamServer(listener, handle=partial(self._handle, name, private), spawn=pool, **tls)
        else:
            server = self._pywsgi(listener, pool, tls, private=private)
        # One connection a turn: the next is for whoever is free sooner.
        server.max_accept = 1
        server.start()
        return server

    def _pywsgi(self, listener: Any, pool: Any, tls: dict[str, Any], *, private: bool) -> Any:
        from gunicorn.http.wsgi import base_environ  # noqa: PLC0415 - only gevent's own server needs it
        from gunicorn.workers.ggevent import VERSION  # noqa: PLC0415

        worker = self
        handler_class = self.wsgi_handler

        class Handler(handler_class):  # type: ignore[misc, valid-type]
            def handle(self) -> None:
                client = self.socket
                if private:
                    super().handle()
                    return
                with worker._connected(client):
                    super().handle()

            def handle_one_response(self) -> None:
                with worker._asked(self.socket):
                    super().handle_one_response()

        environ = base_environ(self.cfg)
        environ.update({"wsgi.multithread": True, "SERVER_SOFTWARE": VERSION})
        return self.server_class(
            listener,
            application=self.course.app.probed if private else self.wsgi,
            spawn=pool,
            log=self.log,
            handler_class=Handler,
            environ=environ,
            **tls,
        )

    # -- connections --------------------------------------------------------------------------------------------

    def _handle(self, listener: Any, private: bool, client: Any, address: Any) -> None:
        if private:
            self.handle(listener, client, address)  # type: ignore[attr-defined]
            return
        with self._connected(client):
            self.handle(listener, client, address)  # type: ignore[attr-defined]

    def handle_request(self, listener_name: Any, request: Any, client: Any, address: Any) -> None:
        with self._asked(client):
            super().handle_request(listener_name, request, client, address)  # type: ignore[misc]

    @contextlib.contextmanager
    def _connected(self, client: Any) -> Iterator[None]:
        self._clients[client] = (0, time.monotonic())
        try:
            yield
        finally:
            self._clients.pop(client, None)
            self._let_gone.discard(client)

    @contextlib.contextmanager
    def _asked(self, client: Any) -> Iterator[None]:
        self._count(client, 1)
        try:
            yield
        finally:
            self._count(client, -1)

    def _count(self, client: Any, more: int) -> None:
        if client in self._clients:
            self._clients[client] = (self._clients[client][0] + more, time.monotonic())
