"""What a host is told to do, and how it and its processes are called: pure functions of the model."""

from __future__ import annotations

import os

from oxherd.daemon.environment import child_environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from oxherd.config.model import ProcessSpec
    from oxherd.daemon.handles import InstanceHandle

__all__ = ["boot_argv", "differences", "job_of", "title_of", "worker_environment"]

# Room for the title that a host writes over its arguments; the kernel gives a process no more than it was started with.
_TITLE_ROOM = 96


def job_of(spec: ProcessSpec, stack: str, generation: int) -> dict[str, object]:
    """Return the ``job`` object of a release; its fields are those of `oxherd.host.engines.base.Job`."""
    host = spec.host
    assert host is not None
    return {
        "engine": host.engine,
        "source": "app" if spec.command is None else "command",
        "argv": list(host.argv),
        "target": host.target,
        "factory": host.factory,
        "interface": host.interface,
        "options": dict(host.options),
        "cwd": spec.working_dir,
        "stack": stack,
        "process": spec.name,
        "generation": generation,
        "keepalive": host.keepalive,
        "graceful_timeout": host.graceful_timeout,
        "linger": host.linger,
        "backlog": host.backlog,
        "max_requests": host.max_requests or 0,
        "max_requests_jitter": host.max_requests_jitter,
        "access_log": host.access_log,
        "log_level": host.log_level,
        "ssl_certfile": host.ssl_certfile,
        "ssl_keyfile": host.ssl_keyfile,
        "preload": host.preload != "false",
    }


def boot_argv(spec: ProcessSpec, role: str, channel_fd: int) -> tuple[str, ...]:
    """Return the command line of a zygote or an exec'd worker: the app's interpreter runs the host by its path."""
    from oxherd import host  # noqa: PLC0415 - its place is needed, nothing of it

    assert spec.host is not None
    script = os.path.join(os.path.dirname(os.path.abspath(host.__file__)), "boot.py")
    return (spec.host.python, *spec.host.python_options, script, role, str(channel_fd), " " * _TITLE_ROOM)


def worker_environment(handle: InstanceHandle) -> dict[str, str]:
    """Return the whole environment of a worker: that of any instance, and the names engines know a worker by."""
    stack = handle.process.stack
    environ = child_environment(handle.spec, stack.name, handle.env, handle.slot, handle.mark)
    slot = str(handle.slot)
    environ.update(WORKER_ID=slot, UVICORN_WORKER_ID=slot, OXHERD_GENERATION=str(handle.machine.generation))
    return environ


def differences(base: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return what of an environment is not the same in another one; nothing is ever missing in a worker's."""
    return {name: value for name, value in environ.items() if base.get(name) != value}


def title_of(handle: InstanceHandle | None, spec: ProcessSpec, stack: str, generation: int) -> str:
    """Return what ``ps`` shows: ``oxherd: shop web:0 generation 3``."""
    who = f"{spec.name}:{handle.slot}" if handle is not None else f"{spec.name} zygote"
    return f"oxherd: {stack} {who} generation {generation}"
