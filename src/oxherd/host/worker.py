"""A worker: one process that serves an app through an engine, under the eyes of a supervisor it can do without."""

from __future__ import annotations

import _thread
import errno
import faulthandler
import os
import random
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

from .channel import close_fd
from .door import VERSION, Door
from .engines.base import EngineError, StartupError, Told
from .garbage import settle
from .held import Held
from .leaving import flush_output
from .loading import BootFailure, Loaded, load, tell
from .meters import Meters, State
from .target import own_traceback
from .title import set_title

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType

    from .channel import Channel
    from .engines.base import Engine
    from .wire import Message

__all__ = ["DUMP_SIGNAL", "Worker"]

# Writes the stacks of all threads into the dump, from the C signal handler: it works with a blocked event loop too.
DUMP_SIGNAL = signal.SIGRTMIN + 5

# Before the app may have patched threading (gevent): the control thread has to be one.
_start_thread = _thread.start_new_thread

BOOT_FAILED = 3


class _CountingMeters(Meters):
    """Meters that tell once when enough requests were answered; looked at with the tick, at no cost to a request."""

    def __init__(self, fd: int, limit: int, reached: Callable[[], None]) -> None:
        super().__init__(fd)
        self._limit = limit
        self._reached = reached

    def tick(self, now: float, lag: float) -> None:
        super().tick(now, lag)
        if self._limit and self.answered >= self._limit:
            self._limit = 0
            self._reached()


