"""A rolling replacement of the slots of one process, as one total table.

Rules of this file
------------------
The same as those of `oxherd.core.lifecycle`: what changes a rollout is here and nowhere else, `step` is pure, the table
is total, and the diagram in ``docs/concepts/reloading.md`` is generated from it.

The story
---------
*Reload*: prepare the new generation; start one new worker, the canary, that nobody but its health check can see; let it
settle; then slot by slot start the new worker, give it the slot's listener, and when it accepts tell the old one to go.
The next slot begins at once. When all slots are moved the new generation is committed and the old workers drain.
*Replacement*: the same without preparation, canary and generations, for slots whose worker is due.
*Without overlap* (a program that binds its own port, a singleton) each slot's old worker goes first. There is no canary;
the first new worker has to settle before the second slot is touched.

What holds at every moment (``tests/model/test_rollout_machine.py``):

1. A slot whose worker nobody lost has one that accepts, unless there is no overlap.
2. One candidate at a time is being started.
3. Nothing old is told to go before the canary is settled. What is not told to go need not be brought back: until then
   a failure *aborts*, and nothing has changed.
4. After that a failure *rolls back*: slots whose old worker was told to go get another of the old generation, the ones
   that have no worker first; when it accepts, the new one goes. Slots that were not touched stay as they are.
5. It ends on one generation: the new one when DONE, the old one when ABORTED or ROLLED_BACK, but for slots that were
   handed over because no worker of the old generation would start there either. CANCELLED may leave both: everything
   is being stopped.
6. It ends: every candidate becomes ready or fails, and a promoted one accepts or has its deadline.

An old worker that dies meanwhile is started again by its lifecycle, as always. Only if the canary of its slot is ready
already is that one promoted at once, unsettled: it is better than nobody, and the old one is not told to go for it.
"""

from __future__ import annotations

from oxherd.core import rollout_moves as moves
from oxherd.core.phases import Kind, Old, Phase, Rollout, Seat, Stage, Timer, Which
from oxherd.core.rollout_messages import (
    Accepting,
    Announce,
    Cancel,
    CandidateFailed,
    CandidateGone,
    CandidateReady,
    Command,
    DiscardCandidate,
    Event,
    EventKind,
    Ignored,
    Prepare,
    PrepareFailed,
    Revert,
    TimerFired,
    kind_of,
)
from oxherd.records import dataclass, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from oxherd.core.rollout_moves import Result

__all__ = ["TABLE", "Rule", "step"]

if TYPE_CHECKING:
    Action = Callable[[Rollout, Event, float], Result]


@dataclass(frozen=True, slots=True)
class Rule:
    """One cell of the table: the phases it may lead to, and the function that decides between them."""

    targets: frozenset[Phase]
    action: Action
    note: str = ""


# -- actions --------------------------------------------------------------------------------------------------------


def _ignore(rollout: Rollout, _event: Event, _now: float) -> Result:
    return rollout, ()


def _impossible(rollout: Rollout, event: Event, _now: float) -> Result:
    return rollout, (Ignored(f"can't happen: {type(event).__name__} while {rollout.phase.value}"),)


def _seat(rollout: Rollout, event: Event) -> Seat:
    """Return the slot an event speaks of; `step` has seen to it that it is one of the rollout's."""
    seat = rollout.seat(event.slot)  # type: ignore[union-attr]
    assert seat is not None
    return seat


def _begin(rollout: Rollout, _event: Event, now: float) -> Result:
    if rollout.plan.kind is Kind.REPLACE:
        return moves.roll(rollout, now)
    return moves.go(rollout, Phase.PREPARING, now), (Announce(Phase.PREPARING), Prepare())


def _prepared(rollout: Rollout, _event: Event, now: float) -> Result:
    if not rollout.plan.overlap or not rollout.seats:
        return _settled(rollout, now)
    first = rollout.seats[0]
    canary, commands = moves.start(moves.go(rollout, Phase.CANARY, now), first, Which.NEW)
    return canary, (Announce(Phase.CANARY, first.slot), *commands)


