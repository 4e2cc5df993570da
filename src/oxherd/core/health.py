"""What a series of probe results means for an instance: ready, unhealthy, recovered.

Pure: results and times are arguments. The rules, in the words of the oxfile:

* While an instance is not ready it is probed every 100 ms, so that a start or a reload takes as long as the program
  takes and not as long as ``interval_secs``.
* ``healthy_threshold`` passes in a row make it ready.
* ``initial_delay_secs`` is grace for failures, not a wait. After it, failures of a program that never was ready count
  once an interval although it is probed more often: it is condemned ``unhealthy_threshold`` intervals after the grace,
  which is what the two numbers promise, and not a second after it.
* Once ready every failure counts, grace or not; ``unhealthy_threshold`` in a row condemn it. A pass forgets them.

A worker of Oxherd's own is asked two questions: is it well (liveness), and shall it be sent traffic (readiness). The second
condemns nobody. ``unhealthy_threshold`` failures in a row take readiness away, ``healthy_threshold`` passes give it back,
as often as need be. A failure of a ready worker is confirmed within seconds and not at the interval, and a worker that has
lost its readiness is asked every second at first: traffic goes to the wrong place, or to too few, meanwhile.
"""

from __future__ import annotations

from enum import Enum

from oxherd.records import dataclass, replace

__all__ = [
    "FIRST_GAP",
    "Check",
    "HealthPolicy",
    "HealthState",
    "ReadinessState",
    "Verdict",
    "begin",
    "begin_readiness",
    "judge",
    "judge_readiness",
    "next_probe_in",
    "next_readiness_probe_in",
]

# Seconds between probes while a program starts within its grace.
FIRST_GAP = 0.1

# After the grace, a program that is not ready is probed every second, later at this share of the time it is overdue.
LATE_GAP = 1.0
LATE_SHARE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthPolicy:
    """When a program is probed and what counts.

    Attributes:
        interval: Seconds from probe to probe once it is ready.
        timeout: Seconds one probe may take.
        grace: Seconds after the start in which failures do not count.
        healthy_threshold: Passes in a row that make it ready, at least 1.
        unhealthy_threshold: Failures in a row that condemn it, at least 1.
    """

    interval: float = 30.0
    timeout: float = 5.0
    grace: float = 10.0
    healthy_threshold: int = 1
    unhealthy_threshold: int = 3


class Check(Enum):
    """Which question a probe asks."""

    LIVENESS = "liveness"
    READINESS = "readiness"


class Verdict(Enum):
    """What a probe result changed.

    Attributes:
        NONE: Nothing.
        READY: It is ready: for the first time, or, by its readiness check, again.
        NOT_READY: It was ready and shall be sent nothing; of a readiness check only.
        UNHEALTHY: It is condemned; of a liveness check only.
        RECOVERED: It was condemned, lives on and is well; of a liveness check only.
    """

    NONE = "none"
    READY = "ready"
    NOT_READY = "not ready"
    UNHEALTHY = "unhealthy"
    RECOVERED = "recovered"


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthState:
    """What is remembered of the probes of one incarnation.

    Attributes:
        since: Monotonic time of its start.
        passes: Passes in a row.
        failures: Counted failures in a row.
        ready: Whether it has ever been ready.
        unhealthy: Whether the last verdict was `Verdict.UNHEALTHY`.
        last_counted: While starting: when the last failure was counted; the end of the grace before the first one.
    """

    since: float
    last_counted: float
    passes: int = 0
    failures: int = 0
    ready: bool = False
    unhealthy: bool = False

    @property
    def word(self) -> str | None:
        """The word ``status`` shows: None before anything is known, "healthy", "failing" or "unhealthy"."""
        if self.unhealthy:
            return "unhealthy"
        if self.failures:
            return "failing"
        return "healthy" if self.ready else None


def begin(policy: HealthPolicy, started: float, *, ready: bool = False) -> HealthState:
    """Return the state of an incarnation that was exec'd at ``started``.

    Args:
        policy: What the oxfile says.
        started: Monotonic time of the exec.
        ready: True for an incarnation that was ready before this supervisor took it over.
    """
    return HealthState(since=started, last_counted=started + policy.grace, ready=ready)


def judge(state: HealthState, policy: HealthPolicy, *, passed: bool, now: float) -> tuple[HealthState, Verdict]:
    """Return the state after one probe result, and what it changed.

    Args:
        state: The state before.
        policy: What the oxfile says.
        passed: Whether the probe passed.
        now: Monotonic time of the result.
    """
    return _pass(state, policy) if passed else _failure(state, policy, now)


