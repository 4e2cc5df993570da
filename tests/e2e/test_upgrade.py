"""The supervisor becomes another version of itself: same pid, same children, same sockets, nothing lost."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from oxherd.control.client import Client
from oxherd.errors import OxherdError
from support.harness import program
from support.hosted_stack import Hosted
from support.waiting import wait_gone, wait_until
from support.web import Traffic, server_pids


def upgrade(ox):
    """Upgrade; the pid stays, the connections of this test are of before."""
    pid = ox.supervisor
    session = ox.request("ping")["session"]
    ox.hang_up()
    done = ox.ok("daemon", "upgrade", "--json").json
    assert done["pid"] == pid
    assert ox.request("ping")["session"] != session


def session_of(ox):
    """Which version of the process answers, None in the middle of an exec."""
    ox.hang_up()
    try:
        return ox.request("ping")["session"]
    except OxherdError:
        return None


def test_programs_stay_and_so_do_their_ends(ox):
    """They still are the supervisor's own children: how they end is known to the last detail."""
    ox.oxfile(
        f'[processes.web]\ncommand = "{program("alone", "lock-{instance}")}"\ninstances = 2\n'
        f'[processes.count]\ncommand = "{program("counts", 4000, 40, "go")}"\n'
    )
    folder = Path(ox.stack).parent
    ox.ok("start")
    ox.wait_log("count", b"00001999 ")
    before = ox.pids()
    for _ in range(3):
        upgrade(ox)
    assert ox.pids() == before
    (folder / "go").touch()
    ox.wait_log("count", b"all printed")
    numbers = [int(line[:8]) for line in ox.log("count").splitlines() if re.match(rb"\d{8} ", line)]
    assert numbers == list(range(4000))
    os.kill(before["web:1"], signal.SIGUSR1)
    ox.wait_row("web:1", status="running", restarts=1)
    assert ox.ok("why", "web:1", "--json").json["cards"][0]["cause"].startswith("killed by SIGUSR1")
    ox.ok("stop")
    for pid in filter(None, before.values()):
        wait_gone(pid)
    assert b"runs twice" not in ox.log("web")


def test_no_request_is_lost_and_nothing_is_left_open(ox):
    """Workers, zygote and listeners are the same; the supervisor has no descriptor more than before."""
    hosted = Hosted(ox).start()
    before, zygote = hosted.pids(), hosted.zygote()
    upgrade(ox)
    fds = ox.fds()
    with Traffic(hosted.port) as traffic:
        for _ in range(4):
            upgrade(ox)
        assert hosted.pids() == before
        ox.wait_fds(fds)
        hosted.write("VERSION = 2\n")
        ox.ok("scale", "web=3")
        assert hosted.zygote() == zygote
        ox.ok("reload", "web")
    assert traffic.failures == []
    assert server_pids(hosted.port, 3) == hosted.pids()
    assert hosted.versions() == {2}


def test_whoever_asks_meanwhile_waits_and_is_answered(ox):
    """The socket is handed over: a command that comes in the middle of the exec is served by the new version."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper")}"\n')
    ox.ok("start")
    ox.hang_up()
    upgrading = ox.popen("daemon", "upgrade")
    asked = 0
    while upgrading.poll() is None:
        with Client.connect(ox.home) as client:
            assert client.path == ox.home.socket
        asked += 1
    said, _ = upgrading.communicate()
    assert upgrading.returncode == 0, said
    assert asked


def test_a_version_that_cannot_read_the_state_is_not_become(ox):
    """It says what it cannot read; the old one goes on as if nothing had been asked."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper")}"\n')
    ox.ok("start")
    pid, session = ox.pid("web"), ox.request("ping")["session"]
    record = ox.state_of_stack() / "stack.json"
    kept = record.read_bytes()
    record.write_text(json.dumps(json.loads(kept) | {"state_version": 99}))
    result = ox.cli("daemon", "upgrade")
    assert result.code == 1
    assert "version 99" in result.err
    assert "goes on as it is" in result.err
    record.write_bytes(kept)
    assert ox.request("ping")["session"] == session
    assert ox.pid("web") == pid
    upgrade(ox)
    assert ox.pid("web") == pid


