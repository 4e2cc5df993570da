"""What `oxherd.core.lifecycle.step` asks the supervisor to do."""

from __future__ import annotations

from oxherd.core.instance import Timer
from oxherd.records import dataclass

__all__ = [
    "Announce",
    "Arm",
    "Command",
    "Disarm",
    "Ignored",
    "KillTree",
    "Permit",
    "Probe",
    "Signal",
    "Spawn",
    "Sweep",
    "Unspawn",
]


@dataclass(frozen=True, slots=True)
class Permit:
    """Answer with `Permitted` as soon as the dependencies hold."""


@dataclass(frozen=True, slots=True)
class Unspawn:
    """The permission asked for is not needed any more."""


@dataclass(frozen=True, slots=True)
class Spawn:
    """Exec the program as this incarnation; answer with `Spawned` or `SpawnFailed`."""

    incarnation: int


@dataclass(frozen=True, slots=True)
class Signal:
    """Send a signal to the main pid, and to nothing else."""

    signum: int


@dataclass(frozen=True, slots=True)
class KillTree:
    """SIGKILL everything the incarnation ever started."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """Get rid of what the dead main pid left behind, gently (stop signal first) or not; answer with `Swept`."""

    gentle: bool


@dataclass(frozen=True, slots=True)
class Arm:
    """Start (or start anew) a timer."""

    timer: Timer
    seconds: float


@dataclass(frozen=True, slots=True)
class Disarm:
    """Stop a timer."""

    timer: Timer


@dataclass(frozen=True, slots=True)
class Probe:
    """Begin or end the health checks and limits of this incarnation."""

    on: bool


@dataclass(frozen=True, slots=True)
class Announce:
    """Record and tell what happened. ``kind`` is one of the documented event kinds."""

    kind: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Ignored:
    """An event that cannot happen in this state happened; it changed nothing."""

    detail: str


Command = Permit | Unspawn | Spawn | Signal | KillTree | Sweep | Arm | Disarm | Probe | Announce | Ignored
