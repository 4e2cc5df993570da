"""A supervisor that dies without a word, and the next one over the same home: a fake machine, the same fake processes."""

from __future__ import annotations

import os

import pytest

from oxherd.config.codec import encode
from oxherd.config.model import Command, HostSpec, HostWay, ProcessType, ScheduleSpec, StopSpec
from oxherd.core.exits import ExitStatus
from oxherd.core.fleet import DependencyCondition
from oxherd.core.instance import Desired, State, Timer
from oxherd.core.restart import RestartMode, RestartPolicy
from oxherd.daemon.journal import latest_records
from support.services import unused_port
from support.workbench import Workbench, spec

KILLED, FAILED, DONE = ExitStatus(signal=9), ExitStatus(code=1), ExitStatus(code=0)
TERM, KILL = 15, 9


@pytest.fixture
def bench(tmp_path):
    before = set(os.listdir("/proc/self/fd"))
    bench = Workbench(tmp_path)
    bench.begin()
    yield bench
    bench.close()
    assert set(os.listdir("/proc/self/fd")) <= before, "descriptors are left"


def machine(bench, name="web", slot=0):
    return bench.instance(name, slot).machine


def pids(bench, name=None):
    return [process.pid for process in bench.system.living(name)]


def signals(bench, pid):
    return [signum for receiver, signum in bench.system.sent if receiver == pid]


# -- what runs goes on ------------------------------------------------------------------------------------------------


def test_what_runs_goes_on_as_it_was(bench):
    bench.up(spec("web", instances=2))
    bench.system.end(bench.system.living("web")[1], KILLED)
    bench.loop.advance(1)
    before = [machine(bench, slot=slot) for slot in range(2)]
    bench.succeed(after=30)
    after = [machine(bench, slot=slot) for slot in range(2)]
    for old, new in zip(before, after, strict=True):
        assert (new.state, new.pid, new.incarnation, new.restarts) == (
            old.state,
            old.pid,
            old.incarnation,
            old.restarts,
        )
        assert (new.failures, new.started_at, new.since) == (old.failures, old.started_at, old.since)
        assert new.timers == {Timer.STABLE}
    assert bench.system.sent == []
    assert "adopted 2 processes" in bench.events("supervisor-adopted")[0]


def test_a_run_that_was_long_enough_is_stable_at_once(bench):
    """The failures before it are forgotten then."""
    bench.up(spec("web"))
    bench.system.end(bench.system.living("web")[0], KILLED)
    bench.loop.advance(1)
    assert machine(bench).failures == 1
    bench.succeed(after=3600)
    assert machine(bench).failures == 0


@pytest.mark.parametrize("deaths", [2, 5])
def test_however_often_it_dies(bench, deaths):
    bench.up(spec("web", instances=2), spec("beat", singleton=True))
    before = pids(bench)
    for _ in range(deaths):
        bench.succeed(after=1)
    assert pids(bench) == before
    assert len(bench.system.launched) == 3


def test_a_kill_right_after_an_adoption_finds_everything_written_down(bench):
    bench.up(spec("web"))
    bench.die()
    bench.rise()
    bench.die()
    bench.rise()
    assert bench.status() == {"web": "running"}


def test_its_output_is_read_again(bench):
    bench.system.tangible = True
    bench.up(spec("web", instances=2))
    inodes = [[os.fstat(pipe.fd).st_ino for pipe in bench.instance("web", slot).pipes] for slot in range(2)]
    bench.succeed()
    (sink,) = (sink for sink in bench.system.sinks.values() if sink.attached)
    assert sink.attached == [(slot, *inode) for slot, inode in enumerate(inodes)]
    bench.succeed()
    assert [[os.fstat(pipe.fd).st_ino for pipe in bench.instance("web", slot).pipes] for slot in range(2)] == inodes


def test_output_that_only_what_it_started_writes_to_is_found(bench):
    bench.system.tangible = True
    bench.up(spec("web"))
    (main,) = bench.system.living("web")
    child = bench.system.leave_behind(main)
    bench.die()
    child.outputs, main.outputs = main.outputs, {}
    bench.rise()
    assert len(bench.instance("web").pipes) == 1
    assert "goes somewhere else" not in bench.events("adopted")[0]


