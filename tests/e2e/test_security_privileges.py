"""`user =`: whatever is run for a process has that user's rights when its first instruction runs, and no other's."""

from __future__ import annotations

import grp
import json
import os
import shutil
import stat
from pathlib import Path

import pytest

from support.harness import PYTHON
from support.services import unused_port
from support.strangers import GROUP, PATHS, STRANGER, Stranger, needs_root, open_to_all
from support.waiting import wait_until
from support.web import APPS

pytestmark = needs_root

SETTINGS = """
user = "nobody"
umask = "027"
"""
OXFILE = """
[processes.command]
command = "{python} -I -S dropped.py {reports} command {control} {state} wait"
pre_start = "{python} -I -S dropped.py {reports} hook {control} {state}"
{settings}
[processes.command.health_check]
command = "{python} -I -S dropped.py {reports} health {control} {state}"
initial_delay_secs = 0

[processes.forked]
app = "dropped:app"
bind = "127.0.0.1:{port1}"
python = "{python}"
{settings}
[processes.forked.env]
{env}

[processes.execed]
app = "dropped:app"
bind = "127.0.0.1:{port2}"
python = "{python}"
preload = false
{settings}
[processes.execed.env]
{env}

[processes.job]
command = "{python} -I -S dropped.py {reports} job {control} {state}"
type = "oneshot"
restart = "never"
{settings}
"""
WAYS = [
    "command",
    "hook",
    "health",
    "job",
    "import-of-forked",
    "worker-of-forked",
    "import-of-execed",
    "worker-of-execed",
]


@pytest.fixture
def reports(ox):
    """Start one process of every way as another user; return what each wrote of itself."""
    stranger = Stranger(ox)
    folder = ox.base / "reports"
    folder.mkdir()
    os.chown(folder, STRANGER, GROUP)
    env = {"PYTHONPATH": PATHS, "REPORTS": str(folder), "CONTROL": ox.home.socket, "STATE": ox.home.state}
    ox.oxfile(
        OXFILE.format(
            python=stranger.python,
            reports=folder,
            control=ox.home.socket,
            state=ox.home.state,
            port1=unused_port(),
            port2=unused_port(),
            settings=SETTINGS,
            env="\n".join(f"{name} = {json.dumps(value)}" for name, value in env.items()),
        )
    )
    shutil.copy(APPS / "dropped.py", ox.folder)
    open_to_all(ox.folder)
    # The outer doors stand open: what keeps the dropped out are the supervisor's own.
    ox.ok("start")
    wait_until(lambda: all((folder / f"{way}.json").exists() for way in WAYS), lambda: str(os.listdir(folder)))
    return {way: json.loads((folder / f"{way}.json").read_text()) for way in WAYS}


def test_what_is_run_as_another_user_has_its_rights_alone(ox, reports):
    own_groups = [str(gid) for gid in os.getgrouplist("nobody", GROUP)]
    for way, found in reports.items():
        assert found["uid"] == [str(STRANGER)] * 4, way
        assert found["gid"] == [str(GROUP)] * 4, way
        assert found["groups"] == own_groups, way
        assert found["no_new_privs"] == "1", way
        assert [int(mask, 16) for mask in found["capabilities"]] == [0, 0, 0, 0], way
        assert found["umask"] == "0027", way
        # It commands nobody: not the supervisor by its socket, by a signal or by its files, and does not become root.
        assert found["connect"] == "EACCES", way
        assert found["list_state"] == "EACCES", way
        assert found["regain"] == "EPERM", way
        assert found["regain_groups"] == "EPERM", way
        if way != "worker-of-forked":  # its parent is its zygote, which is its own user's
            assert found["signal_parent"] == "EPERM", way
            assert found["parent_environ"] in {"EACCES", "EPERM"}, way
        # No descriptor leads to a file of the supervisor's: output goes through a pipe.
        assert [path for path in found["files"] if str(ox.base / "ox") in path] == [], way
    # What a worker shares with the supervisor it cannot take from under its feet.
    assert set(reports["worker-of-forked"]["cut_meters"]) == {"EPERM"}
    assert set(reports["worker-of-execed"]["cut_meters"]) == {"EPERM"}
    # Files of the supervisor belong to it, whoever writes through it.
    for name in ("command", "forked", "execed", "job"):
        status = ox.log_path(name).stat()
        assert (status.st_uid, stat.S_IMODE(status.st_mode) & 0o022) == (0, 0), name
    assert ox.row("forked")["status"] == ox.row("execed")["status"] == ox.row("command")["status"] == "running"


