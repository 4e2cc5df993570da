"""Instances as the rows of ``oxherd status``."""

from __future__ import annotations

from oxherd.core.instance import State
from oxherd.daemon.cards import exit_record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oxherd.daemon.handles import InstanceHandle, StackHandle
    from oxherd.daemon.supervisor import Supervisor

__all__ = ["progress", "row", "rows"]


def rows(supervisor: Supervisor, stacks: list[StackHandle]) -> list[dict[str, object]]:
    """Return the rows of some stacks, in the order of the oxfile and of the slots."""
    return [
        row(supervisor, handle)
        for stack in stacks
        for process in stack.processes.values()
        for _, handle in sorted(process.instances.items())
    ]


def row(supervisor: Supervisor, handle: InstanceHandle) -> dict[str, object]:
    """Return one row; a process that is down has no pid, CPU or memory."""
    machine, process = handle.machine, handle.process
    alive = machine.pid is not None
    cpu, memory = supervisor.duties.usage(handle) if alive else (None, None)
    uptime = supervisor.loop.now() - machine.started_at if alive and machine.started_at is not None else None
    next_run = supervisor.duties.next_run(process)
    return {
        "stack": process.stack.name,
        "stack_path": process.stack.path,
        "name": process.name,
        "instance": handle.slot,
        "instances": max(len(process.instances), process.wanted_instances),
        "pid": machine.pid,
        "status": _status(handle),
        "ready": machine.state is State.RUNNING and not machine.unhealthy and not handle.unready,
        "health": _health(handle),
        "cpu_percent": None if cpu is None else round(cpu, 1),
        "memory_bytes": memory,
        "restarts": machine.restarts,
        "uptime_seconds": None if uptime is None else round(uptime, 3),
        "generation": machine.generation,
        "exit": exit_record(machine.exit),
        "next_run": next_run,
        "detail": machine.detail,
    }


def progress(handle: InstanceHandle) -> dict[str, object]:
    """Return what a waiting client is shown when an instance changes."""
    machine = handle.machine
    return {
        "process": handle.process.name,
        "label": handle.name,
        "instance": handle.slot,
        "status": machine.status,
        "pid": machine.pid,
        "detail": machine.detail,
    }


def _status(handle: InstanceHandle) -> str:
    """Return the word of the STATUS column: what runs while its process is being reloaded is ``reloading``."""
    status = handle.machine.status
    return "reloading" if status == "running" and handle.process.reloading else status


def _health(handle: InstanceHandle) -> str | None:
    if handle.spec.health is None or not handle.machine.alive:
        return None
    return "unhealthy" if handle.machine.unhealthy else handle.health
