"""What takes the arbiter's place around a gunicorn worker: the server its hooks see, its heartbeat, its course.

A worker class of gunicorn expects a parent it can compare, a temporary file to touch, sockets of gunicorn's own kind and
a ``server`` for its hooks. It gets objects that look the same and lead to Oxherd.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
import sys
import time
from _thread import allocate_lock  # before gevent may have patched it: the control thread is a real one
from collections import deque
from typing import TYPE_CHECKING, Any

from gunicorn import __version__
from gunicorn.sock import TCP6Socket, TCPSocket, UnixSocket

from ..counting import Draining
from .base import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..meters import Meters
    from ..tally import Tally
    from .base import Job, Told

__all__ = [
    "LEAVING",
    "TICK",
    "AnyParent",
    "Beat",
    "Course",
    "Errand",
    "Server",
    "Ticker",
    "Wake",
    "gunicorn_socket",
    "keep_signals",
]

# Seconds between two ticks of a worker that is well.
TICK = 0.1

LEAVING = "this worker is leaving and takes no more listeners"

_KINDS = {socket.AF_INET: TCPSocket, socket.AF_INET6: TCP6Socket, socket.AF_UNIX: UnixSocket}


class AnyParent(int):
    """A parent's pid that equals every other: the workers of gunicorn leave when it changes, ours outlive it."""

    def __eq__(self, other: object) -> bool:
        """Whatever the parent is now, it is the right one."""
        return True

    def __ne__(self, other: object) -> bool:
        """See `__eq__`."""
        return False

    __hash__ = int.__hash__


class Beat:
    """What a worker calls its temporary file: touching it is how it says that it lives.

    Args:
        beat: Called with each sign of life.
    """

    def __init__(self, beat: Callable[[], None]) -> None:
        """Nobody has touched it yet."""
        self._beat = beat
        self._last = time.monotonic()
        # Some code asks for the file's number; there is one, that leads nowhere.
        self._fd = os.open(os.devnull, os.O_RDWR)

    def notify(self) -> None:
        """Be touched."""
        self._last = time.monotonic()
        self._beat()

    def last_update(self) -> float:
        """Return when it was touched, CLOCK_MONOTONIC."""
        return self._last

    def fileno(self) -> int:
        """Return the number of an open file."""
        return self._fd

    def close(self) -> None:
        """Close the file; idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Server:
    """What the hooks of a configuration see as ``server``: the arbiter's attributes, as far as one worker has them.

    Args:
        application: gunicorn's application, with its configuration.
    """

    def __init__(self, application: Any) -> None:
        """Look like an arbiter that has just started."""
        cfg = application.cfg
        self.app = application
        self.cfg = cfg
        self.pid = os.getpid()
        self.master_pid = 0
        self.master_name = "Master"
        self.reexec_pid = 0
        self.pidfile = None
        self.systemd = False
        self.worker_age = 1
        self.worker_class: Any = None
        self.num_workers = cfg.workers
        self.timeout = cfg.timeout
        self.proc_name = cfg.proc_name
        self.WORKERS: dict[int, Any] = {}
        self.LISTENERS: list[Any] = []
        self.START_CTX = {"args": [sys.executable, *sys.argv], "cwd": os.getcwd(), 0: sys.executable}
        self._log: Any = None

    @property
    def address(self) -> list[Any]:
        """The addresses of the configuration; what is served is Oxherd's to say."""
        return list(self.cfg.address)

    @property
    def log(self) -> Any:
        """The logger of the configuration; made when it is needed, because it opens files and sockets."""
        if self._log is None:
            self._log = self.cfg.logger_class(self.cfg)
        return self._log

    def has(self, hook: str) -> bool:
        """Tell whether the configuration sets a hook."""
        setting = self.cfg.settings.get(hook)
        return setting is not None and setting.get() is not setting.default

    def call(self, hook: str, *arguments: Any) -> None:
        """Call a hook with this server; its failure is logged and goes no further."""
        if not self.has(hook):
            return
        try:
            getattr(self.cfg, hook)(self, *arguments)
        except Exception:
            self.log.exception("the hook %s failed", hook)


