"""Processes that are stopped, a full table of pids, no descriptors at the worst moment, a thousand of everything."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
from pathlib import Path

import pytest

from support.harness import descendants, program
from support.services import unused_port
from support.waiting import wait_gone, wait_until
from support.web import APPS, Gates, ask, write_code

HOSTED = """
[processes.web]
app = "hosted:app"
bind = "127.0.0.1:{port}"
workers = {workers}
stop_timeout_ms = 2000
"""


@pytest.fixture
def hosted(ox):
    """Return what starts a stack of workers; it returns their port."""

    def start(workers: int) -> int:
        port = unused_port()
        Gates(ox)
        folder = ox.oxfile(HOSTED.format(port=port, workers=workers))
        shutil.copy(APPS / "hosted.py", folder)
        write_code(folder / "release.py", "VERSION = 1\n")
        ox.ok("start")
        return port

    return start


def stop(pid: int) -> None:
    """SIGSTOP a process and wait until it is stopped."""
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T", "it to be stopped")


# -- stopped processes ------------------------------------------------------------------------------------------------


def test_a_stopped_program_is_stopped_all_the_same(ox):
    """It hears no SIGTERM while it is stopped; SIGKILL at the stop timeout reaches it, and what it has started."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("escapee", "child")}"\nstop_timeout_ms = 300\n')
    ox.ok("start")
    ox.wait_log("web", b"escaped")
    stop(ox.pid("web"))
    ox.ok("restart")
    assert ox.row("web")["status"] == "running"
    stop(ox.pid("web"))
    ox.ok("stop")
    assert descendants(ox.supervisor) == []


def test_a_stopped_zygote_keeps_no_worker_from_coming_back(ox, hosted):
    """Its workers serve on, and one that dies is replaced: by another zygote, as the stopped one does not answer."""
    port = hosted(2)
    zygote = ask(port, "/").json["parent"]
    stop(zygote)
    victim = ox.pid("web:0")
    os.kill(victim, signal.SIGKILL)
    ox.wait("zygote-stuck", name="web")
    ox.wait_row("web:0", lambda row: row["pid"] not in {None, victim}, status="running")
    wait_gone(zygote)
    assert ask(port, "/").status == 200
    ox.ok("stop")
    assert descendants(ox.supervisor) == []


def test_workers_serve_while_the_supervisor_is_stopped(ox, hosted):
    """And when it goes on it blames nobody for the time it was away: nobody is condemned, who died is replaced."""
    port = hosted(2)
    before = ox.pids()
    supervisor = ox.supervisor
    stop(supervisor)
    try:
        for _ in range(20):
            assert ask(port, "/").status == 200
        # Who connects to the queue of this one waits: only the supervisor could lend it to the other.
        victim = before["web:0"]
        os.kill(victim, signal.SIGKILL)
        wait_gone(victim)
    finally:
        os.kill(supervisor, signal.SIGCONT)
    ox.wait_row("web:0", lambda row: row["pid"] not in {None, victim}, status="running")
    assert ox.pid("web:1") == before["web:1"]
    assert ox.events.matching("blocked") == []


def test_what_was_written_while_the_supervisor_was_stopped_is_kept(ox):
    """A program that fills its pipe waits; nothing is lost and nothing is dropped."""
    done = ox.base / "done"
    ox.oxfile(
        f'[processes.web]\ncommand = "{program("prints", 20_000, 200, done)}"\n'
        f'[processes.web.health_check]\ncommand = "test -e {done}"\ninterval_secs = 1\n'
    )
    start = ox.popen("start")
    ox.wait_for_supervisor()
    ox.wait("started", name="web")
    supervisor, pid = ox.supervisor, ox.pid("web")
    stop(supervisor)
    wait_until(lambda: done.exists() or _waits_for_its_pipe(pid), "it to wait for its pipe")
    os.kill(supervisor, signal.SIGCONT)
    said, _ = start.communicate()
    assert start.returncode == 0, said
    wait_until(done.exists, "the last line")
    ox.wait_log("web", b"all printed")
    lines = [line for line in ox.log("web").splitlines() if line[8:9] == b" "]
    assert [int(line[:8]) for line in lines] == list(range(20_000))


def _waits_for_its_pipe(pid: int) -> bool:
    return "pipe_write" in Path(f"/proc/{pid}/wchan").read_text()


# -- pids -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def cramped(ox):
    """Return what sets how many processes the supervisor and all below it may be; it runs in a cgroup of its own."""
    folder = Path("/sys/fs/cgroup/pids") / f"oxherd-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("needs writable cgroups")
    ox.popen("daemon", "run", preexec_fn=lambda: (folder / "cgroup.procs").write_text(str(os.getpid())))
    ox.wait_for_supervisor()
    yield lambda most: (folder / "pids.max").write_text(str(most))
    (folder / "pids.max").write_text("max")
    trouble = ox.cli("daemon", "stop")
    assert trouble.code == 0, trouble
    wait_until(lambda: (folder / "cgroup.procs").read_text() == "", "the cgroup to be empty")
    folder.rmdir()


