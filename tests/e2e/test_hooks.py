"""What runs before a process, and what a failure of it means."""

from __future__ import annotations

import os
import signal

import pytest

from support.harness import descendants, program
from support.waiting import wait_gone


def test_pre_start_runs_once_before_all_instances(ox):
    """Two instances, one pre_start: it is over before either is started, runs anew with `restart`, not after a crash."""
    ox.oxfile(
        f'[processes.web]\ncommand = "{program("exits", 1, "die-{instance}")}"\ninstances = 2\n'
        "pre_start = \"sh -c 'echo migrating as $OXHERD_PROCESS in $PWD'\"\n"
    )
    ox.ok("start")
    line = f"migrating as web in {ox.folder}\n".encode()
    kinds = [event["kind"] for event in ox.events.matching("hook", "started")]
    assert kinds == ["hook", "hook", "started", "started"]
    assert ox.wait_log("web", line).count(line) == 1
    (ox.folder / "die-1").touch()
    ox.wait("started", name="web", instance=1, incarnation=2)
    (ox.folder / "die-1").unlink()
    assert ox.log("web").count(line) == 1
    ox.wait_row("web:1", status="running")
    ox.ok("restart")
    assert ox.wait_log("web", line, count=2).count(line) == 2
    ox.ok("stop")
    ox.ok("start")
    assert ox.wait_log("web", line, count=3).count(line) == 3


def test_a_pre_start_that_fails_keeps_all_instances_down(ox):
    """`start` ends with 1, the reason and what the hook said; nothing was started; mended, the next start works."""
    ox.oxfile(
        f'[processes.web]\ncommand = "{program("sleeper")}"\ninstances = 2\n'
        "pre_start = \"sh -c 'echo no table; test -e mended'\"\n"
        f'[processes.worker]\ncommand = "{program("sleeper")}"\ndepends_on = ["web"]\n'
    )
    result = ox.cli("start")
    assert result.code == 1
    assert "pre_start exited with 1" in result.err
    assert b"no table" in ox.wait_log("web", b"no table")
    assert {row["name"]: row["status"] for row in ox.rows()} == {"web": "crashed", "worker": "crashed"}
    assert ox.events.matching("started") == []
    assert "pre_start exited with 1" in ox.row("web:1")["detail"]
    (ox.folder / "mended").touch()
    ox.ok("restart")
    assert {row["status"] for row in ox.rows() if row["name"] == "web"} == {"running"}


@pytest.mark.parametrize("verb", ["restart", "reload"])
def test_a_pre_start_that_fails_costs_no_running_process(ox, verb):
    """The hook of the new generation runs while the old one serves; if it fails, the old one goes on."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper")}"\ninstances = 2\npre_start = "test ! -e broken"\n')
    ox.ok("start")
    before = ox.pids()
    (ox.folder / "broken").touch()
    result = ox.cli(verb)
    assert result.code == 1
    assert "web: pre_start exited with 1; nothing was changed" in result.err
    assert ox.pids() == before
    (ox.folder / "broken").unlink()
    ox.ok(verb)
    assert not set(before.values()) & set(ox.pids().values())


def test_a_pre_start_that_cannot_be_started_names_its_program(ox):
    """A hook that is not there: the reason is the hook's, not the program's."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper")}"\npre_start = "./no-such-hook"\n')
    result = ox.cli("start")
    assert result.code == 1
    assert "pre_start could not start" in result.err
    assert "no-such-hook" in result.err
    assert ox.events.matching("started") == []


def test_a_stop_ends_a_pre_start_that_hangs(ox):
    """`stop` while pre_start runs: the hook and what it started are gone, and the next start runs it anew."""
    ox.oxfile(
        f'[processes.web]\ncommand = "{program("sleeper")}"\n'
        f"pre_start = \"sh -c 'test -e quick || {program('escapee', 'child')}'\"\n"
    )
    start = ox.popen("start")
    escaped = ox.wait_log("web", b"escaped")
    pid = int(escaped.split(b"escaped ")[1].split()[0])
    ox.ok("stop")
    start.communicate()
    assert start.returncode == 1
    wait_gone(pid)
    assert ox.row("web")["status"] == "stopped"
    assert descendants(ox.supervisor) == []
    (ox.folder / "quick").touch()
    ox.ok("start")
    assert ox.row("web")["status"] == "running"


def test_a_pre_reload_that_fails_changes_nothing(ox):
    """`reload` ends with 1 and the hook's reason; every process runs on as it was; mended, the reload goes through."""
    ox.oxfile(
        f'[processes.web]\ncommand = "{program("sleeper")}"\ninstances = 2\n'
        "pre_reload = \"sh -c 'echo checking; test -e mended'\"\n"
    )
    ox.ok("start")
    before = ox.pids()
    result = ox.cli("reload")
    assert result.code == 1
    assert "pre_reload exited with 1" in result.err
    assert "nothing was changed" in result.err
    assert b"checking" in ox.wait_log("web", b"checking")
    assert ox.pids() == before
    assert {row["generation"] for row in ox.rows()} == {1}
    (ox.folder / "mended").touch()
    ox.ok("reload")
    assert not set(before.values()) & set(ox.pids().values())