def test_output_that_was_turned_away_is_told(bench):
    bench.system.tangible = True
    bench.up(spec("web"))
    (main,) = bench.system.living("web")
    bench.die()
    for fd in main.outputs.values():
        os.close(fd)
    main.outputs = {}
    bench.rise()
    assert bench.instance("web").pipes == []
    assert "its output goes somewhere else than it was told to" in bench.events("adopted")[0]
    assert bench.status() == {"web": "running"}


def test_a_program_that_is_starting_has_the_rest_of_its_time(bench):
    bench.ask("start", spec("web"))
    bench.loop.advance(0.2)
    bench.succeed(after=0.1)
    assert machine(bench).state is State.STARTING
    bench.loop.advance(0.15)
    assert machine(bench).state is State.STARTING
    bench.loop.advance(0.1)
    assert machine(bench).state is State.RUNNING


def test_what_may_have_become_ready_unseen_is_not_condemned_at_once(bench, port):
    """Nobody asked it while there was no supervisor; it is asked before it is judged."""
    bench.system.accepts = dict.fromkeys(range(1000), False)
    bench.ask("start", served(port, ready_timeout=20.0))
    bench.loop.advance(5)
    bench.die()
    bench.system.accepts.clear()
    bench.rise(after=600)
    bench.loop.advance(1)
    assert bench.status() == {"web": "running"}
    assert bench.system.sent == []


def test_what_does_not_become_ready_is_condemned_in_the_end(bench, port):
    bench.system.accepts = dict.fromkeys(range(1000), False)
    bench.ask("start", served(port, ready_timeout=20.0, restart=RestartPolicy(mode=RestartMode.NEVER)))
    bench.loop.advance(5)
    bench.succeed(after=600)
    bench.loop.advance(4.5)
    assert bench.status() == {"web": "starting"}
    bench.loop.advance(2)
    assert "not ready after 20 s" in bench.events("timed-out")[0]


def test_a_job_has_the_rest_of_its_time(bench):
    job = spec("job", type=ProcessType.SCHEDULED, schedule=ScheduleSpec(cron="* * * * *", timeout=60.0))
    bench.up(job)
    bench.system.clock += 61
    bench.loop.advance(61)
    assert len(pids(bench, "job")) == 1
    began = machine(bench, "job").started_at
    bench.succeed(after=10)
    bench.loop.advance(began + 59.5 - bench.loop.time)
    assert len(pids(bench, "job")) == 1
    assert bench.events("timed-out") == []
    bench.loop.advance(1)
    assert "ran longer than its timeout of 60 s" in bench.events("timed-out")[0]


# -- what waits waits on ----------------------------------------------------------------------------------------------


def test_a_back_off_has_the_rest_of_its_delay(bench):
    bench.up(spec("web", restart=RestartPolicy(delay=10.0)))
    bench.system.end(bench.system.living("web")[0], KILLED)
    bench.loop.advance(3)
    bench.succeed(after=4)
    assert bench.status() == {"web": "backoff"}
    bench.loop.advance(2.9)
    assert pids(bench) == []
    bench.loop.advance(0.2)
    assert len(pids(bench)) == 1
    assert (machine(bench).restarts, machine(bench).failures) == (1, 1)


def test_a_back_off_that_is_over_is_over(bench):
    bench.up(spec("web", restart=RestartPolicy(delay=10.0)))
    bench.system.end(bench.system.living("web")[0], KILLED)
    bench.succeed(after=100)
    assert len(pids(bench)) == 1


def test_a_crash_loop_ends_where_it_would_have_ended(bench):
    bench.up(spec("web", restart=RestartPolicy(max_restarts=3, delay=1.0)))
    deaths = 0
    while bench.status()["web"] != "crashed":
        for process in bench.system.living():
            bench.system.end(process, FAILED)
            deaths += 1
        bench.succeed(after=0.5)
        bench.loop.advance(2)
    assert deaths == 4


def test_a_dependent_waits_on(bench):
    web = spec("web", depends_on=(("db", DependencyCondition.READY),))
    bench.ask("start", spec("db"), web)
    bench.loop.advance(0.2)
    bench.succeed()
    assert bench.status() == {"db": "starting", "web": "starting"}
    assert pids(bench, "web") == []
    bench.loop.advance(1)
    assert len(pids(bench, "web")) == 1


