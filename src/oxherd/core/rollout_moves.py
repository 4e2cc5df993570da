"""The pieces a rolling replacement is made of; `oxherd.core.rollout` says when which is taken.

Each is a pure function from a rollout to a rollout and commands.
"""

from __future__ import annotations

from oxherd.core.phases import Kind, Old, Phase, Rollout, Seat, Stage, Timer, Which
from oxherd.core.rollout_messages import (
    Announce,
    Arm,
    Command,
    CommitGeneration,
    Disarm,
    DiscardCandidate,
    DropGeneration,
    Finish,
    HandOver,
    Promote,
    RetireOld,
    StartCandidate,
)
from oxherd.records import replace

__all__ = [
    "Result",
    "again",
    "armed",
    "back_failed",
    "commit",
    "disarmed",
    "fail",
    "finish",
    "go",
    "hand_over",
    "look_for_the_end",
    "next_back",
    "next_slot",
    "promote",
    "put",
    "roll",
    "start",
    "take_over",
]

# Starts of a worker of the old generation in a slot, while rolling back, before the slot is handed over.
TRIES = 2

Result = tuple[Rollout, tuple[Command, ...]]


# -- the smallest ---------------------------------------------------------------------------------------------------


def go(rollout: Rollout, phase: Phase, now: float) -> Rollout:
    """Enter a phase, and keep how long the one before it took."""
    spent = (*rollout.spent, (rollout.phase, now - rollout.since)) if rollout.phase is not Phase.PLANNED else ()
    return replace(rollout, phase=phase, since=now, spent=spent)


def put(rollout: Rollout, seat: Seat, **changes: object) -> Rollout:
    """Change one slot."""
    after = replace(seat, **changes)  # type: ignore[arg-type]
    return replace(rollout, seats=tuple(after if other.slot == seat.slot else other for other in rollout.seats))


def armed(rollout: Rollout, timer: Timer, seconds: float | None) -> Result:
    """Arm a timer, unless there is no bound."""
    if seconds is None:
        return rollout, ()
    return replace(rollout, timers=rollout.timers | {timer}), (Arm(timer, seconds),)


def disarmed(rollout: Rollout, *timers: Timer) -> Result:
    """Disarm those of the timers that are armed."""
    commands = tuple(Disarm(timer) for timer in timers if timer in rollout.timers)
    return replace(rollout, timers=rollout.timers - set(timers)), commands


def start(rollout: Rollout, seat: Seat, which: Which) -> Result:
    """Start a worker of a generation in a slot, under the next attempt number."""
    number = rollout.attempts + 1
    started = replace(rollout, attempts=number)
    if which is Which.NEW:
        started = put(started, seat, stage=Stage.STARTING, candidate=number)
    else:
        started = put(started, seat, stage=Stage.RETURNING, back=number, tries=seat.tries + 1)
    started, arms = armed(started, Timer.READY, rollout.plan.ready_timeout)
    stage = Stage.STARTING if which is Which.NEW else Stage.RETURNING
    return started, (Announce(stage, seat.slot), StartCandidate(seat.slot, number, which), *arms)


def promote(rollout: Rollout, seat: Seat) -> Result:
    """Make the ready candidate of a slot its worker."""
    back = seat.stage is Stage.RETURNING
    number = seat.back if back else seat.candidate
    assert number is not None
    given = put(rollout, seat, stage=Stage.REGIVEN if back else Stage.PROMOTED)
    given, arms = armed(given, Timer.ACCEPT, rollout.plan.accept_timeout)
    return given, (Promote(seat.slot, number), *arms)


def finish(rollout: Rollout, phase: Phase, now: float, detail: str, drop: Which | None) -> Result:
    """Come to an end, with no timer left and, for a reload, without the generation that lost."""
    quiet, disarms = disarmed(rollout, *Timer)
    drops = (DropGeneration(drop),) if drop is not None and rollout.plan.kind is Kind.RELOAD else ()
    return go(replace(quiet, cause=quiet.cause or detail), phase, now), (*disarms, *drops, Finish(phase, detail))


# -- forwards -------------------------------------------------------------------------------------------------------


def roll(rollout: Rollout, now: float) -> Result:
    """Nothing old has been touched until here."""
    rolling = go(rollout, Phase.ROLLING, now)
    commands: tuple[Command, ...]
    first = rolling.seats[0] if rolling.seats else None
    if first is not None and first.stage is Stage.READY:
        rolling, commands = promote(rolling, first)
    elif first is not None and first.stage is Stage.ACCEPTING:
        rolling, commands = take_over(rolling, first, now)
    elif first is not None and first.stage is Stage.PROMOTED:
        commands = ()
    else:
        rolling, commands = next_slot(rolling, now)
    return rolling, (Announce(Phase.ROLLING), *commands)


def take_over(rollout: Rollout, seat: Seat, now: float) -> Result:
    """The new worker of a slot accepts: the old one goes, and the next slot begins."""
    told = Announce(Stage.MOVED, seat.slot)
    if rollout.plan.overlap:
        after, commands = next_slot(put(rollout, seat, stage=Stage.MOVED, old=Old.LEAVING), now)
        return after, (told, RetireOld(seat.slot), *commands)
    moved = put(rollout, seat, stage=Stage.MOVED)
    if moved.moved == 1 and rollout.plan.settle > 0 and len(rollout.seats) > 1:
        after, commands = armed(moved, Timer.SETTLE, rollout.plan.settle)
    else:
        after, commands = next_slot(moved, now)
    return after, (told, *commands)


