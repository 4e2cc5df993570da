"""An operating system that exists only in the test: processes are numbers that live until the test says otherwise.

Every call of the port can be made to fail once with `fail`; what the supervisor asked for is in `launched` and `sent`.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING

from oxherd.core.exits import ExitStatus

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from oxherd.system.loop import Loop
    from oxherd.system.spawn import LaunchRequest

__all__ = ["FakePipe", "FakeProcess", "FakeSink", "FakeSystem"]


@dataclass
class FakeProcess:
    """One process: who it is, whether it lives, how it ended, what it obeys."""

    pid: int
    request: LaunchRequest
    alive: bool = True
    status: ExitStatus | None = None
    ignores: set[int] = field(default_factory=set)
    mark: str = ""
    orphan: bool = False
    rss: int = 10_000_000
    cpu: float = 0.0

    @property
    def name(self) -> str:
        return self.request.env.get("OXHERD_PROCESS", "?")


class FakePipe:
    """A pipe that has been given nothing."""

    def __init__(self, sink: FakeSink) -> None:
        self.sink = sink
        self.child_fd = 1
        self.fd = -1
        self.closed = False

    def close_child_end(self) -> None:
        self.child_fd = -1

    def drain(self) -> None:
        assert not self.closed

    def tail(self, count: int) -> list[bytes]:
        return self.sink.lines[-count:]

    def finish(self) -> None:
        if not self.closed:
            self.closed = True
            self.sink.open_pipes -= 1


class FakeSink:
    """A log that keeps lines in a list."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.lines: list[bytes] = []
        self.notes: list[str] = []
        self.open_pipes = 0
        self.reopened = 0
        self.closed = False
        self.error: OSError | None = None

    busy = False

    @property
    def pipes(self) -> int:
        return self.open_pipes

    def open_pipe(self, _slot: int) -> FakePipe:
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        self.open_pipes += 1
        return FakePipe(self)

    def note(self, _slot: int, text: str) -> None:
        self.notes.append(text)

    def reopen(self) -> None:
        self.reopened += 1

    def close(self) -> None:
        assert self.open_pipes == 0
        self.closed = True


