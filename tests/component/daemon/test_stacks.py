"""A supervisor on a fake machine: what the verbs do to a stack."""

from __future__ import annotations

import errno

import pytest

from oxherd.config.model import (
    Command,
    LimitSpec,
    LogSpec,
    ProcessType,
    ScheduleSpec,
    StopSpec,
)
from oxherd.core.exits import ExitStatus
from oxherd.core.fleet import DependencyCondition
from oxherd.core.restart import RestartMode, RestartPolicy
from oxherd.errors import SpawnError
from support.workbench import Workbench, spec

KILLED, FAILED, DONE = ExitStatus(signal=9), ExitStatus(code=1), ExitStatus(code=0)
READY, COMPLETED = DependencyCondition.READY, DependencyCondition.COMPLETED


@pytest.fixture
def bench(tmp_path):
    bench = Workbench(tmp_path)
    yield bench
    bench.close()


def test_a_start_answers_when_everything_is_ready(bench):
    answer = bench.ask("start", spec("web"), spec("worker", instances=2))
    assert not answer.done
    assert bench.status() == {"web": "starting", "worker:0": "starting", "worker:1": "starting"}
    bench.loop.advance(0.5)
    assert answer.failed == {}
    assert {row["status"] for row in answer.value["instances"]} == {"running"}
    assert answer.steps[-1]["status"] == "running"


def test_a_disabled_process_is_started_by_its_name_only(bench):
    bench.ask("start", spec("web"), spec("extra", disabled=True))
    assert bench.status() == {"web": "starting", "extra": "stopped"}
    bench.ask("start", names=["extra"])
    assert bench.status()["extra"] == "starting"


def test_a_killed_process_is_replaced_in_the_same_turn(bench):
    bench.up(spec("web"))
    (old,) = bench.system.living("web")
    bench.system.end(old, KILLED)
    (new,) = bench.system.living("web")
    assert new.pid != old.pid
    assert bench.instance("web").machine.restarts == 1


def test_what_a_dead_main_left_is_killed_before_its_successor_starts(bench):
    bench.up(spec("web"))
    (main,) = bench.system.living("web")
    escapee = bench.system.leave_behind(main)
    bench.system.end(main, KILLED)
    assert (escapee.pid, 9) in bench.system.sent
    assert not escapee.alive
    (new,) = bench.system.living("web")
    assert new.mark.endswith("/web/0/2")


def test_back_off_follows_the_monotonic_clock_whatever_the_wall_clock_does(bench):
    bench.up(spec("web", restart=RestartPolicy(delay=10.0)))
    bench.system.end(bench.system.living("web")[0], KILLED)
    assert bench.status() == {"web": "backoff"}
    bench.system.clock -= 365 * 86400
    bench.loop.advance(9.9)
    assert bench.system.living("web") == []
    bench.system.clock += 10 * 365 * 86400
    bench.loop.advance(0.2)
    assert len(bench.system.living("web")) == 1


def test_a_crash_loop_ends_as_crashed_and_the_start_says_why(bench):
    answer = bench.ask("start", spec("web", restart=RestartPolicy(max_restarts=15, delay_max=1.0)))
    runs = 0
    while bench.status()["web"] != "crashed":
        for process in bench.system.living("web"):
            runs += 1
            bench.system.end(process, FAILED)
        bench.loop.advance(0.1)
    assert runs == 16
    assert "failed 3 times in a row" in answer.failed["web"]
    assert "exited with 1" in answer.failed["web"]
    cards = bench.ask("why", names=["web"]).value["cards"]
    assert cards[0]["exit"]["code"] == 1


def test_a_restart_clears_the_crashed_state(bench):
    bench.up(spec("web", restart=RestartPolicy(mode=RestartMode.ON_FAILURE, max_restarts=1, delay_max=0.1)))
    for _ in range(2):
        bench.system.end(bench.system.living("web")[0], FAILED)
        bench.loop.advance(0.2)
    assert bench.status() == {"web": "crashed"}
    answer = bench.ask("restart")
    bench.loop.advance(1)
    assert answer.failed == {}
    assert bench.status() == {"web": "running"}