def _settled(rollout: Rollout, now: float) -> Result:
    if rollout.plan.gated:
        return moves.go(rollout, Phase.SETTLED, now), (Announce(Phase.SETTLED),)
    return moves.roll(rollout, now)


def _prepare_failed(rollout: Rollout, event: Event, now: float) -> Result:
    assert isinstance(event, PrepareFailed)
    return moves.finish(rollout, Phase.ABORTED, now, event.detail, Which.NEW)


def _canary_ready(rollout: Rollout, event: Event, now: float) -> Result:
    seat = _seat(rollout, event)
    ready, disarms = moves.disarmed(moves.put(rollout, seat, stage=Stage.READY), Timer.READY)
    given: tuple[Command, ...] = ()
    if seat.old is Old.DOWN:
        ready, given = moves.promote(ready, replace(seat, stage=Stage.READY))
    if rollout.plan.settle > 0:
        settling, arms = moves.armed(moves.go(ready, Phase.SETTLING, now), Timer.SETTLE, rollout.plan.settle)
        return settling, (*disarms, Announce(Phase.SETTLING, seat.slot), *given, *arms)
    after, commands = _settled(ready, now)
    return after, (*disarms, *given, *commands)


def _settle_over(rollout: Rollout, _event: Event, now: float) -> Result:
    return _settled(rollout, now)


def _first_settled(rollout: Rollout, _event: Event, now: float) -> Result:
    """Without overlap: the first new worker has stayed ready, the second slot may be touched."""
    return moves.next_slot(rollout, now)


def _ready(rollout: Rollout, event: Event, _now: float) -> Result:
    assert isinstance(event, CandidateReady)
    seat = _seat(rollout, event)
    awaited = event.attempt == (seat.back if seat.stage is Stage.RETURNING else seat.candidate)
    if not awaited or seat.stage not in {Stage.STARTING, Stage.RETURNING}:
        return rollout, ()  # readiness comes and goes
    quiet, disarms = moves.disarmed(rollout, Timer.READY)
    given, commands = moves.promote(quiet, seat)
    return given, (*disarms, *commands)


def _accepting(rollout: Rollout, event: Event, now: float) -> Result:
    assert isinstance(event, Accepting)
    seat = _seat(rollout, event)
    quiet, disarms = moves.disarmed(rollout, Timer.ACCEPT)
    commands: tuple[Command, ...]
    if seat.stage is Stage.PROMOTED and rollout.phase is Phase.ROLLING:
        after, commands = moves.take_over(quiet, seat, now)
    elif seat.stage is Stage.PROMOTED:
        after, commands = moves.put(quiet, seat, stage=Stage.ACCEPTING), ()
    elif seat.stage is Stage.REGIVEN and seat.back == event.attempt:
        after, commands = _returned(quiet, seat, now)
    else:
        return rollout, ()  # a listener that was lent and came back
    return after, (*disarms, *commands)


def _returned(rollout: Rollout, seat: Seat, now: float) -> Result:
    commands: list[Command] = [Announce(Stage.RETURNED, seat.slot)]
    if seat.candidate is not None:
        commands.append(DiscardCandidate(seat.slot, seat.candidate, serving=True))
    after, more = moves.next_back(moves.put(rollout, seat, stage=Stage.RETURNED, candidate=None), now)
    return after, (*commands, *more)


def _failed(rollout: Rollout, event: Event, now: float) -> Result:
    seat = _seat(rollout, event)
    if isinstance(event, CandidateFailed):
        return _lost(rollout, seat, event.detail, now)
    gone = replace(seat, candidate=None)
    return _lost(moves.put(rollout, gone), gone, "it ended", now)


def _lost(rollout: Rollout, seat: Seat, detail: str, now: float) -> Result:
    if rollout.plan.kind is Kind.REPLACE and seat.stage is Stage.MOVED:
        return moves.hand_over(rollout, seat, detail)
    if seat.stage is Stage.MOVED and rollout.plan.overlap and seat.candidate is not None:
        after, commands = moves.fail(moves.put(rollout, seat, candidate=None), detail, now)
        return after, (DiscardCandidate(seat.slot, seat.candidate, serving=True), *commands)
    return moves.fail(rollout, detail, now)