def test_a_start_delay_begins_anew(bench):
    bench.ask("start", spec("web", start_delay=5.0))
    bench.succeed()
    bench.loop.advance(4.9)
    assert pids(bench) == []
    bench.loop.advance(0.2)
    assert len(pids(bench)) == 1


# -- what goes goes on going ------------------------------------------------------------------------------------------


def test_a_stop_has_the_rest_of_its_time_and_then_ends(bench):
    bench.system.obedient = False
    bench.up(spec("web", stop=StopSpec(timeout=10.0)))
    (pid,) = pids(bench)
    bench.ask("stop")
    bench.loop.advance(4)
    bench.succeed(after=3)
    assert bench.status() == {"web": "stopping"}
    bench.loop.advance(2.9)
    assert signals(bench, pid) == [TERM]
    bench.loop.advance(1)
    assert signals(bench, pid)[:2] == [TERM, KILL]
    bench.loop.advance(1)
    assert bench.status() == {"web": "stopped"}
    assert machine(bench).desired is Desired.DOWN


def test_a_kill_that_was_sent_is_sent_again(bench):
    """The supervisor may have died between the two lines."""
    bench.system.obedient = False
    bench.up(spec("web", stop=StopSpec(timeout=1.0)))
    (process,) = bench.system.living()
    bench.ask("stop")
    send = bench.system.signal
    bench.system.signal = lambda pid, pidfd, signum: signum != KILL and send(pid, pidfd, signum)
    bench.loop.advance(1.5)
    assert machine(bench).killed
    assert process.alive
    bench.die()
    bench.system.signal = send
    bench.rise()
    assert not process.alive
    bench.loop.advance(1)
    assert bench.status() == {"web": "stopped"}


def test_a_restart_comes_back(bench):
    bench.system.obedient = False
    bench.up(spec("web"))
    (process,) = bench.system.living()
    bench.ask("restart")
    bench.succeed()
    assert bench.status() == {"web": "stopping"}
    bench.system.end(process, DONE)
    bench.loop.advance(1)
    assert bench.status() == {"web": "running"}
    assert machine(bench).generation == 2
    assert len(pids(bench)) == 1


def test_who_is_scaled_away_goes_on_leaving(bench):
    bench.system.obedient = False
    bench.up(spec("web", instances=3))
    last = bench.system.living()[2]
    bench.ask("scale", name="web", instances=2)
    bench.succeed()
    assert bench.status() == {"web:0": "running", "web:1": "running", "web:2": "stopping"}
    bench.system.end(last, DONE)
    bench.loop.advance(1)
    assert bench.status() == {"web:0": "running", "web:1": "running"}
    bench.succeed()
    assert bench.status() == {"web:0": "running", "web:1": "running"}


def test_a_scale_that_was_written_down_but_not_begun_is_done(bench):
    bench.up(spec("web", instances=3))
    keeper, stack = bench.assembly.keeper, bench.assembly.keeper.stack(bench.path)
    stack.processes["web"].scale = 1
    bench.assembly.records.save(stack)
    bench.assembly.records.flush()
    assert keeper.stack(bench.path).processes["web"].wanted_instances == 1
    bench.succeed()
    bench.loop.advance(1)
    assert bench.status() == {"web": "running"}
    assert len(pids(bench)) == 1


def test_slots_that_were_scaled_away_stay_away(bench):
    """The oxfile still says three, and is what the stack is registered by."""
    bench.up(spec("web", instances=3))
    bench.ask("scale", name="web", instances=1)
    bench.loop.advance(1)
    bench.succeed()
    bench.loop.advance(5)
    assert bench.status() == {"web": "running"}
    assert len(bench.system.launched) == 3


def test_a_slot_that_was_asked_for_and_not_made_yet_is_made(bench):
    bench.up(spec("web"))
    stack = bench.assembly.keeper.stack(bench.path)
    stack.processes["web"].scale = 2
    bench.assembly.records.save(stack)
    bench.assembly.records.flush()
    bench.succeed()
    bench.loop.advance(1)
    assert bench.status() == {"web:0": "running", "web:1": "running"}


# -- what rests rests -------------------------------------------------------------------------------------------------