class Worker:
    """One incarnation of a slot.

    Args:
        channel: To the supervisor.
        boot: The message that made this worker: slot, incarnation, title, and for an exec'd worker the job.
        fds: Its descriptors: private, meters, dump, door.
        loaded: The app of the zygote this process was forked from; None: it loads the app itself.
    """

    def __init__(self, channel: Channel, boot: Message, fds: list[int], loaded: Loaded | None = None) -> None:
        """Take over what it was given."""
        self._channel = channel
        self._boot = boot
        self._private_fd, self._meters_fd, self._dump_fd, door_fd = fds
        self._door = Door(door_fd, channel)
        self._held = Held()
        self._loaded = loaded
        self._meters: Meters | None = None
        self._engine: Engine | None = None
        self._began = time.monotonic()
        self._draining_since: float | None = None
        self._closed = 0
        # Whether threads of the engine's own runtime may call into Python when `run` has returned.
        self.outlived = False
        # What was said, for a supervisor that was not there; each is set before it is said.
        self._facts: Mapping[str, Any] | None = None
        self._due = self._obeys = False
        self._failure: Mapping[str, Any] | None = None
        self._drained: Mapping[str, Any] | None = None

    def run(self) -> int:
        """Serve until drained or stopped; return the exit code."""
        self._began = time.monotonic()
        set_title(str(self._boot.get("title") or ""))
        for fd in (self._private_fd, self._meters_fd, self._dump_fd):
            os.set_inheritable(fd, False)
        faulthandler.register(DUMP_SIGNAL, file=self._dump_fd, all_threads=True, chain=False)
        try:
            return self._serve()
        except BootFailure as failure:
            self._failure = failure.fields()
            if not tell(failure, self._channel) and not self._obeys and self._door.is_knocked_at():
                # The next supervisor is there already, and nobody has let it in yet.
                self._channel.replace(self._door.wait())
                self._introduce()
            return BOOT_FAILED
        finally:
            flush_output()

    def _serve(self) -> int:
        loaded = self._loaded
        if loaded is None:
            loaded = load(self._boot.get("job") or {})
            settle()
        job = loaded.job
        limit = job.max_requests and job.max_requests + random.randint(0, max(0, job.max_requests_jitter))  # noqa: S311
        self._meters = meters = _CountingMeters(self._meters_fd, limit, self._enough)
        meters.begin()
        private = socket.socket(fileno=self._private_fd)
        try:
            engine = loaded.loader.make(job, loaded.app, meters, self._told(loaded))
        except EngineError as error:
            raise BootFailure("options", str(error)) from error
        self._engine = engine
        self.outlived = getattr(loaded.loader, "FOREIGN_THREADS", False)
        signal.signal(signal.SIGTERM, self._on_drain)
        for number in (signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, self._on_stop)
        if signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL:
            # Who has no log to open anew must not die of being asked to.
            signal.signal(signal.SIGUSR1, _do_nothing)
        self._obeys = True
        _start_thread(self._obey, ())
        try:
            code = engine.run(private)
        except EngineError as error:
            raise BootFailure("options", str(error)) from error
        except StartupError as error:
            self._fail(error.text, error.traceback)
            return BOOT_FAILED
        except Exception as error:
            stage = "startup" if self._draining_since is None else "engine"
            raise BootFailure(stage, f"{job.engine} failed: {error!r}", own_traceback(error)) from error
        meters.state(State.DONE)
        if code == BOOT_FAILED:
            self._fail(f"the startup of {loaded.app.label} failed; its log has the reason", "")
        elif self._draining_since is not None:
            seconds = time.monotonic() - self._draining_since
            self._drained = {"seconds": round(seconds, 3), "closed": self._closed}
            self._channel.send("drained", **self._drained)
        return code

    def _fail(self, text: str, traceback: str) -> None:
        self._failure = {"stage": "startup", "text": text, "traceback": traceback}
        self._channel.send("failed", wait=True, **self._failure)

    # -- told by the engine -------------------------------------------------------------------------------------

    def _told(self, loaded: Loaded) -> Told:
        def started() -> None:
            assert self._engine is not None
            assert self._meters is not None
            self._meters.state(State.STARTED)
            self._facts = {
                "engine_version": "",
                "loop": "",
                **self._engine.facts(),
                "seconds": round(time.monotonic() - self._began, 3),
                "interface": loaded.app.interface,
                "engine": loaded.job.engine,
            }
            self._channel.send("started", **self._facts)

        def draining() -> None:
            if self._draining_since is None:
                assert self._meters is not None
                self._draining_since = time.monotonic()
                self._held.let_go()
                self._meters.state(State.DRAINING)
                self._channel.send("draining")

        def closed(count: int) -> None:
            self._closed += count

        return Told(started=started, draining=draining, closed=closed)

    def _enough(self) -> None:
        self._due = True
        self._channel.send("recycle", reason="max_requests")

    # -- told by the supervisor ---------------------------------------------------------------------------------

    def _on_drain(self, _signal: int, _frame: FrameType | None) -> None:
        assert self._engine is not None
        self._engine.drain()

    def _on_stop(self, _signal: int, _frame: FrameType | None) -> None:
        assert self._engine is not None
        self._engine.stop()

    def _obey(self) -> None:
        """The control thread: do what the supervisor says; when it is gone, wait for the next one. The worker serves on."""
        while True:
            self._listen()
            try:
                self._channel.replace(self._door.wait())
            except OSError as error:
                sys.stderr.write(f"oxherd: no supervisor will reach this worker again: {error.strerror}\n")
                return
            try:
                # After the channel is there: what happens from now on is said by whoever sees it happen.
                self._introduce()
            except Exception as error:  # noqa: BLE001 - a worker nobody can command is worse than one without a word
                sys.stderr.write(f"oxherd: the new supervisor was not told what there is: {error!r}\n")
                self._channel.hang_up()

    def _listen(self) -> None:
        """Do what one supervisor says until it is gone."""
        while (received := self._channel.receive()) is not None:
            message, fds = received
            try:
                self._do(message, fds)
            except Exception as error:  # noqa: BLE001 - a worker whose control thread died could never be drained of a slot
                sys.stderr.write(f"oxherd: {message['kind']} failed: {error!r}\n")
            for fd in fds:
                close_fd(fd)

    def _introduce(self) -> None:
        """Tell a new supervisor what the one before it knew, and give it what that one had."""
        with self._held.lent() as listeners:
            self._channel.send(
                "here",
                fds=[self._meters_fd, self._dump_fd],
                wait=True,
                role="worker",
                version=VERSION,
                pid=os.getpid(),
                slot=self._boot.get("slot"),
                incarnation=self._boot.get("incarnation"),
                started=self._facts is not None,
                draining=self._draining_since is not None,
                due=self._due,
                facts=self._facts or {},
                keys=list(listeners),
                listeners=len(listeners),
            )
            for key, fd in listeners.items():
                self._channel.send("listener", fds=[fd], wait=True, key=key)
        for kind, fields in (("failed", self._failure), ("drained", self._drained)):
            if fields is not None:
                self._channel.send(kind, wait=True, **fields)
        self._channel.send("here-end", wait=True)

    def _do(self, message: Message, fds: list[int]) -> None:
        match message["kind"]:
            case "accept" if not fds:
                text = f"no listener came with it: {os.strerror(errno.EMFILE)}"
                self._channel.send("refused", key=str(message.get("key")), text=text)
            case "accept":
                self._accept(str(message.get("key")), fds)
            case "release":
                key = str(message.get("key"))
                self._engine_now.release(key)
                self._held.forget(key)
                self._channel.send("released", key=key)
            case "report":
                self._channel.send("report", **self._report())

    def _accept(self, key: str, fds: list[int]) -> None:
        second = -1
        try:
            listener = socket.socket(fileno=fds[0])
            del fds[0]  # the socket's now
            second = os.dup(listener.fileno())
            self._engine_now.accept(key, listener)
        except (EngineError, OSError) as error:
            if second >= 0:
                close_fd(second)
            self._channel.send("refused", key=key, text=str(error))
        else:
            self._held.keep(key, second)
            self._channel.send("accepting", key=key)

    def _report(self) -> Mapping[str, Any]:
        assert self._meters is not None
        requests = []
        for one in self._meters.in_flight():
            method, _, path = one.text.partition(" ")
            requests.append({"method": method, "path": path, "seconds": round(one.seconds, 3)})
        return {"in_flight": requests, "connections": self._engine_now.connections()}

    @property
    def _engine_now(self) -> Engine:
        assert self._engine is not None  # the control thread starts after it was made
        return self._engine


def _do_nothing(_signal: int, _frame: FrameType | None) -> None:
    """Unlike SIG_IGN, not inherited by what the app starts."""
