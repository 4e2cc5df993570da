"""Under a systemd that has really booted: what happens to the supervisor does not happen to what it runs."""

from __future__ import annotations

import pytest

from support.booted import UNIT
from support.harness import program

pytestmark = pytest.mark.needs_root

STACK = f'[processes.web]\ncommand = "{program("sleeper")}"\n[processes.worker]\ncommand = "{program("sleeper")}"\n'


def test_after_kill_9_the_same_processes_run(machine, service):
    """systemd starts another supervisor, which adopts them: same pids, no restart counted."""
    service.install()
    service.up(STACK)
    before = service.wait_running("web", "worker")
    first = machine.supervisor
    machine.kill(first, "KILL")
    machine.wait_other_supervisor(first)
    assert service.wait_running("web", "worker") == before
    assert {row["restarts"] for row in service.rows().values()} == {0}
    machine.run("systemctl", "stop", UNIT)
    assert machine.marked() == [], "adopted ones are stopped like its own"


def test_after_the_watchdog_the_same_processes_run(machine, service):
    """A supervisor that hangs costs its programs nothing."""
    service.install(WatchdogSec="2")
    service.up(STACK)
    before = service.wait_running("web", "worker")
    first = machine.supervisor
    machine.kill(first, "STOP")
    machine.wait_other_supervisor(first)
    assert service.wait_running("web", "worker") == before


def test_systemctl_reload_is_an_upgrade(machine, service):
    """The supervisor is re-exec'd: same main pid, same programs, ready again."""
    service.install()
    service.up(STACK)
    before = service.wait_running("web", "worker")
    first = machine.supervisor
    machine.run("systemctl", "reload", UNIT)
    machine.wait_show(SubState="running", StatusText="2 processes run")
    assert machine.supervisor == first
    assert machine.show("NRestarts") == {"NRestarts": "0"}
    assert service.wait_running("web", "worker") == before
