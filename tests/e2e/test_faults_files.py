"""Directories that vanish, disks that are full or read-only from the start, files that hold anything but what they should."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess

import pytest

from support.harness import program
from support.waiting import wait_until

SLEEPER = f'[processes.web]\ncommand = "{program("sleeper")}"\n'


def test_a_removed_runtime_directory_is_no_second_supervisor(ox):
    """A logout or a cleaner takes the socket away: the supervisor that runs is found again, and nothing runs twice."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("alone", "lock")}"\n')
    ox.ok("start")
    supervisor, pid = ox.supervisor, ox.pid("web")
    ox.hang_up()
    # Out of the way in one step: the supervisor makes it anew as soon as it sees its socket go.
    os.rename(ox.home.runtime, f"{ox.home.runtime}.gone")
    shutil.rmtree(f"{ox.home.runtime}.gone")
    commands = [ox.popen("status") for _ in range(4)]
    for command in commands:
        said, _ = command.communicate()
        assert command.returncode == 0, said
    assert ox.supervisor == supervisor
    assert ox.pid("web") == pid
    assert b"runs twice" not in ox.log("web")
    assert os.stat(ox.home.runtime).st_mode & 0o777 == 0o700
    assert len(ox.events.matching("supervisor-started")) == 1


def test_a_removed_socket_alone_is_made_anew(ox):
    """The lock says that a supervisor runs; who finds no socket asks it for one."""
    ox.oxfile(SLEEPER)
    ox.ok("start")
    supervisor = ox.supervisor
    os.unlink(ox.home.socket)
    assert ox.ok("daemon", "status", "--json").json["pid"] == supervisor
    ox.ok("stop")


