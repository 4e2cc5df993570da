"""What dies comes back, and a crash loop ends."""

from __future__ import annotations

import os
import signal

import pytest

from support.harness import program
from support.waiting import wait_gone


def test_a_killed_process_is_replaced(ox):
    """kill -9 of the main process: a new one is exec'd because of that exit, counted as one restart."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper")}"\n')
    ox.ok("start")
    first = ox.pid("web")
    os.kill(first, signal.SIGKILL)
    ended = ox.wait("ended", name="web")
    again = ox.wait("started", name="web", incarnation=2)
    row = ox.wait_row("web", status="running")
    assert ended["text"].startswith("web: ended: killed by SIGKILL")
    assert row["pid"] == again["pid"] != first
    assert row["restarts"] == 1
    assert ox.events.matching("backoff") == [], "with restart_delay_ms = 0 the first restart is immediate"


def test_why_shows_the_signal_and_the_last_lines(ox):
    """`why` keeps what a killed process last said, and says that the signal was not Oxherd's."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper", "quite")}"\n')
    ox.ok("start")
    ox.wait_log("web", b"ready")
    os.kill(ox.pid("web"), signal.SIGSEGV)
    ox.wait("started", name="web", incarnation=2)
    text = ox.ok("why", "web").out
    assert "SIGSEGV" in text
    assert "| ready" in text
    assert "came from outside Oxherd, or from the program itself" in text


def test_what_exits_at_once_fifteen_times_is_crashed(ox):
    """max_restarts = 15: sixteen runs, then `crashed`; `start` says so with the cause; `restart` begins anew."""
    ox.oxfile(
        f'[processes.web]\ncommand = "{program("exits", 7)}"\n'
        "max_restarts = 15\nrestart_delay_max_ms = 1\nrestart_delay_ms = 1\n"
    )
    started = ox.cli("start")
    assert started.code == 1
    assert "exited with 7" in started.err
    assert "last words" in started.err
    ox.wait("crashed", name="web")
    assert len(ox.events.matching("started", name="web")) == 16
    row = ox.row("web")
    assert (row["status"], row["restarts"], row["pid"]) == ("crashed", 15, None)
    assert "exited with 7" in ox.ok("why", "web").out
    assert ox.cli("restart", "web").code == 1
    ox.wait("crashed", name="web", count=2)
    assert ox.row("web")["restarts"] == 15, "a restart by a person counts from the beginning"


def test_a_process_that_never_restarts_is_exited(ox):
    """restart = "never": the exit stands, with its code, and nothing is started again."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("exits", 3, "go")}"\nrestart = "never"\n')
    ox.ok("start")
    (ox.folder / "go").touch()
    ox.wait("exited", name="web")
    row = ox.row("web")
    assert (row["status"], row["exit"]["code"], row["restarts"]) == ("exited", 3, 0)
    assert len(ox.events.matching("started")) == 1


@pytest.mark.parametrize(("restart", "comes_back"), [("always", True), ("on-failure", False)])
def test_an_exit_with_success_is_restarted_only_always(ox, restart, comes_back):
    """A service that ends with 0 comes back under "always" and stays down under "on-failure"."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("exits", 0, "go")}"\nrestart = "{restart}"\n')
    ox.ok("start")
    (ox.folder / "go").touch()
    ox.wait("ended", name="web")
    if comes_back:
        ox.wait("started", name="web", incarnation=2)
    else:
        ox.wait("exited", name="web")
        assert ox.row("web")["status"] == "exited"


def test_back_off_grows_and_a_start_cuts_it_short(ox):
    """While a process waits for its next try, `start` tries at once."""
    ox.oxfile(
        f'[processes.web]\ncommand = "{program("exits", 1, "go")}"\n'
        "restart_delay_ms = 3600000\nrestart_delay_max_ms = 3600000\n"
    )
    ox.ok("start")
    (ox.folder / "go").touch()
    ox.wait("backoff", name="web")
    assert ox.wait_row("web", status="backoff")["pid"] is None
    (ox.folder / "go").unlink()
    ox.ok("start", "web")
    assert ox.row("web")["status"] == "running"


def test_a_stop_during_back_off_is_final(ox):
    """A process that is stopped while it waits for its next try does not come back."""
    ox.oxfile(
        f'[processes.web]\ncommand = "{program("exits", 1, "go")}"\n'
        "restart_delay_ms = 3600000\nrestart_delay_max_ms = 3600000\n"
    )
    ox.ok("start")
    (ox.folder / "go").touch()
    ox.wait("backoff", name="web")
    ox.ok("stop")
    assert ox.row("web")["status"] == "stopped"


def test_a_stopped_program_that_is_killed_from_outside_meanwhile(ox):
    """SIGKILL by somebody else during a stop: the stop is over, nothing is restarted."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("ignores_term")}"\nstop_timeout = "60s"\n')
    ox.ok("start")
    ox.wait_log("web", b"ready")
    pid = ox.pid("web")
    stop = ox.popen("stop")
    ox.wait("stopping", name="web")
    os.kill(pid, signal.SIGKILL)
    out, _ = stop.communicate()
    assert stop.returncode == 0, out
    wait_gone(pid)
    assert ox.row("web")["status"] == "stopped"
    assert ox.events.matching("started", incarnation=2) == []


def test_kill_storm_loses_no_restart(ox):
    """Ten instances killed at once, five times over: all come back, none twice, no descriptor is lost."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper")}"\ninstances = 10\n')
    ox.ok("start")
    before = ox.fds()
    for _ in range(5):
        pids = ox.pids()
        position = ox.events.position
        for pid in pids.values():
            os.kill(pid, signal.SIGKILL)
        for slot in range(10):
            ox.wait("started", name="web", instance=slot, after=position)
            ox.wait_row(f"web:{slot}", status="running")
        assert not set(pids.values()) & set(ox.pids().values())
    assert {row["restarts"] for row in ox.rows()} == {5}
    ox.wait_fds(before)
