"""The errors of Oxherd: one tree, every error with a stable code.

::

    OxherdError                 something a person has to be told
    ├── ConfigError             the oxfile (or an env_file) is wrong; holds every problem found   exit 2
    ├── UsageError              the command line or a request is wrong                            exit 2
    ├── NoSupervisorError       nobody answers on the control socket                              exit 3
    ├── OperationError          what was asked for did not work (crashed, unhealthy, aborted)     exit 1
    │   ├── SpawnError          a process could not be started: names the stage and the errno
    │   └── ListenError         an address could not be listened on: says who has it, or what is missing
    ├── ProtocolError           the other end of the control socket does not speak our language   exit 1
    └── SystemFault             the machine refused (permission, limits, disk)                    exit 1

Every error says what is wrong, where, what was found, what was expected and what to do about it.
Nothing else in the project defines exceptions that reach a person.
"""

from __future__ import annotations

from oxherd.records import dataclass

__all__ = [
    "ConfigError",
    "ListenError",
    "NoSupervisorError",
    "OperationError",
    "OxherdError",
    "Problem",
    "ProtocolError",
    "Severity",
    "SpawnError",
    "SystemFault",
    "UsageError",
]


class Severity:
    """How bad a `Problem` is: an error refuses the oxfile, a warning does not."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong in one place of one file.

    Attributes:
        code: Stable identifier such as ``OX101``; the catalogue in ``docs/reference/errors.md`` lists all.
        message: What is wrong, without the place.
        file: The file as the user named it, or the empty string where no file is involved.
        line: Line number from 1, or 0 where the line is not known.
        key: Dotted key path such as ``processes.web.restart_delay_ms``.
        found: What stands there, as the user would recognise it.
        expected: What would have been accepted.
        hint: What to type or to do, including a "did you mean".
        severity: `Severity.ERROR` or `Severity.WARNING`.
    """

    code: str
    message: str
    file: str = ""
    line: int = 0
    key: str = ""
    found: str = ""
    expected: str = ""
    hint: str = ""
    severity: str = Severity.ERROR

    def where(self) -> str:
        """Return ``oxfile.toml:12: processes.web.command`` as far as it is known."""
        place = f"{self.file}:{self.line}" if self.file and self.line else self.file
        return ": ".join(part for part in (place, self.key) if part)

    def render(self) -> str:
        """Return the problem as the lines a person reads on stderr."""
        head = ": ".join(part for part in (self.where(), self.message) if part)
        lines = [f"{head} [{self.code}]"]
        if self.found:
            lines.append(f"    found:    {self.found}")
        if self.expected:
            lines.append(f"    expected: {self.expected}")
        if self.hint:
            lines.append(f"    hint:     {self.hint}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, object]:
        """Return the problem for ``--json``."""
        return {name: getattr(self, name) for name in self.__slots__}


class OxherdError(Exception):
    """The root of the tree.

    Args:
        message: What did not work, in one sentence without a full stop.
        hint: What to do about it, possibly the command to type.
        code: Stable code; subclasses have a default.
    """

    code = "OX000"
    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", code: str | None = None) -> None:
        """Keep the message, the hint and, where given, a more exact code."""
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code is not None:
            self.code = code

    def render(self) -> str:
        """Return the error as the lines a person reads on stderr."""
        text = f"{self.message} [{self.code}]"
        return f"{text}\n    hint: {self.hint}" if self.hint else text

    def as_dict(self) -> dict[str, object]:
        """Return the error for ``--json`` and for the control protocol."""
        return {"code": self.code, "message": self.message, "hint": self.hint, "exit_code": self.exit_code}


class ConfigError(OxherdError):
    """The configuration is wrong. Holds every problem, not only the first."""

    code = "OX100"
    exit_code = 2

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        """Keep all problems; the message counts them."""
        count = sum(1 for problem in problems if problem.severity == Severity.ERROR)
        super().__init__(f"{count} problem{'' if count == 1 else 's'} in the configuration; nothing was changed")
        self.problems = problems

    def render(self) -> str:
        """Return every problem, then the count."""
        return "\n".join([*(problem.render() for problem in self.problems), self.message])

    def as_dict(self) -> dict[str, object]:
        """Return the error with its problems."""
        return {**super().as_dict(), "problems": [problem.as_dict() for problem in self.problems]}


class UsageError(OxherdError):
    """The command line or a control request asks for something that does not exist or fit."""

    code = "OX200"
    exit_code = 2


class NoSupervisorError(OxherdError):
    """No supervisor answers, and none is wanted."""

    code = "OX300"
    exit_code = 3


class OperationError(OxherdError):
    """An operation was understood and tried, and did not work."""

    code = "OX400"


class SpawnError(OperationError):
    """A process could not be started.

    Attributes:
        stage: What was being done, as a phrase: "changing directory", "executing".
        errno: The errno of the failing call, or 0.
        subject: The path or value the stage worked on, or "".
    """

    code = "OX410"

    def __init__(self, stage: str, errno: int, subject: str, text: str) -> None:
        """Render ``changing directory to /srv/app: No such file or directory``."""
        super().__init__(f"{stage} {subject}: {text}" if subject else f"{stage}: {text}")
        self.stage = stage
        self.errno = errno
        self.subject = subject


class ListenError(OperationError):
    """An address of a process could not be listened on."""

    code = "OX480"


class ProtocolError(OxherdError):
    """The peer on the control socket sent something that is not the protocol."""

    code = "OX500"


class SystemFault(OxherdError):  # noqa: N818 - the machine's fault, as opposed to ours or the user's
    """The operating system refused something Oxherd needs."""

    code = "OX600"