def test_a_removed_log_directory_is_made_anew(ox):
    """The next line makes it again; the process never hears of it."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("hears", "HUP")}"\n')
    ox.ok("start")
    ox.wait_log("web", b"ready")
    shutil.rmtree(ox.state_of_stack() / "logs")
    os.kill(ox.pid("web"), signal.SIGHUP)
    ox.wait_log("web", b"HUP")
    assert "HUP" in ox.ok("logs", "web").out
    os.kill(ox.pid("web"), signal.SIGKILL)
    ox.wait("started", name="web", incarnation=2)
    ox.wait_log("web", b"ready")


def test_a_removed_state_directory_stops_nothing(ox):
    """Whoever tidies up too much: what runs goes on, restarts, and can be stopped."""
    ox.oxfile(SLEEPER)
    ox.ok("start")
    shutil.rmtree(ox.home.state)
    os.kill(ox.pid("web"), signal.SIGKILL)
    ox.wait("started", name="web", incarnation=2)
    ox.ok("status")
    ox.ok("restart")
    ox.ok("stop")
    assert ox.row("web")["status"] == "stopped"


@pytest.fixture
def read_only(ox):
    """Make the state read-only below whoever uses it, as a disk with errors is remounted by the kernel."""

    def remount():
        state = ox.home.state
        for command in (["mount", "--bind", state, state], ["mount", "-o", "remount,bind,ro", state]):
            if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
                pytest.skip("needs root to mount a small disk")
        mounted.append(state)

    def writable():
        while mounted:
            subprocess.run(["umount", mounted.pop()], check=True)

    mounted = []
    remount.undo = writable
    yield remount
    writable()


def test_a_state_that_becomes_read_only_stops_nothing(ox, read_only):
    """Crash, start and stop work; what cannot be written is said, and written when it can be."""
    ox.oxfile(f'{SLEEPER}[processes.b]\ncommand = "{program("sleeper")}"\n')
    ox.ok("start", "web")
    read_only()
    os.kill(ox.pid("web"), signal.SIGKILL)
    ox.wait("started", name="web", incarnation=2)
    ox.ok("start", "b")
    ox.wait_row("b", status="running")
    texts = [event["text"] for event in ox.events.matching("state-trouble")]
    assert any("Read-only file system" in text for text in texts), texts
    assert any("Read-only file system" in event["text"] for event in ox.events.matching("log-trouble", name="b"))
    assert ox.ok("why", "web", "--json").json
    ox.ok("stop")
    read_only.undo()
    ox.ok("start")
    ox.wait_row("b", status="running")
    ox.wait_log("b", b"ready")


def test_a_supervisor_that_can_write_nothing_says_so(ox, read_only):
    """Read-only from the start: exit 1, the path and the reason, no traceback, and nothing is left running."""
    ox.oxfile(SLEEPER)
    ox.home.prepare()
    read_only()
    for verb in (("start",), ("daemon", "run"), ("run",)):
        result = ox.cli(*verb)
        assert result.code == 1, result
        assert "Read-only file system" in result.err + result.out, result
        assert ox.home.state in result.err + result.out, result
        assert "Traceback" not in result.err + result.out, result
    assert not os.path.exists(ox.home.socket)
    read_only.undo()
    ox.ok("start")


@pytest.mark.parametrize("files", [2, 4, 5, 6, 8])
def test_a_disk_without_room_from_the_start_is_said(ox, files):
    """Whatever is the first that finds no room, directory, lock or socket: it is told, and with room all is well."""
    disk = ox.mount(ox.base / "ox", f"4m,nr_inodes={files}")
    ox.oxfile(SLEEPER)
    result = ox.cli("start")
    assert "Traceback" not in result.err, result
    if result.code != 0:
        assert result.code == 1, result
        assert "No space left on device" in result.err, result
    elif "memory only" not in ox.ok("daemon", "status").err:
        ox.wait("state-trouble", "log-trouble")
    subprocess.run(["mount", "-o", "remount,nr_inodes=1000", str(disk)], check=True)
    ox.ok("start")
    ox.ok("restart")
    ox.wait_log("web", b"ready")


GARBAGE = {
    "empty": b"",
    "bytes": bytes(range(256)) * 64,
    "nested": b"[" * 100_000,
    "a list": b"[1, 2, 3]\n",
    "wrong types": b'{"state_version": 1, "path": 5, "wanted": [], "oxfile": {}, "processes": 7, "env": 1, "cards": 5}\n',
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
def test_garbage_in_every_file_of_the_state_never_keeps_a_supervisor_from_starting(ox, data):
    """Each is kept aside, skipped or written anew; a second start is as good as the first, so nothing loops."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("exits", 1)}"\nrestart = "never"\n')
    ox.cli("start")
    ox.wait("crashed", "exited", name="web")
    ox.ok("daemon", "stop")
    ox.hang_up()
    files = [
        path
        for path in (ox.base / "ox" / "state").rglob("*")
        if path.is_file() and path.suffix in {".json", ".jsonl", ".idx"}
    ]
    assert {path.name for path in files} >= {"stack.json", "instances.jsonl", "events.jsonl", "why-web-0.json"}
    for path in files:
        path.write_bytes(data)
    ox.oxfile(SLEEPER)
    for _ in range(2):
        ox.ok("start")
        assert ox.row("web")["status"] == "running"
        ox.ok("logs", "web")
        ox.ok("why", "web")
        ox.ok("events")
        ox.ok("stop")
        ox.ok("daemon", "stop")
        ox.hang_up()
    ox.ok("start")


def test_directories_where_files_should_be_stop_nothing(ox):
    """Not even the state can be written: all of it is said, and the stack runs."""
    ox.oxfile(SLEEPER)
    ox.home.prepare()
    state = ox.base / "ox" / "state"
    for name in ("events.jsonl", "instances.jsonl"):
        (state / name).mkdir()
    (ox.state_of_stack() / "stack.json").mkdir(parents=True)
    (ox.state_of_stack() / "logs" / "web.log").mkdir(parents=True)
    ox.ok("start")
    assert ox.row("web")["status"] == "running"
    assert "memory only" in ox.ok("daemon", "status").err
    texts = " ".join(event["text"] for event in ox.events.matching("state-trouble", "log-trouble"))
    for name in ("instances.jsonl", "stack.json", "web.log"):
        assert name in texts
    assert "Is a directory" in texts
    ox.ok("stop")


def test_a_stale_socket_and_a_stale_lock_are_nobodys(ox):
    """What a killed supervisor left behind, and a file that is no socket at all, are replaced."""
    ox.oxfile(SLEEPER)
    ox.home.prepare()
    for leave in (lambda: open(ox.home.socket, "w").close(), lambda: os.symlink("nowhere", ox.home.socket)):
        leave()
        ox.ok("start")
        assert ox.row("web")["status"] == "running"
        ox.ok("daemon", "stop")
        ox.hang_up()
    with open(ox.home.lock, "w") as lock:
        lock.write("1\n/somewhere/else\n")
    ox.ok("start")
    wait_until(lambda: ox.row("web")["status"] == "running")
