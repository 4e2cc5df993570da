"""How many CPUs this process may use: the affinity mask, and the quota of its cgroup where there is one."""

from __future__ import annotations

import math
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["usable_cpus"]


def usable_cpus(root: str = "/sys/fs/cgroup", own: str = "/proc/self/cgroup") -> int:
    """Return the number of CPUs to plan for, at least 1.

    Args:
        root: Where cgroups are mounted.
        own: The file that names the cgroups of this process.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota = _quota(root, own)
    return max(1, min(count, math.ceil(quota))) if quota else max(1, count)


def _quota(root: str, own: str) -> float | None:
    """Return the smallest quota on the way from this process's cgroup to the root, in CPUs."""
    quotas: list[float] = []
    for line in _read(own).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            quotas += _walk(root, path, _quota_v2)
        elif "cpu" in controllers.split(","):
            for mount in ("cpu", "cpu,cpuacct"):
                quotas += _walk(os.path.join(root, mount), path, _quota_v1)
    return min(quotas, default=None)


def _walk(base: str, path: str, read: Callable[[str], float | None]) -> list[float]:
    found: list[float] = []
    parts = [part for part in path.split("/") if part and part != ".."]
    # A container sees its own cgroup as the root, whatever path /proc/self/cgroup names.
    for length in range(len(parts), -1, -1):
        quota = read(os.path.join(base, *parts[:length]))
        if quota:
            found.append(quota)
    return found


def _quota_v2(folder: str) -> float | None:
    quota, _, period = _read(os.path.join(folder, "cpu.max")).strip().partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _quota_v1(folder: str) -> float | None:
    quota = _read(os.path.join(folder, "cpu.cfs_quota_us")).strip()
    period = _read(os.path.join(folder, "cpu.cfs_period_us")).strip()
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(65536)
    except OSError:
        return ""
