"""A supervisor that is killed, and the one after it: what runs goes on, what is wanted is there, nothing runs twice."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from pathlib import Path

import pytest

from support.harness import program
from support.hosted_stack import Hosted
from support.waiting import wait_gone, wait_until
from support.web import Traffic, listening_inodes, server_pids


def adopt(ox):
    """Kill the supervisor; the next command brings another one."""
    first = ox.kill_supervisor()
    ox.ok("status")
    assert ox.supervisor != first
    return first


def stop_and_look(ox, *pids):
    """Stop everything: nothing of it is left, whoever had started it."""
    ox.ok("stop")
    for pid in filter(None, pids):
        wait_gone(pid)


# -- programs ---------------------------------------------------------------------------------------------------------


def test_programs_go_on_under_the_next_supervisor(ox):
    """Same pids, counted restarts and age; afterwards they are restarted, stopped and reported like any others."""
    ox.oxfile(
        f'[processes.web]\ncommand = "{program("alone", "lock-{instance}")}"\ninstances = 2\n'
        f'[processes.fails]\ncommand = "{program("exits", 3)}"\nrestart = "never"\n'
        f'[processes.stopped]\ncommand = "{program("sleeper")}"\n'
    )
    ox.cli("start")
    ox.ok("stop", "stopped")
    os.kill(ox.pid("web:1"), signal.SIGKILL)
    ox.wait_row("web:1", status="running", restarts=1)
    before, uptime = ox.pids(), ox.row("web:0")["uptime_seconds"]
    for _ in range(3):
        adopt(ox)
    assert ox.pids() == before
    assert ox.row("web:1")["restarts"] == 1
    assert ox.row("web:0")["uptime_seconds"] >= uptime
    assert {row["name"]: row["status"] for row in ox.rows()} == {
        "web": "running",
        "fails": "crashed" if ox.row("fails")["status"] == "crashed" else "exited",
        "stopped": "stopped",
    }
    assert len(ox.events.matching("adopted", name="web", instance=0)) == 3
    os.kill(before["web:0"], signal.SIGUSR1)
    ox.wait_row("web:0", lambda row: row["pid"] not in {None, before["web:0"]}, status="running")
    # Its parent tells nobody. The kernel does, once it is reaped; where it is not (here), the end is unknown and called so.
    cause = ox.ok("why", "web:0", "--json").json["cards"][0]["cause"]
    assert cause.startswith(("killed by SIGUSR1", "ended in a way nobody could see"))
    stop_and_look(ox, *before.values(), ox.row("web:0")["pid"])
    assert b"runs twice" not in ox.log("web")


def test_what_an_adopted_program_leaves_behind_is_swept(ox):
    """Its orphans fall to whoever is there, not to the supervisor; they are found by their mark."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("escapee", "setsid")}"\nstop_timeout_ms = 1000\n')
    ox.ok("start")
    wait_until(lambda: len(ox.marked()) > 1, "the program to have left somebody behind")
    everybody = list(ox.marked())
    adopt(ox)
    stop_and_look(ox, *everybody)
    assert ox.marked() == {}


def test_output_written_while_nobody_reads_is_kept(ox):
    """Lines of before, between and after are in the log, each once and in order."""
    folder = ox.oxfile(f'[processes.web]\ncommand = "{program("counts", 4000, 40, "go")}"\n')
    ox.ok("start")
    ox.wait_log("web", b"00001999 ")
    ox.kill_supervisor()
    (folder / "go").touch()
    ox.ok("status")
    ox.wait_log("web", b"all printed")
    numbers = [int(line[:8]) for line in ox.log("web").splitlines() if re.match(rb"\d{8} ", line)]
    assert numbers == list(range(4000))


