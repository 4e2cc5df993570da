"""The supervisor itself: how it dies, comes back, and what it brings back."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from oxherd import __version__
from oxherd.control.protocol import request_line
from support import leftovers
from support.harness import program
from support.waiting import DEADLINE, wait_gone, wait_until

if TYPE_CHECKING:
    from support.harness import Supervised


def run_daemon(ox: Supervised) -> subprocess.Popen[str]:
    """Run a supervisor as systemd does; return when it takes commands."""
    ox.hang_up()
    daemon = ox.popen("daemon", "run")
    ox.wait_for_supervisor()
    return daemon


def test_after_a_reboot_what_was_wanted_comes_back(ox):
    """Nothing runs any more, and the journal is of another boot: what was stopped stays so, the rest is started, once."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper")}"\n', folder="other")
    ox.ok("start")
    ox.ok("stop")
    stopped = ox.stack
    ox.oxfile(
        f'[processes.web]\ncommand = "{program("alone", "lock-{instance}")}"\ninstances = 2\n'
        f'[processes.worker]\ncommand = "{program("sleeper")}"\n'
    )
    ox.ok("start")
    ox.ok("stop", "worker")
    before = ox.pids()
    first = ox.kill_supervisor()
    for slot in range(2):
        os.kill(before[f"web:{slot}"], signal.SIGKILL)
        wait_gone(before[f"web:{slot}"])
    journal = Path(ox.home.state, "instances.jsonl")
    head, _, rest = journal.read_text().partition("\n")
    journal.write_text(json.dumps(json.loads(head) | {"boot": "another"}) + "\n" + rest)
    ox.ok("status")
    assert ox.supervisor != first
    for slot in range(2):
        ox.wait("ready", name="web", instance=slot, count=2)
    after = ox.pids()
    assert after["worker:0"] is None
    assert set(ox.marked()) == {after["web:0"], after["web:1"]}
    assert b"runs twice" not in ox.log("web")
    rows = {(row["stack_path"], row["name"]): row["status"] for row in ox.rows(everything=True)}
    assert rows == {(stopped, "web"): "stopped", (ox.stack, "web"): "running", (ox.stack, "worker"): "stopped"}
    assert ox.wait("stack-back")["stack_path"] == ox.stack
    assert len(ox.events.matching("stack-back")) == 1


def test_of_two_supervisors_one_wins_and_the_other_says_so(ox):
    """Two `daemon run` at once: one serves, the other ends with 1 and the reason."""
    daemons = [ox.popen("daemon", "run") for _ in range(2)]
    loser = wait_until(
        lambda: next((daemon for daemon in daemons if daemon.poll() is not None), None), "one to give up"
    )
    winner = next(daemon for daemon in daemons if daemon is not loser)
    said, _ = loser.communicate()
    assert loser.returncode == 1, said
    assert "is running already" in said
    ox.wait_for_supervisor()
    assert ox.supervisor == winner.pid


def test_term_stops_everything_and_that_is_success(ox):
    """SIGTERM to the supervisor: every process of every stack ends in its own way, exit code 0, nothing is left."""
    daemon = run_daemon(ox)
    for folder in ("one", "two"):
        ox.oxfile(
            f'[processes.web]\ncommand = "{program("says_goodbye", folder)}"\ninstances = 2\n',
            folder=folder,
        )
        ox.ok("start")
    pids = list(ox.marked())
    assert len(pids) == 4
    wait_until(lambda: all(ready_in(ox, folder) == 2 for folder in ("one", "two")), "all to be ready")
    daemon.terminate()
    said, _ = daemon.communicate(timeout=DEADLINE)
    assert daemon.returncode == 0, said
    for pid in pids:
        wait_gone(pid)
    for folder in ("one", "two"):
        assert log_in(ox, folder).count(b"goodbye") == 2
    assert not os.path.exists(ox.home.socket)


def log_in(ox: Supervised, folder: str) -> bytes:
    return (ox.state_of_stack(ox.base / folder) / "logs" / "web.log").read_bytes()


def ready_in(ox: Supervised, folder: str) -> int:
    return log_in(ox, folder).count(b"ready")


def test_what_is_wanted_comes_back_under_the_oxfile_of_now(ox):
    """`daemon stop`, an edited oxfile, `daemon run`: the stack is back with the new command; what was stopped is not."""
    ox.oxfile(
        f'[processes.web]\ncommand = "{program("sleeper", "first")}"\n'
        f'[processes.worker]\ncommand = "{program("sleeper")}"\n'
    )
    ox.ok("start")
    ox.ok("stop", "worker")
    ox.ok("daemon", "stop")
    assert ox.marked() == {}
    ox.oxfile(
        f'[processes.web]\ncommand = "{program("sleeper", "second")}"\n'
        f'[processes.worker]\ncommand = "{program("sleeper")}"\n'
    )
    daemon = run_daemon(ox)
    ox.wait("ready", name="web", count=2)
    assert f"ready {ox.pid('web')} second".encode() in ox.wait_log("web", b"second")
    assert ox.row("worker")["status"] == "stopped"
    daemon.terminate()
    daemon.communicate(timeout=DEADLINE)
    assert daemon.returncode == 0


