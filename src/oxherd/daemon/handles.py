"""The supervisor's view of what it runs: stacks, their processes, their instances.

Mutable holders around the pure `Instance`; nothing here decides anything.
"""

from __future__ import annotations

import collections

from oxherd.config.model import ProcessSpec, ProcessType
from oxherd.core.instance import Instance, LifePolicy, State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from oxherd.config.model import LogSpec
    from oxherd.core.instance import Timer
    from oxherd.daemon.children import Child
    from oxherd.system import loop
    from oxherd.system.cgroups import CgroupHandle
    from oxherd.system.ports import Pipe, Sink
    from oxherd.system.spawn import Launch

__all__ = ["InstanceHandle", "ProcessHandle", "StackHandle", "life_policy"]

# How long a program without a health check has to live to count as ready, in seconds. It catches what dies at once
# (a bad option, a port in use) without making every start slow.
SETTLE = 0.5


def life_policy(spec: ProcessSpec) -> LifePolicy:
    """Return what the lifecycle needs to know of a process."""
    by_clock = spec.type is ProcessType.SCHEDULED
    oneshot = by_clock or spec.type is ProcessType.ONESHOT
    run_timeout = spec.schedule.timeout if spec.schedule is not None else None
    return LifePolicy(
        restart=spec.restart,
        stop_signal=spec.stop.signal,
        stop_timeout=spec.stop.timeout,
        start_delay=spec.start_delay,
        settle=None if oneshot or spec.health is not None else SETTLE,
        ready_timeout=spec.ready_timeout,
        oneshot=oneshot,
        run_timeout=run_timeout,
    )


class InstanceHandle:
    """One slot: the pure machine and everything of the operating system that belongs to its incarnation."""

    __slots__ = (
        "awaiting_permit",
        "cards",
        "cgroup",
        "child",
        "health",
        "launch",
        "leftovers_told",
        "machine",
        "main_pid",
        "memory_peak",
        "oom_before",
        "pipes",
        "process",
        "retired",
        "slot",
        "spec",
        "start_ticks",
        "sweep_gentle",
        "timers",
    )

    def __init__(self, process: ProcessHandle, slot: int) -> None:
        """Make a stopped instance."""
        self.process = process
        self.slot = slot
        self.spec = process.spec
        self.machine = Instance(policy=life_policy(process.spec), generation=process.generation)
        self.launch: Launch | None = None
        self.child: Child | None = None
        self.pipes: list[Pipe] = []
        self.timers: dict[Timer, loop.Timer] = {}
        self.cgroup: CgroupHandle | None = None
        self.awaiting_permit = False
        self.sweep_gentle = False
        self.leftovers_told = False
        self.retired = False  # leaves its process as soon as it is down
        self.health: str | None = None
        self.main_pid = 0  # of the current incarnation, also after it is gone: what it left is found by it
        self.start_ticks = 0
        self.oom_before: int | None = None
        self.memory_peak = 0
        self.cards: collections.deque[dict[str, object]] = collections.deque(maxlen=5)

    @property
    def name(self) -> str:
        """``web`` or, where the process has several instances, ``web:0``."""
        name = self.process.spec.name
        return f"{name}:{self.slot}" if self.process.shown_with_slots else name

    @property
    def key(self) -> str:
        """What the instance is called in the journal and, with the incarnation, in its mark."""
        return f"{self.process.stack.mark}/{self.process.spec.name}/{self.slot}"

    @property
    def mark(self) -> str:
        """The value of OXHERD_MARK of the current incarnation."""
        return f"{self.key}/{self.machine.incarnation}"

    @property
    def down(self) -> bool:
        """Whether nothing of it runs and nothing of it is about to."""
        return self.machine.state in {State.STOPPED, State.CRASHED, State.EXITED}


class ProcessHandle:
    """One process of a stack: the accepted spec, its instances and its sinks."""

    __slots__ = (
        "generation",
        "instances",
        "last_run",
        "pre_start",
        "scale",
        "sink_settings",
        "sinks",
        "spec",
        "stack",
        "wanted",
    )

    def __init__(self, stack: StackHandle, spec: ProcessSpec) -> None:
        """Make a process without instances."""
        self.stack = stack
        self.spec = spec
        self.instances: dict[int, InstanceHandle] = {}
        self.generation = 0
        self.wanted = False
        self.scale: int | None = None  # what `oxherd scale` asked for, until the oxfile says something new
        self.sink_settings: LogSpec | None = None  # under which the sinks were opened
        self.sinks: dict[str, Sink] = {}  # by stream: output, or stdout and stderr
        self.pre_start = ""  # "", "running", "done" or "failed: ..." for the current generation
        self.last_run: float | None = None  # unix time of the last scheduled run

    @property
    def name(self) -> str:
        """The name in the oxfile."""
        return self.spec.name

    @property
    def wanted_instances(self) -> int:
        """How many instances there shall be."""
        return self.scale if self.scale is not None else self.spec.instances

    @property
    def shown_with_slots(self) -> bool:
        """Whether its instances are shown as ``web:0``."""
        return len(self.instances) > 1 or self.wanted_instances > 1

    @property
    def scheduled(self) -> bool:
        """Whether the clock starts it."""
        return self.spec.type is ProcessType.SCHEDULED


class StackHandle:
    """One stack: where it comes from, whose environment it runs in, its processes."""

    __slots__ = ("env", "identity", "mark", "name", "path", "processes", "profile")

    def __init__(self, *, path: str, name: str, identity: str, mark: str) -> None:
        """Make a stack without processes."""
        self.path = path
        self.name = name
        self.identity = identity
        self.mark = mark
        self.profile: str | None = None
        self.env: dict[str, str] = {}
        self.processes: dict[str, ProcessHandle] = {}

    def instances(self) -> Iterator[InstanceHandle]:
        """Every instance of every process."""
        for process in self.processes.values():
            yield from process.instances.values()

    @property
    def wanted(self) -> bool:
        """Whether any of its processes is wanted up."""
        return any(process.wanted for process in self.processes.values())