def test_a_stop_signals_the_main_pid_only_and_kills_at_the_timeout(bench):
    bench.up(spec("web", stop=StopSpec(signal=2, timeout=5.0)))
    (process,) = bench.system.living("web")
    process.ignores.add(2)
    answer = bench.ask("stop")
    assert bench.system.sent == [(process.pid, 2)]
    bench.loop.advance(4.9)
    assert not answer.done
    bench.loop.advance(0.2)
    assert bench.system.sent[1:] == [(process.pid, 9)]
    assert answer.failed == {}
    assert bench.status() == {"web": "stopped"}


def test_an_escapee_of_a_stopped_main_gets_the_signal_then_the_kill(bench):
    bench.up(spec("web", stop=StopSpec(timeout=5.0)))
    (main,) = bench.system.living("web")
    escapee = bench.system.leave_behind(main)
    escapee.ignores.add(15)
    answer = bench.ask("stop")
    assert (escapee.pid, 15) in bench.system.sent
    bench.loop.advance(5.1)
    assert (escapee.pid, 9) in bench.system.sent
    assert answer.failed == {}


def test_dependents_wait_until_what_they_need_is_ready_and_stop_before_it(bench):
    db, web = spec("db", start_delay=2.0), spec("web", depends_on=(("db", READY),))
    answer = bench.ask("start", web, db)
    bench.loop.advance(2.4)
    assert [process.name for process in bench.system.living()] == ["db"]
    assert bench.events("blocked") == ["web: blocked: db is not ready"]
    bench.loop.advance(2)
    assert answer.failed == {}
    bench.system.living("web")[0].ignores.add(15)
    stop = bench.ask("stop")
    assert [signum for pid, signum in bench.system.sent] == [15]
    assert len(bench.system.living("db")) == 1
    bench.loop.advance(11)
    assert stop.failed == {}


def test_a_failed_migration_keeps_its_dependents_down(bench):
    migrate = spec("migrate", type=ProcessType.ONESHOT, restart=RestartPolicy(mode=RestartMode.NEVER))
    web = spec("web", depends_on=(("migrate", COMPLETED),))
    answer = bench.ask("start", migrate, web)
    bench.system.end(bench.system.living("migrate")[0], FAILED)
    bench.loop.advance(1)
    assert answer.failed == {"migrate": "exited with 1 after 0 ms", "web": "migrate failed"}
    assert bench.system.living() == []


def test_a_completed_migration_lets_its_dependents_go_and_is_not_repeated_by_a_second_start(bench):
    migrate = spec("migrate", type=ProcessType.ONESHOT)
    web = spec("web", depends_on=(("migrate", COMPLETED),))
    answer = bench.ask("start", migrate, web)
    bench.system.end(bench.system.living("migrate")[0], DONE)
    bench.loop.advance(1)
    assert answer.failed == {}
    assert bench.status() == {"migrate": "exited", "web": "running"}
    again = bench.ask("start", migrate, web)
    assert again.failed == {}
    assert len(bench.system.launched) == 2


def test_starting_one_process_starts_what_it_needs_and_nothing_else(bench):
    bench.up(spec("db"), spec("web", depends_on=(("db", READY),)), spec("other"), names=["web"])
    assert sorted(process.name for process in bench.system.living()) == ["db", "web"]


def test_pre_start_runs_once_a_generation_and_its_failure_keeps_everything_down(bench):
    hook = Command(text="migrate", argv=("migrate",))
    answer = bench.ask("start", spec("web", instances=2, pre_start=hook))
    (migration,) = bench.system.living()
    assert migration.request.argv == ("migrate",)
    bench.system.end(migration, FAILED)
    assert answer.failed == {"web:0": "pre_start exited with 1", "web:1": "pre_start exited with 1"}
    second = bench.ask("restart")
    bench.system.end(bench.system.living()[0], DONE)
    bench.loop.advance(1)
    assert second.failed == {}
    assert [process.request.argv for process in bench.system.launched] == [("migrate",)] * 2 + [("web",)] * 2


