"""Zygotes and workers that exist only in the test: they speak the real wire over real sockets, and run no app.

`HostedSystem` is a `FakeSystem` whose hosted processes answer at once: a zygote has imported, a fork has succeeded, an
app has started, a listener is accepted on. What they answer comes by the loop of the supervisor, as everything does.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from oxherd.core.exits import ExitStatus
from oxherd.host.meters import Meters
from oxherd.host.wire import FDS, LIMIT, decode, encode
from support.fake_system import FakeProcess, FakeSystem

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import SimpleNamespace

    from oxherd.system.loop import Loop, Timer
    from oxherd.system.spawn import LaunchRequest

__all__ = ["HostedSystem"]


# Virtual seconds between two turns of a worker's event loop.
_PULSE = 0.05


class _Host:
    """The other end of one channel."""

    def __init__(self, loop: Loop, channel: socket.socket, hear: Callable[[dict[str, Any], list[int]], None]) -> None:
        self.channel = channel
        self._loop = loop
        self._meters: Meters | None = None
        self._pulse: Timer | None = None
        self._hear = hear
        channel.setblocking(False)
        loop.watch_read(channel.fileno(), self._readable)

    def _readable(self) -> None:
        try:
            packet, fds, _, _ = socket.recv_fds(self.channel, LIMIT + 1, FDS)
        except BlockingIOError:
            return
        if packet:
            self._hear(decode(packet), list(fds))
        else:
            self._loop.unwatch(self.channel.fileno())

    def say(self, kind: str, **fields: Any) -> None:
        self.channel.send(encode(kind, **fields))

    def live(self, meters_fd: int) -> None:
        """Let its event loop come by, as the supervisor sees it."""
        self._meters = Meters(meters_fd)
        self._tick()

    def _tick(self) -> None:
        assert self._meters is not None
        self._meters.tick(self._loop.now(), 0.0)
        self._pulse = self._loop.call_later(_PULSE, self._tick)

    def close(self) -> None:
        if self._pulse is not None:
            self._pulse.cancel()
        if self._meters is not None:
            self._meters.close()
            self._meters = None
        if self.channel.fileno() >= 0:
            self._loop.unwatch(self.channel.fileno())
            self.channel.close()


class HostedSystem(FakeSystem):
    """A fake system whose zygotes fork and whose workers accept.

    Attributes:
        stopped: Pids of zygotes under SIGSTOP.
        slow_parents: Seconds a zygote takes to tell of a fork, while its child goes on; a busy machine.
    """

    def __init__(self) -> None:
        super().__init__()
        # Zygotes that are stopped: they are asked and do not answer.
        self.stopped: set[int] = set()
        self.slow_parents = 0.0
        self._hosts: dict[int, _Host] = {}

    def launch(self, request: LaunchRequest) -> SimpleNamespace:
        launch = super().launch(request)
        role = next((word for word in request.argv if word in {"zygote", "worker"}), None)
        if role is not None:
            process = self.process(launch.pid)
            channel = socket.socket(fileno=os.dup(request.pass_fds[0]))
            process.mark = request.env["OXHERD_MARK"]
            self._attach(process, channel, zygote=role == "zygote")
        return launch

    def _attach(self, process: FakeProcess, channel: socket.socket, *, zygote: bool) -> _Host:
        assert self.loop is not None
        hear = self._zygote_hears if zygote else self._worker_hears
        host = self._hosts[process.pid] = _Host(self.loop, channel, lambda message, fds: hear(process, message, fds))
        return host

    # -- what they do -------------------------------------------------------------------------------------------

    def _zygote_hears(self, zygote: FakeProcess, message: dict[str, Any], fds: list[int]) -> None:
        host = self._hosts[zygote.pid]
        match message["kind"]:
            case "boot":
                host.say("ready", forkable=True, hazards=[], seconds=0.1, interface="asgi", engine="uvicorn")
            case "fork" if zygote.pid not in self.stopped:
                self._pid += 1
                worker = FakeProcess(pid=self._pid, request=zygote.request, mark=message["env"]["OXHERD_MARK"])
                self.launched.append(worker)
                channel = socket.socket(fileno=fds.pop(2))
                born = self._attach(worker, channel, zygote=False)
                born.live(fds[3])
                fork = message["incarnation"]

                def tell() -> None:
                    host.say("forked", pid=worker.pid, incarnation=fork)

                if self.slow_parents:
                    assert self.loop is not None
                    self.loop.call_later(self.slow_parents, tell)
                else:
                    tell()
                born.say("started")
            case "end":
                self._finish(zygote, ExitStatus(code=0))
            case _:
                pass
        for fd in fds:
            os.close(fd)

    def _worker_hears(self, worker: FakeProcess, message: dict[str, Any], fds: list[int]) -> None:
        host = self._hosts[worker.pid]
        match message["kind"]:
            case "boot":
                host.live(fds[1])
                host.say("started")
            case "accept":
                host.say("accepting", key=message["key"])
            case "release":
                host.say("released", key=message["key"])
            case _:
                pass
        for fd in fds:
            os.close(fd)

    # -- how they end -------------------------------------------------------------------------------------------

    def _finish(self, process: FakeProcess, status: ExitStatus) -> None:
        """Let a process end from within the loop."""
        loop = self.loop
        assert loop is not None
        process.alive, process.status = False, status
        self._bury()
        loop.call_soon(lambda: loop.handlers[17](17))  # type: ignore[attr-defined]

    def end(self, process: FakeProcess, status: ExitStatus) -> None:
        if process.alive:
            process.alive, process.status = False, status
            self._bury()
            assert self.loop is not None
            self.loop.deliver(17)  # type: ignore[attr-defined]

    def signal(self, pid: int, pidfd: int, signum: int) -> bool:
        reached = super().signal(pid, pidfd, signum)
        self._bury()
        return reached

    def _bury(self) -> None:
        """Close the channels of the dead, as the kernel does."""
        for pid in [pid for pid in self._hosts if not self.process(pid).alive]:
            self._hosts.pop(pid).close()
