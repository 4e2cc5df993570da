"""Clocks that jump, a machine that was suspended, and processes that are stopped: nothing is blamed on those who slept."""

from __future__ import annotations

import os

import pytest

from oxherd.config.model import Command, HostSpec
from oxherd.core.exits import ExitStatus
from support.fake_host import HostedSystem
from support.services import unused_port
from support.workbench import Workbench, spec

KILLED = ExitStatus(signal=9)
YEAR = 365 * 86_400


@pytest.fixture
def bench(tmp_path):
    before = set(os.listdir("/proc/self/fd"))
    bench = Workbench(tmp_path, HostedSystem())
    yield bench
    bench.close()
    assert set(os.listdir("/proc/self/fd")) <= before


def hosted(name="web", **fields):
    host = HostSpec(python="/usr/bin/python3", target="main:app", bind=(f"127.0.0.1:{unused_port()}",))
    command = Command(text="uvicorn main:app", argv=("uvicorn", "main:app"))
    return spec(name, host=host, command=command, **fields)


def workers(bench):
    return [one for one in bench.system.living() if "zygote" not in one.mark.split("/")]


def zygotes(bench):
    return [one for one in bench.system.living() if "zygote" in one.mark.split("/")]


def suspend(bench, seconds):
    """Let the machine be suspended: afterwards every timer that ran out meanwhile fires in one turn of the loop."""
    bench.loop.time += seconds
    bench.loop.advance(0)


def pass_by(bench, seconds):
    """Let seconds pass one by one: what is said over channels meanwhile needs turns of the loop."""
    for _ in range(seconds):
        bench.loop.advance(1)


# -- a busy machine -------------------------------------------------------------------------------------------------


def test_a_worker_may_be_up_before_its_zygote_has_told_of_it(bench):
    """The child of a fork has run, and its parent has not: what the worker has said by then is not lost."""
    bench.system.slow_parents = 0.5
    bench.up(hosted("app", instances=2))
    assert set(bench.status().values()) == {"running"}
    before = {one.pid for one in workers(bench)}
    bench.system.end(workers(bench)[0], KILLED)
    pass_by(bench, 2)
    assert set(bench.status().values()) == {"running"}
    assert len({one.pid for one in workers(bench)} - before) == 1


# -- the wall clock -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [-YEAR, YEAR], ids=["back", "forth"])
def test_a_wall_clock_that_jumps_a_year_moves_nothing_but_dates(bench, jump):
    """Back-off, uptimes and stop timeouts go by a clock of their own; only what is shown has another date."""
    bench.up(spec("web"), hosted("app", instances=2))
    uptime = _row(bench, "web")["uptime_seconds"]
    bench.system.clock += jump
    bench.loop.advance(5)
    assert _row(bench, "web")["uptime_seconds"] == pytest.approx(uptime + 5)
    bench.system.end(bench.system.living("web")[0], KILLED)
    bench.loop.advance(1)
    assert set(bench.status().values()) == {"running"}
    assert _row(bench, "web")["restarts"] == 1
    (web,) = bench.system.living("web")
    web.ignores.add(15)
    answer = bench.ask("stop", names=["web"])
    bench.loop.advance(9)
    assert not answer.done
    bench.loop.advance(2)
    assert answer.done
    assert web.pid in {pid for pid, signum in bench.system.sent if signum == 9}


def _row(bench, name):
    return next(row for row in bench.ask("status").value["rows"] if row["name"] == name)


# -- a suspended machine ----------------------------------------------------------------------------------------------


def test_a_suspended_machine_condemns_nobody(bench):
    """An hour in which nothing ran, the supervisor no more than its programs: no pulse, no probe and no limit counts it."""
    bench.up(spec("web"), hosted("app", instances=2))
    before = {process.pid for process in bench.system.living()}
    for _ in range(3):
        suspend(bench, 3600)
        bench.loop.advance(2)
    assert {process.pid for process in bench.system.living()} == before
    assert set(bench.status().values()) == {"running"}
    assert bench.events("slow", "blocked", "unhealthy") == []


def test_an_end_and_a_timeout_that_are_seen_together_are_an_end(bench):
    """Both happened while nobody looked: a program that went in time is not killed for it."""
    bench.up(spec("web"))
    (web,) = bench.system.living("web")
    bench.system.obedient = False
    answer = bench.ask("stop")
    web.alive, web.status = False, ExitStatus(code=0)
    bench.loop.time += 3600
    bench.loop.deliver(17)
    assert answer.done
    assert answer.failed == {}
    assert bench.events("killed") == []


# -- processes that are stopped -------------------------------------------------------------------------------------


def test_a_stopped_zygote_is_replaced_when_it_is_asked_for_a_fork(bench):
    """SIGSTOP, a debugger, a frozen cgroup: who waits for a worker does not wait for ever."""
    bench.up(hosted())
    (zygote,) = zygotes(bench)
    bench.system.stopped.add(zygote.pid)
    bench.system.end(workers(bench)[0], KILLED)
    pass_by(bench, 9)
    assert workers(bench) == []
    pass_by(bench, 5)
    assert bench.status() == {"web": "running"}
    assert len(workers(bench)) == 1
    (successor,) = zygotes(bench)
    assert successor is not zygote
    assert "has not forked within 10 s; it is replaced" in bench.events("zygote-stuck")[0]


def test_a_stop_does_not_wait_for_a_stopped_zygote(bench):
    bench.up(hosted())
    bench.system.stopped.update(one.pid for one in zygotes(bench))
    bench.system.end(workers(bench)[0], KILLED)
    answer = bench.ask("stop")
    launched = len(bench.system.launched)
    pass_by(bench, 12)
    assert answer.done
    assert bench.system.living() == []
    assert len(bench.system.launched) == launched, "something was started only to be stopped"
