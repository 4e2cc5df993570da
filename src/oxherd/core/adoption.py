"""How an instance goes on when its supervisor has died and another one takes over.

Pure. What the dead supervisor had written down of an instance is a `Remembered`; whether its program still runs is seen from
outside. From the two follows the state the instance goes on in, and what is to be done at once. A program that ended while
nobody watched is given the state it was in: its end is then fed like any other, with an exit status that says that it is
unknown, and the lifecycle decides what follows.
"""

from __future__ import annotations

from oxherd.core.commands import Arm, Command, KillTree, Permit, Probe, Signal, Sweep
from oxherd.core.instance import Desired, Instance, LifePolicy, Reason, State, Timer
from oxherd.core.restart import STABLE_AFTER, backoff_delay
from oxherd.records import dataclass, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from oxherd.core.exits import ExitStatus

__all__ = ["LIVE", "Claim", "Remembered", "generation_to_keep", "holders", "revive"]

# The states in which a program may be running, or something that it left behind.
LIVE = frozenset({State.STARTING, State.RUNNING, State.STOPPING, State.SWEEPING})

# A stop that was under way gets at least this long, in seconds: the new supervisor has taken some of its time.
_LEAST_STOP = 1.0

# As long a program that was starting has at least to become ready: it may have been so while nobody asked it.
_LEAST_READY = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What was written down of an instance. Times are monotonic seconds of this boot.

    Attributes:
        state, desired, reason, incarnation, generation, pid, failures, restarts, restart_pending, killed, unhealthy,
        completed, since, started_at, exit, detail: Those of `oxherd.core.instance.Instance`.
    """

    state: State = State.STOPPED
    desired: Desired = Desired.DOWN
    reason: Reason = Reason.NONE
    incarnation: int = 0
    generation: int = 1
    pid: int | None = None
    failures: int = 0
    restarts: int = 0
    restart_pending: bool = False
    killed: bool = False
    unhealthy: bool = False
    completed: bool = False
    since: float = 0.0
    started_at: float | None = None
    exit: ExitStatus | None = None
    detail: str = ""

    @classmethod
    def of(cls, instance: Instance) -> Remembered:
        """Return what has to be written down of an instance."""
        return cls(**{name: getattr(instance, name) for name in cls.__slots__})


def revive(
    remembered: Remembered, policy: LifePolicy, now: float, chance: float, *, told: bool = True
) -> tuple[Instance, tuple[Command, ...]]:
    """Return the instance as it goes on, and what is to be done at once.

    Args:
        remembered: What was written down.
        policy: What the oxfile says of its life.
        now: Monotonic seconds.
        chance: A random number in [0, 1), for the jitter of the back-off.
        told: Of one that was being stopped: whether its stop signal has certainly been sent.
    """
    fields = {name: getattr(remembered, name) for name in Remembered.__slots__}
    instance = Instance(policy=policy, **fields)
    match remembered.state:
        case State.STOPPED | State.CRASHED | State.EXITED:
            return replace(instance, pid=None, started_at=None), ()
        case State.WAITING | State.SPAWNING:
            # Whatever it waited for is asked for again; a program that nobody has written down is ended as a stray.
            if remembered.desired is Desired.DOWN:
                return replace(instance, state=State.STOPPED, pid=None, since=now), ()
            return replace(instance, state=State.WAITING, pid=None, since=now), (Permit(),)
        case State.BACKOFF:
            delay = backoff_delay(policy.restart, max(1, remembered.failures), chance)
            left = max(0.0, delay - (now - remembered.since))
            return replace(instance, pid=None, timers=frozenset({Timer.BACKOFF})), (Arm(Timer.BACKOFF, left),)
        case State.STARTING:
            return _with_timers(instance, _of_starting(instance, now), (Probe(on=True),))
        case State.RUNNING:
            return _with_timers(instance, _of_running(instance, now), (Probe(on=True),))
        case State.STOPPING:
            left = max(_LEAST_STOP, policy.stop_timeout - (now - remembered.since))
            first: tuple[Command, ...] = (KillTree(),) if remembered.killed else ()
            if not told and not remembered.killed:
                # Its signal was kept back, or may never have been sent; then it has all of its time before it.
                first, left = (Signal(policy.stop_signal),), policy.stop_timeout
            return _with_timers(instance, {Timer.STOP: left}, first)
        case State.SWEEPING:
            left = max(_LEAST_STOP, policy.stop_timeout - (now - remembered.since))
            timers = {Timer.STOP: left}
            return _with_timers(replace(instance, pid=None), timers, (Sweep(gentle=_gently(instance)),))


def _gently(instance: Instance) -> bool:
    """Whether what a dead main process left is asked to go first, as the lifecycle decided when that ended."""
    if instance.reason is not Reason.EXITED or instance.restart_pending:
        return not instance.killed
    return not instance.killed and instance.policy.oneshot and instance.exit is not None and instance.exit.success


def _of_starting(instance: Instance, now: float) -> dict[Timer, float]:
    policy, begun = instance.policy, instance.started_at if instance.started_at is not None else instance.since
    limits = {Timer.RUN: policy.run_timeout, Timer.READY: policy.ready_timeout}
    if not policy.oneshot:
        limits[Timer.SETTLE] = policy.settle
    timers = {timer: max(0.0, limit - (now - begun)) for timer, limit in limits.items() if limit is not None}
    if policy.ready_timeout is not None:
        timers[Timer.READY] = max(timers[Timer.READY], min(_LEAST_READY, policy.ready_timeout))
    return timers


def _of_running(instance: Instance, now: float) -> dict[Timer, float]:
    timers = {Timer.STABLE: max(0.0, STABLE_AFTER - (now - instance.since))}
    limit, begun = instance.policy.run_timeout, instance.started_at
    if limit is not None and begun is not None:
        timers[Timer.RUN] = max(0.0, limit - (now - begun))
    return timers


def _with_timers(
    instance: Instance, timers: dict[Timer, float], first: tuple[Command, ...]
) -> tuple[Instance, tuple[Command, ...]]:
    armed = tuple(Arm(timer, seconds) for timer, seconds in timers.items())
    return replace(instance, timers=frozenset(timers)), (*first, *armed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One instance of a slot that lives, as far as the generations of its process go.

    Attributes:
        slot: Its slot.
        generation: Its generation.
        current: Whether it had the place of its slot.
        running: Whether it was up, and not on its way up or down.
        candidate: Whether a reload that was not over, or a replacement, had brought it.
        serial: Tells the instances of a slot apart.
    """

    slot: int
    generation: int
    current: bool
    running: bool
    candidate: bool = False
    serial: int = 0