def test_what_is_down_stays_as_it_is(bench):
    bench.ask(
        "start",
        spec("stopped"),
        spec("part", instances=2),
        spec("migrate", type=ProcessType.ONESHOT, restart=RestartPolicy(mode=RestartMode.NEVER)),
        spec("fails", restart=RestartPolicy(mode=RestartMode.NEVER)),
        spec("loops", restart=RestartPolicy(max_restarts=1, delay=0.0)),
    )
    bench.loop.advance(1)
    bench.ask("stop", names=["stopped"])
    bench.ask("stop", names=["part:1"])
    bench.system.end(bench.system.living("migrate")[0], DONE)
    bench.system.end(bench.system.living("fails")[0], FAILED)
    for _ in range(2):
        bench.system.end(bench.system.living("loops")[0], FAILED)
    before = bench.status()
    machines = {handle.name: handle.machine for handle in bench.supervisor.instances()}
    assert sorted(before.values()) == ["crashed", "exited", "exited", "running", "stopped", "stopped"]
    launched = len(bench.system.launched)
    bench.succeed(after=5)
    bench.loop.advance(60)
    assert bench.status() == before
    assert len(bench.system.launched) == launched
    for handle in bench.supervisor.instances():
        old, new = machines[handle.name], handle.machine
        assert (new.exit, new.detail, new.completed, new.desired) == (old.exit, old.detail, old.completed, old.desired)


def test_what_depends_on_a_completed_migration_need_not_wait_for_it_again(bench):
    done = (("migrate", DependencyCondition.COMPLETED),)
    never = RestartPolicy(mode=RestartMode.NEVER)
    bench.ask("start", spec("migrate", type=ProcessType.ONESHOT, restart=never), spec("web", depends_on=done))
    bench.system.end(bench.system.living("migrate")[0], DONE)
    bench.loop.advance(1)
    assert bench.status() == {"migrate": "exited", "web": "running"}
    bench.succeed()
    bench.ask("restart", names=["web"])
    bench.loop.advance(1)
    assert bench.status() == {"migrate": "exited", "web": "running"}


# -- what ended meanwhile ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "expected"),
    [(RestartMode.ALWAYS, "running"), (RestartMode.ON_FAILURE, "running"), (RestartMode.NEVER, "exited")],
)
def test_what_ended_unseen_is_told_and_follows_its_policy(bench, mode, expected):
    """How it ended nobody knows: it counts as a failure, and nobody makes a code up."""
    bench.up(spec("web", restart=RestartPolicy(mode=mode)))
    (process,) = bench.system.living()
    bench.die()
    bench.system.end(process, DONE)
    bench.rise()
    bench.loop.advance(2)
    assert bench.status() == {"web": expected}
    assert "how is not known" in bench.events("lost")[0]
    assert "ended in a way nobody could see" in bench.events("ended")[-1]
    assert "1 ended meanwhile" in bench.events("supervisor-adopted")[0]
    assert machine(bench).restarts == (0 if expected == "exited" else 1)


def test_what_a_dead_one_left_behind_is_ended_before_its_successor_starts(bench):
    bench.up(spec("web"))
    (process,) = bench.system.living()
    escapee = bench.system.leave_behind(process)
    bench.die()
    bench.system.end(process, KILLED)
    bench.rise()
    bench.loop.advance(0.2)
    assert not escapee.alive
    order = [event["kind"] for event in bench.supervisor.events.last(100)]
    assert order.index("lost") < order.index("ended") < len(order) - 1 - order[::-1].index("started")
    assert process.mark in bench.system.searched
    assert len(pids(bench)) == 1


def test_one_that_was_being_stopped_and_is_gone_is_stopped(bench):
    bench.system.obedient = False
    bench.up(spec("web"))
    (process,) = bench.system.living()
    bench.ask("stop")
    bench.die()
    bench.system.end(process, DONE)
    bench.rise()
    bench.loop.advance(1)
    assert bench.status() == {"web": "stopped"}


def test_a_pid_that_is_somebody_else_by_now_is_left_alone(bench):
    """The start time tells them apart."""
    bench.up(spec("web"))
    (stranger,) = bench.system.living()
    bench.die()
    ticks = bench.system.start_ticks
    bench.system.start_ticks = lambda pid: ticks(pid) + 1
    bench.rise()
    bench.loop.advance(1)
    assert stranger.alive
    assert signals(bench, stranger.pid) == []
    assert bench.status() == {"web": "running"}
    assert machine(bench).pid != stranger.pid
    stranger.end(None)


