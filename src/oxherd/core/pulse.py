"""What the ticks of a worker's event loop mean: it runs, it stands still, it is blocked for good, it is back.

Pure: the time of the last tick and the time now are arguments. The rules:

* *Silence* is what counts: the time without a new tick during which somebody was looking. It is added up from look to
  look, so time in which nobody could look (the machine was suspended, the supervisor was stopped or late) condemns
  nobody: a look that comes much later than the one before it counts as one ordinary look and gives no new verdict.
* `PulsePolicy.lend_after` of silence: STALLED, its listeners are lent. `slow_after`: SLOW, told once an episode.
  ``block_timeout``: BLOCKED, its stacks are saved and it is replaced.
* After a silence it takes `PulsePolicy.good_looks` looks with a new tick, with no such silence between them, before it
  has RECOVERED: a loop that limps from blocking call to blocking call does not get its listeners back in between.
* A worker that is booting or draining is not judged at all. Importing for a minute is no hang: the boot deadline is
  another clock; and who drains has nothing to lend and a stop timeout of its own.

A verdict is a change and is given once. What holds at the moment is in the state: `PulseState.stalled`.
"""

from __future__ import annotations

from enum import Enum

from oxherd.records import dataclass, replace

__all__ = ["PulsePolicy", "PulseState", "PulseVerdict", "judge"]

# A look that comes this many intervals after the one before is late.
LATE = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PulsePolicy:
    """How long an event loop may stand still. Times in seconds.

    Attributes:
        interval: From look to look.
        lend_after: Silence after which the listeners are lent.
        slow_after: Silence after which it is told.
        block_timeout: Silence after which the worker is condemned; None or 0 is never.
        good_looks: Looks with a new tick before the listeners are given back, at least 1.
    """

    interval: float = 0.1
    lend_after: float = 0.3
    slow_after: float = 1.0
    block_timeout: float | None = 30.0
    good_looks: int = 3


class PulseVerdict(Enum):
    """What a look changed."""

    NONE = "none"
    STALLED = "stalled"  # lend its listeners
    SLOW = "slow"  # tell of it
    BLOCKED = "blocked"  # save its stacks, then replace it
    RECOVERED = "recovered"  # give its listeners back


@dataclass(frozen=True, slots=True, kw_only=True)
class PulseState:
    """What is remembered of the looks at one worker.

    Attributes:
        looked_at: Monotonic time of the last look, or None before the first.
        ticked_at: The tick that was seen then.
        silence: Seconds without a new tick while somebody looked.
        good: Looks with a new tick since the last silence that was long enough to be stalled.
        stalled: Whether its listeners are to be lent.
        told: Whether SLOW was given in this episode.
        blocked: Whether BLOCKED was given in this episode.
    """

    looked_at: float | None = None
    ticked_at: float = 0.0
    silence: float = 0.0
    good: int = 0
    stalled: bool = False
    told: bool = False
    blocked: bool = False


def judge(
    state: PulseState,
    policy: PulsePolicy,
    *,
    ticked_at: float | None,
    now: float,
    booting: bool = False,
    draining: bool = False,
) -> tuple[PulseState, PulseVerdict]:
    """Return the state after a look at a worker, and what it changed.

    At most one verdict comes of a look: one that reaches several bounds at once (a policy with a ``block_timeout`` below
    ``slow_after``) gives the graver one, and being BLOCKED includes being stalled.

    Args:
        state: The state before; `PulseState()` for a new worker.
        policy: The bounds.
        ticked_at: Monotonic time of the last tick, as the worker wrote it; None for a worker that has no pulse.
        now: Monotonic time of the look.
        booting: Whether the worker has not started yet.
        draining: Whether it is on its way out.
    """
    if booting or draining or ticked_at is None:
        return PulseState(looked_at=now, ticked_at=ticked_at or 0.0), PulseVerdict.NONE
    gap = 0.0 if state.looked_at is None else max(0.0, now - state.looked_at)
    late = gap > LATE * policy.interval
    if late:
        gap = policy.interval
    ticked = ticked_at > state.ticked_at
    # After a tick the silence is as old as the tick, but not older than the time that was looked at: a first look, or
    # one after a pause, finds an old tick through no fault of the worker.
    silence = min(gap, max(0.0, now - ticked_at)) if ticked else state.silence + gap
    seen = replace(state, looked_at=now, ticked_at=max(ticked_at, state.ticked_at), silence=silence)
    if ticked and silence < policy.lend_after:
        return _ticking(seen, policy)
    # A worker that ticks more seldom than it is looked at is well between two ticks.
    quiet = replace(seen, good=0) if silence >= policy.lend_after else seen
    return (quiet, PulseVerdict.NONE) if late else _silent(quiet, policy)


def _ticking(state: PulseState, policy: PulsePolicy) -> tuple[PulseState, PulseVerdict]:
    if not state.stalled:
        return state, PulseVerdict.NONE
    if state.good + 1 < policy.good_looks:
        return replace(state, good=state.good + 1), PulseVerdict.NONE
    well = replace(state, good=0, stalled=False, told=False, blocked=False)
    return well, PulseVerdict.RECOVERED


def _silent(state: PulseState, policy: PulsePolicy) -> tuple[PulseState, PulseVerdict]:
    if policy.block_timeout and state.silence >= policy.block_timeout and not state.blocked:
        return replace(state, stalled=True, told=True, blocked=True), PulseVerdict.BLOCKED
    if state.silence >= policy.slow_after and not state.told:
        return replace(state, stalled=True, told=True), PulseVerdict.SLOW
    if state.silence >= policy.lend_after and not state.stalled:
        return replace(state, stalled=True), PulseVerdict.STALLED
    return state, PulseVerdict.NONE
