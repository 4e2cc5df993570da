"""What a program of a stack finds in its environment, and the placeholders of its command line."""

from __future__ import annotations

import os

from oxherd.config.redact import Mask
from oxherd.system.notify import SERVICE_VARIABLES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from oxherd.config.model import ProcessSpec

__all__ = ["account_of", "child_environment", "keep", "mask_of", "masked", "substitute"]

# Never kept of the caller: what belongs to one shell, to a supervisor around the caller, or to the service it is.
_NOT_KEPT = SERVICE_VARIABLES | {
    "_",
    "SHLVL",
    "OLDPWD",
    "OXHERD_MARK",
    "OXHERD_INSTANCE",
    "OXHERD_PROCESS",
    "OXHERD_STACK",
}


def keep(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the part of the caller's environment that reaches the processes of a stack and is kept for reboots."""
    return {key: value for key, value in environ.items() if key not in _NOT_KEPT}


def substitute(text: str, slot: int) -> str:
    """Replace ``{instance}`` by the number of the slot."""
    return text.replace("{instance}", str(slot)) if "{instance}" in text else text


def child_environment(spec: ProcessSpec, stack: str, caller: Mapping[str, str], slot: int, mark: str) -> dict[str, str]:
    """Return the whole environment of one incarnation: caller, oxfile (env_file below env), then Oxherd's own.

    Args:
        spec: The process.
        stack: The name of its stack.
        caller: The kept environment of whoever started the stack.
        slot: Which instance.
        mark: The incarnation's mark, by which escapees are found.
    """
    environ = {**caller, **{key: substitute(value, slot) for key, value in spec.env}}
    environ.setdefault("PATH", os.defpath)
    if spec.user is not None:
        account = account_of(spec.user)
        if account is not None:
            environ.update(zip(("USER", "LOGNAME", "HOME"), account, strict=True))
    if spec.instance_var:
        environ[spec.instance_var] = str(slot)
    environ.update(
        OXHERD_STACK=stack,
        OXHERD_PROCESS=spec.name,
        OXHERD_INSTANCE=str(slot),
        OXMGR_INSTANCE_ID=str(slot),
        OXHERD_MARK=mark,
    )
    return environ


def mask_of(spec: ProcessSpec, caller: Mapping[str, str]) -> Mask:
    """Return what hides a process's secrets in whatever it, or a program run for it, has said."""
    commands = (spec.command, spec.pre_start, spec.pre_reload, spec.health.command if spec.health is not None else None)
    words = [word for command in commands if command is not None for word in (*command.argv, "")]
    return Mask({**caller, **dict(spec.env)}, words)


def masked(failure: dict[str, object], mask: Mask) -> dict[str, object]:
    """Return what an app's interpreter said of a failure, as it may be shown and kept."""
    return {key: mask.text(value) if isinstance(value, str) else value for key, value in failure.items()}


def account_of(user: str) -> tuple[str, str, str] | None:
    """Return name, name and home directory of a user given by name or number, or None if there is no such account."""
    import pwd  # noqa: PLC0415 - only stacks that drop privileges need it

    try:
        entry = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    except KeyError:
        return None
    return entry.pw_name, entry.pw_name, entry.pw_dir
