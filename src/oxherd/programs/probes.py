"""What can only be learnt by asking an interpreter: which engines it has, and what gunicorn makes of its configuration.

An app is never imported for it; gunicorn's configuration file is, since it is a program. Nothing is remembered beyond one `Probes`, which is made anew wherever an oxfile is
compiled: an engine may be installed from one command to the next.
"""

from __future__ import annotations

import json
import os
import subprocess

from oxherd.programs.describing import DESCRIBING, describe
from oxherd.records import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol

    from oxherd.programs.caller import Caller
    from oxherd.programs.describing import Description, Question

    class Prober(Protocol):
        """Whoever knows about interpreters: `Probes` asks them, `Blind` knows nothing, tests know what they like."""

        def installed(self, python: str, caller: Caller) -> Installed | None:
            """Return what an interpreter has, or None where it cannot be asked."""

        def described(self, question: Question, caller: Caller) -> Description | None:
            """Return what a server says of its configuration, or None where nobody can be asked."""


__all__ = ["BLIND", "Blind", "Installed", "Probes"]

# Seconds an interpreter has to say what it has; it imports nothing of the app, but its disk may be slow.
_PATIENCE = 5.0
# The packages that matter: the engines, and what puts a WSGI app on an ASGI engine.
_PACKAGES = ("uvicorn", "gunicorn", "granian", "hypercorn", "a2wsgi")
# Runs on any Python 3. The empty entry of sys.path is the working directory, whose json.py is not the one that is meant.
_SCRIPT = """
import sys
sys.path[:] = [entry for entry in sys.path if entry]
import json
found = {}
try:
    from importlib import metadata, util
    for name in sys.argv[1:]:
        try:
            found[name] = metadata.version(name) or ""
        except metadata.PackageNotFoundError:
            if util.find_spec(name) is not None:
                found[name] = ""
except ImportError:
    pass
print("\\n" + json.dumps({"python": list(sys.version_info[:3]), "packages": found}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """What an interpreter has.

    Attributes:
        version: Its own version, such as ``(3, 12, 1)``.
        packages: Version of each engine that is there, "" where a package does not tell.
    """

    version: tuple[int, ...]
    packages: Mapping[str, str] = field(default_factory=dict)

    @property
    def version_text(self) -> str:
        """The version as people write it."""
        return ".".join(str(part) for part in self.version)

    @property
    def engines(self) -> tuple[tuple[str, str], ...]:
        """Name and version of each package, in the order in which engines are preferred."""
        return tuple((name, self.packages[name]) for name in _PACKAGES if name in self.packages)


class Probes:
    """Asks interpreters, each question once."""

    def __init__(self, *, patience: float = _PATIENCE, describing: float | None = DESCRIBING) -> None:
        """Know nothing yet.

        Args:
            patience: Seconds an interpreter has to answer.
            describing: Seconds a server has to read its configuration; None where that must not be run.
        """
        self._patience = patience
        self._describing = describing
        self._installed: dict[tuple[object, ...], Installed | None] = {}
        self._described: dict[Question, Description] = {}

    def installed(self, python: str, caller: Caller) -> Installed | None:
        """Return what an interpreter has, or None where it is not there or does not answer in time.

        Args:
            python: Its path.
            caller: As whom to ask.
        """
        search = tuple(caller.environ.get(name, "") for name in ("PYTHONPATH", "PYTHONHOME", "HOME"))
        key = (python, caller.user, caller.group, *search)
        if key not in self._installed:
            self._installed[key] = self._ask(python, caller)
        return self._installed[key]

    def _ask(self, python: str, caller: Caller) -> Installed | None:
        try:
            done = subprocess.run(  # type: ignore[call-overload] # the identity is user, group and extra_groups
                [python, "-c", _SCRIPT, *_PACKAGES],
                env=dict(caller.environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=self._patience,
                check=False,
                **caller.identity(),
            )
            # A sitecustomize may print what it likes; the answer is the last line.
            answer = json.loads(done.stdout.rstrip().rpartition(b"\n")[2] or b"null")
        except (OSError, ValueError, subprocess.SubprocessError):
            return None  # what is wrong with it is told where it is to run the app
        if done.returncode != 0 or not isinstance(answer, dict):
            return None
        return Installed(version=tuple(answer["python"]), packages=dict(answer["packages"]))

    def described(self, question: Question, caller: Caller) -> Description | None:
        """Return what a server makes of a command line and its configuration, or None where nobody can be asked.

        Args:
            question: The server and its command line.
            caller: As whom to ask.
        """
        if self._describing is None or not os.access(question.python, os.X_OK) or not os.path.isdir(question.cwd):
            return None
        if question not in self._described:
            self._described[question] = describe(question, caller, self._describing)
        return self._described[question]


class Blind:
    """Asks nobody, for those who only want to know what an oxfile says."""

    def installed(self, python: str, caller: Caller) -> Installed | None:
        """Return None: it is not known."""
        del python, caller
        return None

    def described(self, question: Question, caller: Caller) -> Description | None:
        """Return None: it is not known."""
        del question, caller
        return None


BLIND = Blind()
