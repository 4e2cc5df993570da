"""What can happen to an instance. Events that speak of one incarnation carry its number."""

from __future__ import annotations

from enum import Enum

from oxherd.core.instance import Reason, Timer
from oxherd.records import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from oxherd.core.exits import ExitStatus

__all__ = [
    "BecameReady",
    "Condemned",
    "Event",
    "EventKind",
    "Exited",
    "Permitted",
    "Restart",
    "SpawnFailed",
    "Spawned",
    "Start",
    "Stop",
    "Swept",
    "TimerFired",
    "kind_of",
]


@dataclass(frozen=True, slots=True)
class Start:
    """Somebody wants the instance up: a person, the boot, a schedule."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Somebody wants the instance down."""


@dataclass(frozen=True, slots=True)
class Restart:
    """Somebody wants a new incarnation: a person, ``watch``, ``cron_restart``."""


@dataclass(frozen=True, slots=True)
class Permitted:
    """Dependencies hold and ``pre_start`` is through (``ok``), or they never will (``detail`` says why)."""

    ok: bool = True
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Spawned:
    """The program was exec'd."""

    incarnation: int
    pid: int


@dataclass(frozen=True, slots=True)
class SpawnFailed:
    """The program could not be exec'd; ``permanent`` when trying again cannot help (no such file)."""

    incarnation: int
    detail: str
    permanent: bool = False


@dataclass(frozen=True, slots=True)
class BecameReady:
    """The health check passed often enough."""

    incarnation: int


@dataclass(frozen=True, slots=True)
class Condemned:
    """A verdict: health, a limit. The incarnation has to go."""

    incarnation: int
    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Exited:
    """The main pid is gone; ``detail`` says more than the status where more is known ("port 8000 is held by ...")."""

    incarnation: int
    status: ExitStatus
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Swept:
    """Nothing of the incarnation is left."""

    incarnation: int


@dataclass(frozen=True, slots=True)
class TimerFired:
    """A timer of this instance ran out."""

    timer: Timer


Event = (
    Start | Stop | Restart | Permitted | Spawned | SpawnFailed | BecameReady | Condemned | Exited | Swept | TimerFired
)


class EventKind(Enum):
    """The columns of the table: the events, timers each for itself."""

    __hash__ = object.__hash__  # as in `oxherd.core.instance.State`

    START = "start"
    STOP = "stop"
    RESTART = "restart"
    PERMITTED = "permitted"
    SPAWNED = "spawned"
    SPAWN_FAILED = "spawn failed"
    READY = "ready"
    CONDEMNED = "condemned"
    EXITED = "exited"
    SWEPT = "swept"
    T_START_DELAY = "timer: start delay"
    T_SETTLE = "timer: settle"
    T_READY = "timer: ready timeout"
    T_STABLE = "timer: stable run"
    T_BACKOFF = "timer: back-off"
    T_STOP = "timer: stop timeout"
    T_RUN = "timer: run timeout"


_KINDS: Mapping[type, EventKind] = {
    Start: EventKind.START,
    Stop: EventKind.STOP,
    Restart: EventKind.RESTART,
    Permitted: EventKind.PERMITTED,
    Spawned: EventKind.SPAWNED,
    SpawnFailed: EventKind.SPAWN_FAILED,
    BecameReady: EventKind.READY,
    Condemned: EventKind.CONDEMNED,
    Exited: EventKind.EXITED,
    Swept: EventKind.SWEPT,
}
_TIMER_KINDS: Mapping[Timer, EventKind] = {
    Timer.START_DELAY: EventKind.T_START_DELAY,
    Timer.SETTLE: EventKind.T_SETTLE,
    Timer.READY: EventKind.T_READY,
    Timer.STABLE: EventKind.T_STABLE,
    Timer.BACKOFF: EventKind.T_BACKOFF,
    Timer.STOP: EventKind.T_STOP,
    Timer.RUN: EventKind.T_RUN,
}


def kind_of(event: Event) -> EventKind:
    """Return the column of the table an event belongs to."""
    return _TIMER_KINDS[event.timer] if isinstance(event, TimerFired) else _KINDS[type(event)]
