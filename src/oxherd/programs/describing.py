"""What a server says of its own configuration: asked in the app's interpreter, by the part of Oxherd that runs there.

gunicorn's configuration is a program; only gunicorn itself knows what it comes to.
"""

from __future__ import annotations

import json
import os
import subprocess

from oxherd.config.redact import Mask
from oxherd.records import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from oxherd.programs.caller import Caller

__all__ = ["DESCRIBING", "Description", "Question", "describe"]

# Seconds a server has to read its configuration.
DESCRIBING = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Which server is to be asked about which command line.

    Attributes:
        engine: Its name.
        python, options: The interpreter, and options for itself.
        args: The server's arguments.
        cwd: The directory it would run in.
    """

    engine: str
    python: str
    options: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    cwd: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a server said of its configuration.

    Attributes:
        values: What it makes of it; empty where it refused it.
        error: Why it gave no answer, or "".
    """

    values: Mapping[str, object] = field(default_factory=dict)
    error: str = ""


def describe(question: Question, caller: Caller, patience: float = DESCRIBING) -> Description:
    """Ask a server what it makes of a command line and its configuration.

    Args:
        question: The server and its command line.
        caller: As whom to ask.
        patience: Seconds it has to answer.
    """
    from oxherd import host  # noqa: PLC0415 - its place is needed, nothing of it

    script = os.path.join(os.path.dirname(os.path.abspath(host.__file__)), "boot.py")
    job = {"engine": question.engine, "source": "command", "argv": list(question.args), "cwd": question.cwd}
    try:
        done = subprocess.run(  # type: ignore[call-overload] # the identity is user, group and extra_groups
            [question.python, *question.options, script, "describe"],
            env=dict(caller.environ),
            cwd=question.cwd,
            input=json.dumps(job).encode(),
            capture_output=True,
            timeout=patience,
            check=False,
            **caller.identity(),
        )
    except subprocess.TimeoutExpired:
        return Description(error=f"it did not read its configuration within {patience:g} s")
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return Description(error=f"{question.python} cannot be run: {error}")
    try:
        # The configuration may print what it likes; the answer is the last line.
        answer = json.loads(done.stdout.rstrip().rpartition(b"\n")[2] or b"null")
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        return Description(
            error=Mask(caller.environ, question.args).text(said) or f"it ended with exit code {done.returncode}"
        )
    if not answer.get("ok"):
        refused = str(answer.get("text") or answer.get("error") or "it refuses its configuration")
        return Description(error=Mask(caller.environ, question.args).text(refused))
    return Description(values=answer)
