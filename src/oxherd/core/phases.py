"""A rolling replacement as a value: its plan, how far it is, and how far each of its slots.

Values only; what changes them is `oxherd.core.rollout`.
"""

from __future__ import annotations

from enum import Enum

from oxherd.records import dataclass

__all__ = ["Kind", "Old", "Phase", "Plan", "Rollout", "Seat", "Stage", "Timer", "Which"]


class Kind(Enum):
    """Why workers are replaced."""

    RELOAD = "reload"  # a new generation: prepared, proved by a canary, committed or rolled back
    REPLACE = "replace"  # the same generation: a worker was due, or unwell


class Which(Enum):
    """The two generations of a rollout. In a replacement both are the same one."""

    OLD = "old"
    NEW = "new"


class Phase(Enum):
    """How far a rollout is."""

    PLANNED = "planned"  # not begun
    PREPARING = "preparing"  # pre_reload, the zygote of the new generation
    CANARY = "canary"  # the first new worker starts, seen by nobody but its health check
    SETTLING = "settling"  # it is ready, and has to stay so for a while
    SETTLED = "settled"  # waits until the others of its transaction have come as far
    ROLLING = "rolling"  # slot by slot
    MOVED = "moved"  # waits until the others of its transaction have come as far
    DRAINING = "draining"  # committed; the old workers finish what they have
    ROLLING_BACK = "rolling back"  # the slots that were moved get workers of the old generation again
    DONE = "done"
    ABORTED = "aborted"  # nothing was moved
    ROLLED_BACK = "rolled back"
    CANCELLED = "cancelled"  # everything is being stopped

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it."""
        return self in _OVER


_OVER = frozenset({Phase.DONE, Phase.ABORTED, Phase.ROLLED_BACK, Phase.CANCELLED})


class Stage(Enum):
    """How far one slot is."""

    OLD = "old"  # nothing has been done to it, or it was undone
    EMPTYING = "emptying"  # without overlap: the old worker was told to go, the new one is started after it
    STARTING = "starting"  # the candidate starts
    READY = "ready"  # the candidate is ready and waits to be settled
    PROMOTED = "promoted"  # the candidate was given the slot's listener and is about to accept
    ACCEPTING = "accepting"  # it accepts, and the old worker was not told to go, for it is not settled yet
    MOVED = "moved"  # the new worker has the slot, the old one was told to go
    CLEARING = "clearing"  # without overlap, rolling back: what runs in it was told to go
    RETURNING = "returning"  # rolling back: a worker of the old generation starts
    REGIVEN = "regiven"  # rolling back: it was given the slot's listener and is about to accept
    RETURNED = "returned"  # a new worker of the old generation has the slot
    LEFT = "left"  # it could not be brought back here: the lifecycle goes on trying


class Old(Enum):
    """What is known of the old worker of a slot."""

    UP = "up"
    DOWN = "down"  # it died by itself; the lifecycle starts it again
    LEAVING = "leaving"  # it was told to go
    GONE = "gone"


class Timer(Enum):
    """The timers of a rollout. One candidate at a time is started, so one of each is enough."""

    SETTLE = "settle"
    READY = "ready"
    ACCEPT = "accept"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be done. Times in seconds.

    Attributes:
        order: The slots to move, first to last. The canary is the first one's.
        kind: A reload, or a replacement.
        down: Slots among them that have no running old worker when it begins.
        overlap: Whether old and new may run side by side. Without it each slot's old worker goes first: there is no
            canary, and the first new worker has to settle before the second slot is touched.
        gated: Part of a transaction: waits for `Proceed` when settled, and again when all slots are moved.
        settle: Time the first new worker has to stay ready before anything old goes.
        ready_timeout: Time a candidate has to become ready; None where its own lifecycle sees to that.
        accept_timeout: Time from the promotion of a candidate until it accepts.

    Raises:
        ValueError: A replacement without overlap (that is a restart), or a slot twice.
    """

    order: tuple[int, ...]
    kind: Kind = Kind.RELOAD
    down: frozenset[int] = frozenset()
    overlap: bool = True
    gated: bool = False
    settle: float = 1.0
    ready_timeout: float | None = None
    accept_timeout: float = 10.0

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        if self.kind is Kind.REPLACE and not self.overlap:
            raise ValueError("a replacement needs overlap; without it, restart the instance")
        if len(set(self.order)) != len(self.order):
            raise ValueError(f"a slot twice in {self.order}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """One slot of a rollout.

    Attributes:
        slot: Its number.
        stage: How far it is.
        old: What is known of its old worker.
        candidate: Attempt number of its new worker while there is one.
        back: While rolling back: attempt number of the new worker of the old generation, while there is one.
        tries: Starts of such workers so far.
        detail: Why the last one failed.
    """

    slot: int
    stage: Stage = Stage.OLD
    old: Old = Old.UP
    candidate: int | None = None
    back: int | None = None
    tries: int = 0
    detail: str = ""

    @property
    def touched(self) -> bool:
        """Whether its old worker was told to go: it can only be undone with another one."""
        return self.old in {Old.LEAVING, Old.GONE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """A rolling replacement of slots of one process.

    Attributes:
        plan: What is to be done.
        phase: How far it is.
        seats: Its slots, in the order of the plan.
        attempts: Candidates started so far; the last one's attempt number.
        timers: The armed timers.
        cause: What went wrong first, or "".
        since: Monotonic time of the last change of phase.
        spent: The phases it has left and the seconds it was in them, in order.
    """

    plan: Plan
    phase: Phase = Phase.PLANNED
    seats: tuple[Seat, ...] = ()
    attempts: int = 0
    timers: frozenset[Timer] = frozenset()
    cause: str = ""
    since: float = 0.0
    spent: tuple[tuple[Phase, float], ...] = ()

    @classmethod
    def of(cls, plan: Plan) -> Rollout:
        """Return the rollout of a plan, not begun."""
        seats = (Seat(slot=slot, old=Old.DOWN if slot in plan.down else Old.UP) for slot in plan.order)
        return cls(plan=plan, seats=tuple(seats))

    def seat(self, slot: int) -> Seat | None:
        """Return a slot of it, or None for one that is none of its."""
        return next((seat for seat in self.seats if seat.slot == slot), None)

    @property
    def moved(self) -> int:
        """The number of slots that the new generation has."""
        return sum(seat.stage is Stage.MOVED for seat in self.seats)

    @property
    def committed(self) -> bool:
        """Whether the new generation is the one of the process, whatever happens now."""
        return self.phase in {Phase.DRAINING, Phase.DONE}
