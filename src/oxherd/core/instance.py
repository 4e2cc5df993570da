"""One instance of a process as a value: what it does, what is wanted of it, why its last run ended.

Values only; what changes them is `oxherd.core.lifecycle`.
"""

from __future__ import annotations

from enum import Enum

from oxherd.core.restart import RestartPolicy
from oxherd.records import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oxherd.core.exits import ExitStatus

__all__ = ["Desired", "Instance", "LifePolicy", "Reason", "State", "Timer"]


class State(Enum):
    """What an instance is doing."""

    # There is one of each; Enum's own hash is that of its name, computed in Python at every look into a table.
    __hash__ = object.__hash__

    STOPPED = "stopped"  # down because nobody wants it up
    WAITING = "waiting"  # wanted; waits for dependencies, pre_start or its start delay
    SPAWNING = "spawning"  # the launcher is at work
    STARTING = "starting"  # exec'd, not ready yet
    RUNNING = "running"  # ready
    STOPPING = "stopping"  # told to go, the main pid still lives
    SWEEPING = "sweeping"  # the main pid is gone, something it started is not
    BACKOFF = "backoff"  # waits to be restarted after a failure
    CRASHED = "crashed"  # failed too often in a row, or cannot be started at all
    EXITED = "exited"  # ended by itself and is not to be restarted


class Desired(Enum):
    """What is wanted of an instance."""

    UP = "up"
    DOWN = "down"


class Reason(Enum):
    """Why the last incarnation ended, or is being ended."""

    NONE = "none"
    REQUESTED = "requested"
    EXITED = "exited"
    SPAWN_FAILED = "could not start"
    UNHEALTHY = "unhealthy"
    MEMORY = "over its memory limit"
    CPU = "over its CPU limit"
    TIMEOUT = "ran longer than its timeout"
    BLOCKED = "its event loop stands still"
    DEPENDENCY = "a dependency failed"

    @property
    def counted(self) -> bool:
        """Whether this ending counts towards ``max_restarts``. Condemned programs did not die of themselves."""
        return self in {Reason.EXITED, Reason.SPAWN_FAILED}

    @property
    def event(self) -> str:
        """The kind of event that tells of it."""
        return _EVENTS.get(self, "ended")

    @property
    def condemned(self) -> bool:
        """Whether the supervisor itself ended the incarnation, for a fault."""
        return self in {Reason.UNHEALTHY, Reason.MEMORY, Reason.CPU, Reason.TIMEOUT, Reason.BLOCKED}


# What a condemned incarnation is announced as.
_EVENTS = {
    Reason.UNHEALTHY: "unhealthy",
    Reason.MEMORY: "over-memory",
    Reason.CPU: "over-cpu",
    Reason.TIMEOUT: "timed-out",
    Reason.BLOCKED: "blocked",
}


class Timer(Enum):
    """The timers of an instance."""

    __hash__ = object.__hash__  # as in State

    START_DELAY = "start delay"
    SETTLE = "settle"
    READY = "ready timeout"
    STABLE = "stable run"
    BACKOFF = "back-off"
    STOP = "stop timeout"
    RUN = "run timeout"


@dataclass(frozen=True, slots=True, kw_only=True)
class LifePolicy:
    """What the oxfile says about the life of an instance. Times in seconds.

    Attributes:
        restart: How it comes back.
        stop_signal: Signal that asks it to go.
        stop_timeout: Time it has for that.
        start_delay: Wait before the first start.
        settle: Without a health check, time after which a program that lives counts as ready; None with one.
        ready_timeout: Time to become ready before it is condemned, or None.
        oneshot: Ends by itself: ready means completed.
        run_timeout: Longest run of a job, or None.
    """

    restart: RestartPolicy = field(default_factory=RestartPolicy)
    stop_signal: int = 15
    stop_timeout: float = 10.0
    start_delay: float = 0.0
    settle: float | None = 0.5
    ready_timeout: float | None = None
    oneshot: bool = False
    run_timeout: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One slot of one generation of a process.

    Attributes:
        policy: What the oxfile says.
        generation: Release of the process this instance belongs to.
        state, desired, reason: The three axes.
        incarnation: Number of the current or last run, from 1; 0 before the first.
        pid: The main pid while there is one.
        failures: Failures in a row.
        restarts: Restarts since the instance was started by a person, for the RESTARTS column.
        restart_pending: Come back as soon as this incarnation is gone, without back-off.
        killed: SIGKILL has been sent to this incarnation.
        unhealthy: The last verdict on it was a failed health check.
        completed: The last run ended by itself with success.
        since: Monotonic time of the last change of state.
        started_at: Monotonic time of the exec of the current incarnation, or None.
        exit: How the last incarnation ended, or None.
        detail: One line for people: what went wrong last.
        timers: The armed timers.
    """

    policy: LifePolicy
    generation: int = 1
    state: State = State.STOPPED
    desired: Desired = Desired.DOWN
    reason: Reason = Reason.NONE
    incarnation: int = 0
    pid: int | None = None
    failures: int = 0
    restarts: int = 0
    restart_pending: bool = False
    killed: bool = False
    unhealthy: bool = False
    completed: bool = False
    since: float = 0.0
    started_at: float | None = None
    exit: ExitStatus | None = None
    detail: str = ""
    timers: frozenset[Timer] = frozenset()

    @property
    def alive(self) -> bool:
        """Whether a program of this instance may be running."""
        return self.state in _LIVE

    @property
    def status(self) -> str:
        """The word of the STATUS column."""
        if self.state in {State.STARTING, State.RUNNING} and self.unhealthy:
            return "unhealthy"
        if self.state is State.SWEEPING:
            return "stopping"
        if self.state in {State.WAITING, State.SPAWNING}:
            return "starting"
        return str(self.state.value)


_LIVE = frozenset({State.SPAWNING, State.STARTING, State.RUNNING, State.STOPPING, State.SWEEPING})