def _failed_late(rollout: Rollout, event: Event, _now: float) -> Result:
    """The new generation is committed: a worker of it that dies now is restarted like any other."""
    detail = event.detail if isinstance(event, CandidateFailed) else "it ended"
    return moves.hand_over(rollout, _seat(rollout, event), detail)


def _failed_back(rollout: Rollout, event: Event, now: float) -> Result:
    assert isinstance(event, (CandidateFailed, CandidateGone))
    seat = _seat(rollout, event)
    if seat.stage is Stage.CLEARING:
        return _cleared(rollout, event, now)
    if seat.back == event.attempt:
        if seat.stage is Stage.RETURNED:
            return moves.hand_over(rollout, seat, event.detail if isinstance(event, CandidateFailed) else "it ended")
        return moves.back_failed(rollout, seat, event.detail if isinstance(event, CandidateFailed) else "it ended", now)
    # The new worker of a slot that is still to be brought back.
    if rollout.plan.overlap:
        lost = moves.put(rollout, seat, candidate=None)
        return lost, (DiscardCandidate(seat.slot, event.attempt, serving=True),)
    return (moves.put(rollout, seat, candidate=None) if isinstance(event, CandidateGone) else rollout), ()


def _cleared(rollout: Rollout, event: Event, now: float) -> Result:
    """Without overlap, rolling back: what ran in the slot is gone, the old generation may come."""
    if isinstance(event, CandidateFailed):
        return rollout, ()  # it was told to go; `CandidateGone` is about to come
    seat = _seat(rollout, event)
    return moves.again(rollout, replace(seat, candidate=None, back=None), now)


def _too_slow(rollout: Rollout, event: Event, now: float) -> Result:
    """The candidate of the moment did not become ready, or does not accept, in time."""
    if event == TimerFired(Timer.READY):
        stages, detail = {Stage.STARTING, Stage.RETURNING}, f"not ready after {rollout.plan.ready_timeout:g} s"
    else:
        stages, detail = {Stage.PROMOTED, Stage.REGIVEN}, f"does not accept after {rollout.plan.accept_timeout:g} s"
    seat = next(seat for seat in rollout.seats if seat.stage in stages)
    if rollout.phase is Phase.ROLLING_BACK:
        return moves.back_failed(rollout, seat, detail, now)
    return _lost(rollout, seat, detail, now)


def _old_gone(rollout: Rollout, event: Event, now: float) -> Result:
    seat = _seat(rollout, event)
    if seat.old is not Old.LEAVING:
        return _impossible(rollout, event, now) if not seat.touched else (rollout, ())
    gone = moves.put(rollout, seat, old=Old.GONE)
    if rollout.phase is Phase.DRAINING:
        return moves.look_for_the_end(gone, now)
    if rollout.phase is Phase.ROLLING_BACK:
        return moves.next_back(gone, now)
    if seat.stage is Stage.EMPTYING:
        return moves.start(gone, replace(seat, old=Old.GONE), Which.NEW)
    return gone, ()


def _old_crashed(rollout: Rollout, event: Event, _now: float) -> Result:
    seat = _seat(rollout, event)
    if seat.touched:
        return rollout, ()
    down = moves.put(rollout, seat, old=Old.DOWN)
    return moves.promote(down, replace(seat, old=Old.DOWN)) if seat.stage is Stage.READY else (down, ())


def _old_ready(rollout: Rollout, event: Event, _now: float) -> Result:
    seat = _seat(rollout, event)
    return (rollout, ()) if seat.touched else (moves.put(rollout, seat, old=Old.UP), ())


def _proceed(rollout: Rollout, _event: Event, now: float) -> Result:
    return moves.roll(rollout, now) if rollout.phase is Phase.SETTLED else moves.commit(rollout, now)