def test_a_group_of_its_own_is_the_only_one_that_is_added(ox):
    """`group =` replaces the user's primary group; supplementary groups are those the system gives that user."""
    group = grp.getgrnam("daemon")
    ox.oxfile('[processes.web]\ncommand = "/bin/sleep 1000"\nuser = "nobody"\ngroup = "daemon"\n')
    open_to_all(ox.base, ox.folder)
    ox.ok("start")
    text = Path(f"/proc/{ox.pid('web')}/status").read_text()
    fields = {line.split(":")[0]: line.split()[1:] for line in text.splitlines()}
    assert fields["Gid"] == [str(group.gr_gid)] * 4
    assert fields["Groups"] == [str(gid) for gid in os.getgrouplist("nobody", group.gr_gid)]
    assert "0" not in fields["Groups"]


def test_root_is_warned_of_what_others_may_write_before_it_is_run(ox):
    """`start`, `run` and `doctor` say it once for each place, and what to do; they go on."""
    folder = ox.oxfile('[processes.web]\ncommand = "/bin/sleep 1000"\n[processes.job]\ncommand = "/bin/sleep 1000"\n')
    os.chown(folder, STRANGER, GROUP)
    said = f"{folder}: it belongs to nobody, and root relies on it for the oxfile, the working_dir of web and"
    for line in (("start",), ("restart",), ("reload",), ("apply",)):
        result = ox.ok(*line)
        assert result.err.count(f"warning: {said}") == 1, result
        assert f"hint: chown root:root {folder} && chmod go-w {folder}" in result.err, result
    doctor = ox.cli("doctor")
    assert doctor.out.count(said) == 1, doctor
    os.chown(folder, 0, 0)
    assert "relies on" not in ox.ok("reload").err


def test_metacharacters_reach_a_program_as_they_are(ox):
    """No shell where none is asked for: not for commands, hooks, checks, values of variables or folders with odd names."""
    odd = "a;touch pwned $(touch pwned) `touch pwned` & | > pwned * ? ~ !x #y \\ {}"
    folder = ox.oxfile("", folder="od;d $(touch pwned) &")
    value = odd.replace("$", "$$")
    shows = "import sys, json, os; print(json.dumps([sys.argv[1:], os.getcwd(), os.environ['ODD']]), flush=True)"
    (folder / "shows.py").write_text(f"{shows}\nif sys.argv[1] == 'run':\n    import signal\n    signal.pause()\n")
    argument = "${ODD}"
    command = f"{PYTHON} shows.py"
    ox.oxfile(
        f"[processes.web]\ncommand = {json.dumps(f'{command} run {argument}')}\n"
        f"pre_start = {json.dumps(f'{command} hook {argument}')}\n"
        f"[processes.web.env]\nODD = {json.dumps(value)}\n"
        f"[processes.web.health_check]\ncommand = {json.dumps(f'{command} health {argument}')}\ninitial_delay_secs = 0\n",
        folder=folder.name,
    )
    ox.ok("start")
    for way in ("hook", "run"):
        line = json.dumps([[way, odd], str(folder), odd])
        ox.wait_log("web", line.encode())
    assert ox.row("web")["health"] == "healthy"
    assert not list(ox.base.rglob("pwned*"))
    (process,) = ox.ok("explain", "--json").json["processes"]
    assert process["shell"] is False
    assert process["argv"][-1] == odd