def generation_to_keep(accepted: int, claims: Iterable[Claim]) -> int:
    """Return the generation in which a process goes on whose reload was cut off by the death of its supervisor.

    A newer generation that has taken the place of a slot has been proven by its canary: the reload is finished. One that has
    not is taken back, and the accepted one goes on. So it does where a reload brought instances of it: then it was failing, and
    was being taken back already.

    Args:
        accepted: The generation that was accepted last.
        claims: The instances that live.
    """
    known = tuple(claims)
    if any(claim.candidate and claim.generation == accepted for claim in known):
        return accepted
    proven = (claim.generation for claim in known if claim.current and claim.running)
    return max((generation for generation in proven if generation > accepted), default=accepted)


def holders(generation: int, claims: Iterable[Claim]) -> dict[int, Claim]:
    """Return which instance has the place of each slot: one of the generation that is kept before any other.

    Those that were beside the current one, and are not of that generation, were on their way out.
    """
    chosen: dict[int, Claim] = {}
    for claim in claims:
        wanted = claim.generation == generation
        if not claim.current and not (wanted and claim.running):
            continue
        other = chosen.get(claim.slot)
        if other is None or _rank(claim, generation) > _rank(other, generation):
            chosen[claim.slot] = claim
    return chosen


def _rank(claim: Claim, generation: int) -> tuple[bool, bool, bool]:
    return claim.generation == generation, claim.running, claim.current