def _revert(rollout: Rollout, event: Event, now: float) -> Result:
    assert isinstance(event, Revert)
    if rollout.phase is Phase.PLANNED:
        return moves.finish(rollout, Phase.ABORTED, now, event.detail, None)
    return moves.fail(rollout, event.detail, now)


def _cancel(rollout: Rollout, event: Event, now: float) -> Result:
    assert isinstance(event, Cancel)
    discards: list[Command] = []
    for seat in rollout.seats:
        match seat.stage:
            case Stage.STARTING | Stage.READY | Stage.PROMOTED | Stage.ACCEPTING:
                number, serving = seat.candidate, seat.stage in {Stage.PROMOTED, Stage.ACCEPTING}
            case Stage.RETURNING | Stage.REGIVEN:
                number, serving = seat.back, seat.stage is Stage.REGIVEN
            case _:
                continue
        assert number is not None
        discards.append(DiscardCandidate(seat.slot, number, serving))
    loser = None if rollout.phase is Phase.PLANNED else Which.OLD if rollout.committed else Which.NEW
    over, commands = moves.finish(rollout, Phase.CANCELLED, now, event.detail, loser)
    return over, (*discards, *commands)


# -- the table ------------------------------------------------------------------------------------------------------


def _rule(action: Action, *targets: Phase, note: str = "") -> Rule:
    return Rule(frozenset(targets), action, note)