class Course:
    """How far a worker is between its start and its end, for whoever in it has to know.

    Attributes:
        job: How to serve.
        app: The app as the worker class gets it; `gunicorn_apps`.
        tally: What an ASGI app is counted with, flushed with every tick; None where the meters are written at once.
        duck: On while the worker drains, for those who answer.
        reason: What the app said when its startup failed, "" if nothing.
        draining: Whether the lame duck has begun.
        stopping: Whether the end is to come at once.
        linger_end: When silence is no longer waited for, CLOCK_MONOTONIC.
        give_up: When requests in flight are no longer waited for.
    """

    def __init__(self, job: Job, meters: Meters, told: Told) -> None:
        """Nothing has begun."""
        self.job = job
        self.told = told
        self.meters = meters
        self.app: Any = None
        self.tally: Tally | None = None
        self.duck = Draining()
        self.reason = ""
        self.draining = False
        self.stopping = False
        self.started = False
        self._announced = False
        self.linger_end = math.inf
        self._patience = min(job.keepalive, job.linger)
        self.give_up = math.inf
        self._due = time.monotonic()
        self._connections = -1
        self._open: Any = allocate_lock()
        self._open.acquire()

    def ready(self) -> None:
        """The private listener is served."""
        if not self.started:
            self.started = True
            self._due = time.monotonic()
            self.tick(0)
            self._open.release()
            self.told.started()

    def end(self) -> None:
        """The worker has ended, whether it ever served or not."""
        if self.tally is not None:
            self.tally.flush(time.monotonic())
        if not self.started:
            self.stopping = True
            self._open.release()

    def wait(self) -> None:
        """Wait, in another thread, until the worker serves.

        Raises:
            EngineError: It will not.
        """
        with self._open:
            if not self.started:
                raise EngineError(LEAVING)

    def failed(self, reason: str) -> None:
        """The app says why its startup failed; the first reason counts."""
        self.reason = self.reason or reason

    def drain(self) -> bool:
        """Begin to drain; a second time end the linger. Returns whether it was the first time.

        `announce` is for whoever has stopped accepting: what connects after it was told finds a successor.
        """
        now = time.monotonic()
        if self.draining:
            self.linger_end, self._patience = min(self.linger_end, now), 0.0
            return False
        self.draining = self.duck.on = True
        self.give_up = now + self.job.graceful_timeout
        self.linger_end = min(now + self.job.linger, self.give_up)
        return True

    def announce(self) -> None:
        """Tell that the lame duck has begun; idempotent."""
        if not self._announced:
            self._announced = True
            self.told.draining()

    def has_waited_enough(self, since: float) -> bool:
        """Tell whether a connection that is silent may be closed.

        Args:
            since: When it became silent, CLOCK_MONOTONIC. One whose answer said that it stays open, and has only just
                ended, is given time even after the linger: its client may be about to ask again.
        """
        now = time.monotonic()
        return now >= self.linger_end and now >= since + self._patience

    # -- the tick -----------------------------------------------------------------------------------------------

    def until_tick(self) -> float:
        """Seconds until the next tick is due, at least 0."""
        return max(0.0, self._due - time.monotonic())

    def passed(self, connections: int, *, well: bool = True) -> bool:
        """The loop came by: tick if it is time. Returns whether it was.

        Args:
            connections: Open client connections.
            well: False where the loop came by although the worker gets nothing done.
        """
        now = time.monotonic()
        if now < self._due:
            return False
        if well:
            self.tick(connections, now)
        self._due = now + TICK
        return True

    def tick(self, connections: int, now: float | None = None) -> None:
        """Tick now."""
        now = time.monotonic() if now is None else now
        if self.tally is not None:
            self.tally.flush(now)
        self.meters.tick(now, max(0.0, now - self._due))
        self._due = now + TICK
        if connections != self._connections:
            self._connections = connections
            self.meters.connected(connections)


