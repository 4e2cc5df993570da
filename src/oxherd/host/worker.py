"""A worker: one process that serves an app through an engine, under the eyes of a supervisor it can do without."""

from __future__ import annotations

import _thread
import contextlib
import errno
import faulthandler
import os
import random
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

from .engines.base import EngineError, StartupError, Told
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
        fds: Its descriptors: private, meters, dump.
        loaded: The app of the zygote this process was forked from; None: it loads the app itself.
    """

    def __init__(self, channel: Channel, boot: Message, fds: list[int], loaded: Loaded | None = None) -> None:
        """Take over what it was given."""
        self._channel = channel
        self._boot = boot
        self._private_fd, self._meters_fd, self._dump_fd = fds
        self._loaded = loaded
        self._meters: Meters | None = None
        self._engine: Engine | None = None
        self._began = time.monotonic()
        self._draining_since: float | None = None
        self._closed = 0

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
            tell(failure, self._channel)
            return BOOT_FAILED
        finally:
            for stream in (sys.stdout, sys.stderr):
                # The app may have closed it, or put something else there.
                with contextlib.suppress(OSError, ValueError, AttributeError):
                    stream.flush()

    def _serve(self) -> int:
        loaded = self._loaded or load(self._boot.get("job") or {})
        job = loaded.job
        limit = job.max_requests and job.max_requests + random.randint(0, max(0, job.max_requests_jitter))  # noqa: S311
        self._meters = meters = _CountingMeters(self._meters_fd, limit, self._enough)
        os.close(self._meters_fd)
        meters.begin()
        private = socket.socket(fileno=self._private_fd)
        try:
            engine = loaded.loader.make(job, loaded.app, meters, self._told(loaded))
        except EngineError as error:
            raise BootFailure("options", str(error)) from error
        self._engine = engine
        signal.signal(signal.SIGTERM, self._on_drain)
        for number in (signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, self._on_stop)
        if signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL:
            # Who has no log to open anew must not die of being asked to.
            signal.signal(signal.SIGUSR1, _do_nothing)
        _start_thread(self._obey, ())
        try:
            code = engine.run(private)
        except EngineError as error:
            raise BootFailure("options", str(error)) from error
        except StartupError as error:
            self._channel.send("failed", wait=True, stage="startup", text=error.text, traceback=error.traceback)
            return BOOT_FAILED
        except Exception as error:
            stage = "startup" if self._draining_since is None else "engine"
            raise BootFailure(stage, f"{job.engine} failed: {error!r}", own_traceback(error)) from error
        meters.state(State.DONE)
        if code == BOOT_FAILED:
            text = f"the startup of {loaded.app.label} failed; its log has the reason"
            self._channel.send("failed", wait=True, stage="startup", text=text, traceback="")
        elif self._draining_since is not None:
            seconds = time.monotonic() - self._draining_since
            self._channel.send("drained", seconds=round(seconds, 3), closed=self._closed)
        return code

    # -- told by the engine -------------------------------------------------------------------------------------

    def _told(self, loaded: Loaded) -> Told:
        def started() -> None:
            assert self._engine is not None
            assert self._meters is not None
            self._meters.state(State.STARTED)
            facts: dict[str, object] = {"engine_version": "", "loop": "", **self._engine.facts()}
            self._channel.send(
                "started",
                seconds=round(time.monotonic() - self._began, 3),
                interface=loaded.app.interface,
                engine=loaded.job.engine,
                fds=None,
                wait=False,
                **facts,
            )

        def draining() -> None:
            if self._draining_since is None:
                assert self._meters is not None
                self._draining_since = time.monotonic()
                self._meters.state(State.DRAINING)
                self._channel.send("draining")

        def closed(count: int) -> None:
            self._closed += count

        return Told(started=started, draining=draining, closed=closed)

    def _enough(self) -> None:
        self._channel.send("recycle", reason="max_requests")

    # -- told by the supervisor ---------------------------------------------------------------------------------

    def _on_drain(self, _signal: int, _frame: FrameType | None) -> None:
        assert self._engine is not None
        self._engine.drain()

    def _on_stop(self, _signal: int, _frame: FrameType | None) -> None:
        assert self._engine is not None
        self._engine.stop()

    def _obey(self) -> None:
        """The control thread: do what the supervisor says until it is gone. The worker goes on without it."""
        while (received := self._channel.receive()) is not None:
            message, fds = received
            try:
                self._do(message, fds)
            except Exception as error:  # noqa: BLE001 - a worker whose control thread died could never be drained of a slot
                sys.stderr.write(f"oxherd: {message['kind']} failed: {error!r}\n")
            for fd in fds:
                os.close(fd)

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
                self._channel.send("released", key=key)
            case "report":
                self._channel.send("report", **self._report())

    def _accept(self, key: str, fds: list[int]) -> None:
        try:
            listener = socket.socket(fileno=fds[0])
            del fds[0]  # the socket's now
            self._engine_now.accept(key, listener)
        except (EngineError, OSError) as error:
            self._channel.send("refused", key=key, text=str(error))
        else:
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
