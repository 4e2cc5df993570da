"""Supervisors: memory, starts, status, recovery and idleness, with programs that do nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import programs
from frame import Figure, Measure
from frame.places import BIN
from frame.processes import alive, children, end, idleness, pss, rss, wait_for
from herd import Herd, HerdKind
from herds import HERDS

__all__ = ["PACKAGES", "at_size", "figures_at", "measures"]

PACKAGES = ("oxherd", "supervisor", "circus", "pm2", "node", "oxmgr")
# What a supervisor that never looked at its program again would do, in this language: a limit, not a peer.
FLOOR_LOOP = """
import subprocess, sys
marks, program, count = sys.argv[1], sys.argv[2:-1], int(sys.argv[-1])
kept = [subprocess.Popen([*(word.replace("INDEX", str(index)) for word in program)]) for index in range(count)]
"""
FLOOR_WATCH = """
import os, select, subprocess, sys
while True:
    child = subprocess.Popen(sys.argv[1:])
    select.select([os.pidfd_open(child.pid)], [], [])
    child.wait()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """Bare Python doing the least that could be done; its name keeps it out of the comparison."""

    name: str = "floor: bare Python"

    def missing(self) -> str | None:
        """Return None: it is always there."""
        return None


FLOOR = Floor()


def shown(count: int) -> str:
    """Return a number of programs as figures are named."""
    return f"{count:,}"


def empty(kind: HerdKind | Floor, *, watch: float) -> dict[str, float]:
    """Return what it takes to do nothing for nobody."""
    if isinstance(kind, Floor):
        begun = time.monotonic()
        child = subprocess.Popen([BIN / "python", "-c", "print(1, flush=True); input()"], **PIPES)
        child.stdout.readline()
        ready = time.monotonic() - begun
        found = {"exec to ready": ready * 1000, "RSS, empty": rss(child.pid), "PSS, empty": pss([child.pid])}
        child.communicate(b"\n")
        return found
    with kind.open(lambda _: []) as herd:
        ready = herd.empty()
        time.sleep(1)  # what it does once after its start is not idleness
        quiet = idleness(herd.pid, watch)
        return {
            "exec to ready": ready * 1000,
            "RSS, empty": rss(herd.pid),
            "PSS, empty": pss(herd.own()),
            "idle CPU, empty": quiet.cpu_ms,
            "wake-ups, empty": quiet.wakeups,
        }


PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
EMPTY = (
    Figure(name="exec to ready", unit="ms", about="until the control socket accepts, without programs"),
    Figure(name="RSS, empty", unit="MB", about="of the supervisor's process"),
    Figure(name="PSS, empty", unit="MB", about="of the supervisor and its helpers; what is shared counts by its share"),
    Figure(name="idle CPU, empty", unit="ms a minute"),
    Figure(name="wake-ups, empty", unit="a minute", about="voluntary context switches of all threads"),
)


def figures_at(count: int) -> tuple[Figure, ...]:
    """Return the figures of `at_size`."""
    many = shown(count)
    return (
        Figure(name=f"start of {many}", unit="s", about="launch of the command until the last first instruction"),
        Figure(name=f"start of {many}, first to last", unit="s", about="between first instructions"),
        Figure(name=f"start command of {many}", unit="s", about="until the command has returned"),
        Figure(name=f"RSS at {many}", unit="MB"),
        Figure(name=f"PSS at {many}", unit="MB"),
        Figure(name=f"status at {many}", unit="ms", about="wall time of the command, several a round"),
        Figure(name=f"idle CPU at {many}", unit="ms a minute"),
        Figure(name=f"wake-ups at {many}", unit="a minute"),
        Figure(name=f"control requests at {many}", unit="a second", better="more", about="status of all, one client"),
        Figure(name=f"restart of one of {many}", unit="ms", about="launch of the command until the first instruction"),
        Figure(name=f"stop of {many}", unit="s", about="launch of the command until none is left"),
    )


def timed(what) -> float:
    """Return the milliseconds of a call."""
    begun = time.monotonic()
    what()
    return (time.monotonic() - begun) * 1000


