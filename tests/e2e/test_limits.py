"""Limits of memory, CPU and the like, over the whole tree of an instance."""

from __future__ import annotations

import json
import os
import pwd
from typing import TYPE_CHECKING, Any

import pytest

from support.harness import program
from support.waiting import wait_gone

if TYPE_CHECKING:
    from support.harness import Supervised


def shown(ox: Supervised, name: str = "web") -> dict[str, Any]:
    """Return what `shows_env` was given."""
    ox.wait_log(name, b"}\n")
    return json.loads(ox.log(name).splitlines()[0])


def test_what_grows_over_its_memory_limit_is_restarted(ox):
    """The memory of a child counts: over the limit for two samples, it is restarted, and `why` says by how much."""
    ox.oxfile(
        f'[processes.web]\ncommand = "{program("eats", 160, "go")}"\n[processes.web.limits]\nmemory_mb = 64\n'
        f'[processes.other]\ncommand = "{program("eats", 1)}"\n[processes.other.limits]\nmemory_mb = 64\n'
    )
    ox.ok("start")
    pid, other = ox.pid("web"), ox.pid("other")
    (ox.folder / "go").touch()
    over = ox.wait("over-memory", name="web")
    (ox.folder / "go").unlink()
    assert "its limit is 64" in over["text"]
    ox.wait("ready", name="web", incarnation=2)
    wait_gone(pid)
    card = ox.ok("why", "web").out
    assert "its limit is 64" in card
    assert ox.row("web")["restarts"] == 1
    assert ox.pid("other") == other, "what keeps to its limit is left alone"


def test_what_burns_more_than_its_cpu_limit_is_restarted(ox):
    """The CPU of a child counts, as an average over the window; one that idles under the same limit is left alone."""
    limits = "limits = { cpu_percent = 4, cpu_window_secs = 4 }\n"
    ox.oxfile(
        f'[processes.web]\ncommand = "{program("burns")}"\n{limits}'
        f'[processes.idle]\ncommand = "{program("sleeper")}"\n{limits}'
    )
    ox.ok("start")
    pid = ox.pid("web")
    over = ox.wait("over-cpu", name="web")
    wait_gone(pid)
    assert "CPU for 4" in over["text"]
    assert "its limit is 4%" in over["text"]
    ox.ok("stop", "web")
    assert "its limit is 4%" in ox.ok("why", "web").out
    assert ox.events.matching("ended", name="idle") == []


@pytest.mark.needs_root
def test_an_oom_kill_under_a_hard_limit_is_recognised(ox):
    """hard = true: the kernel kills what takes too much, and `why` says out of memory instead of a riddle of SIGKILL."""
    ox.oxfile(
        f'[processes.web]\ncommand = "{program("grows", 300, "go")}"\n'
        "[processes.web.limits]\nmemory_mb = 48\nhard = true\n"
    )
    started = ox.cli("start")
    if started.code != 0:
        assert "cgroup" in started.err, started
        pytest.skip(f"needs writable cgroups: {started.err.splitlines()[0]}")
    pid = ox.pid("web")
    (ox.folder / "go").touch()
    ended = ox.wait("ended", name="web")
    (ox.folder / "go").unlink()
    wait_gone(pid)
    assert "out of memory" in ended["text"]
    assert "out of memory" in ox.ok("why", "web").out
    ox.wait("started", name="web", incarnation=2)
    ox.ok("stop")
    assert ox.events.matching("cgroup-trouble") == []


def test_open_files_umask_and_niceness_reach_the_program(ox):
    """limits.nofile, umask and nice are what the program finds; its neighbour finds what the supervisor has."""
    ox.oxfile(
        f'[processes.web]\ncommand = "{program("shows_env")}"\numask = "0027"\nnice = 7\nlimits = {{ nofile = 321 }}\n'
        f'[processes.plain]\ncommand = "{program("shows_env")}"\n'
    )
    ox.ok("start")
    web, plain = shown(ox), shown(ox, "plain")
    assert (web["umask"], web["nice"], web["nofile"]) == (0o027, os.nice(0) + 7, 321)
    assert (plain["nice"], plain["umask"]) == (os.nice(0), 0o022)
    assert plain["nofile"] != 321


@pytest.mark.needs_root
def test_user_drops_every_privilege(ox):
    """user = "nobody": uid, gid and groups are nobody's, HOME and USER too; the log stays the supervisor's."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    account = pwd.getpwnam("nobody")
    for folder in (ox.base, ox.folder):
        folder.chmod(0o755)
    # The interpreter of the tests may live where nobody may not go.
    show = "id -u; id -g; id -G; echo $HOME $USER $LOGNAME; test ! -w oxfile.toml && echo cannot write; exec sleep 1d"
    ox.oxfile(f'[processes.web]\ncommand = "sh -c \'{show}\'"\nuser = "nobody"\n')
    ox.ok("start")
    lines = ox.wait_log("web", b"cannot write\n").decode().splitlines()
    assert lines[:3] == [str(account.pw_uid), str(account.pw_gid), str(account.pw_gid)]
    assert lines[3] == f"{account.pw_dir} nobody nobody"
    assert os.stat(f"/proc/{ox.pid('web')}").st_uid == account.pw_uid
    assert ox.log_path("web").stat().st_uid == 0