def test_a_full_table_of_pids_delays_what_it_refuses(ox, cramped):
    """fork(2) says EAGAIN: what runs runs on, who crashes comes back when there is room, a stop needs none."""
    ox.oxfile("".join(f'[processes.p{n}]\ncommand = "{program("sleeper")}"\nrestart_delay_ms = 1\n' for n in range(6)))
    cramped(4)
    result = ox.cli("start", "--json")
    assert result.code == 1, result
    reasons = [failure["reason"] for failure in result.json["failed"]]
    assert reasons
    assert all("Resource temporarily unavailable" in reason for reason in reasons), reasons
    running = [row for row in ox.rows() if row["status"] == "running"]
    assert running
    cramped(1)
    os.kill(running[0]["pid"], signal.SIGKILL)
    refused = ox.wait("spawn-failed", name=running[0]["name"])
    assert "Resource temporarily unavailable" in refused["text"]
    cramped("max")
    for row in running:
        ox.wait_row(row["name"], status="running")
    ox.ok("start")
    assert {row["status"] for row in ox.rows()} == {"running"}
    cramped(1)
    ox.ok("stop")
    assert descendants(ox.supervisor) == []


def test_workers_that_cannot_be_forked_are_forked_later(ox, cramped, hosted):
    """The zygote has no room for a child; its worker comes when there is some."""
    port = hosted(2)
    cramped(1)
    victim = ox.pid("web:0")
    os.kill(victim, signal.SIGKILL)
    ox.wait("spawn-failed", name="web", instance=0)
    assert ask(port, "/").json["pid"] == ox.pid("web:1")
    cramped("max")
    ox.wait_row("web:0", lambda row: row["pid"] not in {None, victim}, status="running")


# -- descriptors --------------------------------------------------------------------------------------------------------


def test_without_descriptors_an_escapee_is_not_forgotten(ox):
    """Nobody can be looked for then: its successor waits until that can be done, and never runs beside it."""
    limits = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48))  # noqa: E731
    ox.popen("daemon", "run", preexec_fn=limits)
    ox.wait_for_supervisor()
    go = ox.base / "go"
    ox.oxfile(f'[processes.web]\ncommand = "{program("escapee", "daemon", go)}"\nrestart_delay_ms = 1\n')
    ox.ok("start")
    ox.wait_log("web", b"escaped")
    escaped = int((ox.base / "go.pid").read_text())
    clients = []
    for _ in range(60):
        clients.append(socket.socket(socket.AF_UNIX))
        clients[-1].connect(ox.home.socket)
    supervisor = ox.pid_by_lock
    full = 48
    wait_until(lambda: len(os.listdir(f"/proc/{supervisor}/fd")) >= full, "all descriptors to be taken")
    go.touch()
    wait_until(lambda: not go.exists(), "the main process to end")
    for client in clients:
        client.close()
    ox.wait_log("web", b"earlier one gone")
    assert b"earlier one lives" not in ox.log("web")
    wait_gone(escaped)
    ox.ok("stop")
    assert descendants(ox.supervisor) == []


def test_a_program_with_ten_thousand_descriptors_is_like_any_other(ox):
    """Looking at it costs nothing that grows: it is shown, weighed, restarted and stopped."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(10_000, hard - 100)
    ox.oxfile(
        f'[processes.web]\ncommand = "{program("opens", count)}"\n[processes.web.limits]\nmemory_mb = 500\n'
        f"nofile = {hard}\n"
    )
    ox.ok("start")
    ox.wait_log("web", b"opened %d" % count)
    assert ox.row("web")["memory_bytes"] > 0
    ox.ok("restart")
    ox.wait_log("web", b"opened %d" % count, 2)
    ox.ok("stop")


# -- many -----------------------------------------------------------------------------------------------------------


def test_a_thousand_processes(ox):
    """Started, shown and stopped; while that goes on others are answered, and every descriptor comes back."""
    count = 1000
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4 * count + 100:
        pytest.skip("needs a higher limit of open files")
    ox.oxfile(f'[processes.web]\ncommand = "sleep 100000"\ninstances = {count}\nstop_timeout_ms = 60000\n')
    start = ox.popen("start")
    ox.wait_for_supervisor()
    asked = 0
    while start.poll() is None:
        assert ox.request("ping")["pid"]
        asked += 1
    said, _ = start.communicate()
    assert start.returncode == 0, said[-2000:]
    assert asked
    rows = ox.rows()
    assert {row["status"] for row in rows} == {"running"}
    assert len({row["pid"] for row in rows}) == count
    assert len(ox.ok("status").out.splitlines()) == count + 1
    ox.ok("stop", seconds=120)
    assert descendants(ox.supervisor) == []
    assert len(ox.fds()) < 40