def test_the_sweep_of_a_migration_that_succeeded_does_not_make_it_a_failure(bench):
    """It had ended with 0 when its supervisor died while it ended what that had left behind."""
    bench.system.obedient = False
    job = spec("migrate", type=ProcessType.ONESHOT, restart=RestartPolicy(mode=RestartMode.NEVER))
    bench.ask("start", job)
    (process,) = bench.system.living()
    escapee = bench.system.leave_behind(process)
    bench.system.end(process, DONE)
    assert machine(bench, "migrate").state is State.SWEEPING
    bench.succeed()
    assert machine(bench, "migrate").state is State.SWEEPING
    assert bench.instance("migrate").main_pid == process.pid
    bench.system.end(escapee, KILLED)
    bench.loop.advance(1)
    assert bench.status() == {"migrate": "exited"}
    assert machine(bench, "migrate").completed


def test_a_sweep_escalates_at_its_old_time(bench):
    bench.system.obedient = False
    bench.up(spec("web", stop=StopSpec(timeout=10.0)))
    (process,) = bench.system.living()
    escapee = bench.system.leave_behind(process)
    bench.ask("stop")
    bench.system.end(process, DONE)
    bench.loop.advance(4)
    bench.succeed(after=1)
    bench.loop.advance(4)
    assert escapee.alive
    bench.loop.advance(7)
    assert not escapee.alive
    assert bench.status() == {"web": "stopped"}


# -- how it ends afterwards -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel_tells", [False, True])
def test_the_end_of_an_adopted_program_is_seen_and_not_made_up(bench, kernel_tells):
    bench.system.kernel_tells = kernel_tells
    bench.up(spec("web"))
    bench.succeed()
    bench.system.end(bench.system.living()[0], KILLED)
    bench.loop.advance(1)
    assert bench.status() == {"web": "running"}
    said = "killed by SIGKILL" if kernel_tells else "ended in a way nobody could see"
    assert said in bench.events("ended")[-1]
    assert machine(bench).restarts == 1
    assert machine(bench).pid == pids(bench)[0]


def test_who_was_upgraded_is_still_the_parent(bench):
    """The same process: a child that ended during the exec can be waited for."""
    bench.up(spec("web", instances=2))
    first, second = bench.system.living()
    bench.die(upgrade=True)
    first.end(FAILED)
    bench.rise(upgrade=True)
    bench.loop.advance(1)
    assert "while there was no supervisor it exited with 1" in bench.events("lost")[0]
    bench.system.end(second, FAILED)
    assert "exited with 1" in bench.events("ended")[-1]
    bench.loop.advance(2)
    assert bench.status() == {"web:0": "running", "web:1": "running"}


# -- never twice ------------------------------------------------------------------------------------------------------


def test_a_singleton_that_was_being_restarted_runs_once(bench):
    bench.system.obedient = False
    bench.up(spec("beat", singleton=True))
    (old,) = bench.system.living()
    bench.ask("restart")
    for _ in range(3):
        bench.succeed(after=1)
        assert bench.system.living() == [old]
    bench.system.end(old, DONE)
    bench.loop.advance(1)
    assert len(pids(bench)) == 1


def test_one_whose_exec_nobody_wrote_down_is_no_part_of_what_is_adopted(bench):
    """It runs under the number of an incarnation that was being spawned: it is a stray, and ended before its slot starts."""
    bench.up(spec("beat", singleton=True))
    bench.system.end(bench.system.living()[0], KILLED)
    handle = bench.instance("beat")
    record = latest_records(bench.assembly.journal._latest.values())[handle.key]
    bench.assembly.journal.save_instance(handle.key, {**record, "state": "spawning", "pid": None})
    (unwritten,) = bench.system.living()
    bench.die()
    adoptions = []
    end_strays = "oxherd.daemon.boot.Boot.end_strays"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(end_strays, lambda _boot, adoption, then: adoptions.append((adoption, then)))
        bench.rise()
    ((adoption, then),) = adoptions
    assert not adoption.has(unwritten.pid, unwritten.mark)
    assert pids(bench) == [unwritten.pid], "nothing starts before the strays are gone"
    bench.system.end(unwritten, KILLED)
    then()
    bench.loop.advance(1)
    assert len(pids(bench)) == 1
    assert bench.status() == {"beat": "running"}


