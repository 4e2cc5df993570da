"""What a process ever started ends with it, however it tries to get away."""

from __future__ import annotations

import os
import re
import signal

import pytest

from support.harness import descendants, program
from support.leftovers import zombies_of
from support.waiting import wait_gone, wait_until

WAYS = ["child", "double-fork", "setsid", "daemon", "nameless", "silent"]


def escaped(ox, name: str = "web", count: int = 1) -> list[int]:
    log = ox.wait_log(name, b"escaped ", count)
    wait_until(lambda: len(re.findall(rb"escaped \d+\n", ox.log(name))) >= count, "the whole line")
    log = ox.log(name)
    return [int(pid) for pid in re.findall(rb"escaped (\d+)\n", log)]


@pytest.mark.parametrize("way", WAYS)
def test_a_stop_finds_the_escapee(ox, way):
    """Double fork, setsid, both, `env -i`, closed output: the stop ends with nothing left; TERM is not enough."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("escapee", way)}"\nstop_timeout_ms = 300\n')
    ox.ok("start")
    (pid,) = escaped(ox)
    ox.ok("stop")
    assert not os.path.exists(f"/proc/{pid}/exe"), "the escapee lives"
    assert descendants(ox.supervisor) == []


@pytest.mark.parametrize("way", WAYS)
def test_the_escapee_of_a_killed_main_ends_before_the_restart(ox, way):
    """kill -9 of the main process: what it left is gone when its successor begins; it might hold the port."""
    file = ox.base / "go"
    ox.oxfile(f'[processes.web]\ncommand = "{program("escapee", way, file)}"\nstop_timeout_ms = 300\n')
    ox.ok("start")
    (pid,) = escaped(ox)
    if way in {"nameless", "silent"}:
        (ox.base / "go.pid").write_text(str(pid))
    os.kill(ox.pid("web"), signal.SIGKILL)
    ox.wait("started", name="web", incarnation=2)
    ox.wait_log("web", b"earlier one")
    assert b"earlier one gone" in ox.log("web")
    assert not os.path.exists(f"/proc/{pid}/exe")


def test_the_escapee_of_a_crash_ends_before_the_restart(ox):
    """A main process that exits with 1 by itself: the same."""
    file = ox.base / "go"
    ox.oxfile(f'[processes.web]\ncommand = "{program("escapee", "daemon", file)}"\nstop_timeout_ms = 300\n')
    ox.ok("start")
    escaped(ox)
    file.touch()
    ox.wait("started", name="web", incarnation=2)
    ox.wait_log("web", b"earlier one")
    assert b"earlier one gone" in ox.log("web")


def test_an_escapee_of_one_process_is_not_taken_for_anothers(ox):
    """Stopping `a` leaves the escapee of `b`, although both fell to the supervisor."""
    ox.oxfile(
        "".join(
            f'[processes.{name}]\ncommand = "{program("escapee", "daemon")}"\nstop_timeout_ms = 300\n' for name in "ab"
        )
    )
    ox.ok("start")
    (first,), (second,) = escaped(ox, "a"), escaped(ox, "b")
    ox.ok("stop", "a")
    assert not os.path.exists(f"/proc/{first}/exe")
    assert os.path.exists(f"/proc/{second}/exe")
    assert ox.row("b")["status"] == "running"


def test_an_orphan_that_ends_by_itself_is_reaped(ox):
    """The supervisor is the init of what it runs: no zombie stays, whoever forked it."""
    (ox.folder / "orphans.sh").write_text(
        "#!/bin/sh\ni=0\nwhile [ $i -lt 50 ]; do (true & ) ; i=$((i+1)); done\necho done\nexec sleep 100000\n"
    )
    ox.oxfile('[processes.web]\ncommand = "sh orphans.sh"\n')
    ox.ok("start")
    ox.wait_log("web", b"done")
    main = ox.pid("web")
    supervisor = ox.supervisor
    wait_until(lambda: descendants(supervisor) == [main], "only the main process")
    wait_until(lambda: zombies_of(supervisor) == [], "no zombie")


def test_a_hundred_escapees_at_once(ox):
    """One process with a hundred daemonized descendants is stopped as a whole."""
    ox.oxfile(
        "[processes.web]\n"
        f"command = \"sh -c 'for i in $(seq 100); do {program('escapee', 'daemon')} & done; wait'\"\n"
        "stop_timeout_ms = 300\n"
    )
    ox.ok("start")
    pids = escaped(ox, count=100)
    ox.ok("stop")
    for pid in pids:
        wait_gone(pid)
    assert descendants(ox.supervisor) == []