def test_lines_on_their_way_survive_the_supervisor(ox):
    """Killed again and again in the middle of reading and writing: no line is lost, doubled or torn."""
    folder = ox.oxfile(f'[processes.web]\ncommand = "{program("halves", "enough")}"\nrestart = "never"\n')
    ox.ok("start")
    for _ in range(5):
        size = ox.log_path("web").stat().st_size
        wait_until(lambda size=size: ox.log_path("web").stat().st_size > size, "more lines")
        adopt(ox)
    (folder / "enough").touch()
    wait_until(lambda: _held(ox), "the half of the last line to be in the spool")
    ox.kill_supervisor()
    pid = next(iter(ox.marked()))
    os.kill(pid, signal.SIGKILL)
    wait_gone(pid)
    ox.ok("status")
    ox.wait_log("web", b"printed")
    *lines, last = [line for line in ox.log("web").splitlines() if not line.startswith(b"oxherd: ")]
    assert last == b"printed %d" % len(lines)
    assert lines == [b"%08d " % number + b"x" * (number % 90) for number in range(len(lines))]


def _held(ox):
    """Whether a half line of the program is in the spool."""
    return any(b"printed" in path.read_bytes() for path in Path(ox.home.spool).glob("[0-9]*"))


def test_what_ended_meanwhile_is_told_and_comes_back(ox):
    """How it ended nobody knows, and nobody makes it up."""
    ox.oxfile(
        f'[processes.web]\ncommand = "{program("alone", "lock")}"\n'
        f'[processes.once]\ncommand = "{program("sleeper")}"\nrestart = "never"\n'
    )
    ox.ok("start")
    gone = [ox.pid("web"), ox.pid("once")]
    ox.kill_supervisor()
    for pid in gone:
        os.kill(pid, signal.SIGKILL)
        wait_gone(pid)
    ox.ok("status")
    ox.wait_row("web", lambda row: row["pid"] not in {None, gone[0]}, status="running")
    assert ox.row("web")["restarts"] == 1
    assert ox.row("once")["pid"] is None
    lost = ox.wait("lost", name="web")
    assert "not known" in lost["detail"]
    assert b"runs twice" not in ox.log("web")


def test_back_off_goes_on_where_it_was(ox):
    """A crash loop is as far as it was, and ends where it would have ended."""
    ox.oxfile(
        f'[processes.web]\ncommand = "{program("exits", 3)}"\nrestart_delay_ms = 60000\nrestart_delay_max_ms = 60000\n'
    )
    starting = ox.popen("start")
    ox.wait_for_supervisor()
    ox.wait("backoff", name="web")
    before = ox.wait_row("web", status="backoff")
    ox.kill_supervisor()
    starting.communicate()
    ox.ok("status")
    after = ox.row("web")
    assert (after["status"], after["restarts"]) == ("backoff", before["restarts"])
    assert len(ox.events.matching("started", name="web")) == 1


def test_a_stop_that_was_under_way_goes_on_to_its_end(ox):
    """Told to go by a supervisor that died, killed by the next one when its time is over."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("ignores_term")}"\nstop_timeout_ms = 1500\n')
    ox.ok("start")
    pid = ox.pid("web")
    stopping = ox.popen("stop")
    ox.wait("stopping", name="web")
    ox.kill_supervisor()
    stopping.communicate()
    ox.ok("status")
    wait_gone(pid)
    ox.wait_row("web", status="stopped")


def test_a_singleton_never_runs_twice(ox):
    """However often its supervisor dies."""
    ox.oxfile(f'[processes.beat]\ncommand = "{program("alone", "lock")}"\nsingleton = true\n')
    ox.ok("start")
    pid = ox.pid("beat")
    for _ in range(3):
        adopt(ox)
    assert ox.pid("beat") == pid
    ox.ok("restart")
    assert b"runs twice" not in ox.log("beat")


def test_what_nobody_wrote_down_is_ended_before_anything_starts(ox):
    """The journal is gone: what runs cannot be gone on with, and never runs beside its successor."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("alone", "lock", "go")}"\n')
    ox.ok("start")
    survivor = ox.pid("web")
    folder = Path(ox.stack).parent
    ox.kill_supervisor()
    Path(ox.home.state, "instances.jsonl").unlink()
    ox.ok("status")
    ox.wait("strays")
    wait_until((folder / "go.asked").exists, "the survivor to be asked")
    position = ox.events.position
    assert ox.row("web")["pid"] is None
    (folder / "go").touch()
    wait_gone(survivor)
    ox.wait("ready", name="web", after=position)
    assert b"runs twice" not in ox.log("web")
    assert list(ox.marked()) == [ox.pid("web")]


