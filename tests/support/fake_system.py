"""An operating system that exists only in the test: processes are numbers that live until the test says otherwise.

Every call of the port can be made to fail once with `fail`; what the supervisor asked for is in `launched` and `sent`.

The supervisor can die as well (`FakeSystem.orphan_all`): what it had started goes on, is nobody's child any more, and keeps
its output and its listeners open, so that another supervisor finds them.
"""

from __future__ import annotations

import os
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
    """One process: who it is, whether it lives, how it ended, what it obeys.

    A ``stranger`` has outlived its supervisor: it is no child of the next one. ``bell`` is what its pidfds are copies of.
    """

    pid: int
    request: LaunchRequest
    alive: bool = True
    status: ExitStatus | None = None
    ignores: set[int] = field(default_factory=set)
    mark: str = ""
    orphan: bool = False
    rss: int = 10_000_000
    cpu: float = 0.0
    stranger: bool = False
    bell: int = -1
    outputs: dict[int, int] = field(default_factory=dict)
    sockets: dict[int, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.request.env.get("OXHERD_PROCESS", "?")

    def keep_open(self) -> None:
        """Hold the listeners it was passed by itself: the supervisor whose numbers they are is about to go."""
        if self.stranger:
            return  # it has held them since the first of its supervisors died
        for fd in (*self.request.pass_fds, *self.request.listen_fds):
            inode = os.fstat(fd).st_ino
            if inode not in self.sockets:
                self.sockets[inode] = os.dup(fd)

    def end(self, status: ExitStatus | None) -> None:
        """Be dead: whoever holds it sees that, and what it had open is closed."""
        self.alive, self.status = False, status
        if self.bell >= 0:
            os.eventfd_write(self.bell, 1)
            os.close(self.bell)
            self.bell = -1
        for fd in (*self.outputs.values(), *self.sockets.values()):
            os.close(fd)
        self.outputs, self.sockets = {}, {}


class FakePipe:
    """A pipe that has been given nothing."""

    def __init__(self, sink: FakeSink, fd: int = -1) -> None:
        self.sink = sink
        self.child_fd = 1 if fd < 0 else os.dup(fd)
        self.fd = fd
        self.closed = False

    def close_child_end(self) -> None:
        if self.child_fd > 1:
            os.close(self.child_fd)
        self.child_fd = -1

    def drain(self) -> None:
        assert not self.closed

    def tail(self, count: int) -> list[bytes]:
        return self.sink.lines[-count:]

    def finish(self) -> None:
        if not self.closed:
            self.closed = True
            self.sink.open_pipes -= 1
            if self.fd >= 0:
                os.close(self.fd)
                self.fd = -1


class FakeSink:
    """A log that keeps lines in a list."""

    def __init__(self, path: str, *, tangible: bool = False) -> None:
        self.path = path
        self.tangible = tangible
        self.attached: list[tuple[int, int]] = []
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
        return FakePipe(self, os.memfd_create("pipe") if self.tangible else -1)

    def attach(self, slot: int, read_fd: int, _held: bytes = b"") -> FakePipe:
        self.open_pipes += 1
        self.attached.append((slot, os.fstat(read_fd).st_ino))
        pipe = FakePipe(self, read_fd)
        pipe.close_child_end()
        return pipe

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
        tangible: Whether pipes have descriptors, by which they can be told apart.
        kernel_tells: Whether the kernel says how a stranger ended.
        searched: The marks that were looked for among all processes of the machine.
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
        self.tangible = False
        self.kernel_tells = False
        self.searched: list[str] = []

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
            process.end(status)
            self._tell(process)

    def leave_behind(self, parent: FakeProcess) -> FakeProcess:
        """Let a process start a daemon of its own, which falls to the supervisor when its parent is gone."""
        self._pid += 1
        child = FakeProcess(pid=self._pid, request=parent.request, mark=parent.mark, orphan=True)
        self.launched.append(child)
        return child

    def orphan_all(self, *, same_parent: bool = False) -> None:
        """Let the supervisor be gone; what lives falls to somebody else.

        Args:
            same_parent: The supervisor becomes another program in the same process: its children stay its own.
        """
        self.loop = None
        for process in self.launched:
            if process.alive:
                process.keep_open()
            process.stranger = process.stranger or not same_parent
            if not same_parent:
                process.status = None

    def close(self) -> None:
        """Close what is held for the processes that live."""
        for process in self.living():
            process.end(None)

    def _tell(self, process: FakeProcess) -> None:
        """The kernel tells the parent of an end: SIGCHLD, or whoever else holds the process; nobody where nobody is there."""
        if self.loop is None:
            if process.stranger:
                process.status = None
        elif process.stranger:
            self.loop.advance(0)  # type: ignore[attr-defined]
        else:
            self.loop.deliver(signal.SIGCHLD)  # type: ignore[attr-defined]

    # -- the port -----------------------------------------------------------------------------------------------

    def wall(self) -> float:
        return self.clock

    def chance(self) -> float:
        return self.luck

    def launch(self, request: LaunchRequest) -> SimpleNamespace:
        self._fault("launch")
        self._pid += 1
        process = FakeProcess(pid=self._pid, request=request, mark=request.env.get("OXHERD_MARK", ""))
        for fd in {request.stdout, request.stderr} if self.tangible else ():
            process.outputs[os.fstat(fd).st_ino] = os.dup(fd)
        self.launched.append(process)
        return SimpleNamespace(pid=self._pid, pidfd=-1, report_fd=None)

    def exit_of(self, pid: int, _pidfd: int) -> ExitStatus | None:
        process = self.process(pid)
        if process.stranger and not process.alive and not self.kernel_tells:
            return ExitStatus()
        status, process.status = process.status, None
        return status

    def next_dead(self) -> int | None:
        dead = (process for process in self.launched if process.status is not None and not process.stranger)
        return next((process.pid for process in dead), None)

    def signal(self, pid: int, _pidfd: int, signum: int) -> bool:
        self.sent.append((pid, signum))
        process = self.process(pid)
        if not process.alive:
            return False
        if signum == signal.SIGKILL:
            process.end(ExitStatus(signal=9))
        elif self.obedient and signum not in process.ignores and signum in {2, 3, 15}:
            process.end(ExitStatus(code=0))
        if not process.alive and not process.stranger:
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
        if anywhere:
            self.searched.append(mark)
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

    def forked_by(self, _pid: int, _pidfd: int, _zygote: int) -> bool:
        self._fault("forked_by")
        return True

    def hold(self, pid: int, start_ticks: int) -> int | None:
        self._fault("hold")
        process = next((process for process in self.launched if process.pid == pid), None)
        if process is None or not process.alive or start_ticks != self.start_ticks(pid):
            return None
        if process.bell < 0:
            process.bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        return os.dup(process.bell)

    def output_of(self, pids: Iterable[int], inode: int) -> int:
        self._fault("output_of")
        held = (self.process(pid).outputs for pid in pids)
        return next((os.dup(outputs[inode]) for outputs in held if inode in outputs), -1)

    def borrow(self, pid: int, _pidfd: int, inodes: Collection[int]) -> dict[int, int]:
        self._fault("borrow")
        return {inode: os.dup(fd) for inode, fd in self.process(pid).sockets.items() if inode in inodes}

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
        sink = self.sinks[path] = FakeSink(path, tangible=self.tangible)
        return sink
