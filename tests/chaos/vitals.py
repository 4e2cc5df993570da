"""What the supervisor costs and what is left lying about: descriptors, memory, processes nobody knows, zombies."""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from oxherd.system.identity import mark_of, read_stat
from support import leftovers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from support.harness import Row, Supervised

__all__ = ["descriptors", "memory", "strays", "zombies", "zygotes"]

_NUMBER = re.compile(r"(?<=\.log)\.[0-9]+$")


def descriptors(pid: int) -> Counter[str]:
    """Return what the descriptors of a process lead to, by kind; numbers of inodes and of files are left out.

    In the middle of a rotation the file that is open has a number in its name, and is the log all the same.

    A pipe that once held part of a line has a file of the spool from then on. How many have is chance; that there are more
    than pipes is not, and is all that is told of them.
    """
    found: Counter[str] = Counter()
    spooled = 0
    folder = f"/proc/{pid}/fd"
    for name in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):
            target = os.readlink(f"{folder}/{name}").partition(":[")[0]
            if os.path.basename(os.path.dirname(target)) == "spool":
                spooled += 1
            else:
                found[_NUMBER.sub("", target)] += 1
    found["spool beyond the pipes"] = max(0, spooled - found["pipe"])
    return found


def memory(pid: int) -> int:
    """Return the resident memory of a process in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def zygotes(ox: Supervised, rows: Iterable[Row]) -> dict[str, set[int]]:
    """Return the zygotes that live, by the name of their process.

    A worker is forked from a zygote and has its environment, hence its mark: it is told by its row.
    """
    workers = {row["pid"] for row in rows}
    found: dict[str, set[int]] = {}
    for pid, mark in ox.marked().items():
        parts = mark.split("/")
        if len(parts) > 2 and parts[-2] == "zygote" and pid not in workers:
            found.setdefault(parts[-3], set()).add(pid)
    return found


def strays(ox: Supervised, rows: list[Row], beside: set[int]) -> list[str]:
    """Return the processes with marks of this home that neither the status shows nor a zygote explains."""
    known = {row["pid"] for row in rows} | beside
    known |= {pid for pids in zygotes(ox, rows).values() for pid in pids}
    found = []
    for pid, mark in ox.marked().items():
        stat = read_stat(pid)
        if pid not in known and stat is not None and stat.living and stat.ppid not in known and mark_of(pid) == mark:
            found.append(f"{leftovers.describe(pid)}, marked {mark}")
    return found


def zombies(supervisor: int) -> list[int]:
    """Return the dead children that the supervisor has not reaped."""
    return leftovers.zombies_of(supervisor)