def test_state_of_a_newer_version_is_left_alone_with_what_runs_of_it(ox):
    """An older Oxherd neither reads it, nor ends what it says, nor starts a second one beside it."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("alone", "lock")}"\n')
    ox.ok("start")
    pid = ox.pid("web")
    record = ox.state_of_stack() / "stack.json"
    ox.kill_supervisor()
    kept = record.read_bytes()
    newer = json.loads(kept) | {"state_version": 99}
    record.write_text(json.dumps(newer))
    result = ox.cli("start")
    assert result.code == 2
    assert "newer Oxherd" in result.err
    assert json.loads(record.read_text()) == newer
    assert list(ox.marked()) == [pid]
    ox.kill_supervisor()
    record.write_bytes(kept)
    ox.ok("status")
    assert ox.pid("web") == pid


def test_a_run_that_was_killed_is_taken_over_by_the_next_run(ox):
    """Its programs go on, and belong to whoever runs the stack next; a TERM to that one stops them."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("alone", "lock")}"\n')
    run = ox.popen("run")
    assert run.stdout is not None
    pid = int(next(line for line in run.stdout if " alone " in f" {line} ").split()[-1])
    run.kill()
    run.communicate()
    assert Path(f"/proc/{pid}/stat").exists()
    again = ox.popen("run")
    assert again.stdout is not None
    said = []
    for line in again.stdout:
        said.append(line)
        if "everything is up" in line:
            break
    assert any("adopted" in line and str(pid) in line for line in said), said
    again.terminate()
    rest, _ = again.communicate()
    assert again.returncode == 0, rest
    wait_gone(pid)
    assert "runs twice" not in "".join(said) + rest


# -- hosted -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def hosted(ox):
    return Hosted(ox)


def test_workers_serve_on_and_are_commanded_by_the_next_supervisor(hosted):
    """No request is lost; then crash recovery from the same zygote, scaling and a reload work as ever."""
    hosted.start()
    ox, before, zygote = hosted.ox, hosted.pids(), hosted.zygote()
    with Traffic(hosted.port) as traffic:
        for _ in range(5):
            adopt(ox)
        assert hosted.pids() == before
        ox.ok("scale", "web=3")
        assert server_pids(hosted.port, 3) == hosted.pids() > before
        hosted.write("VERSION = 2\n")
        ox.ok("reload", "web")
    assert traffic.failures == []
    assert hosted.versions() == {2}
    for pid in (zygote, *before):
        wait_gone(pid)


def test_an_adopted_worker_that_is_killed_comes_back_from_the_same_zygote(hosted):
    hosted.start()
    ox, zygote = hosted.ox, hosted.zygote()
    adopt(ox)
    os.kill(ox.pid("web:0"), signal.SIGKILL)
    ox.wait_row("web:0", status="running", restarts=1)
    assert server_pids(hosted.port, 2) == hosted.pids()
    assert hosted.zygote() == zygote
    assert "killed by SIGKILL" in ox.ok("why", "web:0", "--json").json["cards"][0]["cause"]
    stop_and_look(ox, zygote)
    assert listening_inodes(hosted.port) == set()


def test_a_worker_that_died_meanwhile_is_replaced_and_its_zygote_knows_how_it_ended(hosted):
    hosted.start()
    ox, zygote, victim = hosted.ox, hosted.zygote(), hosted.ox.pid("web:1")
    ox.kill_supervisor()
    os.kill(victim, signal.SIGKILL)
    wait_gone(victim)
    assert hosted.ask()["pid"] != victim
    ox.ok("status")
    ox.wait_row("web:1", status="running", restarts=1)
    assert "SIGKILL" in ox.wait("lost", name="web", instance=1)["detail"]
    assert server_pids(hosted.port, 2) == hosted.pids()
    assert hosted.zygote() == zygote


