"""Memory and CPU: of process trees, of the supervisor itself, and what there is to have.

One line of ``/proc/PID/stat`` a process holds all that a sample needs. Resident memory counts shared pages once for
each process, so a pool of forked workers seems larger than it is; `pss_bytes` tells the truth and costs a walk through
the page tables, so it is asked only when a limit seems to be exceeded.
"""

from __future__ import annotations

import math
import os

from oxherd.records import dataclass
from oxherd.system import placement
from oxherd.system.identity import read_file
from oxherd.system.tree import ProcessTable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["TreeSample", "memory_total", "own_memory", "pss_bytes", "sample", "sample_all", "usable_cpus"]


@dataclass(frozen=True, slots=True)
class TreeSample:
    """What a process and all its descendants use.

    Attributes:
        processes: How many there are; 0 when the process is gone.
        rss_bytes: Resident memory, shared pages counted for each.
        cpu_seconds: CPU time since they were started, that of children they have waited for included.
    """

    processes: int = 0
    rss_bytes: int = 0
    cpu_seconds: float = 0.0


def sample(pid: int, *, table: ProcessTable | None = None) -> TreeSample:
    """Return memory and CPU of a process tree.

    Args:
        pid: The process at its top.
        table: What was read already, for several trees at one time; see `sample_all`.
    """
    members = (ProcessTable.around([pid]) if table is None else table).members(pid)
    return TreeSample(
        len(members),
        sum(member.rss_pages for member in members) * os.sysconf("SC_PAGE_SIZE"),
        sum(member.cpu_ticks for member in members) / os.sysconf("SC_CLK_TCK"),
    )


def sample_all(pids: Iterable[int]) -> dict[int, TreeSample]:
    """Return a sample of each tree; ``/proc`` is read once for all of them."""
    wanted = tuple(pids)
    table = ProcessTable.around(wanted)
    return {pid: sample(pid, table=table) for pid in wanted}


def pss_bytes(pid: int) -> int:
    """Return the memory of a process tree with each shared page counted once, in parts; proc(5), smaps_rollup.

    A process whose page tables may not be read (another user's, an old kernel) counts with its resident memory.
    """
    page = os.sysconf("SC_PAGE_SIZE")
    members = ProcessTable.around([pid]).members(pid)
    return sum(_pss(member.pid) or member.rss_pages * page for member in members)


def _pss(pid: int) -> int:
    for line in (read_file(f"/proc/{pid}/smaps_rollup") or b"").split(b"\n"):
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def own_memory() -> int:
    """Return the resident memory of this process in bytes; its peak where there is no ``/proc``."""
    fields = (read_file("/proc/self/statm") or b"").split()
    if fields:
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")
    import resource  # noqa: PLC0415 - only where there is no /proc

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def usable_cpus() -> int:
    """Return how many CPUs this process may use: its affinity, and the quota of its cgroup rounded up. At least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = placement.cpu_quota()
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def memory_total() -> int:
    """Return how much memory there is to have, in bytes: the machine's, or the limit of the cgroup if that is less."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = placement.memory_limit()
    return machine if limit is None else min(machine, limit)
