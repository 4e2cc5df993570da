"""What a check finds, and what it is given to look at."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from oxherd.config.model import Oxfile, ProcessSpec
    from oxherd.control.paths import Home
    from oxherd.programs.compiled import Compiled
    from oxherd.programs.program import Program

__all__ = ["Examination", "Finding", "Level", "ok", "problem", "warning"]


class Level(Enum):
    """How bad a finding is: only a problem changes the exit code."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing a check has to say.

    Attributes:
        level: How bad it is.
        what: What was found.
        where: The process or path it is about, or "".
        advice: What to do about it, possibly the command to type.
    """

    level: Level
    what: str
    where: str = ""
    advice: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the finding for ``--json``."""
        return {"level": self.level.value, "where": self.where, "what": self.what, "advice": self.advice}


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What the checks look at.

    Attributes:
        home: The directories of the supervisor.
        environ: The caller's environment.
        euid: The effective user.
        compiled: The compiled oxfile, or None where there is none.
    """

    home: Home
    environ: Mapping[str, str]
    euid: int
    compiled: Compiled | None = None

    @property
    def oxfile(self) -> Oxfile | None:
        """The oxfile, or None."""
        return self.compiled.oxfile if self.compiled else None

    @property
    def processes(self) -> tuple[ProcessSpec, ...]:
        """The processes that would run."""
        return tuple(spec for spec in self.oxfile.processes if not spec.disabled) if self.oxfile else ()

    def program(self, spec: ProcessSpec) -> Program:
        """Return what the process's command was recognised as."""
        if self.compiled is None:
            raise LookupError(spec.name)
        return self.compiled.programs[spec.name]


def ok(what: str, *, where: str = "") -> Finding:
    """Return a finding that all is well."""
    return Finding(level=Level.OK, what=what, where=where)


def warning(what: str, *, where: str = "", advice: str = "") -> Finding:
    """Return a finding that may hurt one day."""
    return Finding(level=Level.WARNING, what=what, where=where, advice=advice)


def problem(what: str, *, where: str = "", advice: str = "") -> Finding:
    """Return a finding that will not work."""
    return Finding(level=Level.PROBLEM, what=what, where=where, advice=advice)