def test_a_failing_pre_reload_changes_nothing(bench):
    bench.up(spec("web", pre_reload=Command(text="check", argv=("check",))))
    (old,) = bench.system.living("web")
    answer = bench.ask("reload")
    bench.system.end(bench.system.launched[-1], FAILED)
    assert "pre_reload exited with 1" in answer.problem.message
    assert bench.system.living("web") == [old]


def test_a_reload_takes_one_instance_after_the_other_and_the_first_that_fails_is_taken_back(bench):
    bench.up(spec("web", instances=3))
    first, second, third = bench.system.living("web")
    answer = bench.ask("reload")
    assert (second.alive, third.alive) == (True, True)
    bench.system.end(bench.system.living("web")[-1], FAILED)
    bench.loop.advance(1)
    assert list(answer.failed) == ["web"]
    assert answer.value["reloads"][0]["result"] == "rolled back"
    assert (first.alive, second.alive, third.alive) == (False, True, True)
    assert len(bench.system.living("web")) == 3
    assert [row["generation"] for row in bench.ask("status").value["rows"]] == [1, 1, 1]


def test_apply_touches_only_what_changed(bench):
    web, worker, old = spec("web"), spec("worker", instances=2), spec("old")
    bench.up(web, worker, old)
    before = {process.pid: process.name for process in bench.system.living()}
    answer = bench.ask("apply", web, bench.changed(worker, instances=3), spec("new"))
    bench.loop.advance(1)
    value = answer.value
    assert (value["added"], value["changed"], value["removed"], value["unchanged"]) == (
        ["new"], ["worker"], ["old"], ["web"]
    )  # fmt: skip
    after = {process.pid: process.name for process in bench.system.living()}
    assert {pid for pid, name in before.items() if name != "old"} <= set(after)
    assert sorted(after.values()) == ["new", "web", "worker", "worker", "worker"]
    assert "old" not in bench.assembly.keeper.stack(bench.path).processes


def test_apply_restarts_a_process_whose_settings_changed(bench):
    web, worker = spec("web"), spec("worker")
    bench.up(web, worker)
    old_web, old_worker = bench.system.living()
    bench.ask("apply", bench.changed(web, env=(("DEBUG", "1"),)), worker)
    bench.loop.advance(1)
    assert not old_web.alive
    assert old_worker.alive
    assert bench.system.living("web")[0].request.env["DEBUG"] == "1"


def test_a_start_with_changed_settings_leaves_what_runs_and_says_so(bench):
    bench.up(spec("web"))
    (old,) = bench.system.living("web")
    answer = bench.ask("start", spec("web", env=(("DEBUG", "1"),)))
    assert "web runs with older settings" in answer.value["notes"][0]
    assert bench.system.living("web") == [old]


def test_scale_adds_and_removes_the_highest_slots(bench):
    bench.up(spec("web", instances=2))
    kept = bench.system.living("web")
    more = bench.ask("scale", name="web", instances=4)
    bench.loop.advance(1)
    assert more.failed == {}
    assert sorted(bench.status()) == ["web:0", "web:1", "web:2", "web:3"]
    fewer = bench.ask("scale", name="web", instances="-2")
    bench.loop.advance(1)
    assert fewer.failed == {}
    assert bench.system.living("web") == kept


def test_a_singleton_is_never_scaled(bench):
    bench.up(spec("beat", singleton=True))
    answer = bench.ask("scale", name="beat", instances=2)
    assert answer.problem.code == "OX215"
    assert len(bench.system.living("beat")) == 1


def test_a_deleted_process_is_forgotten(bench):
    bench.up(spec("web"), spec("worker"))
    answer = bench.ask("delete", names=["web"])
    assert answer.value["deleted"] == ["web"]
    assert list(bench.status()) == ["worker"]
    bench.ask("delete")
    assert bench.ask("stacks").value["stacks"] == []


def test_an_unknown_name_is_answered_with_those_there_are(bench):
    bench.up(spec("web"), spec("worker"))
    answer = bench.ask("stop", names=["wbe"])
    assert answer.problem.code == "OX211"
    assert "web, worker" in answer.problem.hint


