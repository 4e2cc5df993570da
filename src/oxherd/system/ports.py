"""The seam between decisions and the operating system.

Everything the supervisor asks of the machine about processes goes through `System`; the loop brings time. Component
tests put a fake in its place and fail each call once. The module holds Protocols only and is imported for typing only,
so that ``typing`` stays out of the supervisor.
"""

from __future__ import annotations

from typing import Protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from oxherd.config.model import LimitSpec, LogSpec
    from oxherd.core.endpoint import Address
    from oxherd.core.exits import ExitStatus
    from oxherd.system.cgroups import CgroupHandle
    from oxherd.system.logs.echo import Echo
    from oxherd.system.logs.spool import Spool
    from oxherd.system.loop import Loop
    from oxherd.system.outside import Stopped
    from oxherd.system.resources import TreeSample
    from oxherd.system.spawn import Launch, LaunchRequest
    from oxherd.system.tree import ProcessTable

__all__ = ["Pipe", "Sink", "System"]


class Pipe(Protocol):
    """The supervisor's end of the output of one incarnation."""

    child_fd: int

    @property
    def fd(self) -> int:
        """The end that is read, or -1 when it is closed."""

    @property
    def closed(self) -> bool:
        """Whether it has been given back."""

    def close_child_end(self) -> None:
        """Close the supervisor's copy of the child's end."""

    def drain(self) -> None:
        """Read what is there now."""

    def tail(self, count: int) -> list[bytes]:
        """Return the last lines it brought."""

    def finish(self) -> None:
        """Read the rest, flush a held tail and close."""


class Sink(Protocol):
    """A log file with its rotation."""

    @property
    def pipes(self) -> int:
        """How many incarnations write to it."""

    @property
    def busy(self) -> bool:
        """Whether it has something to do yet: lines in memory, files to compress."""

    def open_pipe(self, slot: int) -> Pipe:
        """Return a pipe for one incarnation of ``slot``; raises OSError when there are no descriptors."""

    def attach(self, slot: int, read_fd: int) -> Pipe:
        """Go on reading a pipe that an earlier supervisor made; takes over the descriptor."""

    def take_orphans(self) -> int:
        """Write what an earlier supervisor had read from pipes that are gone; returns how many lines that were."""

    def note(self, slot: int, text: str) -> None:
        """Write a line of Oxherd's own."""

    def reopen(self) -> None:
        """Open the file anew, for logrotate."""

    def close(self) -> None:
        """Write what is held and close."""


class System(Protocol):
    """The operating system as the supervisor sees it. No call blocks.

    A call may raise OSError where the machine has no descriptors, memory or permission for it. Those that only say what
    is so (`wall`, `chance`, `start_ticks`, `oom_kills`, `catches`) do not.
    """

    def wall(self) -> float:
        """Return unix time in seconds, for records shown to people."""

    def chance(self) -> float:
        """Return a random number in [0, 1)."""

    def launch(self, request: LaunchRequest) -> Launch:
        """Start a program; raises `oxherd.errors.SpawnError`."""

    def exit_of(self, pid: int, pidfd: int) -> ExitStatus | None:
        """Return how a child ended and reap it, or None while it lives."""

    def next_dead(self) -> int | None:
        """Return the pid of some dead child without reaping it, or None when there is none."""

    def signal(self, pid: int, pidfd: int, signum: int) -> bool:
        """Send a signal to one process; False when it is gone, OSError when it may not be signalled."""

    def tree(self, pid: int) -> list[int]:
        """Return every living descendant of a process."""

    def survey(self, known: Collection[int]) -> ProcessTable | None:
        """Read what there is, once for the `leftovers` of many; nothing if no orphan has fallen to the supervisor."""

    def leftovers(
        self,
        mark: str,
        main_pid: int,
        known: Collection[int],
        pipes: Collection[int],
        table: ProcessTable | None = None,
        *,
        anywhere: bool = False,
    ) -> list[int]:
        """Return what lives on of an incarnation whose main pid is gone, or beside one that lives.

        ``table`` is a `survey` made after that main pid was gone; without one there is a look of its own. ``anywhere``: its
        orphans have not fallen to this supervisor, because an earlier one had started it.
        """

    def kill_all(self, pids: Iterable[int], signum: int) -> OSError | None:
        """Send a signal to many processes, tolerating those that are gone; return why others could not be reached."""

    def start_ticks(self, pid: int) -> int:
        """Return the kernel's start time of a process in clock ticks, 0 when it is gone."""

    def forked_by(self, pid: int, pidfd: int, zygote: int) -> bool:
        """Whether a process is a zygote's child, as it says."""

    def hold(self, pid: int, start_ticks: int) -> int | None:
        """Return a pidfd of the process that was started then, None where it is gone; raises OSError."""

    def output_of(self, pids: Iterable[int], inode: int) -> int:
        """Return a new descriptor that reads a pipe some process writes to, -1 where none of them has it."""

    def borrow(self, pid: int, pidfd: int, inodes: Collection[int]) -> dict[int, int]:
        """Return copies of a process's sockets by inode; raises OSError where they may not be borrowed."""

    def sample(self, pid: int) -> TreeSample:
        """Return memory and CPU of a process tree."""

    def pss(self, pid: int) -> int:
        """Return the proportional memory of a process tree in bytes."""

    def oom_kills(self) -> int | None:
        """Return how often the kernel has killed for memory in the supervisor's cgroup, or None if nobody counts."""

    def make_cgroup(self, name: str, limits: LimitSpec) -> CgroupHandle:
        """Make a cgroup with hard limits; raises `oxherd.errors.SystemFault` where this machine cannot."""

    def catches(self, pid: int, signum: int) -> bool:
        """Whether a process has a handler for a signal."""

    def accepting(self, pids: Iterable[int], inode: int) -> bool | None:
        """Whether some processes accept from a listener; None where it cannot be told."""

    def stop_accepting(self, pids: Iterable[int], inode: int) -> Stopped:
        """Make some processes stop accepting from a listener, and go on with the connections they have."""

    def established(self, pids: Iterable[int], addresses: Iterable[Address]) -> int:
        """Return how many connections to some addresses some processes have."""

    def open_sink(
        self,
        *,
        loop: Loop,
        path: str,
        index_path: str,
        process: str,
        spec: LogSpec,
        stream: str,
        start_helper: Callable[[list[str]], None],
        on_trouble: Callable[[str], None],
        on_recovered: Callable[[str], None],
        echo: Echo | None,
        owner: tuple[int, int] | None,
        spool: Spool | None,
    ) -> Sink:
        """Open a log file; the arguments are those of `oxherd.system.logs.sink.LogSink`."""
