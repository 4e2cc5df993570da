"""The service under a systemd that has really booted: started, watched, killed, stopped, rebooted."""

from __future__ import annotations

import pytest

from support.booted import UNIT
from support.harness import program
from support.waiting import DEADLINE, wait_until

pytestmark = pytest.mark.needs_root

SLEEPER = f'[processes.web]\ncommand = "{program("sleeper")}"\n'
STUBBORN = f'[processes.web]\ncommand = "{program("ignores_term")}"\n'


def test_systemd_counts_it_as_started_when_it_takes_commands_and_shows_what_runs(machine, service):
    """READY ends the start job; STATUS follows the processes, the crashed ones too."""
    service.install()
    assert machine.show("Type", "SubState", "StatusText") == {
        "Type": "notify",
        "SubState": "running",
        "StatusText": "0 processes run",
    }
    service.up(SLEEPER + "instances = 2\n")
    machine.wait_show(StatusText="2 processes run")
    service.folder.joinpath("oxfile.toml").write_text(
        SLEEPER + f'instances = 2\n[processes.bad]\ncommand = "{program("exits", 3)}"\nmax_restarts = 1\n'
    )
    machine.try_("oxherd", "start", "--config", "/srv/oxfile.toml")
    machine.wait_show(StatusText="2 processes run, 1 crashed")


def test_nothing_of_the_service_reaches_the_programs(machine, service):
    """A program with an sd_notify of its own must not speak for the supervisor."""
    service.install()
    service.up(f'[processes.web]\ncommand = "{program("shows_env")}"\n')
    pid = service.wait_running("web")["web"]
    environ = machine.run("cat", f"/proc/{pid}/environ").split("\0")
    names = {entry.partition("=")[0] for entry in environ}
    assert "OXHERD_MARK" in names
    assert not names & {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "JOURNAL_STREAM"}


def test_after_kill_9_systemd_brings_it_back_and_the_stack_runs(machine, service):
    """A killed supervisor is back by systemd's doing; what it ran runs."""
    service.install()
    service.up(SLEEPER)
    first = machine.supervisor
    machine.kill(first, "KILL")
    machine.wait_other_supervisor(first)
    service.wait_running("web")
    assert machine.show("NRestarts") == {"NRestarts": "1"}
    assert len(machine.marked()) == 1, "nothing runs twice"


def test_a_supervisor_that_hangs_is_ended_by_the_watchdog(machine, service):
    """Its loop does not turn: systemd aborts it, the journal shows where it hung, the next one brings the stack back."""
    service.install(WatchdogSec="2")
    service.up(SLEEPER)
    first = machine.supervisor
    machine.kill(first, "STOP")
    machine.wait_other_supervisor(first)
    service.wait_running("web")
    journal = machine.journal()
    assert "Watchdog timeout" in journal
    assert "Fatal Python error: Aborted" in journal
    assert "system/loop.py" in journal
    assert len(machine.marked()) == 1, "nothing runs twice"


def test_one_that_works_is_left_alone_by_the_watchdog(machine, service):
    """With a watchdog of half a second, a sign of life comes in time, again and again."""
    service.install(WatchdogSec="500ms")
    first = machine.supervisor
    stamps: set[str] = set()

    def seen() -> bool:
        stamps.add(machine.show("WatchdogTimestampMonotonic")["WatchdogTimestampMonotonic"])
        return len(stamps) > 5

    wait_until(seen, "five signs of life")
    assert machine.supervisor == first
    assert machine.show("NRestarts") == {"NRestarts": "0"}


def test_a_stop_leaves_nothing_and_takes_the_time_it_needs(machine, service):
    """TimeoutStopSec is shorter than the stop takes; the supervisor asks for more. Escapees go too."""
    service.install(TimeoutStopSec="1")
    service.up(
        STUBBORN + "stop_timeout_ms = 3000\n"
        f'[processes.escapes]\ncommand = "{program("escapee", "daemon")}"\nstop_timeout_ms = 500\n'
    )
    wait_until(lambda: len(machine.marked()) == 3, "the escapee to have escaped")
    machine.run("systemctl", "stop", UNIT)
    assert machine.marked() == []
    assert machine.show("ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}


def test_what_a_supervisor_killed_in_the_middle_of_a_stop_leaves_is_ended(machine, service):
    """ExecStopPost: no successor comes, so nobody would ever end it."""
    service.install()
    service.up(STUBBORN + 'stop_timeout = "1h"\n')
    first = machine.supervisor
    stop = machine.start("systemctl", "stop", UNIT)
    wait_until(lambda: service.rows().get("web", {}).get("status") == "stopping", "the stop to have begun")
    assert len(machine.marked()) == 1
    machine.kill(first, "KILL")
    said, _ = stop.communicate(timeout=DEADLINE)
    assert stop.returncode == 0, said
    assert machine.marked() == []
    assert machine.supervisor == 0
    assert "ended what a supervisor left running: web:0" in machine.journal()


def test_a_supervisor_told_to_stop_stays_stopped(machine, service):
    """`oxherd daemon stop` is a clean end: systemd does not bring it back; `systemctl start` does, and the stack."""
    service.install()
    service.up(SLEEPER)
    machine.run("oxherd", "daemon", "stop")
    machine.wait_show(ActiveState="inactive")
    assert machine.show("Result", "NRestarts") == {"Result": "success", "NRestarts": "0"}
    assert machine.marked() == []
    machine.run("systemctl", "start", UNIT)
    service.wait_running("web")


def test_a_restart_and_a_reboot_bring_the_stack_back(machine, service):
    """What is wanted is up again, under a new supervisor; what was stopped is not."""
    service.install()
    service.up(SLEEPER + f'[processes.idle]\ncommand = "{program("sleeper")}"\n')
    service.oxherd("stop", "idle")
    before = service.wait_running("web")
    machine.run("systemctl", "restart", UNIT)
    service.wait_running("web", other_than=before)
    machine.reboot()
    machine.wait_show(SubState="running")
    service.wait_running("web")
    assert service.rows()["idle"]["pid"] is None
    assert len(machine.marked()) == 1


def test_one_that_cannot_start_is_tried_again_without_end(machine, service):
    """A state directory in which nothing can be written: the reason is in the status; repaired, it comes up by itself."""
    service.install()
    machine.run("systemctl", "stop", UNIT)
    state = machine.root / "var/lib/oxherd"
    state.rename(state.with_name("aside"))
    state.write_text("not a directory")
    try:
        machine.try_("systemctl", "start", UNIT)
        machine.wait_show(NRestarts="2")
        assert "oxherd: " in machine.journal()
    finally:
        state.unlink()
        state.with_name("aside").rename(state)
    machine.wait_show(SubState="running")


def test_systemd_finds_nothing_to_say_about_the_installed_unit(machine, service):
    """`systemd-analyze verify` exits with 0 whatever it finds, so it has to be silent."""
    service.install()
    done = machine.try_("systemd-analyze", "verify", "--man=no", UNIT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
