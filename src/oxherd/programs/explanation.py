"""All that is known of one process before it runs, as plain data: what ``oxherd explain NAME`` shows.

Secrets are redacted here, so that no caller can forget it.
"""

from __future__ import annotations

from dataclasses import dataclass

from oxherd.config.redact import redact_text, redact_value
from oxherd.errors import UsageError
from oxherd.programs.interpreter import find_interpreter, find_program
from oxherd.programs.settings import spec_settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from oxherd.programs.compiled import Compiled

__all__ = ["Explained", "Explanation", "explanation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """One setting or variable: its name, its value as it may be shown, and where the value comes from."""

    name: str
    value: str
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One process explained.

    Attributes:
        process: Its name.
        program: The stable name of what was recognised.
        title: What people call that.
        drains: What it does with its stop signal.
        binds: The addresses its command line binds.
        argv: What is exec'd; empty for an app process. Passwords in URLs are redacted.
        shell: Whether a shell reads the command.
        executable: The program file, or an empty string where none was found.
        executable_reason: Why that one.
        interpreter: The Python interpreter.
        interpreter_reason: Why that one.
        settings: Every setting with value and origin.
        env: Every variable the oxfile and its env_files set, secrets redacted, with its origin.
        inactive: The keys of this process whose feature is not active yet.
        notes: What its program changed or means.
    """

    process: str
    program: str
    title: str
    drains: str
    binds: tuple[str, ...]
    argv: tuple[str, ...]
    shell: bool
    executable: str
    executable_reason: str
    interpreter: str
    interpreter_reason: str
    settings: tuple[Explained, ...]
    env: tuple[Explained, ...]
    inactive: tuple[str, ...]
    notes: tuple[str, ...]


def explanation(compiled: Compiled, process_name: str, environ: Mapping[str, str] | None = None) -> Explanation:
    """Return everything that is known of one process.

    Args:
        compiled: The compiled oxfile.
        process_name: One of its processes.
        environ: The caller's environment, for PATH; None is an empty one.

    Raises:
        UsageError: There is no such process.
    """
    spec = compiled.oxfile.process(process_name)
    if spec is None:
        names = ", ".join(process.name for process in compiled.oxfile.processes)
        raise UsageError(f'there is no process "{process_name}" in {compiled.oxfile.path}', hint=f"one of {names}")
    origins = compiled.origins[process_name]
    program = compiled.programs[process_name]
    executable = find_program(spec, environ or {})
    interpreter = find_interpreter(spec, environ or {})
    missing = "" if spec.command is None else f"{spec.command.argv[0]} was not found"
    return Explanation(
        process=process_name,
        program=program.name if spec.command is not None else "app",
        title=program.title if spec.command is not None else "an app served by Oxherd's own workers",
        drains=program.drains if spec.command is not None else "answers what it has, then exits",
        binds=tuple(bind.text() for bind in program.binds) if spec.app is None else spec.app.bind,
        argv=tuple(redact_text(word) for word in spec.command.argv) if spec.command is not None else (),
        shell=spec.command is not None and spec.command.shell,
        executable=executable.path if executable is not None else "",
        executable_reason=executable.reason if executable is not None else missing,
        interpreter=interpreter.path,
        interpreter_reason=interpreter.reason,
        settings=tuple(
            Explained(name=name, value=value, origin=_origin(name, origins)) for name, value in spec_settings(spec)
        ),
        env=tuple(
            Explained(name=name, value=redact_value(name, value), origin=origins.get(f"env.{name}", "default"))
            for name, value in spec.env
        ),
        inactive=tuple(key for name, key in compiled.inactive if name == process_name),
        notes=compiled.notes[process_name],
    )


# Where one setting is written under another name, which is then its origin.
_ALSO = {"limits.memory": ("max_memory",), "logs.file": ("logs.combined",), "max_restarts": ("crash_restart_limit",)}


def _origin(name: str, origins: Mapping[str, str]) -> str:
    return next((origins[key] for key in (name, *_ALSO.get(name, ())) if key in origins), "default")
