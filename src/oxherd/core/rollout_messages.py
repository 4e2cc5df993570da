"""What can happen to a rolling replacement, and what it asks the supervisor to do.

Events go into `oxherd.core.rollout.step`, commands come out of it.
"""

from __future__ import annotations

from enum import Enum

from oxherd.core.phases import Phase, Stage, Timer, Which
from oxherd.records import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Accepting",
    "Announce",
    "Arm",
    "Begin",
    "Cancel",
    "CandidateFailed",
    "CandidateGone",
    "CandidateReady",
    "Command",
    "CommitGeneration",
    "Disarm",
    "DiscardCandidate",
    "DropGeneration",
    "Event",
    "EventKind",
    "Finish",
    "HandOver",
    "Ignored",
    "OldCrashed",
    "OldGone",
    "OldReady",
    "Prepare",
    "PrepareFailed",
    "Prepared",
    "Proceed",
    "Promote",
    "RetireOld",
    "Revert",
    "StartCandidate",
    "TimerFired",
    "kind_of",
]

# -- events ---------------------------------------------------------------------------------------------------------
# A candidate is known by its slot and its attempt number; news of one that was discarded is dropped.


@dataclass(frozen=True, slots=True)
class Begin:
    """Go."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Hooks are through and candidates can be started."""


@dataclass(frozen=True, slots=True)
class PrepareFailed:
    """They never can be: a hook failed, the app cannot be imported."""

    detail: str


@dataclass(frozen=True, slots=True)
class CandidateReady:
    """A candidate has started and passed its health check."""

    slot: int
    attempt: int


@dataclass(frozen=True, slots=True)
class CandidateFailed:
    """A candidate could not be started, died or was condemned, before or after it was promoted."""

    slot: int
    attempt: int
    detail: str


@dataclass(frozen=True, slots=True)
class CandidateGone:
    """Nothing runs any more of a candidate. After `DiscardCandidate`; before it, it says the same as a failure."""

    slot: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Accepting:
    """A promoted candidate accepts on its slot's listener (at once, for programs that are given none)."""

    slot: int
    attempt: int


@dataclass(frozen=True, slots=True)
class OldGone:
    """Nothing runs any more of an old worker after `RetireOld`, however it ended."""

    slot: int


@dataclass(frozen=True, slots=True)
class OldCrashed:
    """The old worker of a slot died before it was told to go; its lifecycle deals with it as always."""

    slot: int


@dataclass(frozen=True, slots=True)
class OldReady:
    """The old worker of a slot that had crashed, or was down from the start, is there and ready."""

    slot: int


@dataclass(frozen=True, slots=True)
class Proceed:
    """The transaction has come so far that this gated rollout may pass the gate it waits at."""


@dataclass(frozen=True, slots=True)
class Revert:
    """Another rollout of the transaction failed: undo everything."""

    detail: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """Everything is being stopped: leave all as it is, at once."""

    detail: str


@dataclass(frozen=True, slots=True)
class TimerFired:
    """A timer of the rollout ran out."""

    timer: Timer


Event = (
    Begin
    | Prepared
    | PrepareFailed
    | CandidateReady
    | CandidateFailed
    | CandidateGone
    | Accepting
    | OldGone
    | OldCrashed
    | OldReady
    | Proceed
    | Revert
    | Cancel
    | TimerFired
)


class EventKind(Enum):
    """The columns of the table: the events, timers each for itself."""

    BEGIN = "begin"
    PREPARED = "prepared"
    PREPARE_FAILED = "prepare failed"
    READY = "candidate ready"
    FAILED = "candidate failed"
    GONE = "candidate gone"
    ACCEPTING = "accepting"
    OLD_GONE = "old gone"
    OLD_CRASHED = "old crashed"
    OLD_READY = "old ready"
    PROCEED = "proceed"
    REVERT = "revert"
    CANCEL = "cancel"
    T_SETTLE = "timer: settle"
    T_READY = "timer: ready timeout"
    T_ACCEPT = "timer: accept timeout"


