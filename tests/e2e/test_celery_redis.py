"""Celery on a real Redis: the worker finishes what it has begun, beat is never there twice."""

from __future__ import annotations

import os
import signal

import pytest
from celery import Celery

from support import services
from support.harness import descendants
from support.waiting import DEADLINE, wait_until
from support.web import APPS, Gates, left_of

pytestmark = pytest.mark.needs_redis

WORKER = """
[processes.worker]
command = "celery -A jobs worker --loglevel=info --concurrency=2"
working_dir = "{apps}"
{more}
"""

BEAT = """
[processes.beat]
command = "celery -A jobs beat --loglevel=info --schedule {base}/schedule"
working_dir = "{apps}"
{more}
"""


# Of the module, so that it outlives the supervisor of each test: a worker ends without haste while its broker is there.
@pytest.fixture(scope="module")
def redis():
    with services.redis() as server:
        yield server


@pytest.fixture
def sender(redis):
    """The side of the app that sends tasks."""
    with Celery(broker=redis.url, backend=redis.url) as app:
        yield app


@pytest.fixture
def gates(ox, redis):
    redis.flush()
    ox.env["REDIS_URL"] = redis.url
    return Gates(ox)


def write(ox, *parts, more=""):
    ox.oxfile("".join(parts).format(apps=APPS, base=ox.base, more=more))


def wait_ready(ox, count=1):
    """Wait until the worker has said so many times that it takes tasks."""
    ox.wait_log("worker", b" ready.", count)


def test_worker_and_beat_run_and_leave_nothing(ox, gates, sender):
    """Tasks are done, the schedule ticks, and after the stop there is nothing."""
    write(ox, WORKER, BEAT)
    ox.ok("start")
    assert sender.send_task("jobs.add", [2, 3]).get(DEADLINE) == 5
    wait_until(lambda: gates.lines("ticks"), "a tick")
    family = [pid for name in ("worker", "beat") for pid in (ox.pid(name), *descendants(ox.pid(name)))]
    assert set(map(int, gates.lines("pool"))) <= set(family)
    assert len(gates.lines("pool")) == 2
    ox.ok("stop")
    assert left_of(family) == []
    assert [row["status"] for row in ox.rows()] == ["stopped", "stopped"]
    assert gates.lines("overlaps") == []


def test_a_stop_waits_for_the_task_in_flight(ox, gates, sender):
    """TERM goes to the main process only: its pool finishes the task, and the result is kept."""
    write(ox, WORKER)
    ox.ok("start")
    result = sender.send_task("jobs.hold", ["door"])
    holder = gates.wait_begun("door")
    main, family = ox.pid("worker"), descendants(ox.pid("worker"))
    assert holder in family
    stop = ox.popen("stop", "worker")
    ox.wait_row("worker", status="stopping")
    ox.wait_log("worker", b"worker: Warm shutdown (MainProcess)")
    assert stop.poll() is None
    assert left_of([holder]) == [holder]
    assert result.state != "SUCCESS"
    gates.open("door")
    said, _ = stop.communicate(timeout=DEADLINE)
    assert stop.returncode == 0, said
    assert (result.state, result.result) == ("SUCCESS", {"held": "door", "pid": holder})
    assert left_of([main, *family]) == []
    assert ox.events.matching("killed") == []
    log = ox.log("worker").decode()
    assert "succeeded" in log
    assert "SIGTERM" not in log
    assert "Cold shutdown" not in log


def test_a_task_longer_than_the_stop_timeout_is_killed_with_the_whole_tree(ox, gates, sender):
    """A stop ends: the pool does not survive its main process, whatever it is doing."""
    write(ox, WORKER, more='stop_timeout = "1s"')
    ox.ok("start")
    result = sender.send_task("jobs.hold", ["door"])
    gates.wait_begun("door")
    family = [ox.pid("worker"), *descendants(ox.pid("worker"))]
    ox.ok("stop", "worker")
    assert left_of(family) == []
    killed = ox.events.wait("killed", name="worker")
    assert "still there after 1 s" in killed["text"]
    assert ox.row("worker")["status"] == "stopped"
    assert result.state != "SUCCESS"