def test_an_unknown_verb_and_arguments_that_do_not_fit_are_errors_not_accidents(bench):
    assert bench.ask("dance").problem.code == "OX220"
    assert bench.ask("start", oxfile={"nonsense": 1}).problem is not None
    assert bench.ask("scale", spec("web"), name="web", instances="many").problem is not None
    assert bench.ask("stop", names="web").problem is not None


def test_the_caller_s_environment_reaches_the_processes_until_it_is_taken_anew(bench):
    bench.up(spec("web", env=(("A", "oxfile"),)), env={"PATH": "/bin", "A": "caller", "B": "caller"})
    env = bench.system.living("web")[0].request.env
    assert (env["A"], env["B"]) == ("oxfile", "caller")
    bench.ask("restart", spec("web"), env={"PATH": "/bin", "B": "new"})
    assert bench.system.living("web")[-1].request.env["B"] == "caller"
    bench.ask("restart", spec("web"), env={"PATH": "/bin", "B": "new"}, update_env=True)
    assert bench.system.living("web")[-1].request.env["B"] == "new"


def test_every_instance_knows_its_number(bench):
    bench.up(
        spec("web", instances=2, instance_var="SLOT", command=Command(text="", argv=("web", "--port=800{instance}")))
    )
    first, second = bench.system.living("web")
    assert first.request.argv == ("web", "--port=8000")
    assert second.request.env["OXHERD_INSTANCE"] == second.request.env["OXMGR_INSTANCE_ID"] == "1"
    assert second.request.env["SLOT"] == "1"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (SpawnError("executing", errno.ENOENT, "web", "No such file or directory"), "crashed"),
        (SpawnError("starting a new process", errno.EAGAIN, "", "Resource temporarily unavailable"), "running"),
    ],
)
def test_a_start_that_fails(bench, error, status):
    """What cannot work is not tried again; what may pass is, and works."""
    bench.system.fail("launch", error)
    answer = bench.ask("start", spec("web"))
    bench.loop.advance(1)
    assert bench.status() == {"web": status}
    if status == "crashed":
        assert answer.failed == {"web": "could not start: executing web: No such file or directory"}
        assert bench.ask("why").value["cards"][0]["cause"] == answer.failed["web"]


def test_no_descriptors_for_a_pipe_is_tried_again(bench):
    bench.up(spec("web"))
    sink = next(iter(bench.system.sinks.values()))
    sink.error = OSError(errno.EMFILE, "Too many open files")
    bench.system.end(bench.system.living("web")[0], KILLED)
    assert bench.status() == {"web": "backoff"}
    assert sink.open_pipes == 0
    bench.loop.advance(1)
    assert bench.status() == {"web": "running"}


def test_over_its_memory_limit_it_is_restarted(bench):
    bench.up(spec("web", limits=LimitSpec(memory=50_000_000)))
    (process,) = bench.system.living("web")
    process.rss = 60_000_000
    bench.loop.advance(30)
    assert not process.alive
    assert bench.status() == {"web": "running"}
    assert "its limit is 48 MB" in bench.events("over-memory")[0]


def test_a_scheduled_job_runs_by_the_clock_and_never_twice_at_a_time(bench):
    job = spec(
        "job",
        type=ProcessType.SCHEDULED,
        restart=RestartPolicy(mode=RestartMode.NEVER),
        schedule=ScheduleSpec(cron="*/10 * * * * *", on_failure="alert", timezone="UTC"),
    )
    answer = bench.up(job)
    assert answer.failed == {}
    assert bench.system.living() == []

    def pass_time(seconds):
        for _ in range(seconds):
            bench.system.clock += 1
            bench.loop.advance(1)

    pass_time(11)
    (run,) = bench.system.living("job")
    pass_time(10)
    assert bench.system.living("job") == [run]
    assert bench.events("skipped") == ["job: skipped: the run before it is not over"]
    bench.system.end(run, FAILED)
    assert "the scheduled run failed" in bench.events("alert")[0]
    pass_time(10)
    assert len(bench.system.living("job")) == 1


