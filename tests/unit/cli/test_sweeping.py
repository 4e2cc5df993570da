"""`oxherd daemon sweep`: what a dead supervisor left is ended, and nothing else ever."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from oxherd.cli.sweeping import end_survivors, hold_home, should_sweep
from oxherd.cli.verbs import daemon as daemon_module
from oxherd.cli.verbs.daemon import daemon
from oxherd.control.paths import Home, find_home, stack_id
from oxherd.daemon.watchdog import ending_marker
from oxherd.errors import OperationError

READY = "import signal, time\n{how}\nprint('ready', flush=True)\nwhile True: signal.pause()"
STUBBORN = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
# Leaves a child behind when it is told to go.
BREEDS = (
    "import os\ndef go(*_):\n    if os.fork() == 0:\n        signal.signal(signal.SIGTERM, signal.SIG_IGN)\n        return\n"
    "    os._exit(0)\nsignal.signal(signal.SIGTERM, go)"
)


@pytest.fixture
def home(tmp_path):
    home = Home(runtime=str(tmp_path / "run"), state=str(tmp_path / "state"))
    home.prepare()
    return home


@pytest.fixture
def leave():
    """Leave a process with a mark running."""
    left = []

    def start(mark, how=""):
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", READY.format(how=how)],
            env={"OXHERD_MARK": mark},
            stdout=subprocess.PIPE,
        )
        assert process.stdout.readline() == b"ready\n"
        left.append(process)
        return process

    yield start
    for process in left:
        process.kill()
        process.stdout.close()
        process.wait()


def mark(home, name="web"):
    return f"{stack_id(home.state)}:0123456789ab/{name}/0/1"


@pytest.mark.parametrize(
    ("result", "ending", "swept"),
    [
        ("success", False, True),
        ("timeout", False, True),
        ("signal", False, False),
        ("core-dump", False, False),
        ("watchdog", False, False),
        ("exit-code", False, False),
        ("oom-kill", False, False),
        ("", False, False),
        ("signal", True, True),
        ("oom-kill", True, True),
        ("watchdog", True, True),
    ],
)
def test_after_a_crash_everything_is_left_for_the_next_supervisor(result, ending, swept):
    """Only a stop ends what runs; it may have been cut short."""
    assert should_sweep({"SERVICE_RESULT": result}, ending=ending) is swept


def test_only_processes_with_the_mark_of_the_home_are_ended(home, leave):
    mine, other = leave(mark(home)), leave("ba9876543210:0123456789ab/web/0/1")
    assert end_survivors(home, patience=10) == (["web:0"], [])
    assert mine.wait() == -15
    assert other.poll() is None


def test_who_does_not_go_is_killed(home, leave):
    stubborn = leave(mark(home), STUBBORN)
    assert end_survivors(home, patience=0) == (["web:0"], [])
    assert stubborn.wait() == -9


def test_who_is_born_meanwhile_is_ended_too(home, leave):
    leave(mark(home), BREEDS)
    assert end_survivors(home, patience=0.3) == (["web:0"], [])


def test_where_nothing_was_left_nothing_is_done(home):
    assert end_survivors(home, patience=10) == ([], [])


def test_while_a_supervisor_runs_nothing_is_swept(home):
    """What it runs is not left behind."""
    fd = os.open(home.lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    with pytest.raises(OperationError, match="the supervisor runs") as caught:
        hold_home(home)
    assert caught.value.code == "OX436"
    os.close(fd)
    held = hold_home(home)
    assert held is not None
    os.close(held)


def test_a_home_that_never_was_has_no_lock(tmp_path):
    assert hold_home(Home(runtime=str(tmp_path / "run"), state=str(tmp_path / "state"))) is None


def sweep(monkeypatch, tmp_path, *arguments, result=""):
    monkeypatch.setenv("OXHERD_HOME", str(tmp_path))
    monkeypatch.setenv("SERVICE_RESULT", result)
    home = find_home(os.environ)
    home.prepare()
    return home, lambda: CliRunner().invoke(daemon, ["sweep", *arguments], standalone_mode=False)


def test_the_command_says_what_it_ended(monkeypatch, tmp_path, leave):
    home, run = sweep(monkeypatch, tmp_path, "--json")
    leave(mark(home))
    result = run()
    assert (result.exception, result.return_value) == (None, 0)
    assert json.loads(result.output) == {"ended": ["web:0"], "alive": []}


def test_after_a_stop_that_was_cut_short_the_marker_goes(monkeypatch, tmp_path, leave):
    home, run = sweep(monkeypatch, tmp_path, "--after-stop", result="signal")
    with open(ending_marker(home.runtime), "w"):
        pass
    left = leave(mark(home), STUBBORN)
    assert run().return_value == 0
    assert left.wait() == -9
    assert not os.path.exists(ending_marker(home.runtime))


@pytest.mark.parametrize(("result", "pause"), [("signal", []), ("exit-code", [2.0])])
def test_a_crash_is_followed_at_once_a_vain_start_is_not(monkeypatch, tmp_path, leave, result, pause):
    """systemd starts the next one a tenth of a second after this command, without end."""
    home, run = sweep(monkeypatch, tmp_path, "--after-stop", result=result)
    left = leave(mark(home))
    paused = []
    monkeypatch.setattr("time.sleep", paused.append)
    assert run().return_value == 0
    assert paused == pause == [daemon_module._BETWEEN_VAIN_STARTS] * len(pause)
    assert left.poll() is None