@pytest.mark.parametrize("broken", ["missing", "fails"])
def test_an_interpreter_that_does_not_start_is_not_become(ox, broken):
    """There is none, or it has no Oxherd: the answer says so."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper")}"\n')
    ox.ok("start")
    session = ox.request("ping")["session"]
    python = ox.base / "python"
    if broken == "fails":
        python.write_text("#!/bin/sh\necho no module named oxherd\nexit 1\n")
        python.chmod(0o700)
    with pytest.raises(Exception, match="cannot take over") as raised:
        ox.request("upgrade", python=str(python))
    assert ("no module named oxherd" if broken == "fails" else "No such file") in str(raised.value)
    assert ox.request("ping")["session"] == session


def test_a_new_version_that_fails_after_all_gives_way_to_the_old_one(ox):
    """It said that it could, and cannot: the process becomes what it was, and what runs never notices."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("alone", "lock")}"\n')
    ox.ok("start")
    pid, supervisor, session = ox.pid("web"), ox.supervisor, ox.request("ping")["session"]
    python = ox.base / "python"
    python.write_text(
        f'#!/bin/sh\ncase "$*" in *--check*) exec {sys.executable} "$@";; esac\n'
        f"exec {sys.executable} -c 'import sys; sys.argv[1:] = sys.argv[4:]\n"
        "import oxherd.daemon.main as m, oxherd.daemon.assembly as a\n"
        'def broken(self): raise RuntimeError("not today")\n'
        'a.Assembly.open = broken\nsys.executable = "/elsewhere"\nsys.exit(m.main(sys.argv[1:]))\' "$@"\n'
    )
    python.chmod(0o700)
    ox.request("upgrade", python=str(python))
    wait_until(lambda: session_of(ox) not in {session, None}, "the old version to be back")
    assert (ox.supervisor, ox.pid("web")) == (supervisor, pid)
    assert "not today" in Path(ox.home.log).read_text()
    ox.ok("restart")
    assert b"runs twice" not in ox.log("web")


def test_not_while_something_is_reloaded(ox):
    """A reload is not cut off on purpose."""
    hosted = Hosted(ox).start()
    hosted.write("VERSION = 2\nimport time\ntime.sleep(600)\n")
    reload = ox.popen("reload", "web")
    ox.wait("reloading", name="web")
    result = ox.cli("daemon", "upgrade")
    assert result.code == 1
    assert "being reloaded" in result.err
    ox.ok("stop")
    reload.communicate()


def test_usr2_does_the_same_in_the_background_and_in_a_run(ox):
    """As users of other servers know it."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("alone", "lock")}"\n')
    ox.ok("start")
    pid, session = ox.pid("web"), ox.request("ping")["session"]
    os.kill(ox.supervisor, signal.SIGUSR2)
    wait_until(lambda: session_of(ox) not in {session, None}, "the new version")
    assert ox.pid("web") == pid
    ox.ok("daemon", "stop")
    ox.hang_up()
    run = ox.popen("run")
    assert run.stdout is not None
    alone = next(line for line in run.stdout if "alone" in line)
    for line in run.stdout:
        if "everything is up" in line:
            break
    run.send_signal(signal.SIGUSR2)
    said = []
    for line in run.stdout:
        said.append(line)
        if "everything is up" in line:
            break
    assert any("adopted" in line for line in said), said
    assert not any("alone" in line or "runs twice" in line for line in said), said
    run.terminate()
    rest, _ = run.communicate()
    assert run.returncode == 0, rest
    assert not Path(f"/proc/{alone.split()[-1]}").exists()
