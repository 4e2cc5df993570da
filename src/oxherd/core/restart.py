"""When and how soon a process that ended on its own comes back.

Pure: the jitter is an argument. The numbers of the policy come from the oxfile.
"""

from __future__ import annotations

from enum import Enum

from oxherd.records import dataclass

__all__ = ["STABLE_AFTER", "RestartDecision", "RestartMode", "RestartPolicy", "backoff_delay", "decide"]

# Seconds a run has to last, ready, before earlier failures are forgotten. supervisord's startsecs is 1 s and PM2's
# min_uptime too: a process that dies every two seconds then restarts for ever. With a minute it reaches its ceiling.
STABLE_AFTER = 60.0

# The first delay where ``restart_delay_ms`` is 0: the first restart is immediate, the next ones start from here.
FIRST_BACKOFF = 0.1

# Up to this share of a delay is taken off at random, so that a fleet that died together does not return together.
JITTER = 0.25


class RestartMode(Enum):
    """When an exit that nobody asked for is followed by a restart."""

    ALWAYS = "always"
    ON_FAILURE = "on-failure"
    NEVER = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """How a process comes back.

    Attributes:
        mode: Which exits are followed by a restart.
        delay: Seconds before the first restart; 0 restarts at once, then backs off from `FIRST_BACKOFF`.
        delay_max: Ceiling of the delay in seconds.
        max_restarts: Failures in a row before the process counts as crashed; 0 is without end.
    """

    mode: RestartMode = RestartMode.ON_FAILURE
    delay: float = 0.0
    delay_max: float = 30.0
    max_restarts: int = 10


class RestartDecision(Enum):
    """What follows an exit."""

    RESTART = "restart"
    FINISHED = "finished"
    GIVE_UP = "give up"


def decide(policy: RestartPolicy, *, success: bool, failures: int, counted: bool = True) -> RestartDecision:
    """Say what follows an exit that nobody asked for.

    Args:
        policy: The process's policy.
        success: Whether it exited with status 0.
        failures: Failures in a row, this one included.
        counted: False for endings that back off but never exhaust ``max_restarts`` (failed health checks, limits):
            giving up on an app because its database was away for an hour would turn an outage into a longer one.
    """
    if policy.mode is RestartMode.NEVER or (policy.mode is RestartMode.ON_FAILURE and success):
        return RestartDecision.FINISHED
    if counted and policy.max_restarts and failures > policy.max_restarts:
        return RestartDecision.GIVE_UP
    return RestartDecision.RESTART


def backoff_delay(policy: RestartPolicy, failures: int, chance: float) -> float:
    """Return the seconds to wait before restart number ``failures`` in a row.

    Args:
        policy: The process's policy.
        failures: Failures in a row, at least 1.
        chance: A random number in [0, 1): how much of the jitter applies.
    """
    if policy.delay <= 0:
        if failures <= 1:
            return 0.0
        base, doublings = FIRST_BACKOFF, failures - 2
    else:
        base, doublings = policy.delay, failures - 1
    ceiling = max(policy.delay, policy.delay_max)
    # 2.0 ** 1100 overflows a float; past 40 doublings every delay is at its ceiling anyway.
    delay = min(ceiling, base * 2.0 ** min(doublings, 40))
    return delay * (1.0 - JITTER * chance)
