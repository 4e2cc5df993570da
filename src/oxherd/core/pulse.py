"""Hang verdicts (stand-in)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

__all__ = ["PulsePolicy", "PulseState", "PulseVerdict", "judge"]


class PulseVerdict(Enum):
    """What a look at the tick means."""

    FINE = "fine"
    STALLED = "stalled"
    SLOW = "slow"
    BLOCKED = "blocked"
    RECOVERED = "recovered"


@dataclass(frozen=True, slots=True, kw_only=True)
class PulsePolicy:
    """Times in seconds."""

    lend_after: float = 0.3
    slow_after: float = 1.0
    block_timeout: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PulseState:
    """What is known of one worker."""

    stalled: bool = False
    slow: bool = False
    looked_at: float = 0.0
    fresh_from: float = 0.0


def judge(
    state: PulseState, policy: PulsePolicy, *, ticked_at: float, now: float, booting: bool, draining: bool
) -> tuple[PulseState, PulseVerdict]:
    """Judge one look."""
    late = state.looked_at and now - state.looked_at > 1.0
    state = replace(state, looked_at=now, fresh_from=now if late or not state.looked_at else state.fresh_from)
    if booting or draining or not ticked_at:
        return state, PulseVerdict.FINE
    still = now - max(ticked_at, state.fresh_from)
    if still >= policy.block_timeout:
        return replace(state, stalled=True), PulseVerdict.BLOCKED
    if still >= policy.slow_after and not state.slow:
        return replace(state, stalled=True, slow=True), PulseVerdict.SLOW
    if still >= policy.lend_after and not state.stalled:
        return replace(state, stalled=True), PulseVerdict.STALLED
    if still < policy.lend_after and state.stalled:
        return replace(state, stalled=False, slow=False), PulseVerdict.RECOVERED
    return state, PulseVerdict.FINE
