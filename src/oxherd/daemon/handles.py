"""The supervisor's view of what it runs: stacks, their processes, their instances.

Mutable holders around the pure `Instance`; nothing here decides anything.
"""

from __future__ import annotations

import collections

from oxherd.config.model import ProcessSpec, ProcessType
from oxherd.core.instance import Instance, LifePolicy, State
from oxherd.records import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from oxherd.config.model import LogSpec
    from oxherd.core.instance import Timer
    from oxherd.daemon.children import Child
    from oxherd.system import loop
    from oxherd.system.cgroups import CgroupHandle
    from oxherd.system.passed_handle import PassedHandle
    from oxherd.system.ports import Pipe, Sink
    from oxherd.system.spawn import Launch
    from oxherd.system.worker_handle import WorkerHandle

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
        settle=None if oneshot or spec.health is not None or spec.hosted or spec.passed else SETTLE,
        ready_timeout=_boot_timeout(spec),
        oneshot=oneshot,
        run_timeout=run_timeout,
    )


def _boot_timeout(spec: ProcessSpec) -> float | None:
    if spec.ready_timeout is not None or spec.host is None or not spec.hosted:
        return spec.ready_timeout
    return spec.host.boot_timeout


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """Settings, generation and caller's environment that are not (or not any more) those of the process."""

    spec: ProcessSpec
    generation: int
    env: Mapping[str, str]

    @classmethod
    def of(cls, process: ProcessHandle) -> Pin:
        """Return what a process runs under now."""
        return cls(spec=process.spec, generation=process.generation, env=process.stack.env)


class InstanceHandle:
    """One slot: the pure machine and everything of the operating system that belongs to its incarnation."""

    __slots__ = (
        "_cards",
        "adopted",
        "cgroup",
        "child",
        "env",
        "failure",
        "health",
        "last_failure",
        "launch",
        "leftovers_told",
        "machine",
        "main_pid",
        "memory_peak",
        "oom_before",
        "passed",
        "pinned",
        "pipes",
        "process",
        "retired",
        "serial",
        "slot",
        "spec",
        "start_ticks",
        "sweep_gentle",
        "timers",
        "unready",
        "worker",
    )

    def __init__(self, process: ProcessHandle, slot: int) -> None:
        """Make a stopped instance."""
        self.process = process
        self.slot = slot
        self.serial = process.next_serial(slot)
        self.spec = process.spec
        self.env: Mapping[str, str] = process.stack.env
        self.machine = Instance(policy=life_policy(process.spec), generation=process.generation)
        self.launch: Launch | None = None
        self.child: Child | None = None
        self.pipes: list[Pipe] = []
        self.timers: dict[Timer, loop.Timer] = {}
        self.cgroup: CgroupHandle | None = None
        self.adopted = False  # its incarnation was started by an earlier supervisor, to which its orphans would fall
        self.sweep_gentle = False
        self.leftovers_told = False
        self.retired = False  # leaves its process as soon as it is down
        self.health: str | None = None
        self.main_pid = 0  # of the current incarnation, also after it is gone: what it left is found by it
        self.start_ticks = 0
        self.oom_before: int | None = None
        self.memory_peak = 0
        self.pinned: Pin | None = None  # what it runs under while a reload is not over
        self.worker: WorkerHandle | None = None  # of a hosted process, while there is one
        self.passed: PassedHandle | None = None  # of a program that was passed its listeners, while there is one
        self.failure: dict[str, object] | None = None  # what the app's interpreter said about a failed start
        self.last_failure = ""  # what the last health check that failed said
        self.unready = ""  # why it takes no traffic although it is healthy, by its readiness check
        self._cards: collections.deque[dict[str, object]] | None = None

    @property
    def cards(self) -> collections.deque[dict[str, object]]:
        """The last crash cards, as far as they have been read; most instances never have one, and an empty deque has 700 bytes."""
        if self._cards is None:
            self._cards = collections.deque(maxlen=5)
        return self._cards

    @property
    def name(self) -> str:
        """``web`` or, where the process has several instances, ``web:0``."""
        name = self.process.spec.name
        return f"{name}:{self.slot}" if self.process.shown_with_slots else name

    @property
    def key(self) -> str:
        """What the instance is called in the journal and, with the incarnation, in its mark."""
        # A reload has two instances in one slot for a while: what is second has a number of its own.
        beside = f"~{self.serial}" if self.serial else ""
        return f"{self.process.stack.mark}/{self.process.spec.name}/{self.slot}{beside}"

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
        "latest_generation",
        "others",
        "pre_start",
        "reloading",
        "scale",
        "serials",
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
        self.others: list[InstanceHandle] = []  # beside them: what a reload brings in, and what is on its way out
        self.serials: dict[int, int] = {}
        self.reloading = False
        self.generation = 0
        self.latest_generation = 0
        self.wanted = False
        self.scale: int | None = None  # what `oxherd scale` asked for, until the oxfile says something new
        self.sink_settings: LogSpec | None = None  # under which the sinks were opened
        self.sinks: dict[str, Sink] = {}  # by stream: output, or stdout and stderr
        self.pre_start = ""  # "", "running", "done" or "failed: ..." for the current generation
        self.last_run: float | None = None  # unix time of the last scheduled run

    def everyone(self) -> Iterator[InstanceHandle]:
        """Every instance: the current ones, and those a reload has beside them."""
        yield from self.instances.values()
        yield from self.others

    def new_generation(self) -> int:
        """Return the number of a generation to come. None is used twice, whatever becomes of it."""
        self.latest_generation = max(self.generation, self.latest_generation) + 1
        return self.latest_generation

    def next_serial(self, slot: int) -> int:
        """Return a number that tells the instances of a slot apart: 0 for the first one that is there."""
        if slot not in self.instances and all(handle.slot != slot for handle in self.others):
            self.serials.pop(slot, None)
            return 0
        self.serials[slot] = self.serials.get(slot, 0) + 1
        return self.serials[slot]

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
            yield from tuple(process.everyone())

    @property
    def wanted(self) -> bool:
        """Whether any of its processes is wanted up."""
        return any(process.wanted for process in self.processes.values())
