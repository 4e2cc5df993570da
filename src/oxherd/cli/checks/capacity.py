"""What the machine has: memory, open files, disk, cgroups; and what the oxfile wants of it."""

from __future__ import annotations

import os
import resource

from oxherd.cli.checks.finding import ok, problem, warning
from oxherd.control.paths import stack_id
from oxherd.records import dataclass
from oxherd.system import cgroups
from oxherd.system.resources import memory_total
from oxherd.units import format_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from oxherd.cli.checks.finding import Examination, Finding
    from oxherd.config.model import ProcessSpec

__all__ = ["Machine", "check_disk", "check_hard_limits", "check_memory", "check_open_files", "machine"]

# Below this a file system is as good as full: the journal alone may want some of it.
_LITTLE = 100 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What there is: bytes of memory, and the hard limit of open files (-1: none)."""

    memory: int
    nofile: int


def machine() -> Machine:
    """Look at this machine, or at the part of it that a container has."""
    return Machine(memory=memory_total(), nofile=resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def check_memory(examination: Examination, there: Machine) -> Iterator[Finding]:
    """Add up the memory limits."""
    limited = [(spec, spec.limits.memory) for spec in examination.processes if spec.limits.memory]
    for spec, limit in limited:
        if limit > there.memory:
            yield warning(
                f"its memory limit of {format_bytes(limit)} is more than the machine has ({format_bytes(there.memory)})",
                where=spec.name,
                advice=f"lower limits.memory of [processes.{spec.name}]",
            )
    total = sum(limit * spec.instances for spec, limit in limited)
    if total > there.memory:
        listed = " + ".join(f"{spec.name} {_times(spec)}{format_bytes(limit)}" for spec, limit in limited)
        yield warning(
            f"the memory limits together are {format_bytes(total)} of {format_bytes(there.memory)}: {listed}",
            where="memory",
            advice="lower limits or instances, so that the limits act before the kernel has to kill",
        )
    elif limited:
        yield ok(f"limits of {format_bytes(total)} in {format_bytes(there.memory)}", where="memory")


def _times(spec: ProcessSpec) -> str:
    return f"{spec.instances} x " if spec.instances > 1 else ""


def check_open_files(examination: Examination, there: Machine) -> Iterator[Finding]:
    """Compare limits.nofile with the hard limit that only root may raise."""
    for spec in examination.processes:
        wanted = spec.limits.nofile
        if wanted and 0 <= there.nofile < wanted and examination.euid != 0:
            yield warning(
                f"limits.nofile is {wanted}, and more than {there.nofile} are not allowed to you",
                where=spec.name,
                advice="raise the hard limit (ulimit -H -n, LimitNOFILE= of the service), or lower nofile",
            )


def check_hard_limits(examination: Examination) -> Iterator[Finding]:
    """Look whether the kernel can enforce what ``hard = true`` asks for."""
    for spec in examination.processes:
        if not spec.limits.hard:
            continue
        reason = cgroups.why_not(spec.limits)
        if reason:
            yield problem(
                f"limits.hard cannot be kept here: {reason}",
                where=spec.name,
                advice="run the supervisor by `oxherd service install` (Delegate=yes), as root, or without hard = true",
            )
        else:
            yield ok("hard limits can be kept by cgroups", where=spec.name)


def check_disk(examination: Examination) -> Iterator[Finding]:
    """Look whether logs can be written, and whether there is room for what rotation keeps."""
    oxfile = examination.oxfile
    wanted: dict[str, int] = {}
    names: dict[str, str] = {}
    own = examination.home.logs(stack_id(oxfile.path)) if oxfile else examination.home.state
    for spec in examination.processes:
        logs = spec.logs
        for path in dict.fromkeys((logs.file or os.path.join(own, "log"), logs.error_file or logs.file or "")):
            if path:
                folder = _existing(os.path.dirname(path))
                wanted[folder] = wanted.get(folder, 0) + logs.max_bytes * (logs.max_files + 1)
                names.setdefault(folder, spec.name)
    for folder, budget in wanted.items() if wanted else [(_existing(own), 0)]:
        yield from _room(folder, budget, names.get(folder, "disk"), examination.euid)


def _existing(path: str) -> str:
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def _room(folder: str, budget: int, name: str, euid: int) -> Iterator[Finding]:
    if euid != 0 and not os.access(folder, os.W_OK | os.X_OK):
        yield problem(
            f"its logs cannot be written: {folder} is not writable", where=name, advice=f"change the owner of {folder}"
        )
        return
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    if free < _LITTLE or not (status.f_favail or not status.f_files):
        yield problem(
            f"{format_bytes(free)} are free",
            where=folder,
            advice="make room: logs are kept in memory only while the disk is full",
        )
    elif free < budget:
        yield warning(
            f"{format_bytes(free)} are free, and the logs may grow to {format_bytes(budget)} before compression",
            where=folder,
            advice="lower max_size_mb or max_files under logs",
        )
    else:
        yield ok(f"{format_bytes(free)} are free for logs", where=folder)
