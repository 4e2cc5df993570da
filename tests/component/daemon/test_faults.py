"""Every call of the port fails once, at the worst moment; the supervisor says so and goes on.

The stories here are about the machine's troubles, not the programs': no room, no descriptors, no permission.
"""

from __future__ import annotations

import errno
import os

import pytest

from oxherd.config.model import LimitSpec
from oxherd.core.exits import ExitStatus
from oxherd.errors import SpawnError, SystemFault
from support.workbench import Workbench, spec

KILLED = ExitStatus(signal=9)


@pytest.fixture
def bench(tmp_path):
    bench = Workbench(tmp_path)
    yield bench
    bench.close()


@pytest.mark.parametrize(
    "error",
    [
        SpawnError("starting a new process", errno.EAGAIN, "", os.strerror(errno.EAGAIN)),
        SpawnError("starting a new process", errno.ENOMEM, "", os.strerror(errno.ENOMEM)),
        SpawnError("opening pipes", errno.EMFILE, "", os.strerror(errno.EMFILE)),
    ],
)
def test_a_restart_that_the_machine_refuses_is_tried_again(bench, error):
    bench.up(spec("web"))
    bench.system.fail("launch", error)
    bench.system.end(bench.system.living("web")[0], KILLED)
    assert bench.status() == {"web": "backoff"}
    assert error.message in bench.events("spawn-failed")[0]
    bench.loop.advance(1)
    assert bench.status() == {"web": "running"}


def test_a_program_that_vanishes_while_it_ran_is_waited_for(bench):
    """A deploy replaces the virtual environment: for a moment there is no program; that is no reason to give up."""
    bench.up(spec("web"))
    gone = SpawnError("executing", errno.ENOENT, "web", os.strerror(errno.ENOENT))
    for _ in range(3):
        bench.system.fail("launch", gone)
    bench.system.end(bench.system.living("web")[0], KILLED)
    bench.loop.advance(2)
    assert bench.status() == {"web": "running"}


def test_a_log_that_cannot_be_opened_delays_the_start_only(bench):
    bench.system.fail("open_sink", OSError(errno.ENFILE, os.strerror(errno.ENFILE)))
    bench.ask("start", spec("web"))
    bench.loop.advance(1)
    assert bench.status() == {"web": "running"}
    assert "Too many open files in system" in bench.events("spawn-failed")[0]


def test_hard_limits_where_the_machine_has_none_are_refused_with_the_reason(bench):
    reason = SystemFault("cgroup v2 is not writable", hint="run under systemd with Delegate=yes")
    for _ in range(3):
        bench.system.fail("make_cgroup", reason)
    answer = bench.ask("start", spec("web", limits=LimitSpec(memory=1, hard=True)))
    bench.loop.advance(0.2)
    assert "cgroup v2 is not writable" in answer.failed["web"]
    assert bench.system.launched == []


def test_a_hook_that_cannot_be_started_keeps_its_process_down(bench):
    from oxherd.config.model import Command

    bench.system.fail("launch", SpawnError("executing", errno.ENOENT, "migrate", "No such file or directory"))
    answer = bench.ask("start", spec("web", pre_start=Command(text="migrate", argv=("migrate",))))
    assert answer.failed == {"web": "pre_start could not start: executing migrate: No such file or directory"}
    assert all(sink.open_pipes == 0 for sink in bench.system.sinks.values())


def test_a_full_disk_does_not_keep_a_stack_from_starting(bench, monkeypatch):
    """What is wanted cannot be written down; that is said, and the stack runs."""

    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("oxherd.daemon.journal.replace_file", full)
    monkeypatch.setattr("oxherd.daemon.cards.replace_file", full)
    bench.up(spec("web"))
    assert bench.status() == {"web": "running"}
    assert "No space left on device; the stack may not come back" in bench.events("state-trouble")[0]
    bench.system.end(bench.system.living("web")[0], KILLED)
    assert bench.ask("why").value["cards"][0]["exit"]["signal"] == 9


def test_an_end_that_is_told_twice_is_taken_once(bench):
    bench.up(spec("web"))
    (process,) = bench.system.living("web")
    bench.system.end(process, KILLED)
    bench.assembly.children.look()
    assert bench.instance("web").machine.restarts == 1


def test_an_orphan_of_nobody_is_buried(bench):
    bench.up(spec("web"))
    stranger = bench.system.leave_behind(bench.system.living("web")[0])
    stranger.mark = "somebody else"
    bench.system.end(stranger, ExitStatus(code=0))
    assert stranger.status is None
    assert bench.status() == {"web": "running"}


def test_out_of_memory_is_told_apart_from_a_kill_by_hand(bench):
    bench.up(spec("web"), spec("worker"))
    bench.system.oom += 1
    bench.system.end(bench.system.living("web")[0], KILLED)
    causes = [card["cause"] for card in bench.ask("why", names=["web"]).value["cards"]]
    assert causes == ["killed by the kernel: out of memory after 1 s"]


def test_a_callback_with_a_bug_does_not_end_the_supervisor(bench):
    bench.up(spec("web"))

    def broken(_handle):
        raise RuntimeError("a bug")

    end = bench.supervisor.observe(broken)
    with pytest.raises(RuntimeError):
        bench.system.end(bench.system.living("web")[0], KILLED)
    end()
    bench.loop.errors.clear()
    bench.loop.advance(1)
    assert bench.status() == {"web": "running"}
