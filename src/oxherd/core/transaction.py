"""Several processes reloaded as one: all of them or none.

Each process has a gated `oxherd.core.phases.Rollout` of its own; this decides when they pass their gates. The processes
come in levels, what is needed before what needs it (`oxherd.core.fleet.order`):

1. *Proving*: level by level the rollouts begin. The next level begins when every canary of the one before is settled.
2. *Rolling*: when all are settled, level by level the slots are moved.
3. *Committing*: when all slots of all processes are moved, all are told to commit. Until then the old generation of each
   can be brought back.
4. *Reverting*: as soon as one fails, all others are told to undo what they have done. That one does so by itself.

Pure. The caller reports every change of phase of a rollout, and carries out what comes back in order; a report that
such a command leads to is made after it, not within it.
"""

from __future__ import annotations

from enum import Enum

from oxherd.core.phases import Phase
from oxherd.core.rollout_messages import Begin, Cancel, Proceed, Revert
from oxherd.records import dataclass, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Conclude", "Progress", "Result", "Tell", "Transaction", "begin", "cancel", "report"]


class Progress(Enum):
    """How far a transaction is."""

    PROVING = "proving"
    ROLLING = "rolling"
    COMMITTING = "committing"
    REVERTING = "reverting"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Member:
    """One process of a transaction: its name, its level from 0, and the phase of its rollout."""

    name: str
    level: int
    phase: Phase = Phase.PLANNED


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """A reload of several processes.

    Attributes:
        members: The processes, by level.
        progress: How far it is.
        level: While proving and rolling: the level that is at work.
        cause: What went wrong first ("web: exited with status 3"), or "".
    """

    members: tuple[Member, ...]
    progress: Progress = Progress.PROVING
    level: int = 0
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Tell:
    """Feed an event to the rollout of a process."""

    name: str
    event: Begin | Proceed | Revert | Cancel


@dataclass(frozen=True, slots=True)
class Conclude:
    """It is over. ``result`` is DONE, ABORTED (nothing was moved anywhere), ROLLED_BACK or CANCELLED."""

    result: Phase
    detail: str = ""


Result = tuple[Transaction, tuple[Tell | Conclude, ...]]

_FAILED = frozenset({Phase.ROLLING_BACK, Phase.ABORTED, Phase.ROLLED_BACK, Phase.CANCELLED})


def begin(levels: Sequence[Iterable[str]]) -> Result:
    """Return a transaction and what begins it.

    Args:
        levels: The processes, what is needed before what needs it.
    """
    filled = [names for names in map(tuple, levels) if names]
    members = tuple(Member(name, level) for level, names in enumerate(filled) for name in names)
    transaction = Transaction(members=members)
    if not members:
        return replace(transaction, progress=Progress.OVER), (Conclude(Phase.DONE),)
    return transaction, _tell(transaction, Begin(), level=0)


def report(transaction: Transaction, name: str, phase: Phase, detail: str = "") -> Result:
    """Return the transaction after the rollout of a process has come to a phase.

    Args:
        transaction: As it is.
        name: The process.
        phase: The phase its rollout is in now.
        detail: What went wrong, for the phases that say so.
    """
    if transaction.progress is Progress.OVER:
        return transaction, ()
    members = tuple(replace(one, phase=phase) if one.name == name else one for one in transaction.members)
    after = replace(transaction, members=members)
    if after.progress in {Progress.PROVING, Progress.ROLLING} and phase in _FAILED:
        return _revert(after, name, detail or phase.value)
    if after.progress is Progress.PROVING:
        return _proving(after)
    return _rolling(after) if after.progress is Progress.ROLLING else _ending(after)


def cancel(transaction: Transaction, detail: str) -> Result:
    """Everything is being stopped: leave all as it is, at once."""
    if transaction.progress is Progress.OVER:
        return transaction, ()
    tells = tuple(Tell(one.name, Cancel(detail)) for one in transaction.members if not one.phase.over)
    over = replace(transaction, progress=Progress.OVER, cause=transaction.cause or detail)
    return over, (*tells, Conclude(Phase.CANCELLED, detail))


def _tell(transaction: Transaction, event: Begin | Proceed, level: int | None = None) -> tuple[Tell, ...]:
    return tuple(Tell(one.name, event) for one in transaction.members if level is None or one.level == level)


def _level_is(transaction: Transaction, phase: Phase) -> bool:
    return all(one.phase is phase for one in transaction.members if one.level == transaction.level)


def _last(transaction: Transaction) -> bool:
    return transaction.level == max(one.level for one in transaction.members)


def _proving(transaction: Transaction) -> Result:
    if not _level_is(transaction, Phase.SETTLED):
        return transaction, ()
    if _last(transaction):
        rolling = replace(transaction, progress=Progress.ROLLING, level=0)
        return rolling, _tell(rolling, Proceed(), level=0)
    deeper = replace(transaction, level=transaction.level + 1)
    return deeper, _tell(deeper, Begin(), level=deeper.level)


def _rolling(transaction: Transaction) -> Result:
    if not _level_is(transaction, Phase.MOVED):
        return transaction, ()
    if _last(transaction):
        committing = replace(transaction, progress=Progress.COMMITTING)
        return committing, _tell(committing, Proceed())
    deeper = replace(transaction, level=transaction.level + 1)
    return deeper, _tell(deeper, Proceed(), level=deeper.level)


def _revert(transaction: Transaction, name: str, detail: str) -> Result:
    cause = f"{name}: {detail}"
    reverting = replace(transaction, progress=Progress.REVERTING, cause=cause)
    tells = tuple(
        Tell(one.name, Revert(cause)) for one in reversed(reverting.members) if one.name != name and not one.phase.over
    )
    after, commands = _ending(reverting)
    return after, (*tells, *commands)


def _ending(transaction: Transaction) -> Result:
    phases = {one.phase for one in transaction.members}
    if not all(phase.over for phase in phases):
        return transaction, ()
    over = replace(transaction, progress=Progress.OVER)
    if transaction.progress is Progress.COMMITTING:
        # One that was stopped while its old workers drained had been committed like the others.
        return over, (Conclude(Phase.DONE),)
    result = Phase.ROLLED_BACK if Phase.ROLLED_BACK in phases else Phase.ABORTED
    return over, (Conclude(result, transaction.cause),)
