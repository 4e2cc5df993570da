"""Hooks of a new generation: before it, with its settings, while the old one serves."""

from __future__ import annotations

import errno

import pytest

from oxherd.config.model import Command
from oxherd.core.exits import ExitStatus
from oxherd.errors import SpawnError
from support.workbench import Workbench, spec

KILLED, FAILED, DONE = ExitStatus(signal=9), ExitStatus(code=1), ExitStatus(code=0)
OLD, NEW = (("RELEASE", "old"),), (("RELEASE", "new"),)


def command(name):
    return Command(text=name, argv=(name,))


@pytest.fixture
def bench(tmp_path):
    bench = Workbench(tmp_path)
    yield bench
    bench.close()


def up(bench, **fields):
    """Start ``web``, with a ``pre_start`` that succeeds, and return its spec."""
    web = spec("web", env=OLD, pre_start=command("migrate"), **fields)
    bench.ask("start", web)
    bench.system.end(hook(bench), DONE)
    bench.loop.advance(1)
    return web


def hooks(bench):
    """The hooks that run now."""
    return [process for process in bench.system.living() if process.request.argv[0] in {"migrate", "check", "migrate2"}]


def hook(bench):
    (running,) = hooks(bench)
    return running


def serving(bench):
    """The instances of ``web`` that run, by slot."""
    running = [process for process in bench.system.living("web") if process not in hooks(bench)]
    return sorted(running, key=lambda process: process.request.env["OXHERD_INSTANCE"])


def runs(bench, name):
    return sum(process.request.argv == (name,) for process in bench.system.launched)


def changed_files(bench, *paths):
    process = bench.assembly.keeper.stack(bench.path).processes["web"]
    bench.assembly.duties.changed_files(process, list(paths or ["app.py"]))
    bench.loop.advance(0)


@pytest.mark.parametrize("verb", ["apply", "restart", "reload"])
def test_the_hook_of_the_new_settings_runs_first_and_once(bench, verb):
    web = up(bench, instances=2)
    old = serving(bench)
    answer = bench.ask(verb, bench.changed(web, env=NEW, pre_start=command("migrate2")))
    assert hook(bench).request.argv == ("migrate2",)
    assert hook(bench).request.env["RELEASE"] == "new"
    assert serving(bench) == old
    bench.system.end(hook(bench), DONE)
    bench.loop.advance(3)
    assert answer.failed == {}
    assert [process.request.env["RELEASE"] for process in serving(bench)] == ["new", "new"]
    assert not any(process.alive for process in old)
    assert bench.ask("scale", name="web", instances="+1").problem is None
    bench.loop.advance(1)
    assert len(serving(bench)) == 3
    assert (runs(bench, "migrate"), runs(bench, "migrate2")) == (1, 1)


@pytest.mark.parametrize(
    ("verb", "key"),
    [("apply", "pre_start"), ("restart", "pre_start"), ("reload", "pre_start"), ("reload", "pre_reload")],
)
def test_a_failing_hook_leaves_the_settings_that_were(bench, verb, key):
    """Also what comes after it, a crash and a boot, runs under the old ones."""
    web = up(bench)
    old = serving(bench)
    edited = bench.changed(web, env=NEW, **{key: command("check")})
    answer = bench.ask(verb, edited, spec("added"), env={"CALLER": "new"}, update_env=True)
    assert hook(bench).request.env["CALLER"] == "new"
    bench.system.end(hook(bench), FAILED)
    bench.loop.advance(1)
    assert answer.problem.code == "OX420"
    assert answer.problem.message == f"web: {key} exited with 1; nothing was changed"
    assert serving(bench) == old
    assert bench.status() == {"web": "running"}
    bench.system.end(old[0], KILLED)
    bench.loop.advance(1)
    (again,) = serving(bench)
    assert (again.request.env["RELEASE"], again.request.env["CALLER"]) == ("old", "yes")
    assert bench.instance("web").machine.generation == 1


def test_a_hook_that_cannot_be_started_changes_nothing(bench):
    web = up(bench)
    old = serving(bench)
    bench.system.fail("launch", SpawnError("executing", errno.ENOENT, "migrate", "No such file or directory"))
    answer = bench.ask("apply", bench.changed(web, env=NEW))
    assert "web: pre_start could not start: executing migrate" in answer.problem.message
    assert serving(bench) == old


def test_an_apply_runs_the_hooks_of_what_it_restarts_only(bench):
    """Nothing changed, or only the number of instances, or something else: the process is left alone, without a hook."""
    web = up(bench)
    old = serving(bench)
    for processes in ([web], [bench.changed(web, instances=2)], [bench.changed(web, instances=2), spec("other")]):
        answer = bench.ask("apply", *processes)
        bench.loop.advance(1)
        assert answer.failed == {}
    assert runs(bench, "migrate") == 1
    assert old[0].alive
    bench.ask("stop", names=["web"])
    bench.loop.advance(1)
    assert bench.ask("apply", bench.changed(web, env=NEW), spec("other")).failed == {}
    assert runs(bench, "migrate") == 1