def at_size(kind: HerdKind | Floor, *, count: int, watch: float, asks: int, rate: float) -> dict[str, object]:
    """Start so many programs and return what that costs, and what one may ask meanwhile."""
    if isinstance(kind, Floor):
        return floor_at(count, asks)
    many = shown(count)
    with kind.open(lambda marks: [programs.idle(marks, index) for index in range(count)]) as herd:
        herd.start()
        returned = time.monotonic()
        herd.settled()
        at = [mark.at for mark in herd.marks.look()[:count]]
        # Until each counts as started (supervisord: a second), so that nothing of the start is in what follows.
        time.sleep(2)
        found: dict[str, object] = {
            f"start of {many}": max(at) - herd.launched,
            f"start of {many}, first to last": max(at) - min(at),
            f"start command of {many}": returned - herd.launched,
            f"RSS at {many}": rss(herd.pid),
            f"PSS at {many}": pss(herd.own()),
            f"status at {many}": [timed(herd.status) for _ in range(asks)],
        }
        quiet = idleness(herd.pid, watch)
        found |= {f"idle CPU at {many}": quiet.cpu_ms, f"wake-ups at {many}": quiet.wakeups}
        found[f"control requests at {many}"] = herd.rate(rate)
        before, begun = len(herd.marks.look()), time.monotonic()
        herd.restart(count // 2)
        (again,) = herd.marks.wait(1, since=before)
        found[f"restart of one of {many}"] = (again.at - begun) * 1000
        time.sleep(2)
        found[f"stop of {many}"] = stopped(herd)
        return found


def stopped(herd: Herd) -> float:
    """Stop all programs; return the seconds until none is left."""
    pids = [mark.pid for mark in herd.marks.latest().values()]
    begun = time.monotonic()
    herd.stop()
    return wait_for(lambda: not any(alive(pid) for pid in pids), "the end of the programs", every=0.002) - begun


def floor_at(count: int, asks: int) -> dict[str, object]:
    """Return the same of a loop of Popen, and of an interpreter that does nothing."""
    many = shown(count)
    with tempfile.TemporaryDirectory(prefix="bh") as name:
        marks = programs.Marks(Path(name) / "marks")
        command = [word.replace("987654", "INDEX") for word in programs.idle(marks.path, 987654)]
        begun = time.monotonic()
        subprocess.run([BIN / "python", "-c", FLOOR_LOOP, "", *command, str(count)], check=True)
        at = [mark.at for mark in marks.wait(count)]
        for mark in marks.look():
            os.kill(mark.pid, signal.SIGKILL)
        bare = [sys.executable, "-c", ""]
        return {
            f"start of {many}": max(at) - begun,
            f"start of {many}, first to last": max(at) - min(at),
            f"status at {many}": [timed(partial(subprocess.run, bare, check=True)) for _ in range(asks)],
        }


CRASH = (
    Figure(name="crash to new pid", unit="ms", about="SIGKILL until the supervisor has another child"),
    Figure(name="crash to first instruction", unit="ms", about="SIGKILL until the successor's first instructions"),
)


def crash(kind: HerdKind | Floor, *, kills: int) -> dict[str, list[float]]:
    """Kill programs that have run a while, each once, so that nobody backs off yet."""
    if isinstance(kind, Floor):
        return floor_crash(kills)
    with kind.open(lambda marks: [programs.idle(marks, index) for index in range(2 * kills)]) as herd:
        herd.start()
        herd.settled()
        time.sleep(2)  # what dies within a second of its start has not started to supervisord and PM2
        pids: list[float] = []
        firsts: list[float] = []
        victims = herd.marks.latest()
        for index in range(2 * kills):
            before, known = len(herd.marks.look()), set(children(herd.pid))
            victim = victims[index].pid
            begun = time.monotonic()
            os.kill(victim, signal.SIGKILL)
            if index % 2 and victim in known:
                # Looking this often takes a processor: never while the first instruction is timed.
                fresh = wait_for(lambda known=known: set(children(herd.pid)) - known, "a new pid", every=0.00005)
                pids.append((fresh - begun) * 1000)
                herd.marks.wait(1, since=before)
            else:
                (again,) = herd.marks.wait(1, since=before)
                firsts.append((again.at - begun) * 1000)
            time.sleep(0.05)  # apart, so that one recovery is not part of the next
        return {"crash to new pid": pids, "crash to first instruction": firsts}


def floor_crash(kills: int) -> dict[str, list[float]]:
    """Return the same of a loop that waits for the pidfd of its only child and starts it anew."""
    with tempfile.TemporaryDirectory(prefix="bh") as name:
        marks = programs.Marks(Path(name) / "marks")
        loop = subprocess.Popen([BIN / "python", "-c", FLOOR_WATCH, *programs.idle(marks.path, 0)])
        firsts = []
        try:
            marks.wait(1)
            for _ in range(kills):
                before = len(marks.look())
                time.sleep(0.2)
                begun = time.monotonic()
                os.kill(marks.look()[-1].pid, signal.SIGKILL)
                (again,) = marks.wait(1, since=before)
                firsts.append((again.at - begun) * 1000)
        finally:
            end(loop.pid, signal.SIGKILL)
            loop.wait()
            os.kill(marks.look()[-1].pid, signal.SIGKILL)
        return {"crash to first instruction": firsts}


def measures(*, quick: bool) -> list[Measure]:
    """Return what is measured of supervisors."""
    watch, asks, rate = (2.0, 3, 0.5) if quick else (10.0, 9, 2.0)
    peers = (*HERDS, FLOOR)
    return [
        Measure(name="empty", figures=EMPTY, peers=peers, run=partial(empty, watch=watch)),
        *(
            Measure(
                name=f"at {shown(count)}",
                figures=figures_at(count),
                peers=peers,
                run=partial(at_size, count=count, watch=watch, asks=asks, rate=rate),
            )
            for count in ((1, 25) if quick else (1, 25, 100))
        ),
        Measure(name="crash", figures=CRASH, peers=peers, run=partial(crash, kills=2 if quick else 5)),
    ]
