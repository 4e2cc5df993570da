"""Any other worker class of gunicorn, tornado's and aiohttp's among them: hosted without knowing how it works.

Such a class takes its listeners once, when it starts. So it gets the private one and a row of places: listeners on
addresses nobody is told. Where a place stands in the process, its descriptor, a public listener is put later, and taken
away again: dup2(2) under the loop's feet, and the same with what its epoll has noted. Select and poll look at descriptors
anew each time they are called.

Its signs of life are those the class gives to gunicorn, or ticks of its asyncio loop where it runs one. Its lame duck is
of the outside: no more connections, ``Connection: close`` from the app where that is ASGI or WSGI, a wait until the
connections have gone or the linger is over, and then the class's own end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from .base import EngineError
from .gunicorn_hosting import LEAVING, TICK, Ticker

if TYPE_CHECKING:
    from .gunicorn_hosting import Course

__all__ = ["hosted"]

# Listeners such a worker can have at a time; its own, and as many as it may be lent.
_PLACES = 8
_LOOK = 0.02
_ESTABLISHED = 1
_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


def hosted(base: type[Any]) -> type[Any]:
    """Return the hosted form of a worker class nobody knows."""
    return type(f"Hosted{base.__name__}", (_Other, base), {})


class _Place(socket.socket):
    """A listener that stands for another one; looks enough like gunicorn's own sockets."""

    def __init__(self) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM)
        self.bind("")  # a name of the kernel's choice, unix(7)
        self.listen(1)
        self.setblocking(False)
        self.key = ""

    @property
    def sock(self) -> socket.socket:
        """As gunicorn's sockets have it."""
        return self

    @property
    def FAMILY(self) -> int:  # noqa: N802 - as gunicorn's sockets have it
        """The family."""
        return self.family

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept, of whatever family the listener is that stands here now."""
        fd, address = self._accept()  # type: ignore[attr-defined]
        client = socket.socket(fileno=fd)
        client.setblocking(True)
        return client, address

    def put(self, listener: socket.socket) -> None:
        """Put a listener here; the argument stays open.

        Raises:
            EngineError: The worker's loop notes more than the descriptor; it would not find the listener.
        """
        watches = list(_watches(self.fileno()))
        # Only the lower half: CPython leaves the upper one to chance.
        if any(data & 0xFFFFFFFF != self.fileno() for _, _, data in watches):
            raise EngineError("the loop of this worker class cannot be given a listener at run time")
        before = socket.socket(fileno=os.dup(self.fileno()))
        noted = []
        for epoll, events, _ in watches:
            # One epoll may have several descriptors, ours of a moment ago among them.
            with contextlib.suppress(FileNotFoundError):
                epoll.unregister(self.fileno())
                noted.append((epoll, events))
        os.dup2(listener.fileno(), self.fileno(), inheritable=False)
        for epoll, events in noted:
            epoll.register(self.fileno(), events)
        for epoll, _, _ in watches:
            epoll.close()
        if not watches:
            _wake(before)
        before.close()

    def clear(self) -> None:
        """Take away what stands here."""
        with _Place() as nobody:
            self.put(nobody)
        self.key = ""


def _watches(fd: int) -> Any:
    """Yield epoll, events and data for each epoll of this process that watches a descriptor; proc_pid_fdinfo(5)."""
    inode = os.fstat(fd).st_ino
    for name in os.listdir("/proc/self/fd"):
        try:
            if "eventpoll" not in os.readlink(f"/proc/self/fd/{name}"):
                continue
            with open(f"/proc/self/fdinfo/{name}", encoding="ascii") as lines:
                entries = [line.replace(":", " ").split() for line in lines if line.startswith("tfd:")]
        except OSError:
            continue  # closed meanwhile
        for entry in entries:
            noted = dict(zip(entry[0::2], entry[1::2], strict=False))
            if int(noted["tfd"]) == fd and int(noted["ino"], 16) == inode:
                yield select.epoll.fromfd(os.dup(int(name))), int(noted["events"], 16), int(noted["data"], 16)


def _is_watched(fd: int) -> bool:
    watches = list(_watches(fd))
    for epoll, _, _ in watches:
        epoll.close()
    return bool(watches)


def _wake(listener: socket.socket) -> None:
    """Connect to a listener, so that who is polling it looks again; on Linux that is not the one that replaced it."""
    if listener.family != socket.AF_UNIX:
        return
    with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
        client.setblocking(False)
        client.connect(listener.getsockname())


class _Other:
    """The part of the hosted class that comes before its own; `course` is set before `init_process`."""

    course: Course
    cfg: Any
    log: Any
    sockets: list[Any]
    alive: bool
    pid: int

    def init_process(self) -> None:
        self._private: Any = self.sockets[0]
        self._places = [_Place() for _ in range(_PLACES)]
        self.sockets = [self._private, *self._places]
        self._names: set[Any] = set()
        self._notified = 0.0
        self._ticker: Ticker | None = None
        self._drained = threading.Event()
        self._hurry = threading.Event()
        self._leaving = self._giving_up = False
        threading.Thread(target=self._watch, name="host", daemon=True).start()
        super().init_process()  # type: ignore[misc]

    def init_signals(self) -> None:
        ours = {number: signal.getsignal(number) for number in _STOPS}
        super().init_signals()  # type: ignore[misc]
        loop = getattr(self, "loop", None)
        for number, handler in ours.items():
            if loop is not None and hasattr(loop, "remove_signal_handler"):
                loop.remove_signal_handler(number)
            signal.signal(number, handler)

    def run(self) -> None:
        try:
            super().run()  # type: ignore[misc]
        finally:
            self._drained.set()

    def notify(self) -> None:
        """Called by the class from where it works."""
        self._notified = time.monotonic()
        if self._ticker is not None:
            return
        with contextlib.suppress(RuntimeError):
            self._ticker = Ticker(asyncio.get_running_loop(), self.course, lambda: 0)
            self._ticker.start()

    # -- for the engine -----------------------------------------------------------------------------------------

    def attach(self, key: str, listener: socket.socket) -> None:
        """Accept on a listener, called from the control thread."""
        self.detach(key)
        with listener:
            place = next((place for place in self._places if not place.key), None)
            if place is None:
                raise EngineError(f"a worker of this class takes {_PLACES} listeners and has them all")
            if not self.alive or self.course.draining:
                raise EngineError(LEAVING)
            listener.setblocking(False)
            if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                listener.listen(self.course.job.backlog)
            self._names.add(listener.getsockname())
            place.put(listener)
            place.key = key

    def detach(self, key: str) -> None:
        """Accept no more on a listener, called from the control thread."""
        for place in self._places:
            if place.key == key:
                place.clear()

    def drain(self) -> None:
        """Drain, or drain sooner; in a signal handler, which the end comes through too."""
        if self._giving_up:
            raise SystemExit(0)
        if self._leaving:
            self.handle_exit(signal.SIGTERM, None)  # type: ignore[attr-defined]
            return
        if self.course.drain():
            threading.Thread(target=self._duck, name="lame-duck", daemon=True).start()
        else:
            self._hurry.set()

    def halt(self) -> None:
        """Stop; `course.stopping` is set."""
        self.alive = False
        raise SystemExit(0)

    def count(self) -> int:
        """Return the number of open connections that are not private."""
        return len(list(_connections(self._names)))

    # -- beside the loop ----------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """See when it serves; then pass on the signs of life it gives, while it gives them."""
        while not self._notified and not _is_watched(self._private.fileno()):
            self._drained.wait(_LOOK)
        self._notified = self._notified or time.monotonic()
        self.course.ready()
        patience = max(self.cfg.timeout / 2, 1.0) + 1.0
        while not self._drained.wait(TICK):
            if self._ticker is None and time.monotonic() - self._notified < patience:
                self.course.tick(self.count())

    def _duck(self) -> None:
        for place in self._places:
            if place.key:
                place.clear()
        self.course.announce()
        while self.count() and time.monotonic() < self.course.linger_end:
            self._hurry.wait(_LOOK)
        self._leaving = True
        os.kill(self.pid, signal.SIGTERM)
        if self._drained.wait(max(0.0, self.course.give_up - time.monotonic())):
            return
        self.course.told.closed(self.count())
        self._giving_up = True
        os.kill(self.pid, signal.SIGTERM)


def _connections(names: set[Any]) -> Any:
    """Yield the descriptors of this process that are connections to one of these addresses."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(name))) as one:
                if one.getsockname() not in names:
                    continue
                if one.family == socket.AF_UNIX:
                    one.getpeername()
                elif one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != _ESTABLISHED:
                    continue
                yield int(name)
        except OSError:
            continue  # closed meanwhile, or not connected
