"""gunicorn's sync worker under our own loop: one connection, one request, then the next.

Always over several listeners, which come and go. Between two connections it can leave at once: what is in a listener's
queue stays there for its successor. In the middle of one it has to wait for a client that may say nothing; the lame duck
ends that wait by ending the reading side of the connection.

After an answer gunicorn waits for the client to close, for up to two seconds in which it does nothing else. Here such
connections wait in the poller.
"""

from __future__ import annotations

import contextlib
import errno
import selectors
import signal
import socket
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from gunicorn import util

from ..nudge import Nudge
from .base import EngineError
from .gunicorn_hosting import LEAVING, Errand, Wake, gunicorn_socket, keep_signals

if TYPE_CHECKING:
    from .gunicorn_hosting import Course

__all__ = ["hosted"]

_NOT_NOW = (errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED, errno.EINTR)
_SCARCE = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def hosted(base: type[Any]) -> type[Any]:
    """Return the hosted form of a worker class that is sync's or made of it."""
    return type(f"Hosted{base.__name__}", (_Sync, base), {})


class _Sync:
    """The part of the hosted class that comes before gunicorn's; `course` is set before `init_process`."""

    course: Course
    plain: Any
    cfg: Any
    log: Any
    sockets: list[Any]
    alive: bool

    def init_process(self) -> None:
        self.wake = Wake()
        self._private: Any = self.sockets[0]
        self._listeners: dict[str, Any] = {}
        self._poller = selectors.DefaultSelector()
        # Answered, and waiting for the client to close: when that is waited for no more.
        self._closing: dict[socket.socket, float] = {}
        self._client: socket.socket | None = None
        self._resting: list[Any] = []
        self._asked = False
        self._cut = False
        self._hurry = threading.Event()
        # It reads from a client without a timeout: no signal must be lost there.
        self._nudge = Nudge()
        if hasattr(util, "close_graceful"):
            util.close_graceful = self._say_goodbye
        super().init_process()  # type: ignore[misc]

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
        self._hurry.set()
        self.wake.push(_nothing)
        # It accepts between two connections alone, and looks before it does.
        self.course.announce()
        if first and self._client is not None:
            threading.Thread(target=self._watch, name="lame-duck", daemon=True).start()

    def halt(self) -> None:
        """Stop; `course.stopping` is set."""
        self.alive = False
        self.wake.push(_nothing)
        if self._client is not None:
            # In a signal handler, in the middle of a request: this is how gunicorn leaves it, too.
            raise SystemExit(0)

    def count(self) -> int:
        """Return the number of open connections."""
        return 0 if self._client is None else 1

    # -- the loop -----------------------------------------------------------------------------------------------

    def run(self) -> None:
        self._poller.register(self.wake, selectors.EVENT_READ)
        self._private.setblocking(False)
        self._poller.register(self._private, selectors.EVENT_READ)
        self.course.ready()
        while self.alive:
            self._turn()
        for key in list(self._listeners):
            self._detach(key)
        while self._closing and not self.course.stopping:
            self._turn()
        if self._cut:
            self.course.told.closed(1)
        self._private.close()
        self.wake.close()
        self._poller.close()

    def _turn(self) -> None:
        for ready, _ in self._poller.select(self.course.until_tick()):
            if ready.fileobj is self.wake:
                self.wake.run()
            elif ready.fileobj in self._closing:
                self._heard_after_goodbye(ready.fileobj)
            elif self._may_accept() and not self._accept(ready.fileobj):
                self._poller.unregister(ready.fileobj)
                self._resting.append(ready.fileobj)
        for client, patience in list(self._closing.items()):
            if patience > time.monotonic():
                break
            self._gone(client)
        if self.course.passed(0):
            for listener in self._resting:
                if listener is self._private or listener in self._listeners.values():
                    self._poller.register(listener, selectors.EVENT_READ)
            self._resting.clear()

    def _may_accept(self) -> bool:
        # Asked anew for each listener: a signal may have come while the last one was served.
        return self.alive

    def _accept(self, listener: Any) -> bool:
        """Serve what waits there, if anything does. Returns False where the listener had better rest for a while."""
        if listener is not self._private and listener not in self._listeners.values():
            return True  # released while this round was under way
        try:
            self.accept(listener)  # type: ignore[attr-defined]
        except OSError as error:
            if error.errno in _SCARCE:
                self.log.warning("no connection can be accepted for now: %s", error)
                return False
            if error.errno not in _NOT_NOW:
                raise
        return True

    def handle(self, listener: Any, client: Any, address: Any) -> None:
        self._asked = False
        self._client = client
        cfg = self.cfg
        try:
            if not self.alive:
                # The signal came between the accept and here.
                threading.Thread(target=self._watch, name="lame-duck", daemon=True).start()
            if listener is self._private:
                self.cfg = self.plain
            super().handle(listener, client, address)  # type: ignore[misc]
        finally:
            self.cfg = cfg
            self._client = None

    def handle_request(self, listener: Any, request: Any, client: Any, address: Any) -> None:
        self._asked = True
        super().handle_request(listener, request, client, address)  # type: ignore[misc]

    def _say_goodbye(self, client: Any, timeout: float = 2.0, max_drain: int = 65536) -> None:
        """Close so that the client gets all of the answer; in the place of gunicorn's function, which waits."""
        del max_drain
        if client in self._closing or client.fileno() < 0:
            return
        try:
            client.shutdown(socket.SHUT_WR)
        except OSError:
            client.close()
            return
        client.setblocking(False)
        self._closing[client] = time.monotonic() + timeout
        self._poller.register(client, selectors.EVENT_READ)

    def _heard_after_goodbye(self, client: Any) -> None:
        try:
            more = client.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            more = b""  # it was reset
        if not more:
            self._gone(client)

    def _gone(self, client: Any) -> None:
        del self._closing[client]
        self._poller.unregister(client)
        client.close()

    # -- listeners ----------------------------------------------------------------------------------------------

    def _attach(self, key: str, listener: socket.socket) -> None:
        if not self.alive:
            listener.close()
            raise EngineError(LEAVING)
        self._detach(key)
        wrapped = gunicorn_socket(listener, self.cfg, self.log)
        self._listeners[key] = wrapped
        self._poller.register(wrapped, selectors.EVENT_READ)

    def _detach(self, key: str) -> None:
        listener = self._listeners.pop(key, None)
        if listener is not None:
            with contextlib.suppress(KeyError):
                self._poller.unregister(listener)
            listener.close()

    # -- the lame duck ------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """In a thread of its own: see that the connection in hand does not outlast the time there is."""
        client = self._client
        while client is not None and self._client is client:
            now = time.monotonic()
            until = self.course.give_up if self._asked else self.course.linger_end
            if now < until:
                self._hurry.wait(min(until - now, 0.05))
                continue
            self._cut = True
            if self._asked:
                # As gunicorn's arbiter does: `handle_abort` ends the request wherever it is, and it is answered with 500.
                self.course.stopping = True
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGABRT)
            else:
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_RD)
            return


def _nothing() -> None:
    """Only to wake the poller."""
