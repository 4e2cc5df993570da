"""The scheduler under a monotonic clock and a wall clock that can be set."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

import pytest

from oxherd.daemon.scheduler import Scheduler
from support.fake_loop import FakeLoop


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


class Bench:
    """A scheduler, its clocks, and the wall times at which things were run."""

    def __init__(self, now: str) -> None:
        self.loop = FakeLoop()
        self.offset = at(now) - self.loop.now()
        self.ran: list[str] = []
        self.scheduler = Scheduler(self.loop, self.wall)

    def wall(self) -> float:
        return self.loop.now() + self.offset

    def set(self, cron, *, key="job", **options) -> None:
        self.scheduler.set(key, cron, options.pop("timezone", "UTC"), lambda: self.run(key), **options)

    def run(self, key) -> None:
        stamp = datetime.fromtimestamp(self.wall(), UTC).strftime("%d %H:%M:%S")
        self.ran.append(stamp if key == "job" else f"{key} {stamp}")

    def jump(self, seconds: float) -> None:
        self.offset += seconds


@pytest.fixture
def bench():
    bench = Bench("2026-01-10 02:00:00")
    yield bench
    bench.scheduler.close()
    assert bench.loop.timers == 0
    bench.loop.close()


def test_without_a_schedule_there_is_no_timer(bench):
    assert bench.loop.timers == 0
    bench.set("0 3 * * *")
    assert bench.loop.timers == 1
    bench.scheduler.forget("job")
    bench.scheduler.forget("job")
    assert bench.loop.timers == 0


def test_a_job_runs_when_it_is_due_and_every_time_after(bench):
    bench.set("0 3 * * *")
    assert bench.scheduler.next_run("job") == at("2026-01-10 03:00:00")
    bench.loop.advance(3599.9)
    assert bench.ran == []
    bench.loop.advance(0.1)
    assert bench.ran == ["10 03:00:00"]
    assert bench.scheduler.next_run("job") == at("2026-01-11 03:00:00")
    bench.loop.advance(2 * 86400)
    assert bench.ran == ["10 03:00:00", "11 03:00:00", "12 03:00:00"]


def test_seconds_are_kept(bench):
    bench.set("*/20 * * * * *")
    bench.loop.advance(60.0)
    assert bench.ran == ["10 02:00:20", "10 02:00:40", "10 02:01:00"]


def test_the_wait_is_never_longer_than_half_a_minute(bench):
    bench.set("0 0 1 1 *")
    assert bench.loop.next_timer_in() == 30.0
    bench.loop.advance(3600.0)
    assert bench.loop.next_timer_in() <= 30.0


def test_several_schedules_do_not_disturb_each_other(bench):
    bench.set("0 3 * * *", key="a")
    bench.set("30 2 * * *", key="b")
    bench.set("0 3 * * *", key="c")
    bench.scheduler.forget("c")
    bench.loop.advance(3600.0)
    assert bench.ran == ["b 10 02:30:00", "a 10 03:00:00"]
    assert bench.scheduler.next_run("c") is None


def test_a_schedule_that_is_set_again_replaces_the_first(bench):
    bench.set("0 3 * * *")
    bench.set("0 4 * * *")
    bench.loop.advance(2 * 3600.0)
    assert bench.ran == ["10 04:00:00"]


def test_a_run_that_forgets_its_schedule_is_the_last(bench):
    bench.scheduler.set(
        "job", "*/10 * * * *", "UTC", lambda: (bench.run("job"), bench.scheduler.forget("job")), last_run=None
    )
    bench.loop.advance(3600.0)
    assert bench.ran == ["10 02:10:00"]


def test_a_run_that_fails_keeps_neither_itself_nor_others_from_running(bench):
    def fails():
        bench.run("bad")
        raise RuntimeError("no")

    bench.scheduler.set("bad", "0 * * * *", "UTC", fails)
    bench.set("0 * * * *")
    with pytest.raises(RuntimeError):
        bench.loop.advance(3600.0)
    with pytest.raises(RuntimeError):
        bench.loop.advance(3600.0)
    bench.loop.advance(0.0)
    assert bench.ran == ["bad 10 03:00:00", "10 03:00:00", "bad 10 04:00:00", "10 04:00:00"]


# -- the clock is set ---------------------------------------------------------------------------------------------------


def test_a_jump_over_due_times_runs_them_once_and_soon(bench):
    bench.set("*/10 * * * *")
    bench.loop.advance(60.0)
    bench.jump(5 * 3600.0)
    bench.loop.advance(30.0)
    assert len(bench.ran) == 1
    bench.loop.advance(600.0)
    assert len(bench.ran) == 2


def test_a_jump_forward_that_passes_nothing_runs_nothing(bench):
    bench.set("0 3 * * *")
    bench.jump(1800.0)
    bench.loop.advance(60.0)
    assert bench.ran == []
    bench.loop.advance(1800.0)
    assert bench.ran == ["10 03:00:00"]


def test_a_jump_back_does_not_run_a_fixed_time_again(bench):
    bench.set("0 3 * * *")
    bench.loop.advance(3600.0 + 600.0)
    bench.jump(-3600.0)
    bench.loop.advance(2 * 3600.0)
    assert bench.ran == ["10 03:00:00"]
    bench.loop.advance(86400.0)
    assert bench.ran == ["10 03:00:00", "11 03:00:00"]


def test_a_jump_back_before_the_due_time_still_runs_at_the_due_time(bench):
    bench.set("0 3 * * *")
    bench.loop.advance(3000.0)
    bench.jump(-1800.0)
    bench.loop.advance(3000.0)
    assert bench.ran == ["10 03:00:00"]


def test_what_runs_every_so_often_goes_on_at_once_after_a_jump_back(bench):
    bench.set("*/30 * * * *")
    bench.loop.advance(3600.0)
    assert bench.ran == ["10 02:30:00", "10 03:00:00"]
    bench.jump(-2 * 3600.0)
    bench.loop.advance(1800.0)
    assert bench.ran[2:] == ["10 01:30:00"]


def test_a_clock_that_had_been_wrong_by_years_does_not_stop_a_job_for_years(bench):
    bench.jump(10 * 365 * 86400.0)
    bench.set("0 3 * * *")
    bench.loop.advance(3600.0)
    assert len(bench.ran) == 1
    bench.jump(-10 * 365 * 86400.0)
    bench.loop.advance(86400.0)
    assert len(bench.ran) == 2


def test_a_clock_that_is_slewed_runs_nothing_twice(bench):
    bench.set("0 3 * * *")
    bench.loop.advance(3600.0)
    for _ in range(100):
        bench.jump(-0.01)
        bench.loop.advance(0.01)
    assert bench.ran == ["10 03:00:00"]


# -- what was missed ----------------------------------------------------------------------------------------------------


def test_catch_up_makes_up_for_missed_runs_once(bench):
    bench.set("0 3 * * *", last_run=at("2026-01-05 03:00:00"), catch_up=True)
    bench.loop.advance(0.0)
    assert bench.ran == ["10 02:00:00"]
    bench.loop.advance(3600.0)
    assert bench.ran == ["10 02:00:00", "10 03:00:00"]


def test_catch_up_runs_nothing_when_nothing_was_missed(bench):
    bench.set("0 3 * * *", last_run=at("2026-01-09 03:00:00"), catch_up=True)
    bench.loop.advance(0.0)
    assert bench.ran == []


@pytest.mark.parametrize("options", [{"last_run": at("2026-01-05 03:00:00")}, {"catch_up": True}])
def test_without_catch_up_or_without_a_run_before_nothing_is_made_up_for(bench, options):
    bench.set("0 3 * * *", **options)
    bench.loop.advance(0.0)
    assert bench.ran == []


def test_a_supervisor_restarted_after_a_jump_back_does_not_run_a_fixed_time_again(bench):
    bench.set("0 3 * * *", last_run=at("2026-01-10 03:00:00"), catch_up=True)
    bench.loop.advance(2 * 3600.0)
    assert bench.ran == []
    assert bench.scheduler.next_run("job") == at("2026-01-11 03:00:00")


def test_a_schedule_that_cannot_be_read_is_refused_and_changes_nothing(bench):
    bench.set("0 3 * * *")
    with pytest.raises(ValueError, match="cron expression"):
        bench.set("0 3 * *")
    with pytest.raises(ValueError, match="timezone"):
        bench.set("0 3 * * *", timezone="Mars/Olympus")
    assert bench.scheduler.next_run("job") == at("2026-01-10 03:00:00")


def test_no_schedule_no_datetime():
    script = (
        "import sys, oxherd.daemon.scheduler; "
        "print(sorted({'datetime', 'cronsim', 'zoneinfo', 'typing'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
