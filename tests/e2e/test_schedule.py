"""The clock starts jobs and restarts services."""

from __future__ import annotations

from support.harness import program
from support.waiting import wait_gone

EVERY_SECOND = "* * * * * *"


def test_a_job_never_overlaps_itself(ox):
    """Due every second while a run is not over: the run is left alone, the due times are skipped and said."""
    ox.oxfile(f'[processes.job]\ncommand = "{program("waits_for", "go")}"\nschedule = "{EVERY_SECOND}"\n')
    ox.ok("start")
    pid = ox.wait("started", name="job")["pid"]
    ox.wait("skipped", name="job", count=2)
    assert ox.pid("job") == pid
    assert len(ox.events.matching("started")) == 1
    (ox.folder / "go").touch()
    ox.wait("exited", name="job", incarnation=1)
    wait_gone(pid)
    # The next run is due within the second, by itself.
    ox.wait("started", name="job", incarnation=2)
    ox.ok("stop")
    order = [event["kind"] for event in ox.events.matching("started", "exited", "ended", name="job")]
    assert order[:4] == ["started", "ended", "exited", "started"]


def test_a_job_that_is_stopped_is_not_due_any_more(ox):
    """`start` sets the clock and says when; `stop` stops it; a job that was not due yet never ran."""
    ox.oxfile(f'[processes.job]\ncommand = "{program("sleeper")}"\nschedule = "0 0 29 2 *"\n')
    ox.ok("start")
    assert ox.row("job")["next_run"] is not None
    assert ox.row("job")["pid"] is None
    ox.ok("stop")
    assert ox.row("job")["next_run"] is None
    assert ox.events.matching("started") == []


def test_a_run_that_hangs_is_ended_by_its_timeout(ox):
    """timeout = "1s": the run is ended, that is an alert with the reason, and the job runs again when it is due."""
    ox.oxfile(
        f'[processes.job]\ncommand = "{program("sleeper")}"\nschedule = "{EVERY_SECOND}"\n'
        'timeout = "1s"\non_failure = "alert"\n'
    )
    ox.ok("start")
    pid = ox.wait("started", name="job")["pid"]
    ox.wait("timed-out", name="job")
    wait_gone(pid)
    assert "timeout of 1 s" in ox.wait("alert", name="job")["text"]
    ox.wait("started", name="job", incarnation=2)
    assert "timeout of 1 s" in ox.ok("why", "job").out


def test_a_run_that_fails_is_an_alert_and_no_reason_to_repeat_it(ox):
    """on_failure = "alert": an event says what failed; the next run comes with its due time, not as a restart."""
    ox.oxfile(
        f'[processes.job]\ncommand = "{program("exits", 3)}"\nschedule = "{EVERY_SECOND}"\non_failure = "alert"\n'
        f'[processes.quiet]\ncommand = "{program("exits", 4)}"\nschedule = "{EVERY_SECOND}"\n'
        f'[processes.good]\ncommand = "{program("exits", 0)}"\nschedule = "{EVERY_SECOND}"\non_failure = "alert"\n'
    )
    ox.ok("start")
    alert = ox.wait("alert", name="job", count=2)
    assert "exited with 3" in alert["text"]
    ox.wait("exited", "crashed", name="quiet", count=2)
    ox.wait("exited", name="good", count=2)
    assert {event["name"] for event in ox.events.matching("alert")} == {"job"}
    assert ox.events.matching("restarting", "backoff") == []


def test_a_restart_by_the_clock_takes_one_instance_after_the_other(ox):
    """cron_restart: while one instance restarts the others serve, also when the clock is faster than the restart."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper")}"\ninstances = 3\ncron_restart = "{EVERY_SECOND}"\n')
    ox.ok("start")
    for slot in range(3):
        ox.wait("ready", name="web", instance=slot, incarnation=3)
    seen = ox.events.position
    ox.ok("stop")
    ready: set[int] = set()
    complete = False
    for event in ox.events.seen[:seen]:
        if event["kind"] == "ready":
            ready.add(event["instance"])
        elif event["kind"] == "stopping":
            ready.discard(event["instance"])
            assert not complete or len(ready) == 2, ox.events.tail(60)
        complete = complete or len(ready) == 3
    assert complete
