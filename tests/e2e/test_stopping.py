"""A stop ends, and leaves nothing."""

from __future__ import annotations

import os
import signal

import pytest

from support.harness import descendants, program
from support.waiting import wait_gone


def test_a_stop_asks_with_the_stop_signal(ox):
    """The main process gets the stop signal of the oxfile and goes by itself."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("says_goodbye")}"\nstop_signal = "SIGUSR2"\n')
    ox.ok("start")
    ox.wait_log("web", b"ready")
    ox.ok("stop")
    assert b"goodbye it SIGUSR2" in ox.log("web")
    row = ox.row("web")
    assert (row["status"], row["exit"]["code"], row["pid"]) == ("stopped", 0, None)
    assert ox.events.matching("killed") == []


def test_what_ignores_term_is_killed_at_its_stop_timeout(ox):
    """SIGKILL after stop_timeout_ms, said in the events; the command still succeeds."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("ignores_term")}"\nstop_timeout_ms = 300\n')
    ox.ok("start")
    ox.wait_log("web", b"ready")
    pid = ox.pid("web")
    ox.ok("stop")
    assert not os.path.exists(f"/proc/{pid}")
    killed = ox.wait("killed", name="web")
    assert "still there after 0.3 s" in killed["text"]
    assert ox.row("web")["exit"]["signal"] == signal.SIGKILL


def test_a_stopped_program_is_stopped_too(ox):
    """A program under SIGSTOP cannot answer a signal; the stop timeout ends it."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper")}"\nstop_timeout_ms = 300\n')
    ox.ok("start")
    os.kill(ox.pid("web"), signal.SIGSTOP)
    ox.ok("stop")
    assert ox.row("web")["status"] == "stopped"


def test_a_second_stop_waits_for_the_first(ox):
    """Two stops at once: both end when the process is gone, and both succeed."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("ignores_term")}"\nstop_timeout_ms = 500\n')
    ox.ok("start")
    ox.wait_log("web", b"ready")
    first = ox.popen("stop")
    ox.wait("stopping", name="web")
    ox.ok("stop")
    assert ox.row("web")["status"] == "stopped"
    first.communicate()
    assert first.returncode == 0


def test_a_stop_that_is_not_waited_for_goes_on(ox):
    """`stop --timeout` gives up waiting with exit 1; everything is stopped all the same, dependencies included."""
    ox.oxfile(
        f'[processes.db]\ncommand = "{program("sleeper")}"\n'
        f'[processes.web]\ncommand = "{program("ignores_term")}"\nstop_timeout_ms = 1500\ndepends_on = ["db"]\n'
    )
    ox.ok("start")
    ox.wait_log("web", b"ready")
    result = ox.cli("stop", "--timeout", "0.2")
    assert result.code == 1
    assert "goes on" in result.err
    ox.wait("stopped", name="web")
    ox.wait("stopped", name="db")


def test_start_during_a_stop_brings_it_back(ox):
    """What is started while it goes comes back as soon as it is gone; the stop says that it was overruled."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("ignores_term")}"\nstop_timeout = "1h"\n')
    ox.ok("start")
    ox.wait_log("web", b"ready")
    pid = ox.pid("web")
    stop = ox.popen("stop")
    ox.wait("stopping", name="web")
    start = ox.popen("start")
    out, _ = stop.communicate()
    assert stop.returncode == 1
    assert "started again meanwhile" in out
    os.kill(pid, signal.SIGKILL)
    start.communicate()
    assert start.returncode == 0
    row = ox.row("web")
    assert row["status"] == "running"
    assert row["pid"] != pid
    ox.wait_log("web", b"ready", 2)
    stop = ox.popen("stop")
    ox.wait("stopping", name="web", incarnation=2)
    os.kill(row["pid"], signal.SIGKILL)
    stop.communicate()


def test_stop_while_it_waits_to_start(ox):
    """A process in its start delay is stopped without ever being exec'd."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper")}"\nstart_delay_ms = 3600000\n')
    start = ox.popen("start")
    ox.wait_for_supervisor()
    ox.wait("waiting", name="web")
    ox.ok("stop")
    start.communicate()
    assert start.returncode == 1
    assert ox.row("web")["status"] == "stopped"
    assert ox.events.matching("started") == []


def test_a_program_that_forks_while_it_is_killed(ox):
    """Chains of processes of which no two looks see the same one: all of them are gone after the stop."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("forks_for_ever")}"\nstop_timeout_ms = 300\n')
    ox.ok("start")
    ox.wait_log("web", b"ready")
    ox.ok("stop")
    assert descendants(ox.supervisor) == []


def test_one_instance_is_stopped_alone(ox):
    """`stop web:1` leaves web:0 as it is."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper")}"\ninstances = 2\n')
    ox.ok("start")
    before = ox.pids()
    ox.ok("stop", "web:1")
    assert ox.pids() == {"web:0": before["web:0"], "web:1": None}
    ox.ok("start", "web:1")
    assert ox.row("web:1")["status"] == "running"
    assert ox.pid("web:0") == before["web:0"]


def test_stopping_what_is_stopped_is_no_error(ox):
    """A stop of a stopped stack succeeds and changes nothing."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper")}"\n')
    ox.ok("start")
    ox.ok("stop")
    ox.ok("stop")
    assert ox.row("web")["status"] == "stopped"


@pytest.mark.parametrize("verb", ["stop", "restart", "delete"])
def test_an_unknown_name_touches_nothing(ox, verb):
    """A name that does not exist is a usage error that lists what there is."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper")}"\n')
    ox.ok("start")
    pid = ox.pid("web")
    result = ox.cli(verb, "web", "wbe")
    assert result.code == 2
    assert "web" in result.err
    assert ox.pid("web") == pid


def test_delete_forgets(ox):
    """`delete` stops the process, and it is not shown any more; the stack goes with its last process."""
    ox.oxfile(f'[processes.a]\ncommand = "{program("sleeper")}"\n[processes.b]\ncommand = "{program("sleeper")}"\n')
    ox.ok("start")
    pid = ox.pid("a")
    ox.ok("delete", "a")
    wait_gone(pid)
    assert [row["name"] for row in ox.rows()] == ["b"]
    ox.ok("delete")
    assert ox.request("stacks")["stacks"] == []
    assert not (ox.state_of_stack() / "stack.json").exists()


def test_one_instance_cannot_be_deleted(ox):
    """`delete web:1` is refused with what to type instead: the others would run on without anybody knowing of them."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper")}"\ninstances = 2\n')
    ox.ok("start")
    before = ox.pids()
    result = ox.cli("delete", "web:1")
    assert result.code == 2
    assert "oxherd scale web-1" in result.err
    assert ox.pids() == before


def test_nothing_is_started_while_the_supervisor_stops(ox):
    """A `start` that comes into a `daemon stop` is refused: what it started would be left without a supervisor."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("ignores_term")}"\nstop_timeout = "1h"\n')
    ox.ok("start")
    ox.wait_log("web", b"ready")
    pid, supervisor = ox.pid("web"), ox.supervisor
    stop = ox.popen("daemon", "stop")
    ox.wait("stopping", name="web")
    here = ox.ok("status", "--json").json
    assert here[0]["status"] == "stopping"
    for verb in ("start", "restart", "apply"):
        result = ox.cli(verb)
        assert result.code == 1
        assert "the supervisor is stopping" in result.err
    ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper")}"\n', folder="other")
    assert ox.cli("start").code == 1
    os.kill(pid, signal.SIGKILL)
    out, _ = stop.communicate()
    assert stop.returncode == 0, out
    wait_gone(supervisor)
    ox.hang_up()
    assert ox.marked() == {}