@pytest.mark.parametrize(("verb", "key"), [("apply", "pre_start"), ("restart", "pre_start"), ("reload", "pre_reload")])
def test_settings_whose_hook_fails_are_not_taken(ox, verb, key):
    """An edited oxfile whose hook fails: what runs stays, and what comes after a crash has the old settings."""
    text = f"[processes.web]\ncommand = \"sh -c 'echo serving $RELEASE; exec {program('sleeper')}'\"\n"
    ox.oxfile(f'{text}env = {{ RELEASE = "old" }}\n')
    ox.ok("start")
    before = ox.pids()
    hook = f"{key} = \"sh -c 'echo checking $RELEASE; test -e mended'\"\n"
    ox.oxfile(f'{text}{hook}env = {{ RELEASE = "new" }}\n')
    result = ox.cli(verb)
    assert result.code == 1
    assert f"web: {key} exited with 1; nothing was changed" in result.err
    assert b"checking new" in ox.wait_log("web", b"checking new")
    assert ox.pids() == before
    os.kill(before["web:0"], signal.SIGKILL)
    ox.wait("ready", name="web", incarnation=2)
    assert b"serving new" not in ox.wait_log("web", b"serving old", count=2)
    (ox.folder / "mended").touch()
    ox.ok(verb)
    ox.wait_log("web", b"serving new")
    assert ox.log("web").count(b"checking new") == 2


def test_an_apply_of_a_changed_process_runs_its_pre_start_while_the_old_one_serves(ox):
    """Until the hook has ended the pid is the same; it runs once for all instances and not for an unchanged process."""
    hook = f"pre_start = \"sh -c 'echo migrating; test ! -e slow || {program('waits_for', 'go')}'\"\n"
    same = f'[processes.same]\ncommand = "{program("sleeper")}"\n{hook}'
    web = f'[processes.web]\ncommand = "{program("sleeper")}'
    ox.oxfile(f'{web}"\ninstances = 2\n{hook}{same}')
    ox.ok("start")
    before = ox.pids()
    (ox.folder / "slow").touch()
    ox.oxfile(f'{web} anew"\ninstances = 2\n{hook}{same}')
    apply = ox.popen("apply")
    ox.wait_log("web", b"migrating", count=2)
    assert ox.pids() == before
    (ox.folder / "go").touch()
    output, _ = apply.communicate()
    assert apply.returncode == 0, output
    after = ox.pids()
    assert after["same:0"] == before["same:0"]
    assert not {before["web:0"], before["web:1"]} & set(after.values())
    assert ox.log("web").count(b"migrating") == 2
    assert ox.log("same").count(b"migrating") == 1


def test_a_stop_ends_the_hook_of_a_replacement(ox):
    """`stop` while the pre_start of a restart hangs: the hook is gone, the restart ends with 1 and says why."""
    ox.oxfile(
        f'[processes.web]\ncommand = "{program("sleeper")}"\n'
        f"pre_start = \"sh -c 'test ! -e slow || {program('escapee', 'child')}'\"\n"
    )
    ox.ok("start")
    (ox.folder / "slow").touch()
    restart = ox.popen("restart")
    pid = int(ox.wait_log("web", b"escaped").split(b"escaped ")[1].split()[0])
    ox.ok("stop")
    output, _ = restart.communicate()
    assert restart.returncode == 1
    assert "it was stopped while pre_start ran; nothing was changed" in output
    wait_gone(pid)
    assert ox.row("web")["status"] == "stopped"
    assert descendants(ox.supervisor) == []


def test_a_oneshot_that_completed_lets_its_dependents_start(ox):
    """depends_on = { x = "completed" }: the dependent starts after the end of the oneshot, not before."""
    ox.oxfile(
        f'[processes.migrate]\ncommand = "{program("waits_for", "go")}"\ntype = "oneshot"\n'
        f'[processes.web]\ncommand = "{program("sleeper")}"\ndepends_on = {{ migrate = "completed" }}\n'
    )
    start = ox.popen("start")
    ox.wait_for_supervisor()
    ox.wait("blocked", name="web")
    assert ox.row("web")["pid"] is None
    (ox.folder / "go").touch()
    output, _ = start.communicate()
    assert start.returncode == 0, output
    order = [(event["name"], event["kind"]) for event in ox.events.matching("started", "exited")]
    assert order == [("migrate", "started"), ("migrate", "exited"), ("web", "started")]
    assert (ox.row("migrate")["status"], ox.row("web")["status"]) == ("exited", "running")


def test_a_oneshot_that_fails_is_named_by_its_dependents(ox):
    """The dependent is down, and its reason names the oneshot; `start` ends with 1."""
    ox.oxfile(
        f'[processes.migrate]\ncommand = "{program("exits", 5)}"\ntype = "oneshot"\nrestart = "never"\n'
        f'[processes.web]\ncommand = "{program("sleeper")}"\ndepends_on = {{ migrate = "completed" }}\n'
    )
    result = ox.cli("start")
    assert result.code == 1
    assert "exited with 5" in result.err
    row = ox.row("web")
    assert row["status"] == "crashed"
    assert "migrate" in row["detail"]
    assert len(ox.events.matching("started")) == 1