def next_slot(rollout: Rollout, now: float) -> Result:
    """Begin with the next slot, or find that all are moved."""
    seat = next((seat for seat in rollout.seats if seat.stage is Stage.OLD), None)
    if seat is None:
        if rollout.plan.kind is Kind.RELOAD and rollout.plan.gated:
            return go(rollout, Phase.MOVED, now), (Announce(Phase.MOVED),)
        return commit(rollout, now)
    if rollout.plan.overlap:
        return start(rollout, seat, Which.NEW)
    return put(rollout, seat, stage=Stage.EMPTYING, old=Old.LEAVING), (RetireOld(seat.slot),)


def commit(rollout: Rollout, now: float) -> Result:
    """All slots are moved, and nobody objects."""
    commits = (CommitGeneration(),) if rollout.plan.kind is Kind.RELOAD else ()
    draining, commands = look_for_the_end(go(rollout, Phase.DRAINING, now), now)
    return draining, (*commits, Announce(Phase.DRAINING), *commands)


def look_for_the_end(rollout: Rollout, now: float) -> Result:
    """Be done if every old worker is gone."""
    if any(seat.old is not Old.GONE for seat in rollout.seats):
        return rollout, ()
    return finish(rollout, Phase.DONE, now, "", Which.OLD)


def hand_over(rollout: Rollout, seat: Seat, detail: str) -> Result:
    """The worker that has a slot for good is lost: that is nothing a rollout has to answer for."""
    return put(rollout, seat, candidate=None, back=None), (HandOver(seat.slot, detail),)


# -- backwards ------------------------------------------------------------------------------------------------------


def fail(rollout: Rollout, detail: str, now: float) -> Result:
    """Undo: abort while nothing old was told to go, otherwise roll back."""
    quiet, disarms = disarmed(replace(rollout, cause=detail), *Timer)
    discards: list[Command] = []
    for seat in quiet.seats:
        serving = seat.stage in {Stage.PROMOTED, Stage.ACCEPTING}
        if not seat.touched:
            quiet = put(quiet, seat, stage=Stage.OLD, candidate=None)
        elif seat.stage in {Stage.STARTING, Stage.PROMOTED} and seat.candidate is not None:
            # Without overlap: it has to be gone before the old generation can come back.
            quiet = put(quiet, seat, stage=Stage.CLEARING)
        else:
            continue
        if seat.candidate is not None:
            discards.append(DiscardCandidate(seat.slot, seat.candidate, serving))
    # In a replacement a slot that was moved has nothing to go back to: its new worker is as good as the old one was.
    if rollout.plan.kind is Kind.REPLACE or not any(seat.touched for seat in quiet.seats):
        over, commands = finish(quiet, Phase.ABORTED, now, detail, Which.NEW)
        return over, (*disarms, *discards, *commands)
    back, commands = next_back(go(quiet, Phase.ROLLING_BACK, now), now)
    return back, (*disarms, *discards, Announce(Phase.ROLLING_BACK, detail=detail), *commands)


def next_back(rollout: Rollout, now: float) -> Result:
    """Bring the next slot back, or find that all are."""
    busy = {Stage.CLEARING, Stage.RETURNING, Stage.REGIVEN}
    if any(seat.stage in busy for seat in rollout.seats):
        return rollout, ()
    left = [seat for seat in rollout.seats if seat.touched and seat.stage not in {Stage.RETURNED, Stage.LEFT}]
    if not left:
        return finish(rollout, Phase.ROLLED_BACK, now, rollout.cause, Which.NEW)
    # A slot without any worker cannot wait for those that have one.
    seat = min(left, key=lambda seat: seat.candidate is not None)
    if rollout.plan.overlap:
        return start(rollout, seat, Which.OLD)
    if seat.candidate is not None:
        clearing = put(rollout, seat, stage=Stage.CLEARING)
        return clearing, (DiscardCandidate(seat.slot, seat.candidate, serving=True),)
    if seat.old is Old.LEAVING:
        return rollout, ()  # its end is what brings us here again
    return start(rollout, seat, Which.OLD)


def back_failed(rollout: Rollout, seat: Seat, detail: str, now: float) -> Result:
    """A worker of the old generation does not start either: try again, then leave the slot to its lifecycle."""
    quiet, disarms = disarmed(rollout, Timer.READY, Timer.ACCEPT)
    assert seat.back is not None
    discard = DiscardCandidate(seat.slot, seat.back, serving=seat.stage is Stage.REGIVEN)
    if not rollout.plan.overlap:
        # What was started in the slot has to be gone before anything else is.
        return put(quiet, seat, stage=Stage.CLEARING, detail=detail), (*disarms, discard)
    after, commands = again(quiet, replace(seat, back=None, detail=detail), now)
    return after, (*disarms, discard, *commands)


def again(rollout: Rollout, seat: Seat, now: float) -> Result:
    """What ran in a slot that is brought back is gone, or is no obstacle: start what is to come, if it may."""
    detail = seat.detail
    if seat.tries < TRIES:
        return start(rollout, seat, Which.OLD)
    text = f"slot {seat.slot} could not be brought back: {detail}"
    left = replace(put(rollout, seat, stage=Stage.LEFT), cause=f"{rollout.cause}; {text}")
    after, commands = next_back(left, now)
    return after, (Announce(Stage.LEFT, seat.slot, detail), HandOver(seat.slot, detail), *commands)
