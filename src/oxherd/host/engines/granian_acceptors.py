"""Granian's workers, one a listener, that can be told to stop accepting while they go on serving.

One object of granian (``ASGIWorker``, ``WSGIWorker``) takes one listener, for its whole life, and has one signal, which
closes idle connections as well. So there is one object for each listener, all on one event loop, and a listener leaves
by the back door: it is taken out of tokio's epoll set, and its descriptor becomes another file by dup2(2), a listener
that nobody can reach. Granian goes on serving what it has accepted and is told of no new connection. When a listener
of the same address is given to this process again, the same door lets it in.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from granian._granian import SocketHolder, WorkerSignal

from .. import ducks

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Acceptor", "Acceptors"]

# Seconds within which granian's own thread has put a listener into its epoll set; it takes less than a millisecond.
_BEGIN = 5.0


@dataclass(eq=False)
class Acceptor:
    """One object of granian.

    Attributes:
        number: The descriptor granian has, whatever file it is now.
        name: What connections accepted by it are known by.
        signal: Granian's: stops accepting, closes what is idle, and lets the rest end.
        ended: Set when the rest has ended.
        worker: Granian's object; kept, it is served from.
        registered: Where the listener was watched, while it is not.
    """

    number: int
    name: ducks.Name
    signal: Any = field(default_factory=WorkerSignal)
    ended: threading.Event = field(default_factory=threading.Event)
    worker: Any = None
    registered: list[ducks.Registration] = field(default_factory=list)


class Acceptors:
    """The listeners of one worker.

    Args:
        serve: Makes granian's object for a socket holder and lets it serve: (holder, is_unix, signal) to the object.
        backlog: For listen(2), which granian and we call.
    """

    def __init__(self, serve: Callable[[Any, bool, Any], Any], backlog: int) -> None:
        """There are none yet."""
        self._serve = serve
        self._backlog = backlog
        self._active: dict[str, Acceptor] = {}
        self._parked: list[Acceptor] = []
        self._nobody: socket.socket | None = None
        self._lock = threading.Lock()

    @property
    def names(self) -> frozenset[ducks.Name]:
        """What connections accepted here are known by, those of listeners that left included."""
        return frozenset(one.name for one in self._all())

    def _all(self) -> list[Acceptor]:
        return [*self._active.values(), *self._parked]

    def add(self, key: str, listener: socket.socket) -> None:
        """Accept on a listener, which is ours from now on; returns when granian is told of new connections.

        Raises:
            OSError: It cannot be listened on, or granian does not begin.
        """
        with self._lock, listener:
            if key in self._active:
                self._park(key)
            listener.setblocking(False)
            # A slot's socket may be bound only; it enters its group now, when somebody is there to accept.
            listener.listen(self._backlog)
            name = ducks.name_of(listener)
            parked = next((one for one in self._parked if one.name == name and one.registered), None)
            if parked is not None:
                self._parked.remove(parked)
                self._active[key] = parked
                for number in _numbers(parked):
                    os.dup2(listener.fileno(), number, inheritable=False)
                ducks.restore(parked.registered)
                parked.registered = []
                return
            self._active[key] = self._new(listener, name)

    def _new(self, listener: socket.socket, name: ducks.Name) -> Acceptor:
        is_unix = listener.family == socket.AF_UNIX
        acceptor = Acceptor(number=os.dup(listener.fileno()), name=name)
        acceptor.signal.add_cb(acceptor.ended.set)
        # Granian's own stub lacks the third.
        holder = SocketHolder(acceptor.number, is_unix, self._backlog)  # type: ignore[call-arg]
        acceptor.worker = self._serve(holder, is_unix, acceptor.signal)
        deadline = time.monotonic() + _BEGIN
        while not ducks.registrations(acceptor.number):
            # Ends early only where granian gave up at once.
            if time.monotonic() > deadline or acceptor.ended.wait(0.001):
                raise OSError("granian has not begun to accept")
        return acceptor

    def remove(self, key: str) -> None:
        """Accept on a listener no more, and close our descriptor of it; what was accepted is served on."""
        with self._lock:
            if key in self._active:
                self._park(key)

    def silence(self) -> None:
        """Accept on no listener any more."""
        with self._lock:
            for key in list(self._active):
                self._park(key)

    def _park(self, key: str) -> None:
        acceptor = self._active.pop(key)
        acceptor.registered = ducks.silence(acceptor.number)
        if self._nobody is None:
            self._nobody = _unreachable()
        for number in _numbers(acceptor):
            # A listener still, so that an accept that is on its way finds nothing and goes to sleep.
            os.dup2(self._nobody.fileno(), number, inheritable=False)
        self._parked.append(acceptor)

    def end(self) -> None:
        """Let granian close what is idle and end the rest; `wait` waits for it."""
        for one in self._all():
            one.signal.set()

    def wait(self, until: float) -> bool:
        """Wait until everything has ended, CLOCK_MONOTONIC at the most; returns whether it has."""
        return all(one.ended.wait(max(0.0, until - time.monotonic())) for one in self._all())


def _numbers(acceptor: Acceptor) -> set[int]:
    # On free-threaded builds granian watches a duplicate of the descriptor it was given.
    return {acceptor.number, *(one.target for one in acceptor.registered)}


def _unreachable() -> socket.socket:
    """Return a listener whose name is gone: accept(2) finds nobody there, ever, and says so."""
    directory = tempfile.mkdtemp(prefix="oxherd-")
    made = socket.socket(socket.AF_UNIX)
    with contextlib.ExitStack() as undo:
        undo.callback(shutil.rmtree, directory, ignore_errors=True)
        made.bind(os.path.join(directory, "nobody"))
        made.listen(1)
        made.setblocking(False)
    return made
