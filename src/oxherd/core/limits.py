"""Whether an instance is over its memory or CPU limit for long enough to be condemned.

Pure: samples and times are arguments. One sample over the memory limit proves nothing (a fork doubles a process for an
instant), two in a row do. CPU is judged by its average over the window, so a burst is free and a spin is not.
"""

from __future__ import annotations

from enum import Enum

from oxherd.records import dataclass, replace

__all__ = ["LimitPolicy", "LimitState", "LimitVerdict", "weigh"]

# Samples in a row over the memory limit that make a verdict.
MEMORY_SAMPLES = 2

# Points the CPU window is remembered in, whatever its length: 16 of a 60 s window lie 4 s apart.
WINDOW_POINTS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitPolicy:
    """Limits over the process tree of one instance.

    Attributes:
        memory: Bytes, or None.
        cpu_percent: Percent of one core (200 is two cores), or None.
        cpu_window: Seconds over which CPU is averaged.
    """

    memory: int | None = None
    cpu_percent: float | None = None
    cpu_window: float = 60.0


class LimitVerdict(Enum):
    """Which limit was exceeded for long enough."""

    NONE = "none"
    MEMORY = "memory"
    CPU = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitState:
    """What is remembered of the samples of one incarnation.

    Attributes:
        over_memory: Samples in a row over the memory limit.
        burned: CPU seconds used since the first sample, never falling.
        last_cpu: CPU seconds of the last sample, as sampled; None before the first.
        last_at: Monotonic time of the last sample.
        window: Points (time, burned) of the CPU window, oldest first.
        average: CPU percent over the window, or None while the window is not full.
    """

    over_memory: int = 0
    burned: float = 0.0
    last_cpu: float | None = None
    last_at: float = 0.0
    window: tuple[tuple[float, float], ...] = ()
    average: float | None = None


def weigh(
    state: LimitState, policy: LimitPolicy, *, rss: int, cpu_seconds: float, now: float
) -> tuple[LimitState, LimitVerdict]:
    """Return the state after one sample, and the verdict.

    A verdict is given again after as many samples as the first one took, as long as the instance stays over.

    Args:
        state: The state before; `LimitState()` for a new incarnation.
        policy: The limits.
        rss: Memory of the tree in bytes.
        cpu_seconds: CPU time the tree has used. It may fall when a member of the tree ends: its time leaves the sum.
        now: Monotonic time of the sample.
    """
    after = _memory(_cpu(state, policy, cpu_seconds, now), policy, rss)
    if after.over_memory >= MEMORY_SAMPLES:
        return replace(after, over_memory=0), LimitVerdict.MEMORY
    limit = policy.cpu_percent
    if limit is not None and after.average is not None and after.average > limit:
        # The window starts anew: the same excess is not held against it twice.
        return replace(after, window=((now, after.burned),)), LimitVerdict.CPU
    return after, LimitVerdict.NONE


def _memory(state: LimitState, policy: LimitPolicy, rss: int) -> LimitState:
    over = policy.memory is not None and rss > policy.memory
    return replace(state, over_memory=state.over_memory + 1 if over else 0)


def _cpu(state: LimitState, policy: LimitPolicy, cpu_seconds: float, now: float) -> LimitState:
    used = 0.0 if state.last_cpu is None else max(0.0, cpu_seconds - state.last_cpu)
    burned = state.burned + used
    # A gap longer than the window (the machine was suspended, the supervisor was busy) says nothing about "sustained".
    gap = now - state.last_at
    points = () if gap < 0 or gap > policy.cpu_window else state.window
    # The newest point that is a full window old is the base of the average; what is older is dropped.
    while len(points) > 1 and now - points[1][0] >= policy.cpu_window:
        points = points[1:]
    average = None
    if points and now - points[0][0] >= policy.cpu_window:
        average = (burned - points[0][1]) / (now - points[0][0]) * 100.0
    if not points or now - points[-1][0] >= policy.cpu_window / WINDOW_POINTS:
        points = (*points, (now, burned))
    return replace(state, burned=burned, last_cpu=cpu_seconds, last_at=now, window=points, average=average)
