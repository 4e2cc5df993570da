"""gunicorn's gthread worker under our own poller.

What is gunicorn's stays gunicorn's: TLS, parsing, answering, logging, the hooks (`handle`, `handle_request`). What
differs is who waits for what. A connection costs a thread only while a request is there to be read: one that is silent,
idle or being closed waits in the poller, so a lame duck can answer it whenever it speaks. Listeners come and go. And the
worker says that it is well only while it is: when all threads are busy and for a tick nothing was finished and no part
of an answer was produced, the tick is left out and no more connections are accepted, whatever the poller does.
"""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import threading
import time
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from gunicorn.workers import gthread

from .base import EngineError
from .gunicorn_hosting import LEAVING, Errand, Wake, gunicorn_socket, keep_signals

if TYPE_CHECKING:
    from collections.abc import Callable

    from .gunicorn_hosting import Course

__all__ = ["hosted"]

# Seconds a new connection has to send the first byte, on top of the keep-alive time; gunicorn's figure.
_FIRST_BYTE = 5.0
# Seconds a connection that was told to close has to close; gunicorn's figure. Bytes of it that are thrown away.
_CLOSING, _THROWN_AWAY = 2.0, 65536

_NOT_NOW = (errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED, errno.EINTR)
# Descriptors or memory are used up: the connection stays in the queue until there are some again.
_SCARCE = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def hosted(base: type[Any]) -> type[Any]:
    """Return the hosted form of a worker class that is gthread's or made of it."""
    body: dict[str, Any] = {}
    if base.get_thread_pool is not gthread.ThreadWorker.get_thread_pool:
        body["get_thread_pool"] = base.get_thread_pool
    return type(f"Hosted{base.__name__}", (_Threads, base), body)


