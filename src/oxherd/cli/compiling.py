"""Compiling an oxfile for the supervisor: with which environment and profile."""

from __future__ import annotations

import json
import os

from oxherd.cli.where import connect, shown
from oxherd.control.paths import stack_id
from oxherd.errors import NoSupervisorError
from oxherd.records import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oxherd.cli.output import Output
    from oxherd.config.model import Oxfile
    from oxherd.control.paths import Home

__all__ = ["Kept", "compile_for_start", "kept_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a stack was started with. ``env`` None: it has never been started."""

    env: dict[str, str] | None = None
    profile: str | None = None


def kept_of(home: Home, path: str) -> Kept:
    """Return what is kept of a stack: the supervisor says it, or the state directory where none runs.

    Raises:
        OxherdError: The supervisor cannot be asked, or is another user's: what follows reads that user's files and asks
            their interpreters, which is not for root to do.
    """
    home.refuse_foreign()
    try:
        client = connect(home, path)
    except NoSupervisorError:
        record = _stack_record(home, path)
    else:
        with client:
            record = client.request("environment", timeout=10, stack=path)
    env, profile = record.get("env"), record.get("profile")
    return Kept(
        env={str(key): str(value) for key, value in env.items()} if isinstance(env, dict) else None,
        profile=profile if isinstance(profile, str) else None,
    )


def compile_for_start(home: Home, path: str, *, profile: str | None, update_env: bool, output: Output) -> Oxfile:
    """Return the compiled oxfile; its warnings are printed.

    A stack that was started before keeps the environment it was started with (for ``${VAR}`` too) and its profile,
    unless ``update_env`` and ``profile`` say otherwise. ``profile`` "" is none.

    Raises:
        ConfigError: The oxfile is not valid; nothing was changed.
        SystemFault: The home belongs to another user.
    """
    from oxherd.programs.compiled import compile_stack  # noqa: PLC0415 - the heaviest import of the command line

    kept = kept_of(home, path)
    environ = os.environ if update_env or kept.env is None else kept.env
    chosen = (profile or None) if profile is not None else kept.profile
    compiled = compile_stack(shown(path), profile=chosen, environ=environ, strict_files=True)
    output.problems(compiled.warnings)
    if os.geteuid() == 0:
        from oxherd.cli.checks.trust import warn_of_trust  # noqa: PLC0415 - for root alone

        warn_of_trust(home, compiled, environ, output)
    return compiled.oxfile


def _stack_record(home: Home, path: str) -> dict[str, object]:
    try:
        with open(os.path.join(home.stack(stack_id(path)), "stack.json"), "rb") as file:
            record = json.loads(file.read())
    except (OSError, ValueError, RecursionError):
        return {}  # never started, or the supervisor sets it aside and says so
    return record if isinstance(record, dict) else {}
