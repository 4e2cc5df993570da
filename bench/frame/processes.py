"""What /proc says of the measured, and waiting for them. Units are in the names or the docstrings."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "Idleness",
    "alive",
    "children",
    "cpu",
    "descriptors",
    "end",
    "free_port",
    "highest",
    "idleness",
    "pss",
    "rss",
    "tree",
]
__all__ += ["end_tree", "wait_for"]

DEADLINE = 60.0
TICK = os.sysconf("SC_CLK_TCK")


def wait_for(condition: Callable[[], object], what: str, *, deadline: float = DEADLINE, every: float = 0.0005) -> float:
    """Poll until it holds; return the monotonic time at which it did.

    Raises:
        TimeoutError: it did not, ``deadline`` seconds long.
    """
    last = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > last:
            raise TimeoutError(what)
        time.sleep(every)
    return time.monotonic()


def free_port() -> int:
    """Return a TCP port of the loopback nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def alive(pid: int) -> bool:
    """Say whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _field(pid: int, file: str, name: str) -> int:
    for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    return 0


def rss(pid: int) -> float:
    """Return the resident memory of one process in MB."""
    return _field(pid, "status", "VmRSS") / 1024


def highest(pid: int) -> float:
    """Return the most resident memory one process ever had, in MB."""
    return _field(pid, "status", "VmHWM") / 1024


def pss(pids: Iterable[int]) -> float:
    """Return the proportional set size of processes in MB: shared pages count by their share, proc_pid_smaps(5)."""
    return sum(_field(pid, "smaps_rollup", "Pss") for pid in pids) / 1024


def cpu(pids: Iterable[int]) -> float:
    """Return the CPU seconds, user and system, of processes and of the children they have waited for."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended: its time is its parent's now
        total += sum(int(fields[place]) for place in (11, 12, 13, 14))
    return total / TICK


def descriptors(pid: int) -> int:
    """Return how many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def children(pid: int) -> list[int]:
    """Return the direct children, of every thread."""
    found: list[int] = []
    with contextlib.suppress(OSError):  # it may end while it is looked at
        for thread in os.listdir(f"/proc/{pid}/task"):
            found += [int(child) for child in Path(f"/proc/{pid}/task/{thread}/children").read_text().split()]
    return found


def tree(pid: int) -> list[int]:
    """Return a process and everything below it."""
    found = [pid]
    for one in found:
        found += children(one)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Idleness:
    """What a process does while nothing happens: CPU milliseconds and wake-ups, each a minute."""

    cpu_ms: float
    wakeups: float


def _switches(pid: int) -> int:
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError):
            total += _field(pid, f"task/{thread}/status", "voluntary_ctxt_switches")
    return total


def _run_time(pid: int) -> int:
    """Return nanoseconds on a processor, of all threads: finer than the hundredths of stat, sched-stats.rst."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()[0])
    return total


def idleness(pid: int, seconds: float) -> Idleness:
    """Watch a process for so many seconds. A wake-up is a voluntary context switch of any of its threads."""
    switches, busy, begun = _switches(pid), _run_time(pid), time.monotonic()
    time.sleep(seconds)
    minutes = (time.monotonic() - begun) / 60
    return Idleness(cpu_ms=(_run_time(pid) - busy) / 1e6 / minutes, wakeups=(_switches(pid) - switches) / minutes)


def end(pid: int, number: int = signal.SIGTERM, *, deadline: float = DEADLINE) -> float:
    """Stop a process by a signal; return the seconds until it was gone."""
    begun = time.monotonic()
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
    return wait_for(lambda: not alive(pid), f"the end of process {pid}", deadline=deadline) - begun


def end_tree(pid: int) -> None:
    """Kill a process and all below it: for the clean-up after a failure, when asking nicely did not do."""
    for one in reversed(tree(pid)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)