class _Pool:
    """Threads that do not keep a process from ending, as those of `concurrent.futures` do: a lame duck's time is up
    when it is up, whatever a request still does.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._started = 0
        self._outstanding = 0
        self._work: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._lock = threading.Lock()

    def submit(self, call: Callable[[], None]) -> None:
        """Have a thread call it. It may not raise."""
        with self._lock:
            self._outstanding += 1
            more = self._started < min(self._size, self._outstanding)
            if more:
                self._started += 1
        self._work.put(call)
        if more:
            self._start()

    def shutdown(self, *, wait: bool = True, cancel_futures: bool = False) -> None:
        """Do nothing; the threads end with the process."""

    def _start(self) -> None:
        try:
            threading.Thread(target=self._run, name=f"gthread-{self._started}", daemon=True).start()
        except RuntimeError:
            with self._lock:
                self._started -= 1
            if not self._started:
                raise

    def _run(self) -> None:
        while True:
            self._work.get()()
            with self._lock:
                self._outstanding -= 1


class _Threads:
    """The part of the hosted class that comes before gunicorn's; `course` is set before `init_process`."""

    course: Course
    plain: Any
    cfg: Any
    log: Any
    sockets: list[Any]
    poller: selectors.BaseSelector
    tpool: Any
    alive: bool
    worker_connections: int
    nr_conns: int

    def init_process(self) -> None:
        self.wake = Wake()
        self._private: Any = self.sockets[0]
        self._listeners: dict[str, Any] = {}
        self._accepting = False
        # Connections by what they wait for, the longest waiting first, each with the time its patience ends.
        self._silent: dict[Any, float] = {}
        self._idle: dict[Any, float] = {}
        self._closing: dict[Any, float] = {}
        self._busy: set[Any] = set()
        self._resting: list[Any] = []
        self._finished = self._seen = 0
        self._well = True
        super().init_process()  # type: ignore[misc]

    def get_thread_pool(self) -> Any:
        return _Pool(self.cfg.threads)

    def init_signals(self) -> None:
        keep_signals(self)

    def notify(self) -> None:
        """The tick is the loop's."""

    # -- for the engine -----------------------------------------------------------------------------------------

    def attach(self, key: str, listener: socket.socket) -> None:
        """Accept on a listener, called from the control thread."""
        Errand(partial(self._attach, key, listener)).by(self.wake.push)

    def detach(self, key: str) -> None:
        """Accept no more on a listener, called from the control thread."""
        Errand(partial(self._detach, key)).by(self.wake.push)

    def drain(self) -> None:
        """Drain, or drain sooner."""
        first = self.course.drain()
        self.alive = False
        self.wake.push(self._become_lame if first else self._stop_accepting)

    def halt(self) -> None:
        """Stop; `course.stopping` is set."""
        self.alive = False
        self.wake.push(self._stop_accepting)

    def count(self) -> int:
        """Return the number of open connections that are not private."""
        return self.nr_conns

    # -- the loop -----------------------------------------------------------------------------------------------

    def run(self) -> None:
        # The names under which `handle_request` looks for the number of idle connections, new and old.
        self.keepalived_conns = self._keep = self._idle
        self.poller.register(self.wake, selectors.EVENT_READ, self.wake.run)
        self._private.setblocking(False)
        self.poller.register(self._private, selectors.EVENT_READ, self._accept)
        self.course.ready()
        while not self._over():
            self._look(self.course.until_tick())
            self._let_go(time.monotonic())
            self._accept_or_not(self._tick())
        self._leave()

    def _look(self, timeout: float) -> None:
        for key, _ in self.poller.select(timeout):
            key.data(key.fileobj)

    def _tick(self) -> bool:
        """Tick if it is time. Returns whether the worker gets something done."""
        progress = self._finished + self.course.app.parts
        well = len(self._busy) < self.cfg.threads or progress != self._seen
        if self.course.passed(self.nr_conns, well=well):
            self._seen = progress
            self._well = well
            self._rested()
        return self._well

    def _rested(self) -> None:
        for listener in self._resting:
            if listener is self._private or (self._accepting and listener in self._listeners.values()):
                self.poller.register(listener, selectors.EVENT_READ, self._accept)
        self._resting.clear()

    def _over(self) -> bool:
        if self.course.stopping:
            return True
        if not self.course.draining:
            return False
        return self.nr_conns <= 0 or time.monotonic() >= self.course.give_up

    def _leave(self) -> None:
        if self.course.draining and self.nr_conns > 0:
            self.course.told.closed(self.nr_conns)
        self._stop_accepting()
        for conn in [*self._silent, *self._idle, *self._closing]:
            conn.close()
        self._private.close()
        self.wake.close()
        self.poller.close()

    # -- listeners ----------------------------------------------------------------------------------------------

    def _attach(self, key: str, listener: socket.socket) -> None:
        if not self.alive:
            listener.close()
            raise EngineError(LEAVING)
        self._detach(key)
        wrapped = gunicorn_socket(listener, self.cfg, self.log)
        self._listeners[key] = wrapped
        if self._accepting:
            self.poller.register(wrapped, selectors.EVENT_READ, self._accept)

    def _detach(self, key: str) -> None:
        listener = self._listeners.pop(key, None)
        if listener is None:
            return
        self._unregister(listener)
        listener.close()

    def _stop_accepting(self) -> None:
        for key in list(self._listeners):
            self._detach(key)

    def _become_lame(self) -> None:
        self._stop_accepting()
        self.course.announce()

    def _accept_or_not(self, well: bool) -> None:
        accepting = well and self.nr_conns < self.worker_connections
        if accepting == self._accepting:
            return
        for listener in self._listeners.values():
            if accepting:
                self.poller.register(listener, selectors.EVENT_READ, self._accept)
            else:
                self._unregister(listener)
        self._accepting = accepting

    def _unregister(self, listener: Any) -> None:
        with contextlib.suppress(KeyError):
            self.poller.unregister(listener)

    def _accept(self, listener: Any) -> None:
        if listener is not self._private and listener not in self._listeners.values():
            return  # given up since the poller saw it
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno in _SCARCE:
                # Not looked at again before the next tick, or the poller would turn in circles.
                self.log.warning("no connection can be accepted for now: %s", error)
                self._unregister(listener)
                self._resting.append(listener)
            elif error.errno not in _NOT_NOW:
                raise
            return
        private = listener is self._private
        conn = gthread.TConn(self.plain if private else self.cfg, client, address, listener.getsockname())
        conn.private = private
        if not private:
            self.nr_conns += 1
        self._wait(conn, self._silent, self.cfg.keepalive + _FIRST_BYTE, self._spoken)

    # -- connections --------------------------------------------------------------------------------------------

    def _wait(self, conn: Any, among: dict[Any, float], seconds: float, then: Callable[[Any], None]) -> None:
        conn.since = time.monotonic()
        among[conn] = conn.since + seconds
        conn.sock.setblocking(False)
        self.poller.register(conn.sock, selectors.EVENT_READ, lambda _file: then(conn))

    def _wait_no_more(self, conn: Any) -> None:
        for among in (self._silent, self._idle, self._closing):
            among.pop(conn, None)
        with contextlib.suppress(KeyError, ValueError, OSError):
            self.poller.unregister(conn.sock)

    def _spoken(self, conn: Any) -> None:
        self._wait_no_more(conn)
        self._busy.add(conn)
        self.tpool.submit(partial(self._serve, conn))

    def _serve(self, conn: Any) -> None:
        """Answer one request (HTTP/2: all of a connection), in a thread of the pool."""
        keep = False
        try:
            conn.data_ready = True
            if not hasattr(conn, "wait_for_data"):
                # gunicorn 23 does this in the poller's thread, where a TLS handshake holds up all others.
                conn.init()
            answer = self.handle(conn)  # type: ignore[attr-defined]
            keep = answer is True or (isinstance(answer, tuple) and bool(answer[0]))
        except Exception:
            self.log.exception("a connection was given up")
        finally:
            self.wake.push(partial(self._served, conn, keep))

    def _served(self, conn: Any, keep: bool) -> None:
        self._busy.discard(conn)
        self._finished += 1
        if conn.sock.fileno() < 0:
            self._gone(conn)
        elif not keep or self.course.stopping:
            self._say_goodbye(conn)
        elif conn.parser.unreader.buf.getvalue() or (hasattr(conn.sock, "pending") and conn.sock.pending()):
            # Part of the next request was read with this one; the poller would not see it.
            self._spoken(conn)
        else:
            self._wait(conn, self._idle, self.cfg.keepalive, self._spoken)

    def _say_goodbye(self, conn: Any) -> None:
        """Close so that the client gets all of the answer: end our side, then wait for its end (RFC 9112, 9.6)."""
        conn.thrown_away = 0
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._gone(conn)
            return
        self._wait(conn, self._closing, _CLOSING, self._heard_after_goodbye)

    def _heard_after_goodbye(self, conn: Any) -> None:
        try:
            data = conn.sock.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        conn.thrown_away += len(data)
        if not data or conn.thrown_away > _THROWN_AWAY:
            self._gone(conn)

    def _gone(self, conn: Any) -> None:
        self._wait_no_more(conn)
        conn.close()
        if not conn.private:
            self.nr_conns -= 1

    def _let_go(self, now: float) -> None:
        """Close what has waited long enough, but not what has spoken since the poller looked."""
        for conn in self._expired(self._closing, now):
            self._gone(conn)
        for among in (self._silent, self._idle):
            for conn in self._expired(among, now):
                if self._has_spoken(conn):
                    self._spoken(conn)
                else:
                    self._gone(conn)
        if self.course.draining and now >= self.course.linger_end:
            quiet = [conn for conn in (*self._silent, *self._idle) if self.course.has_waited_enough(conn.since)]
            for conn in quiet:
                if self._has_spoken(conn):
                    self._spoken(conn)
                    continue
                if not conn.private:
                    self.course.told.closed(1)
                self._gone(conn)

    @staticmethod
    def _expired(among: dict[Any, float], now: float) -> list[Any]:
        expired = []
        for conn, patience in among.items():
            if patience > now:
                break
            expired.append(conn)
        return expired

    @staticmethod
    def _has_spoken(conn: Any) -> bool:
        raw = socket.socket(fileno=conn.sock.fileno())
        try:
            return bool(raw.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:
            return False
        finally:
            raw.detach()