def held_back(bench, **fields):
    """Let the next supervisor adopt, and be commanded before the strays are gone; return what happens then."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("oxherd.daemon.boot.Boot.end_strays", lambda _boot, _adoption, then: found.append(then))
        bench.succeed(**fields)
    return found[0]


def test_a_stop_before_the_strays_are_gone_holds(bench):
    bench.ask("start", spec("web", restart=RestartPolicy(delay=10.0)), spec("waits", start_delay=60.0))
    bench.loop.advance(1)
    bench.system.end(bench.system.living("web")[0], KILLED)
    go_on = held_back(bench)
    bench.ask("stop")
    assert bench.status() == {"web": "stopped", "waits": "stopped"}
    go_on()
    bench.loop.advance(120)
    assert bench.status() == {"web": "stopped", "waits": "stopped"}
    assert pids(bench) == []


def test_a_start_before_the_strays_are_gone_is_no_second_one(bench):
    bench.up(spec("web", restart=RestartPolicy(delay=10.0)))
    bench.system.end(bench.system.living("web")[0], KILLED)
    go_on = held_back(bench)
    bench.ask("start")
    bench.loop.advance(1)
    assert len(pids(bench)) == 1
    go_on()
    bench.loop.advance(60)
    assert len(pids(bench)) == 1
    assert machine(bench).pid == pids(bench)[0]


def test_a_delete_before_the_strays_are_gone_is_final(bench):
    bench.up(spec("web", restart=RestartPolicy(delay=10.0)))
    bench.system.end(bench.system.living("web")[0], KILLED)
    go_on = held_back(bench)
    bench.ask("delete")
    go_on()
    bench.loop.advance(60)
    assert bench.status() == {}
    bench.succeed()
    assert bench.status() == {}
    assert pids(bench) == []


# -- the end of a supervisor ------------------------------------------------------------------------------------------


def compiler(bench):
    return next(one for one in bench.system.living() if "oxherd.satellites.compile" in one.request.argv)


def test_after_an_orderly_end_everything_wanted_comes_back(bench):
    """It was stopped because its supervisor ended, which nobody had asked of the stack."""
    bench.up(spec("web"), spec("stopped"))
    bench.ask("stop", names=["stopped"])
    bench.ask("shutdown")
    bench.loop.advance(20)
    assert bench.status() == {"web": "stopped", "stopped": "stopped"}
    bench.succeed()
    bench.system.end(compiler(bench), FAILED)
    bench.loop.advance(1)
    assert bench.status() == {"web": "running", "stopped": "stopped"}
    bench.succeed()
    assert bench.status() == {"web": "running", "stopped": "stopped"}


def test_an_end_that_was_cut_off_is_no_stop_either(bench):
    bench.system.obedient = False
    bench.up(spec("web"), spec("stubborn"), spec("stopped"))
    bench.ask("stop", names=["stopped"])
    bench.system.end(bench.system.living("stopped")[0], DONE)
    bench.ask("shutdown")
    bench.system.end(bench.system.living("web")[0], DONE)
    bench.loop.advance(0)
    (stubborn,) = bench.system.living("stubborn")
    bench.succeed()
    bench.loop.advance(1)
    assert bench.status() == {"web": "running", "stubborn": "stopping", "stopped": "stopped"}
    bench.system.end(stubborn, DONE)
    bench.loop.advance(2)
    assert bench.status() == {"web": "running", "stubborn": "running", "stopped": "stopped"}
    bench.system.obedient = True
    bench.ask("stop", names=["web"])
    bench.succeed()
    bench.loop.advance(1)
    assert bench.status() == {"web": "stopped", "stubborn": "running", "stopped": "stopped"}


# -- scarcity ---------------------------------------------------------------------------------------------------------


def test_what_cannot_be_held_is_told_and_nothing_is_leaked(bench):
    bench.up(spec("web", instances=2), spec("worker"))
    living = bench.system.living()
    bench.die()
    hold, calls = bench.system.hold, []

    def short(pid, ticks):
        calls.append(pid)
        if len(calls) == 2:
            raise OSError(24, "Too many open files")
        return hold(pid, ticks)

    bench.system.hold = short
    bench.rise()
    assert "web: what ran of it cannot be taken over: Too many open files" in bench.events("adoption-trouble")[0]
    assert bench.instance("worker").machine.pid == living[2].pid
    # Their marks are on no real process, so no stray is found here; on a machine they would have been ended.
    living[0].end(None)
    living[1].end(None)


# -- reloads ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def port():
    return unused_port()


def served(port, **fields):
    """Return a process whose program is passed one listener."""
    host = HostSpec(
        way=HostWay.PASSED, engine="server", argv=("server", "{fd:0}"), bind=(f"127.0.0.1:{port}",), overlap=True,
        balance="shared", linger=7.0,
    )  # fmt: skip
    return spec("web", host=host, **fields)


def newer(process):
    return Workbench.changed(None, process, command=Command(text="new", argv=("new",)))  # type: ignore[arg-type]


def generations(bench):
    return {handle.slot: handle.machine.generation for handle in bench.instance("web").process.instances.values()}


def test_passed_listeners_are_borrowed_back(bench, port):
    """Whoever connects meanwhile waits in the same queue; a crash and a reload work as ever."""
    bench.up(served(port, instances=2))
    old = bench.system.living()
    inode = os.fstat(old[0].request.pass_fds[0]).st_ino
    bench.succeed()
    assert bench.system.living() == old
    bench.system.end(old[0], KILLED)
    bench.loop.advance(2)
    new = bench.system.living()[1]
    assert os.fstat(new.request.pass_fds[0]).st_ino == inode
    answer = bench.ask("reload", served(port, instances=2))
    bench.loop.advance(20)
    assert answer.failed == {}
    assert generations(bench) == {0: 2, 1: 2}
    assert len(pids(bench)) == 2


def test_listeners_that_cannot_be_borrowed_are_told(bench, port):
    bench.up(served(port))
    (old,) = bench.system.living()
    bench.die()
    bench.system.fail("borrow", PermissionError(1, "Operation not permitted"))
    bench.rise()
    assert "its listeners could not be got back (Operation not permitted)" in bench.events("adopted")[0]
    assert bench.system.living() == [old]
    assert bench.status() == {"web": "running"}


def reload_until(bench, port, moment):
    """Reload two instances up to a moment; return the old and the new spec."""
    before = served(port, instances=2)
    after = newer(before)
    bench.up(before)
    bench.loop.advance(1)
    for process in bench.system.living():
        bench.system.clients[process.pid] = 1
    if moment == "canary":
        bench.system.accepts = dict.fromkeys(range(103, 200), False)
    elif moment == "first slot moved":
        bench.system.accepts = {104: False}
    bench.ask("reload", after)
    if moment == "settling":
        bench.loop.advance(1)
    elif moment == "first slot moved":
        for _ in range(200):
            bench.loop.advance(0.1)
            if sorted(generations(bench).values()) == [1, 2]:
                break
        assert sorted(generations(bench).values()) == [1, 2]
    elif moment == "last one drains":
        bench.system.clients.clear()
        for _ in range(400):
            bench.loop.advance(0.1)
            if generations(bench) == {0: 2, 1: 2}:
                break
        assert generations(bench) == {0: 2, 1: 2}
    return before, after


@pytest.mark.parametrize(
    ("moment", "generation"),
    [("begun", 1), ("canary", 1), ("settling", 1), ("first slot moved", 2), ("last one drains", 2)],
)
def test_a_reload_that_was_cut_off_is_taken_back_or_finished(bench, port, moment, generation):
    """What has taken a slot has been proven. What has not, nobody goes on with."""
    before, after = reload_until(bench, port, moment)
    old = list(bench.system.launched[:2])
    bench.succeed(after=1)
    bench.system.accepts.clear()
    bench.system.clients.clear()
    bench.loop.advance(60)
    assert bench.status() == {"web:0": "running", "web:1": "running"}
    assert generations(bench) == {0: generation, 1: generation}
    assert len(pids(bench)) == 2
    process = bench.instance("web").process
    assert process.others == []
    assert process.generation == generation
    assert encode(process.spec) == encode(before if generation == 1 else after)
    assert (bench.system.living() == old) == (generation == 1)
    assert all(handle.pinned is None for handle in process.everyone())
    # And the next supervisor finds the same.
    bench.succeed()
    assert generations(bench) == {0: generation, 1: generation}
    answer = bench.ask("reload", before)
    bench.loop.advance(60)
    assert answer.failed == {}
    assert len(pids(bench)) == 2
    assert set(generations(bench).values()) == {bench.instance("web").process.latest_generation}


def test_a_reload_that_was_being_taken_back_is_not_finished(bench, port):
    """Its first slot had been moved and its second one failed: code that does not work replaces nothing, whoever dies."""
    before, _ = reload_until(bench, port, "first slot moved")
    bench.system.clients.clear()
    bench.loop.advance(1)
    second = bench.system.process(104)
    bench.system.accepts = dict.fromkeys(range(105, 200), False)
    bench.system.end(second, FAILED)
    for _ in range(50):
        if bench.system.launched[-1].pid > 104:
            break
        bench.loop.advance(0.1)
    assert bench.system.launched[-1].pid > 104, bench.events()
    assert sorted(generations(bench).values()) == [1, 2]
    bench.succeed()
    bench.system.accepts.clear()
    bench.loop.advance(60)
    assert generations(bench) == {0: 1, 1: 1}
    assert bench.status() == {"web:0": "running", "web:1": "running"}
    process = bench.instance("web").process
    assert (process.generation, process.others) == (1, [])
    assert encode(process.spec) == encode(before)


def test_a_stop_that_ended_a_reload_holds(bench, port):
    """Instances of two generations are on their way down; none of them is brought up to the other's."""
    reload_until(bench, port, "first slot moved")
    bench.system.obedient = False
    bench.ask("stop")
    assert set(bench.status().values()) == {"stopping"}
    bench.succeed()
    for process in bench.system.living():
        bench.system.end(process, DONE)
    bench.loop.advance(60)
    assert set(bench.status().values()) == {"stopped"}
    assert pids(bench) == []