class Ticker:
    """Ticks from an event loop.

    Args:
        loop: The loop, asyncio's or like it.
        course: What ticks.
        count: Returns the number of open connections.
    """

    def __init__(self, loop: Any, course: Course, count: Callable[[], int]) -> None:
        """Nothing ticks yet."""
        self._loop = loop
        self._course = course
        self._count = count
        self._handle: Any = None

    def start(self) -> None:
        """Tick now and again and again; in the loop's thread."""
        self._course.tick(self._count())
        self._handle = self._loop.call_later(TICK, self.start)

    def stop(self) -> None:
        """Tick no more."""
        if self._handle is not None:
            self._handle.cancel()


class Errand:
    """Something the control thread wants done where the worker's loop runs.

    Args:
        do: Does it.
    """

    def __init__(self, do: Callable[[], None]) -> None:
        """Nothing is done yet."""
        self._do = do
        self._error: BaseException | None = None
        self._done: Any = allocate_lock()
        self._done.acquire()

    def __call__(self) -> None:
        """Do it, in the loop's thread."""
        try:
            self._do()
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            self._error = error
        self._done.release()

    def by(self, push: Callable[[Callable[[], None]], bool]) -> None:
        """Have it done and wait until it is.

        Args:
            push: Brings it to the loop; False where there is no loop any more.

        Raises:
            EngineError, OSError: It could not be done.
        """
        if not push(self):
            raise EngineError(LEAVING)
        self._done.acquire()
        if self._error is not None:
            raise self._error


class Wake:
    """Work for a poller's thread, from other threads and from signal handlers."""

    def __init__(self) -> None:
        """Open both ends."""
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._work: deque[Callable[[], None]] = deque()
        self._closed = False

    def fileno(self) -> int:
        """Return what becomes readable when there is work."""
        return self._read

    def push(self, call: Callable[[], None]) -> bool:
        """Leave work and wake the poller. Returns False where the poller has ended and nobody will do it."""
        self._work.append(call)
        if self._closed:
            # Exactly one of this thread and `close` finds it there.
            with contextlib.suppress(ValueError):
                self._work.remove(call)
                return False
            return True
        # Full: the poller is awake. Closed just now: `close` does what it finds.
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._write, b".")
        return True

    def run(self, _file: object = None) -> None:
        """Do what was left here."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._read, 4096)
        self._do()

    def _do(self) -> None:
        while self._work:
            self._work.popleft()()

    def close(self) -> None:
        """Do what is left and close."""
        self._closed = True
        self._do()
        read, write = self._read, self._write
        self._read = self._write = -1
        os.close(read)
        os.close(write)


def gunicorn_socket(listener: socket.socket, cfg: Any, log: Any) -> Any:
    """Return a listener as gunicorn has it; the argument is used up.

    Raises:
        EngineError: It is of a family gunicorn does not know.
    """
    kind = _KINDS.get(listener.family)
    if kind is None:
        raise EngineError(
            f"gunicorn {__version__} serves TCP and unix sockets; this listener is of family {listener.family!r}"
        )
    name = listener.getsockname()
    wrapped = kind(name, cfg, log, fd=listener.detach())
    # gunicorn makes its sockets inheritable for a successor it starts itself; there is none here.
    wrapped.sock.set_inheritable(False)
    return wrapped


def keep_signals(worker: Any) -> None:
    """Leave the signals to the host, but for those gunicorn's workers know and the host does not.

    USR1 reopens the log files, ABRT aborts with the hook of the configuration.
    """
    before = signal.getsignal(signal.SIGUSR1)

    def reopen(number: int, frame: Any) -> None:
        worker.log.reopen_files()
        if callable(before):
            before(number, frame)  # the access log that is Oxherd's, or the app's own

    signal.signal(signal.SIGUSR1, reopen)
    signal.signal(signal.SIGABRT, worker.handle_abort)
