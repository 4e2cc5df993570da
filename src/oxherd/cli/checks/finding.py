"""What a check finds, and what it is given to look at."""

from __future__ import annotations

from enum import Enum

from oxherd.programs.program import Bind
from oxherd.records import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from oxherd.config.model import Oxfile, ProcessSpec
    from oxherd.control.paths import Home
    from oxherd.programs.compiled import Compiled
    from oxherd.programs.program import Program
    from oxherd.programs.settling import Plan

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

    def plan(self, spec: ProcessSpec) -> Plan | None:
        """Return how a process gets its listeners, or None where that is not known."""
        return self.compiled.plans.get(spec.name) if self.compiled else None

    def binds(self, spec: ProcessSpec) -> tuple[Bind, ...]:
        """Return the addresses a process listens on: those held for it, else those its command line names."""
        if spec.host is None or not spec.host.bind:
            return self.program(spec).binds
        return tuple(_bind(text) for text in spec.host.bind)

    def supervisors(self) -> frozenset[int]:
        """Return the pids of the supervisors the stack may run under."""
        from oxherd.cli.checks.running import supervisor_pids  # noqa: PLC0415 - asks, and is needed rarely

        return supervisor_pids(self)

    def memory(self) -> Mapping[str, int]:
        """Return for each process that runs the bytes its largest instance takes."""
        from oxherd.cli.checks.running import measured_memory  # noqa: PLC0415 - asks, and is needed rarely

        return measured_memory(self)


def _bind(text: str) -> Bind:
    if text.startswith("unix:"):
        return Bind(path=text.removeprefix("unix:"))
    host, _, port = text.rpartition(":")
    return Bind(host=host.strip("[]") or "0.0.0.0", port=int(port))  # noqa: S104 - what an empty host means


def ok(what: str, *, where: str = "") -> Finding:
    """Return a finding that all is well."""
    return Finding(level=Level.OK, what=what, where=where)


def warning(what: str, *, where: str = "", advice: str = "") -> Finding:
    """Return a finding that may hurt one day."""
    return Finding(level=Level.WARNING, what=what, where=where, advice=advice)


def problem(what: str, *, where: str = "", advice: str = "") -> Finding:
    """Return a finding that will not work."""
    return Finding(level=Level.PROBLEM, what=what, where=where, advice=advice)