def test_an_apply_after_which_one_of_two_hooks_fails_changes_neither(bench):
    web = up(bench)
    worker = spec("worker", env=OLD)
    bench.ask("apply", web, worker)
    bench.loop.advance(1)
    before = bench.system.living()
    answer = bench.ask("apply", bench.changed(web, env=NEW), bench.changed(worker, env=NEW, pre_start=command("check")))
    bench.system.end(hook(bench), DONE)
    bench.loop.advance(0)
    assert hook(bench).name == "worker"
    bench.system.end(hook(bench), FAILED)
    bench.loop.advance(1)
    assert answer.problem.message.startswith("worker: pre_start exited with 1")
    assert bench.system.living() == before


def test_a_changed_file_runs_pre_start_before_it_restarts(bench):
    up(bench)
    (old,) = serving(bench)
    changed_files(bench)
    assert old.alive
    bench.system.end(hook(bench), DONE)
    bench.loop.advance(1)
    (new,) = serving(bench)
    assert new is not old
    bench.ask("scale", name="web", instances="+1")
    bench.loop.advance(1)
    assert len(serving(bench)) == 2
    assert runs(bench, "migrate") == 2
    assert bench.instance("web").machine.generation == 2


def test_a_changed_file_whose_pre_start_fails_restarts_nothing_and_says_so(bench):
    up(bench)
    old = serving(bench)
    changed_files(bench)
    bench.system.end(hook(bench), FAILED)
    bench.loop.advance(1)
    assert serving(bench) == old
    assert bench.instance("web").machine.generation == 1
    assert bench.events("watch")[-1] == "web: not restarted, what ran runs on: pre_start exited with 1"


@pytest.mark.parametrize("end", [DONE, FAILED])
def test_files_that_change_while_pre_start_runs_count_once_it_is_over(bench, end):
    up(bench)
    changed_files(bench, "a.py")
    changed_files(bench, "b.py")
    changed_files(bench, "c.py")
    bench.system.end(hook(bench), end)
    bench.loop.advance(1)
    assert runs(bench, "migrate") == 3
    bench.system.end(hook(bench), DONE)
    bench.loop.advance(1)
    assert bench.status() == {"web": "running"}
    assert bench.instance("web").machine.generation == (3 if end is DONE else 2)
    assert hooks(bench) == []


def test_a_changed_file_tries_a_pre_start_anew_that_kept_the_process_down(bench):
    bench.ask("start", spec("web", pre_start=command("migrate")))
    bench.system.end(hook(bench), FAILED)
    assert bench.status() == {"web": "crashed"}
    changed_files(bench)
    bench.system.end(hook(bench), DONE)
    bench.loop.advance(1)
    assert bench.status() == {"web": "running"}


def test_a_file_that_changes_while_the_first_pre_start_runs_starts_no_second_one(bench):
    web = spec("web", pre_start=command("migrate"))
    bench.ask("start", web, spec("other"))
    changed_files(bench)
    bench.loop.advance(1)
    bench.system.end(hook(bench), DONE)
    bench.loop.advance(1)
    assert bench.status() == {"web": "running", "other": "running"}
    assert runs(bench, "migrate") == 1


def test_two_restarts_never_run_the_same_process_s_hooks_at_a_time(bench):
    web = up(bench)
    first, second = bench.ask("restart", web), bench.ask("apply", bench.changed(web, env=NEW))
    assert runs(bench, "migrate") == 2
    bench.system.end(hook(bench), DONE)
    bench.loop.advance(1)
    assert first.failed == {}
    assert not second.done
    bench.system.end(hook(bench), DONE)
    bench.loop.advance(1)
    assert second.failed == {}
    assert [process.request.env["RELEASE"] for process in serving(bench)] == ["new"]
    assert runs(bench, "migrate") == 3


@pytest.mark.parametrize("verb", ["stop", "delete", "shutdown"])
def test_a_stop_ends_the_hooks_of_a_replacement_and_those_that_wait(bench, verb):
    web = up(bench)
    changed_files(bench)
    waiting = bench.ask("restart", web)
    running = hook(bench)
    bench.ask(verb)
    bench.loop.advance(1)
    assert (running.pid, 9) in bench.system.sent
    assert bench.system.living() == []
    assert waiting.problem.message == "web: it was stopped while pre_start ran; nothing was changed"
    assert runs(bench, "migrate") == 2


def test_a_restart_of_single_instances_runs_pre_reload_once_and_no_pre_start(bench):
    up(bench, instances=3, pre_reload=command("check"))
    first, second, third = serving(bench)
    answer = bench.ask("reload", names=["web:0", "web:1"])
    assert hook(bench).request.argv == ("check",)
    bench.system.end(hook(bench), DONE)
    bench.loop.advance(3)
    assert answer.failed == {}
    assert (first.alive, second.alive, third.alive) == (False, False, True)
    assert (runs(bench, "check"), runs(bench, "migrate")) == (1, 1)


def test_a_name_that_fits_nothing_is_an_error_before_any_hook_runs(bench):
    web = up(bench)
    assert bench.ask("restart", bench.changed(web, env=NEW), names=["web", "wbe"]).problem.code == "OX211"
    assert hooks(bench) == []


def test_a_restart_of_what_only_the_new_oxfile_has_starts_it_and_leaves_the_rest(bench):
    web = up(bench)
    old = serving(bench)
    answer = bench.ask("restart", web, spec("added"), names=["added"])
    bench.loop.advance(1)
    assert answer.failed == {}
    assert bench.status() == {"web": "running", "added": "running"}
    assert serving(bench) == old
    assert runs(bench, "migrate") == 1
