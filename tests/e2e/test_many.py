"""Two hundred processes are no different from two."""

from __future__ import annotations

import os
import random
import signal

from support.harness import descendants, program

COUNT = 200


def test_two_hundred_processes(ox):
    """Started, shown, killed at random, stopped: each comes back once, none is left, no descriptor is lost."""
    ox.oxfile("".join(f'[processes.p{number:03d}]\ncommand = "sleep 100000"\n' for number in range(COUNT)))
    ox.ok("start")
    rows = ox.rows()
    assert [row["status"] for row in rows] == ["running"] * COUNT
    assert len({row["pid"] for row in rows}) == COUNT
    assert len(ox.ok("status").out.splitlines()) == COUNT + 1
    before = ox.fds()
    chosen = random.Random(1).sample(rows, 60)
    for row in chosen:
        os.kill(row["pid"], signal.SIGKILL)
    for row in chosen:
        ox.wait("started", name=row["name"], incarnation=2)
    ox.wait_fds(before)
    after = {row["name"]: row for row in ox.rows()}
    killed = {row["name"] for row in chosen}
    for row in rows:
        assert after[row["name"]]["restarts"] == (1 if row["name"] in killed else 0)
        assert (after[row["name"]]["pid"] != row["pid"]) == (row["name"] in killed)
    ox.ok("stop")
    assert descendants(ox.supervisor) == []


def test_a_hundred_instances_that_leave_somebody_behind(ox):
    """A hundred processes killed at once, each with a daemonized descendant: all descendants go, all come back."""
    count = 100
    ox.oxfile(
        f'[processes.web]\ncommand = "{program("escapee", "daemon")}"\ninstances = {count}\nstop_timeout_ms = 1000\n'
    )
    ox.ok("start")
    ox.wait_log("web", b"escaped ", count)
    for pid in ox.pids().values():
        os.kill(pid, signal.SIGKILL)
    for slot in range(count):
        ox.wait("started", name="web", instance=slot, incarnation=2)
    ox.wait_log("web", b"escaped ", 2 * count)
    assert len(descendants(ox.supervisor)) == 2 * count
    ox.ok("stop")
    assert descendants(ox.supervisor) == []