def test_the_callers_environment_comes_back_too(ox):
    """What `start` was called with reaches the processes after a restart of the supervisor under another environment."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper", "${COLOUR}")}"\n')
    ox.ok("start", env={"COLOUR": "green"})
    ox.wait_log("web", b"green")
    ox.ok("daemon", "stop")
    run_daemon(ox)
    ox.wait("ready", name="web", count=2)
    assert ox.wait_log("web", b"green", count=2).count(b"ready") == 2


def test_a_file_that_is_broken_by_then_costs_nothing(ox):
    """An oxfile with a mistake: the stack comes back as it was accepted last, and `oxfile-trouble` says what is wrong."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper", "good")}"\n')
    ox.ok("start")
    ox.ok("daemon", "stop")
    ox.oxfile('[processes.web]\ncommandd = "nonsense"\n')
    run_daemon(ox)
    trouble = ox.wait("oxfile-trouble")
    assert "commandd" in trouble["text"]
    assert trouble["stack_path"] == ox.stack
    ox.wait("ready", name="web", count=2)
    assert ox.wait_log("web", b"good", count=2).count(b"ready") == 2


@pytest.mark.parametrize(
    "damage",
    [b"", b'{"path": "/tm', b"\xff\x00garbage", b'{"state_version": 0}', b"[1, 2]"],
    ids=["empty", "cut", "bytes", "version", "list"],
)
def test_a_damaged_record_is_kept_aside_and_said(ox, damage):
    """A stack.json that cannot be read: the supervisor starts, tells where it kept the file, and `start` begins anew."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper")}"\n')
    ox.ok("start")
    ox.ok("daemon", "stop")
    ox.hang_up()
    record = ox.state_of_stack() / "stack.json"
    record.write_bytes(damage)
    ox.ok("start")
    trouble = ox.wait("state-trouble")
    aside = record.with_name("stack.json.damaged")
    assert str(aside) in trouble["text"]
    assert aside.read_bytes() == damage
    assert ox.row("web")["status"] == "running"
    assert record.exists()


def test_directories_that_were_open_are_closed(ox):
    """Runtime and state directories that others could enter are theirs no more; the files in them are private."""
    for directory in (ox.home.runtime, ox.home.state):
        os.makedirs(directory)
        os.chmod(directory, 0o777)
    ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper")}"\n')
    ox.ok("start")
    for directory, others in ((ox.home.runtime, 0o077), (ox.home.state, 0o007)):
        assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700
        for folder, _, names in os.walk(directory):
            for name in names:
                assert stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) & others == 0, name


@pytest.mark.parametrize("verb", [("start",), ("status",), ("daemon", "run"), ("run",)])
def test_a_home_too_long_for_a_socket_is_refused(ox, verb):
    """A socket's path holds 107 bytes: every command says so, with the way out, before it makes anything."""
    long = ox.base / ("x" * 120)
    ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper")}"\n')
    result = ox.cli(*verb, env={"OXHERD_HOME": str(long)})
    assert result.code == 1, result
    assert "too long for a unix socket" in result.err
    assert "set OXHERD_HOME to a shorter directory" in result.err
    assert not long.exists()


def test_twenty_cycles_cost_no_descriptor(ox):
    """Start and stop with hooks, health checks, a second log file and oneshots: afterwards all descriptors are back."""
    ox.oxfile(
        f'[processes.web]\ncommand = "{program("sleeper")}"\ninstances = 2\nerror_log_file = "web.err"\n'
        'pre_start = "true"\n'
        '[processes.web.health_check]\ncommand = "true"\ninterval_secs = 1\n'
        '[processes.once]\ncommand = "true"\ntype = "oneshot"\n'
        '[processes.broken]\ncommand = "./there-is-no-such-program"\n'
    )
    ox.cli("start")
    ox.ok("stop")
    before = ox.fds()
    oxfile = ox.compiled()
    for _ in range(20):
        position = ox.events.position
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(ox.home.socket)
            client.sendall(
                request_line(
                    identity=1,
                    version=__version__,
                    verb="start",
                    args={"stack": ox.stack, "oxfile": oxfile, "names": [], "env": ox.env, "update_env": False},
                )
            )
            ox.wait("ready", name="web", instance=0, after=position)
            ox.wait("ready", name="web", instance=1, after=position)
            ox.wait("crashed", name="broken", after=position)
        ox.request("stop", stack=ox.stack, names=[])
    ox.wait_fds(before)


def test_a_supervisor_that_is_killed_leaves_its_clients_no_riddle(ox):
    """A command that waits when the supervisor is killed ends with 1 and says that the supervisor has gone."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("ignores_term")}"\nstop_timeout = "1h"\n')
    ox.ok("start")
    ox.wait_log("web", b"ready")
    pid = ox.pid("web")
    stop = ox.popen("stop")
    ox.wait("stopping", name="web")
    ox.kill_supervisor()
    said, _ = stop.communicate(timeout=DEADLINE)
    assert stop.returncode == 1, said
    assert "Traceback" not in said
    assert "supervisor" in said
    os.kill(pid, signal.SIGKILL)
    wait_gone(pid)


def test_an_oxfile_that_is_not_valid_leaves_no_supervisor(ox):
    """It is started before the oxfile is read, and has then nothing to do."""
    ox.oxfile('[processes.web]\ncommand = "sleep 60"\nrestart = "often"\n')
    assert ox.cli("start").code == 2
    assert leftovers.living_descendants(ox.before) == []
    assert not os.path.exists(ox.home.lock)
    assert not os.path.exists(ox.home.socket)