_KINDS: Mapping[type, EventKind] = {
    Begin: EventKind.BEGIN,
    Prepared: EventKind.PREPARED,
    PrepareFailed: EventKind.PREPARE_FAILED,
    CandidateReady: EventKind.READY,
    CandidateFailed: EventKind.FAILED,
    CandidateGone: EventKind.GONE,
    Accepting: EventKind.ACCEPTING,
    OldGone: EventKind.OLD_GONE,
    OldCrashed: EventKind.OLD_CRASHED,
    OldReady: EventKind.OLD_READY,
    Proceed: EventKind.PROCEED,
    Revert: EventKind.REVERT,
    Cancel: EventKind.CANCEL,
}
_TIMER_KINDS: Mapping[Timer, EventKind] = {
    Timer.SETTLE: EventKind.T_SETTLE,
    Timer.READY: EventKind.T_READY,
    Timer.ACCEPT: EventKind.T_ACCEPT,
}


def kind_of(event: Event) -> EventKind:
    """Return the column of the table an event belongs to."""
    return _TIMER_KINDS[event.timer] if isinstance(event, TimerFired) else _KINDS[type(event)]


# -- commands -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Prepare:
    """Run the hooks and make the zygote of the new generation; answer with `Prepared` or `PrepareFailed`."""


@dataclass(frozen=True, slots=True)
class StartCandidate:
    """Start a worker of a generation beside what the slot has; answer with `CandidateReady` or `CandidateFailed`.

    It serves its private listener only. It has one try: its lifecycle does not restart it while it is a candidate.
    """

    slot: int
    attempt: int
    which: Which


@dataclass(frozen=True, slots=True)
class Promote:
    """The candidate is the slot's worker from now on: give it the slot's listener; answer with `Accepting`."""

    slot: int
    attempt: int


@dataclass(frozen=True, slots=True)
class RetireOld:
    """Tell the old worker of a slot to go (lame duck); answer with `OldGone`, at once if there is none."""

    slot: int


@dataclass(frozen=True, slots=True)
class DiscardCandidate:
    """A candidate is not wanted any more; answer with `CandidateGone`, at once if it is dead already.

    ``serving`` says that it may have accepted connections: it leaves as a lame duck, otherwise it is just ended. What
    was the slot's worker before it was promoted, if it was not told to go, is the slot's worker again.
    """

    slot: int
    attempt: int
    serving: bool = False


@dataclass(frozen=True, slots=True)
class HandOver:
    """What the slot has is an instance like any other from now on: its lifecycle restarts it, and starts it if it is down.

    Of the generation the process has at this moment. That is how it goes on with a worker that dies when nothing can be
    undone for it any more, and with a slot in which no worker of the old generation would start while rolling back: a
    new one that still serves there goes on until it ends, and then the old generation follows.
    """

    slot: int
    detail: str


@dataclass(frozen=True, slots=True)
class CommitGeneration:
    """The new generation is the one of the process from now on: there is no way back."""


@dataclass(frozen=True, slots=True)
class DropGeneration:
    """A generation is not needed any more: its zygote goes when its last worker has, its settings are forgotten."""

    which: Which


@dataclass(frozen=True, slots=True)
class Arm:
    """Start (or start anew) a timer."""

    timer: Timer
    seconds: float


@dataclass(frozen=True, slots=True)
class Disarm:
    """Stop a timer."""

    timer: Timer


@dataclass(frozen=True, slots=True)
class Announce:
    """Record and tell what happens: a phase that begins, or what became of a slot."""

    what: Phase | Stage
    slot: int | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Finish:
    """It is over; the last command of all. ``result`` is one of the phases that are over."""

    result: Phase
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Ignored:
    """An event that cannot happen in this phase happened; it changed nothing."""

    detail: str


Command = (
    Prepare
    | StartCandidate
    | Promote
    | RetireOld
    | DiscardCandidate
    | HandOver
    | CommitGeneration
    | DropGeneration
    | Arm
    | Disarm
    | Announce
    | Finish
    | Ignored
)