class FakeSystem:
    """The port, played by the test.

    Attributes:
        clock: Unix time; moves only when the test moves it.
        luck: What `chance` returns.
        launched: Every process that was ever started, in order.
        sent: Every signal, as (pid, signum).
        accepts: By pid, whether a program accepts from its listeners: True where nothing is said, None: not to be told.
        clients: By pid, how many connections a program has.
        stubborn: Why no program can be kept from accepting, or "".
    """

    def __init__(self) -> None:
        self.loop: Loop | None = None
        self.clock = 1_790_000_000.0
        self.luck = 0.0
        self.launched: list[FakeProcess] = []
        self.sent: list[tuple[int, int]] = []
        self.sinks: dict[str, FakeSink] = {}
        self._faults: dict[str, list[BaseException]] = {}
        self._pid = 100
        # Processes that handle SIGTERM and end with 0, unless told otherwise.
        self.obedient = True
        self.oom = 0
        self.accepts: dict[int, bool | None] = {}
        self.clients: dict[int, int] = {}
        self.stubborn = ""

    # -- for the test -------------------------------------------------------------------------------------------

    def fail(self, call: str, error: BaseException) -> None:
        """Make the next use of a call fail."""
        self._faults.setdefault(call, []).append(error)

    def _fault(self, call: str) -> None:
        if self._faults.get(call):
            raise self._faults[call].pop(0)

    def process(self, pid: int) -> FakeProcess:
        return next(process for process in self.launched if process.pid == pid)

    def living(self, name: str | None = None) -> list[FakeProcess]:
        return [process for process in self.launched if process.alive and name in {None, process.name}]

    def end(self, process: FakeProcess, status: ExitStatus) -> None:
        """Let a process end and tell the supervisor as the kernel would."""
        if process.alive:
            process.alive = False
            process.status = status
            assert self.loop is not None
            self.loop.deliver(signal.SIGCHLD)  # type: ignore[attr-defined]

    def leave_behind(self, parent: FakeProcess) -> FakeProcess:
        """Let a process start a daemon of its own, which falls to the supervisor when its parent is gone."""
        self._pid += 1
        child = FakeProcess(pid=self._pid, request=parent.request, mark=parent.mark, orphan=True)
        self.launched.append(child)
        return child

    # -- the port -----------------------------------------------------------------------------------------------

    def wall(self) -> float:
        return self.clock

    def chance(self) -> float:
        return self.luck

    def launch(self, request: LaunchRequest) -> SimpleNamespace:
        self._fault("launch")
        self._pid += 1
        self.launched.append(FakeProcess(pid=self._pid, request=request, mark=request.env.get("OXHERD_MARK", "")))
        return SimpleNamespace(pid=self._pid, pidfd=-1, report_fd=None)

    def exit_of(self, pid: int, _pidfd: int) -> ExitStatus | None:
        process = self.process(pid)
        status, process.status = process.status, None
        return status

    def next_dead(self) -> int | None:
        return next((process.pid for process in self.launched if process.status is not None), None)

    def signal(self, pid: int, _pidfd: int, signum: int) -> bool:
        self.sent.append((pid, signum))
        process = self.process(pid)
        if not process.alive:
            return False
        if signum == signal.SIGKILL:
            process.alive, process.status = False, ExitStatus(signal=9)
        elif self.obedient and signum not in process.ignores and signum in {2, 3, 15}:
            process.alive, process.status = False, ExitStatus(code=0)
        if not process.alive:
            assert self.loop is not None
            # Not from within the call: the kernel tells of it later, too.
            self.loop.call_soon(lambda: self.loop.handlers[signal.SIGCHLD](signal.SIGCHLD))  # type: ignore[union-attr]
        return True

    def tree(self, _pid: int) -> list[int]:
        return []

    def survey(self, _known: Collection[int]) -> None:
        return None

    def leftovers(
        self,
        mark: str,
        _main_pid: int,
        known: Collection[int],
        _pipes: Collection[int],
        _table: None = None,
        *,
        anywhere: bool = False,
    ) -> list[int]:
        assert not anywhere, "nothing is adopted here"
        return [
            process.pid
            for process in self.launched
            if process.alive and process.orphan and process.mark == mark and process.pid not in known
        ]

    def kill_all(self, pids: Iterable[int], signum: int) -> None:
        for pid in pids:
            self.signal(pid, -1, signum)

    def start_ticks(self, pid: int) -> int:
        return pid * 10

    def sample(self, pid: int) -> SimpleNamespace:
        process = self.process(pid)
        return SimpleNamespace(processes=1, rss_bytes=process.rss, cpu_seconds=process.cpu)

    def pss(self, pid: int) -> int:
        return self.process(pid).rss

    def oom_kills(self) -> int | None:
        return self.oom

    def make_cgroup(self, name: str, limits: object) -> object:
        self._fault("make_cgroup")
        raise AssertionError(f"no cgroup {name} is expected for {limits}")

    def catches(self, _pid: int, _signum: int) -> bool:
        return True

    def accepting(self, pids: Iterable[int], _inode: int) -> bool | None:
        known = [self.accepts.get(pid, True) for pid in pids]
        return True if True in known else None if None in known else False

    def stop_accepting(self, pids: Iterable[int], _inode: int) -> SimpleNamespace:
        if self.stubborn:
            return SimpleNamespace(count=0, reason=self.stubborn)
        stopped = [pid for pid in pids if self.accepts.get(pid, True)]
        self.accepts.update(dict.fromkeys(stopped, False))
        return SimpleNamespace(count=len(stopped), reason="")

    def established(self, pids: Iterable[int], _addresses: object) -> int:
        return sum(self.clients.get(pid, 0) for pid in pids)

    def open_sink(self, *, path: str, **_rest: object) -> FakeSink:
        self._fault("open_sink")
        sink = self.sinks[path] = FakeSink(path)
        return sink
