"""The oxfile everybody begins with: uvicorn with workers, a Celery worker, beat, health, limits, logs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest

from support import services
from support.harness import descendants
from support.services import unused_port
from support.web import APPS, ask, left_of, listening_inodes, server_pids

pytestmark = pytest.mark.needs_redis

# As it is published. A test replaces the folder and the port, nothing else.
PUBLISHED = """
[processes.web]
command = "/var/www/myapp/venv/bin/uvicorn main:app --host 0.0.0.0 --port 8000 --workers 4"
working_dir = "/var/www/myapp"
restart_on_exit = true
restart_delay_ms = 2000
max_restarts = 15
stop_timeout_ms = 30000
[processes.web.env]
DATABASE_URL = "postgresql+asyncpg://user:pass@localhost/myapp"
[processes.web.health_check]
endpoint = "http://localhost:8000/health"
interval_secs = 30
initial_delay_secs = 15
unhealthy_threshold = 3
healthy_threshold = 2
[processes.web.limits]
memory_mb = 1024
[processes.web.logs]
max_size_mb = 200
max_files = 7
compress = true

[processes.worker]
command = "/var/www/myapp/venv/bin/celery -A tasks worker --loglevel=info --concurrency=4"
working_dir = "/var/www/myapp"
restart_on_exit = true
[processes.worker.limits]
memory_mb = 512

[processes.beat]
command = "/var/www/myapp/venv/bin/celery -A tasks beat --loglevel=info"
working_dir = "/var/www/myapp"
restart_on_exit = true
instances = 1
"""


@pytest.fixture(scope="module")
def redis():
    with services.redis() as server:
        yield server


@pytest.fixture
def port():
    return unused_port()


@pytest.fixture
def myapp(ox, redis, port):
    """The app in its folder, with its virtual environment and the oxfile beside it."""
    ox.env["REDIS_URL"] = redis.url
    folder = ox.oxfile(PUBLISHED.replace("/var/www/myapp", str(ox.base / "myapp")).replace("8000", str(port)), "myapp")
    for name in ("main.py", "tasks.py"):
        shutil.copy(APPS / "myapp" / name, folder)
    (folder / "venv" / "bin").mkdir(parents=True)
    for name in ("uvicorn", "celery"):
        (folder / "venv" / "bin" / name).symlink_to(Path(sys.executable).with_name(name))
    return folder


def families(ox):
    found: dict[str, list[int]] = {}
    for row in ox.rows():
        found.setdefault(row["name"], []).extend([row["pid"], *descendants(row["pid"])])
    return found


def test_the_published_file_does_what_it_says(ox, myapp, port, redis):
    """Start, status, logs, restart, a crash, stop; and then there is nothing left."""
    told = ox.ok("validate")
    assert "problem" not in told.err

    ox.ok("start")
    assert ask(port, "/health").json["database"] == "postgresql+asyncpg://user:pass@localhost/myapp"
    assert len(server_pids(port, 4)) == 4

    header, *lines = ox.ok("status").out.splitlines()
    assert header.split() == ["NAME", "PID", "STATUS", "CPU", "MEM", "RESTARTS", "UPTIME"]
    assert [line.split()[0] for line in lines] == ["web:0", "web:1", "web:2", "web:3", "worker", "beat"]
    assert [line.split()[2] for line in lines] == ["running"] * 6
    rows = {row["name"]: row for row in ox.ok("status", "--json").json}
    assert rows["web"]["health"] == "healthy"
    assert all(row["memory_bytes"] > 0 for row in rows.values())

    ox.wait_log("worker", b"Task tasks.look")
    ox.wait_log("beat", b"Sending due task look-around")
    logs = ox.ok("logs", "-n", "1000").out
    for pattern in (
        r"web:0 +\| INFO: +Application startup complete",
        r"worker:0 +\| .* ready\.",
        r"beat:0 +\| .*Sending due task",
    ):
        assert re.search(pattern, logs), pattern

    first = families(ox)
    assert {name: len(family) for name, family in first.items()}["worker"] == 5
    ox.ok("restart", "web", "worker")
    second = families(ox)
    assert left_of(first["web"] + first["worker"]) == []
    assert second["beat"] == first["beat"]
    assert server_pids(port, 4) <= set(second["web"])

    restarts = ox.row("web")["restarts"]
    for name in ("web", "beat"):
        os.kill(second[name][0], signal.SIGKILL)
    # restart_delay_ms = 2000 is the web's; beat has none and is back at once.
    assert "restart in" in ox.wait("backoff", name="web")["text"]
    ox.wait_row("beat", status="running", restarts=1)
    ox.wait_row("web", status="running", health="healthy", restarts=restarts + 1)
    assert ask(port, "/health").status == 200

    before = {row["instance"]: row["pid"] for row in ox.rows() if row["name"] == "web"}
    done = ox.ok("reload", "web", "--json").json
    assert [(fact["result"], fact["workers"], fact["failed_requests"]) for fact in done["reloads"]] == [("done", 4, 0)]
    assert left_of(before.values()) == []
    assert len(server_pids(port, 4)) == 4

    last = families(ox)
    ox.ok("stop")
    assert left_of(pid for family in (*second.values(), *last.values()) for pid in family) == []
    assert {row["status"] for row in ox.rows()} == {"stopped"}
    assert listening_inodes(port) == set()
    assert ox.events.matching("killed") == []


def test_the_file_is_explained_without_its_password(ox, myapp, port):
    """`explain` shows what the file means, the drain time of the worker included, and no secret."""
    told = ox.ok("explain").out
    assert "user:pass" not in told
    processes = {process["process"]: process for process in ox.ok("explain", "--json").json["processes"]}
    programs = {name: process["program"] for name, process in processes.items()}
    assert programs == {"web": "uvicorn", "worker": "celery-worker", "beat": "celery-beat"}
    assert processes["web"]["binds"] == [f"0.0.0.0:{port}"]
    stop = {
        name: next(one["value"] for one in process["settings"] if one["name"] == "stop_timeout")
        for name, process in processes.items()
    }
    assert stop == {"web": "30 s", "worker": "5 min", "beat": "10 s"}