def test_a_singleton_that_was_being_reloaded_is_there_once(bench):
    beat = spec("beat", singleton=True)
    bench.up(beat)
    bench.ask("reload", newer(beat))
    for _ in range(4):
        bench.succeed(after=0.2)
        bench.loop.advance(0.2)
        assert len(pids(bench)) <= 1
    bench.loop.advance(30)
    assert len(pids(bench)) == 1
    assert bench.status() == {"beat": "running"}
    assert bench.instance("beat").process.others == []


@pytest.mark.parametrize("dies_first", [False, True])
def test_one_that_was_stopped_for_its_successor_comes_back(bench, dies_first):
    """Its slot was down because of the reload, not because anybody wanted it to be."""
    bench.system.obedient = False
    beat = spec("beat", singleton=True)
    bench.up(beat)
    (old,) = bench.system.living()
    bench.ask("reload", newer(beat))
    assert bench.status() == {"beat": "stopping"}
    bench.die()
    if dies_first:
        bench.system.end(old, DONE)
    bench.rise()
    if not dies_first:
        assert bench.system.living() == [old]
        bench.system.end(old, DONE)
    bench.loop.advance(2)
    assert bench.status() == {"beat": "running"}
    assert machine(bench, "beat").generation == 1


@pytest.mark.parametrize("state", ["starting", "lost", "discarded"])
def test_a_candidate_that_stands_alone_is_gone_before_the_old_one_is_back(bench, state):
    beat = spec("beat", singleton=True)
    bench.up(beat)
    bench.ask("reload", newer(beat))
    (candidate,) = bench.system.living()
    bench.system.obedient = False
    if state == "discarded":
        bench.ask("stop")
        bench.instance("beat").process.wanted = True
        bench.assembly.records.save(bench.instance("beat").process.stack)
        bench.assembly.records.flush()
    bench.die()
    if state == "lost":
        bench.system.end(candidate, FAILED)
    bench.rise()
    assert bench.system.living() == ([candidate] if state != "lost" else bench.system.living("beat"))
    if state != "lost":
        bench.system.end(candidate, DONE)
    bench.loop.advance(2)
    assert bench.status() == {"beat": "running"}
    assert len(pids(bench)) == 1
    assert bench.instance("beat").process.others == []
    assert machine(bench, "beat").generation == 1