def test_explain_tells_the_drain_time_of_a_worker_and_why(ox, gates):
    """Nobody expects five minutes; so they are said, with where they come from."""
    write(ox, WORKER, BEAT)
    told = ox.ok("explain", "--json").json["processes"]
    worker, beat = ({one["name"]: one for one in process["settings"]} for process in told)
    assert (told[0]["program"], told[1]["program"]) == ("celery-worker", "celery-beat")
    assert worker["stop_timeout"]["value"] == "5 min"
    assert "Celery worker" in worker["stop_timeout"]["origin"]
    assert beat["stop_timeout"]["value"] == "10 s"
    assert beat["singleton"]["value"] == "true"
    text = ox.ok("explain", "worker").out
    assert "stop_timeout" in text
    assert "5 min" in text
    assert "takes no new task, finishes the ones it has" in text


def test_more_than_one_beat_is_refused_before_anything_runs(ox, gates):
    """The mistake is told with its line; neither `start` nor `scale` makes a second one."""
    write(ox, BEAT, more="instances = 2")
    line = (ox.folder / "oxfile.toml").read_text().splitlines().index("instances = 2") + 1
    refused = ox.cli("start")
    assert refused.code == 2
    assert f"oxfile.toml:{line}" in refused.err
    assert "must never run twice" in refused.err
    assert not os.path.exists(ox.home.socket)
    write(ox, BEAT)
    ox.ok("start")
    scaled = ox.cli("scale", "beat=2")
    assert scaled.code == 2
    assert "singleton" in scaled.err
    assert len(ox.rows()) == 1


def test_beat_is_never_there_twice(ox, gates):
    """Neither a restart nor a crash overlaps two of them: each holds a lock the next one would complain about."""
    write(ox, BEAT)
    ox.ok("start")
    pids = []
    for count, again in enumerate((lambda: ox.ok("restart", "beat"), kill_main(ox, "beat"), lambda: ox.ok("reload"))):
        wait_until(lambda: len(gates.lines("beats")) > count, "beat to begin")  # noqa: B023 - called at once
        pids.append(ox.pid("beat"))
        again()
        ox.wait("started", name="beat", count=count + 2)
    wait_until(lambda: len(gates.lines("beats")) == 4, "the last beat to begin")
    assert [*pids, ox.pid("beat")] == list(map(int, gates.lines("beats")))
    assert gates.lines("overlaps") == []
    kinds = [event["kind"] for event in ox.events.matching("started", "ended", name="beat")]
    assert kinds == ["started", "ended", "started", "ended", "started", "ended", "started"]


def kill_main(ox, name):
    return lambda: os.kill(ox.pid(name), signal.SIGKILL)


def test_after_kill_9_of_the_main_process_its_pool_is_gone_first(ox, gates, sender):
    """A pool process in the middle of a task outlives its main process, and would work beside the new pool."""
    write(ox, WORKER)
    ox.ok("start")
    sender.send_task("jobs.hold", ["door"])
    gates.wait_begun("door")
    wait_until(lambda: len(gates.lines("pool")) == 2, "the pool")
    main, pool = ox.pid("worker"), descendants(ox.pid("worker"))
    os.kill(main, signal.SIGKILL)
    ox.wait("started", name="worker", count=2)
    assert left_of([main, *pool]) == []
    wait_ready(ox, 2)
    assert sender.send_task("jobs.add", [2, 3]).get(DEADLINE) == 5
    assert gates.lines("overlaps") == []
    assert ox.row("worker")["restarts"] == 1


def test_logs_tell_the_errors_of_tasks(ox, gates, sender):
    """A task's traceback is an error as a whole; what Celery says of its doings is not."""
    write(ox, WORKER)
    ox.ok("start")
    result = sender.send_task("jobs.boom")
    with pytest.raises(Exception, match="boiled over"):
        result.get(DEADLINE)
    ox.wait_log("worker", b"ValueError: the kettle has boiled over")
    errors = ox.ok("logs", "--level", "error", "-n", "1000").out.splitlines()
    assert "ERROR/ForkPoolWorker" in errors[0]
    assert "jobs.boom" in errors[0]
    assert errors[-1].endswith("ValueError: the kettle has boiled over")
    assert not any("INFO/MainProcess" in line for line in errors)