def test_logs_are_reopened_when_asked(bench):
    bench.up(spec("web", logs=LogSpec(file="/var/log/web.log", error_file="/var/log/web.err")))
    assert sorted(bench.system.sinks) == ["/var/log/web.err", "/var/log/web.log"]
    bench.ask("reopen")
    assert [sink.reopened for sink in bench.system.sinks.values()] == [1, 1]


def compiler(bench):
    """The process that reads the oxfile again, as the fake machine knows it."""
    return next(process for process in bench.system.living() if "oxherd.satellites.compile" in process.request.argv)


def test_after_a_reboot_what_was_wanted_comes_back_and_nothing_else(bench):
    bench.up(spec("web"), spec("worker"), env={"PATH": "/bin", "SECRET": "x"})
    bench.ask("stop", names=["worker"])
    bench.reboot()
    bench.assembly.boot.begin()
    assert bench.status() == {"web": "stopped", "worker": "stopped"}
    bench.system.end(compiler(bench), DONE)
    bench.loop.advance(1)
    assert [process.name for process in bench.system.living()] == ["web"]
    assert bench.system.living("web")[0].request.env["SECRET"] == "x"
    assert "runs as it was accepted last" in bench.events("oxfile-trouble")[0]


def test_a_stack_that_is_stopped_while_it_is_brought_back_stays_down(bench):
    bench.up(spec("web"))
    bench.reboot()
    bench.assembly.boot.begin()
    bench.ask("stop")
    bench.system.end(compiler(bench), DONE)
    bench.loop.advance(1)
    assert bench.status() == {"web": "stopped"}


def test_a_damaged_record_is_kept_aside_and_the_others_come_back(bench, tmp_path):
    bench.up(spec("web"))
    bench.up(spec("web"), stack="/srv/other.toml")
    damaged = next((tmp_path / "state" / "stacks").glob("*/stack.json"))
    damaged.write_text("{not json")
    bench.reboot()
    bench.assembly.boot.begin()
    bench.system.end(compiler(bench), DONE)
    bench.loop.advance(1)
    assert len(bench.system.living("web")) == 1
    assert damaged.with_name("stack.json.damaged").exists()
    assert "is not what Oxherd wrote" in bench.events("state-trouble")[0]


def test_a_client_that_goes_away_does_not_stop_what_it_began(bench):
    bench.up(spec("db"), spec("web", depends_on=(("db", READY),)))
    bench.system.living("web")[0].ignores.add(15)
    answer = bench.ask("stop")
    for callback in answer.callbacks:
        callback()
    bench.loop.advance(30)
    assert bench.status() == {"db": "stopped", "web": "stopped"}


def test_a_restart_of_the_whole_stack_leaves_what_was_stopped_alone(bench):
    bench.up(spec("web"), spec("worker"))
    bench.ask("stop", names=["worker"])
    bench.ask("restart")
    bench.loop.advance(1)
    assert bench.status() == {"web": "running", "worker": "stopped"}


def test_new_log_settings_wait_until_nobody_writes_to_the_file(bench):
    web = spec("web", logs=LogSpec(file="/var/log/web.log"))
    bench.up(web)
    (old,) = bench.system.sinks.values()
    bench.ask("apply", bench.changed(web, logs=LogSpec(file="/var/log/new.log")))
    bench.loop.advance(1)
    assert old.closed
    assert bench.system.sinks["/var/log/new.log"].open_pipes == 1


def test_a_process_that_was_never_started_is_shown_as_stopped(bench):
    bench.up(spec("web"), spec("worker"), names=["web"])
    assert bench.status() == {"web": "running", "worker": "stopped"}


def test_files_of_what_is_down_are_closed_once_they_are_compressed(bench):
    bench.up(spec("web"))
    (sink,) = bench.system.sinks.values()
    sink.busy = True
    bench.ask("stop")
    bench.loop.advance(20)
    assert not sink.closed
    sink.busy = False
    bench.loop.advance(20)
    assert sink.closed