def test_workers_without_a_zygote_are_adopted_too(ox):
    hosted = Hosted(ox, more="preload = false").start()
    before = hosted.pids()
    with Traffic(hosted.port) as traffic:
        adopt(ox)
        assert hosted.pids() == before
        ox.ok("reload", "web")
    assert traffic.failures == []
    assert not before & hosted.pids()


def test_workers_whose_zygote_died_with_the_supervisor_get_a_new_one(hosted):
    """At once, in the background: not only when a worker dies and waits for an import."""
    hosted.start()
    ox, before, zygote = hosted.ox, hosted.pids(), hosted.zygote()
    ox.kill_supervisor()
    os.kill(zygote, signal.SIGKILL)
    wait_gone(zygote)
    ox.ok("status")
    assert hosted.pids() == before
    ox.wait("preloaded", name="web", count=2)
    os.kill(ox.pid("web:0"), signal.SIGKILL)
    ox.wait_row("web:0", status="running", restarts=1)
    assert server_pids(hosted.port, 2) == hosted.pids()


def test_a_stopped_worker_is_adopted_and_its_listener_with_it(hosted):
    """It cannot come to its door; the others serve on, and it is one of them again when it goes on."""
    hosted.start()
    ox, before, sleeper = hosted.ox, hosted.pids(), hosted.ox.pid("web:0")
    os.kill(sleeper, signal.SIGSTOP)
    try:
        adopt(ox)
        assert hosted.pids() == before
        assert ox.wait("adopted", name="web", instance=0)["detail"].count("does not answer") == 1
    finally:
        os.kill(sleeper, signal.SIGCONT)
    ox.wait("back", name="web", instance=0)
    assert server_pids(hosted.port, 2) == before
    with Traffic(hosted.port) as traffic:
        ox.ok("reload", "web")
    assert traffic.failures == []


def test_a_reload_cut_off_before_its_canary_was_ready_is_taken_back(hosted):
    hosted.start()
    ox, before = hosted.ox, hosted.pids()
    hosted.write("VERSION = 2\nimport time\ntime.sleep(600)\n")
    reload = ox.popen("reload", "web")
    ox.wait("reloading", name="web")
    ox.kill_supervisor()
    reload.communicate()
    ox.ok("status")
    assert hosted.pids() == before
    assert hosted.versions() == {1}
    wait_until(lambda: len(ox.marked()) <= 3, "what the reload had begun to be gone")
    hosted.write("VERSION = 3\n")
    ox.ok("reload", "web")
    assert hosted.versions() == {3}


def test_a_worker_behind_whose_door_nobody_is_leaves_no_file(ox):
    """It was about to end when its supervisor was killed, and has closed its door: it is replaced, and so is all it had."""
    hosted = Hosted(ox, workers=2).start()
    before = hosted.pids()
    ox.kill_supervisor()
    for door in Path(ox.home.runtime, "workers").glob("[0-9a-f]*.door"):
        door.unlink()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as nobody:
            nobody.bind(str(door))
    ox.ok("status")
    for slot in range(2):
        ox.wait_row(f"web:{slot}", lambda row: row["pid"] not in {None, *before}, status="running")
    for pid in before:
        wait_gone(pid)
    notes = [event["text"] for event in ox.events.matching("adopted", name="web")]
    assert all("does not answer at its door" in text for text in notes), notes
    # That no socket is left is what the fixture looks at.


def test_a_reload_cut_off_between_two_slots_is_finished(ox):
    """The first new worker has taken its slot, so the code is proven: the other slots follow."""
    hosted = Hosted(ox, workers=4).start()
    before = hosted.pids()
    with Traffic(hosted.port) as traffic:
        hosted.write("VERSION = 2\n")
        reload = ox.popen("reload", "web")
        ox.wait_row("web:0", generation=2)
        ox.kill_supervisor()
        reload.communicate()
        ox.ok("status")
        for slot in range(4):
            ox.wait_row(f"web:{slot}", generation=2, status="running")
    for pid in before:
        wait_gone(pid)
    assert hosted.versions() == {2}
    assert traffic.failures == []