def _pass(state: HealthState, policy: HealthPolicy) -> tuple[HealthState, Verdict]:
    better = replace(state, passes=state.passes + 1, failures=0)
    if better.passes < policy.healthy_threshold:
        return better, Verdict.NONE
    if not better.ready:
        return replace(better, ready=True, unhealthy=False), Verdict.READY
    if better.unhealthy:
        return replace(better, unhealthy=False), Verdict.RECOVERED
    return better, Verdict.NONE


def _failure(state: HealthState, policy: HealthPolicy, now: float) -> tuple[HealthState, Verdict]:
    worse = replace(state, passes=0)
    if not state.ready:
        counted = _counted_while_starting(state, policy, now)
        if counted is None:
            return worse, Verdict.NONE
        worse = replace(worse, last_counted=counted)
    worse = replace(worse, failures=worse.failures + 1)
    if worse.failures >= policy.unhealthy_threshold and not worse.unhealthy:
        return replace(worse, unhealthy=True), Verdict.UNHEALTHY
    return worse, Verdict.NONE


def _counted_while_starting(state: HealthState, policy: HealthPolicy, now: float) -> float | None:
    """Return what `HealthState.last_counted` becomes, or None when a failure does not count yet."""
    due = state.last_counted + policy.interval
    if now < due:
        return None
    # Stepping by the interval keeps the lag of each probe from adding up. After a long gap without results (the
    # machine was suspended) the missed intervals are not counted after the fact.
    return due if now < due + policy.interval else now


def next_probe_in(state: HealthState, policy: HealthPolicy, now: float) -> float:
    """Return the seconds until the next probe, counted from ``now``; never more than the interval.

    Args:
        state: The state after the last result.
        policy: What the oxfile says.
        now: Monotonic time.
    """
    if state.ready:
        return policy.interval
    late = now - state.since - policy.grace
    if late < 0:
        return min(FIRST_GAP, policy.interval)
    return min(policy.interval, max(LATE_GAP, late * LATE_SHARE))


# -- readiness --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadinessState:
    """What is remembered of the readiness probes of one incarnation.

    Attributes:
        late_since: Monotonic time since which it should be ready: the end of its grace, or when it ceased to be.
        passes: Passes in a row.
        failures: Failures in a row, of one that is or was ready.
        ready: Whether it is ready.
        lost: Whether it was ready and is not any more.
    """

    late_since: float
    passes: int = 0
    failures: int = 0
    ready: bool = False
    lost: bool = False

    @property
    def word(self) -> str | None:
        """The word ``status`` shows where there is no other check: None, "healthy" or "failing"."""
        if self.lost or self.failures:
            return "failing"
        return "healthy" if self.ready else None


def begin_readiness(policy: HealthPolicy, started: float, *, ready: bool = False) -> ReadinessState:
    """Return the readiness of an incarnation that was exec'd at ``started``; the arguments are those of `begin`."""
    return ReadinessState(late_since=started + policy.grace, ready=ready)


def judge_readiness(
    state: ReadinessState, policy: HealthPolicy, *, passed: bool, now: float
) -> tuple[ReadinessState, Verdict]:
    """Return the state after one result of the readiness check, and what it changed.

    The verdicts alternate, `Verdict.READY` first; one that was ready before this supervisor took it over may begin with
    `Verdict.NOT_READY`.

    Args:
        state: The state before.
        policy: What the oxfile says.
        passed: Whether the probe passed.
        now: Monotonic time of the result.
    """
    if passed:
        better = replace(state, passes=state.passes + 1, failures=0)
        if better.ready or better.passes < policy.healthy_threshold:
            return better, Verdict.NONE
        return replace(better, ready=True, lost=False), Verdict.READY
    if not state.ready:
        return replace(state, passes=0), Verdict.NONE
    worse = replace(state, passes=0, failures=state.failures + 1)
    if worse.failures < policy.unhealthy_threshold:
        return worse, Verdict.NONE
    return replace(worse, ready=False, lost=True, late_since=now), Verdict.NOT_READY


def next_readiness_probe_in(state: ReadinessState, policy: HealthPolicy, now: float) -> float:
    """Return the seconds until the next readiness probe; the arguments are those of `next_probe_in`."""
    if state.ready:
        return min(policy.interval, LATE_GAP) if state.failures else policy.interval
    late = now - state.late_since
    if late < 0:
        return min(FIRST_GAP, policy.interval)
    return min(policy.interval, max(LATE_GAP, late * LATE_SHARE))