def _build() -> Mapping[Phase, Mapping[EventKind, Rule]]:
    """Write the table out, then fill the cells that cannot happen with an explicit "can't happen"."""
    p, e = Phase, EventKind
    untouched = {  # nothing old has been told to go
        e.OLD_CRASHED: _rule(_old_crashed, note="its lifecycle restarts it"),
        e.OLD_READY: _rule(_old_ready),
        e.REVERT: _rule(_revert, p.ABORTED),
        e.CANCEL: _rule(_cancel, p.CANCELLED),
    }
    proved = {  # the canary was ready once
        **untouched,
        e.OLD_CRASHED: _rule(_old_crashed, note="the canary takes its place at once"),
        e.READY: _rule(_ignore),
        e.FAILED: _rule(_failed, p.ABORTED),
        e.GONE: _rule(_failed, p.ABORTED),
        e.ACCEPTING: _rule(_accepting),
        e.T_ACCEPT: _rule(_too_slow, p.ABORTED),
    }
    back = (p.ABORTED, p.ROLLING_BACK)
    not_late = {e.BEGIN, e.T_SETTLE, e.T_READY, e.T_ACCEPT}
    over: dict[EventKind, Rule] = {}
    over.update((kind, _rule(_ignore, note="late")) for kind in EventKind if kind not in not_late)
    written: dict[Phase, dict[EventKind, Rule]] = {
        p.PLANNED: {**untouched, e.BEGIN: _rule(_begin, p.PREPARING, p.ROLLING, p.DONE)},
        p.PREPARING: {
            **untouched,
            e.PREPARED: _rule(_prepared, p.CANARY, p.SETTLED, p.ROLLING, p.DONE),
            e.PREPARE_FAILED: _rule(_prepare_failed, p.ABORTED),
        },
        p.CANARY: {
            **untouched,
            e.READY: _rule(_canary_ready, p.SETTLING, p.SETTLED, p.ROLLING),
            e.FAILED: _rule(_failed, p.ABORTED),
            e.GONE: _rule(_failed, p.ABORTED),
            e.T_READY: _rule(_too_slow, p.ABORTED),
        },
        p.SETTLING: {**proved, e.T_SETTLE: _rule(_settle_over, p.SETTLED, p.ROLLING, p.DRAINING)},
        p.SETTLED: {**proved, e.PROCEED: _rule(_proceed, p.ROLLING, p.MOVED)},
        p.ROLLING: {
            **untouched,
            e.READY: _rule(_ready),
            e.FAILED: _rule(_failed, *back),
            e.GONE: _rule(_failed, *back),
            e.ACCEPTING: _rule(_accepting, p.MOVED, p.DRAINING, p.DONE),
            e.OLD_GONE: _rule(_old_gone, note="without overlap: the new one starts"),
            e.REVERT: _rule(_revert, *back),
            e.T_SETTLE: _rule(_first_settled, note="without overlap: the next slot"),
            e.T_READY: _rule(_too_slow, *back),
            e.T_ACCEPT: _rule(_too_slow, *back),
        },
        p.MOVED: {
            e.READY: _rule(_ignore),
            e.ACCEPTING: _rule(_ignore),
            e.FAILED: _rule(_failed, p.ROLLING_BACK),
            e.GONE: _rule(_failed, p.ROLLING_BACK),
            e.OLD_GONE: _rule(_old_gone),
            e.OLD_CRASHED: _rule(_ignore),
            e.OLD_READY: _rule(_ignore),
            e.PROCEED: _rule(_proceed, p.DRAINING, p.DONE),
            e.REVERT: _rule(_revert, p.ROLLING_BACK, p.ABORTED),
            e.CANCEL: _rule(_cancel, p.CANCELLED),
        },
        p.DRAINING: {
            e.READY: _rule(_ignore),
            e.ACCEPTING: _rule(_ignore),
            e.FAILED: _rule(_failed_late, note="its lifecycle restarts it"),
            e.GONE: _rule(_failed_late, note="its lifecycle restarts it"),
            e.OLD_GONE: _rule(_old_gone, p.DONE),
            e.OLD_CRASHED: _rule(_ignore),
            e.OLD_READY: _rule(_ignore),
            e.CANCEL: _rule(_cancel, p.CANCELLED),
        },
        p.ROLLING_BACK: {
            e.READY: _rule(_ready),
            e.FAILED: _rule(_failed_back, p.ROLLED_BACK, note="again, then handed over"),
            e.GONE: _rule(_failed_back, p.ROLLED_BACK, note="without overlap: the old generation starts"),
            e.ACCEPTING: _rule(_accepting, p.ROLLED_BACK),
            e.OLD_GONE: _rule(_old_gone),
            e.OLD_CRASHED: _rule(_old_crashed, note="its lifecycle restarts it"),
            e.OLD_READY: _rule(_old_ready),
            e.REVERT: _rule(_ignore),
            e.CANCEL: _rule(_cancel, p.CANCELLED),
            e.T_READY: _rule(_too_slow, p.ROLLED_BACK, note="again, then handed over"),
            e.T_ACCEPT: _rule(_too_slow, p.ROLLED_BACK, note="again, then handed over"),
        },
        p.DONE: over,
        p.ABORTED: over,
        p.ROLLED_BACK: over,
        p.CANCELLED: over,
    }
    return {
        phase: {kind: written[phase].get(kind, _rule(_impossible, note="can't happen")) for kind in EventKind}
        for phase in Phase
    }


TABLE: Mapping[Phase, Mapping[EventKind, Rule]] = _build()


def step(rollout: Rollout, event: Event, now: float) -> Result:
    """Return the rollout after the event and what is to be done about it, in this order.

    Args:
        rollout: The rollout as it is.
        event: What happened. News of a slot that is none of its, or of a candidate that was discarded, changes nothing.
        now: Monotonic seconds.
    """
    slot, attempt = getattr(event, "slot", None), getattr(event, "attempt", None)
    if slot is not None:
        seat = rollout.seat(slot)
        if seat is None or (attempt is not None and attempt not in {seat.candidate, seat.back}):
            return rollout, ()
    if isinstance(event, TimerFired):
        if event.timer not in rollout.timers:
            # The timer was disarmed in the same turn of the loop in which it ran out.
            return rollout, ()
        rollout = replace(rollout, timers=rollout.timers - {event.timer})
    rule = TABLE[rollout.phase][kind_of(event)]
    after, commands = rule.action(rollout, event, now)
    if after.phase is not rollout.phase and after.phase not in rule.targets:
        raise AssertionError(f"{kind_of(event).value} led from {rollout.phase.value} to {after.phase.value}")
    return after, commands
