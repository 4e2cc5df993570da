"""Whose child a process is, as the kernel has it, whatever anybody says."""

from __future__ import annotations

import os

from oxherd.system.identity import read_file, read_stat

__all__ = ["forked_by"]

# What fdinfo says of a process that has been reaped; pidfd_open(2).
_ENDED = -1


def forked_by(pid: int, pidfd: int, zygote: int) -> bool:
    """Return whether a process that a zygote tells of is its child, as the kernel has it.

    A zygote runs an app's code, perhaps as a user who may signal nobody else. Were it believed, it could name any process
    of the machine, and a supervisor that is root would kill that one in the end.

    Args:
        pid: What it says the child's pid is.
        pidfd: The descriptor it sent with it, -1 for none.
        zygote: Its own pid.
    """
    if pidfd >= 0 and _process_of(pidfd) not in {pid, _ENDED}:
        return False
    stat = read_stat(pid)
    if stat is None:
        # It has ended and its parent has reaped it: there is nobody to be taken for it.
        return pidfd >= 0 and _process_of(pidfd) == _ENDED
    if stat.ppid == zygote:
        return True
    # A zygote that has died since left its children to the supervisor.
    left = read_stat(zygote)
    return stat.ppid == os.getpid() and (left is None or not left.living)


def _process_of(pidfd: int) -> int | None:
    """Return the pid behind a pidfd, `_ENDED`, or None where the descriptor is something else."""
    for line in (read_file(f"/proc/self/fdinfo/{pidfd}") or b"").splitlines():
        name, _, number = line.partition(b":")
        if name == b"Pid":
            return int(number)
    return None
