"""FastAPI on `uvicorn --workers 2`: served by Oxherd's own workers, and, where the oxfile wants it, run as it is."""

from __future__ import annotations

import os
import signal

import pytest

from support.harness import descendants
from support.services import unused_port
from support.waiting import DEADLINE, wait_gone, wait_until
from support.web import APPS, Asking, Gates, ask, left_of, server_pids, try_ask

OXFILE = """
[processes.web]
command = "uvicorn {app} --port {port} --workers 2"
working_dir = "{apps}"
stop_timeout = "60s"
{more}
[processes.web.health_check]
endpoint = "http://127.0.0.1:{port}{endpoint}"
"""


class Web:
    """The stack: its supervisor, its port, its gates."""

    def __init__(self, ox):
        self.ox, self.port, self.gates = ox, unused_port(), Gates(ox)

    def write(self, app="fast:app", endpoint="/health", more=""):
        self.ox.oxfile(OXFILE.format(app=app, port=self.port, apps=APPS, endpoint=endpoint, more=more))
        return self

    def workers(self):
        """The pids of the two that serve."""
        return server_pids(self.port, 2)

    def parent(self):
        return int(ask(self.port, "/health").json["parent"])


@pytest.fixture
def web(ox):
    return Web(ox)


def test_it_is_running_only_when_its_health_check_passes(web):
    """The workers have started long before the app says that it is well; `start` waits for the app."""
    ox = web.write(app="gated:app", endpoint="/ready").ox
    start = ox.popen("start")
    web.gates.wait_begun("ready")
    row = ox.row("web")
    assert (row["status"], row["ready"], row["health"]) == ("starting", False, None)
    assert start.poll() is None
    web.gates.open("ready")
    said, _ = start.communicate(timeout=DEADLINE)
    assert start.returncode == 0, said
    assert f"web:0: running (pid {ox.pid('web:0')})" in said
    row = ox.row("web")
    assert (row["status"], row["ready"], row["health"], row["restarts"]) == ("running", True, "healthy", 0)


def test_after_kill_9_of_the_parent_no_worker_keeps_the_port(web):
    """Run as it is: the workers of a dead parent would go on serving old code on the port its successor needs."""
    ox = web.write(more="adopt = false").ox
    ox.ok("start")
    parent, workers = ox.pid("web"), web.workers()
    family = descendants(parent)
    assert workers <= set(family)
    os.kill(parent, signal.SIGKILL)
    ox.wait("ready", count=2, name="web")
    # The old ones were gone before the new parent was started, not some time later.
    assert left_of(family) == []
    row = ox.row("web")
    assert (row["status"], row["restarts"]) == ("running", 1)
    assert web.parent() == row["pid"] != parent
    assert not web.workers() & workers
    assert "SIGKILL" in ox.ok("why", "web").out


def test_a_dead_worker_is_the_business_of_uvicorn(web):
    """Run as it is, uvicorn replaces its worker itself: for Oxherd nothing has happened."""
    ox = web.write(more="adopt = false").ox
    ox.ok("start")
    parent, workers = ox.pid("web"), web.workers()
    victim = min(workers)
    before = ox.events.position
    os.kill(victim, signal.SIGKILL)
    wait_gone(victim)
    ox.wait_log("web", f"Child process [{victim}] died".encode())
    wait_until(lambda: (answer := try_ask(web.port, "/health")) and answer.json["pid"] not in workers, "a new worker")
    row = ox.row("web")
    assert (row["pid"], row["status"], row["restarts"]) == (parent, "running", 0)
    assert [event["text"] for event in ox.events.matching(after=before, name="web")] == []


def test_a_stop_lets_the_request_in_flight_end(web):
    """What was asked before the stop is answered."""
    ox = web.write().ox
    ox.ok("start")
    asking = Asking(web.port, "/hold/door")
    web.gates.wait_begun("door")
    family = [ox.pid("web"), *descendants(ox.pid("web"))]
    stop = ox.popen("stop")
    ox.wait_row("web", status="stopping")
    ox.wait_log("web", b"Waiting for connections to close.")
    assert stop.poll() is None
    assert not asking.over
    web.gates.open("door")
    answer = asking.answer()
    assert (answer.status, answer.json["held"]) == (200, "door")
    said, _ = stop.communicate(timeout=DEADLINE)
    assert stop.returncode == 0, said
    assert ox.row("web")["status"] == "stopped"
    assert left_of(family) == []
    assert "killed" not in {event["kind"] for event in ox.events.matching(name="web")}


def test_logs_tell_errors_from_requests(web):
    """A traceback is an error as a whole; the access log is not, whatever the path says."""
    ox = web.write().ox
    ox.ok("start")
    assert ask(web.port, "/health").status == 200
    assert ask(web.port, "/boom").status == 500
    ox.wait_log("web", b"ValueError: the kettle has boiled over")
    everything = ox.ok("logs", "web", "-n", "1000").out
    assert '"GET /boom HTTP/1.1" 500' in everything
    assert '"GET /health HTTP/1.1" 200' in everything
    errors = ox.ok("logs", "--level", "error", "-n", "1000").out.splitlines()
    assert errors[0].endswith("ERROR:    Exception in ASGI application")
    assert "Traceback (most recent call last):" in errors[1]
    assert errors[-1].endswith("ValueError: the kettle has boiled over")
    assert any('raise ValueError("the kettle has boiled over")' in line for line in errors)
    assert not any("GET /" in line for line in errors)
