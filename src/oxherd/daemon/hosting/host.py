"""One hosted process: the listeners it keeps for life, and the releases of its app that are in memory."""

from __future__ import annotations

import collections

from oxherd.daemon.hosting.figures import Figures, figures_of
from oxherd.system.zygote_handle import ZygoteState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from oxherd.config.model import HostSpec, ProcessSpec
    from oxherd.daemon.handles import InstanceHandle, ProcessHandle
    from oxherd.system.listener_set import ListenerSet
    from oxherd.system.loop import Timer
    from oxherd.system.worker_handle import WorkerHandle
    from oxherd.system.zygote_handle import ZygoteHandle

__all__ = ["Host", "Release"]

# Workers whose stalls are remembered, and the seconds before their end that count.
_STALLS = 64
_WINDOW = 30.0


class Release:
    """One generation of the app.

    Attributes:
        generation: Its number.
        spec: The settings it runs under.
        env: The caller's environment below them.
        zygote: The process that has imported it, or None.
        awaiting: Forks that were asked for, by token; each is called with the zygote's answer.
        queue: What waits until the zygote is ready, or is known not to be forkable.
        exec_only: Whether workers are exec'd: the oxfile says so, or the audit found a hazard.
        proven: Whether a worker of it has been ready: the code works.
        kept: Whether a reload may still need it.
        deaths: Zygotes that died in a row without having forked.
        facts: What its zygote said when it had imported the app: interface, engine, hazards, seconds; empty before.
        timer: The boot deadline, or the wait before a dead zygote is replaced.
    """

    __slots__ = (
        "awaiting",
        "deaths",
        "env",
        "exec_only",
        "facts",
        "generation",
        "kept",
        "proven",
        "queue",
        "spec",
        "timer",
        "zygote",
    )

    def __init__(self, generation: int, spec: ProcessSpec, env: Mapping[str, str]) -> None:
        """Nothing of it is in memory yet."""
        assert spec.host is not None
        self.env = env
        self.generation = generation
        self.spec = spec
        self.zygote: ZygoteHandle | None = None
        self.awaiting: dict[int, Callable[[dict[str, object], list[int]], None]] = {}
        self.queue: list[Callable[[ZygoteHandle | None], None]] = []
        self.exec_only = spec.host.preload == "false"
        self.proven = False
        self.kept = False
        self.deaths = 0
        self.facts: dict[str, object] = {}
        self.timer: Timer | None = None

    @property
    def host(self) -> HostSpec:
        """How it is served."""
        assert self.spec.host is not None
        return self.spec.host

    @property
    def forks(self) -> bool:
        """Whether a zygote that forks is there right now."""
        return self.zygote is not None and self.zygote.state is ZygoteState.READY

    def cancel_timer(self) -> None:
        """Stop the timer, if one runs."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Host:
    """What a hosted process has beside its instances.

    Attributes:
        process: The process.
        listeners: Its listeners, or None while none are open.
        releases: By generation.
        past: What workers that are gone have served.
        stalls: Of those, when each ended (monotonic) and the longest stall of its last seconds.
    """

    __slots__ = ("listeners", "past", "process", "releases", "stalls")

    def __init__(self, process: ProcessHandle) -> None:
        """Hold nothing yet."""
        self.process = process
        self.listeners: ListenerSet | None = None
        self.releases: dict[int, Release] = {}
        self.past = Figures()
        self.stalls: collections.deque[tuple[float, float]] = collections.deque(maxlen=_STALLS)

    @property
    def figures(self) -> Figures:
        """What all its workers have served."""
        return sum((figures_of(handle.worker) for handle in self.workers() if handle.worker is not None), self.past)

    def bury(self, worker: WorkerHandle, now: float) -> None:
        """A worker is gone: keep what it has counted."""
        self.past += figures_of(worker)
        if worker.meters is not None:
            self.stalls.append((now, worker.meters.peak(now - _WINDOW, now).lag))

    def longest_stall(self, since: float, now: float) -> float:
        """Return the longest time in seconds that an event loop stood still since then, as far as the meters go back."""
        living = (
            handle.worker.meters.peak(since, now).lag
            for handle in self.workers()
            if handle.worker is not None and handle.worker.meters is not None
        )
        gone = (stall for at, stall in self.stalls if at >= since)
        return max((*living, *gone), default=0.0)

    def release(self, generation: int, spec: ProcessSpec, env: Mapping[str, str]) -> Release:
        """Return a generation, made here if it is new."""
        release = self.releases.get(generation)
        if release is None:
            release = self.releases[generation] = Release(generation, spec, env)
        return release

    def workers(self) -> Iterator[InstanceHandle]:
        """Every instance that has a worker: current ones, candidates, leaving ones."""
        return (handle for handle in self.process.everyone() if handle.worker is not None)

    def unused(self) -> list[Release]:
        """The releases nobody needs any more."""
        used = {handle.machine.generation for handle in self.process.everyone() if not handle.down}
        return [
            release
            for number, release in self.releases.items()
            if number not in used and number != self.process.generation and not release.kept
        ]
