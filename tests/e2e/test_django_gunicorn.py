"""Django on gunicorn's threaded workers, hosted by Oxherd; and under its own arbiter, where the oxfile wants it so."""

from __future__ import annotations

import os
import signal

import pytest

from support.harness import descendants
from support.services import unused_port
from support.waiting import DEADLINE
from support.web import APPS, Asking, Gates, ask, left_of, listening_inodes, server_pids

OXFILE = """
[processes.web]
command = "gunicorn pages --bind 127.0.0.1:{port} --workers 2 --worker-class gthread --threads 4 --access-logfile -"
working_dir = "{apps}"
restart_on_exit = true
{more}
[processes.web.health_check]
endpoint = "http://127.0.0.1:{port}/health"
"""


class Web:
    """The stack, started."""

    def __init__(self, ox, more=""):
        self.ox, self.port, self.gates = ox, unused_port(), Gates(ox)
        ox.oxfile(OXFILE.format(port=self.port, apps=APPS, more=more))
        ox.ok("start")

    def pids(self):
        """The workers, as the status has them."""
        return set(self.ox.pids().values())

    def family(self):
        """The arbiter and its workers; the first one makes it healthy, the second one may still be on its way."""
        self.workers()
        pid = self.ox.pid("web")
        return [pid, *descendants(pid)]

    def workers(self):
        return server_pids(self.port, 2)


@pytest.fixture
def web(ox):
    return Web(ox)


def test_start_restart_stop_and_nothing_left(web):
    """Each generation is gone, with its port, before the next one or the end of the command."""
    ox, first = web.ox, web.pids()
    assert len(first) == 2
    assert web.workers() == first
    row = ox.row("web")
    assert (row["status"], row["health"]) == ("running", "healthy")
    ox.ok("restart", "web")
    assert left_of(first) == []
    second = web.pids()
    assert not second & first
    assert web.workers() == second
    ox.ok("stop")
    assert left_of(second) == []
    assert listening_inodes(web.port) == set()
    assert (ox.row("web")["status"], ox.row("web")["pid"]) == ("stopped", None)


def test_a_restart_answers_the_request_in_flight_first(web):
    """gunicorn's own time to finish (30 s) is what a worker has, and the stop timeout is above it without being told."""
    ox = web.ox
    asking = Asking(web.port, "/hold/door")
    holder = web.gates.wait_begun("door")
    slot = next(row["instance"] for row in ox.rows() if row["pid"] == holder)
    restart = ox.popen("restart", "web")
    assert ox.wait_row(f"web:{slot}", status="stopping")["restarts"] == 1
    assert not asking.over
    web.gates.open("door")
    answer = asking.answer()
    assert (answer.status, answer.json) == (200, {"held": "door", "pid": holder})
    said, _ = restart.communicate(timeout=DEADLINE)
    assert restart.returncode == 0, said
    assert ox.events.matching("killed") == []
    settings = {one["name"]: one for one in ox.ok("explain", "web", "--json").json["processes"][0]["settings"]}
    assert settings["stop_timeout"]["value"] == "35 s"


def test_a_reload_brings_every_worker_anew(web):
    first = web.pids()
    (fact,) = web.ox.ok("reload", "--json").json["reloads"]
    assert (fact["result"], fact["workers"], fact["failed_requests"]) == ("done", 2, 0)
    assert left_of(first) == []
    assert web.workers() == web.pids()


def test_after_kill_9_of_the_arbiter_its_workers_are_gone_first(ox):
    """Run as it is: workers of a dead arbiter notice only after a while; the port must be free for the next one."""
    web = Web(ox, more="adopt = false")
    family = web.family()
    os.kill(family[0], signal.SIGKILL)
    ox.wait("ready", count=2, name="web")
    assert left_of(family) == []
    assert web.workers() == set(web.family()[1:])
    assert (ox.row("web")["status"], ox.row("web")["restarts"]) == ("running", 1)
    assert "in use" not in ox.log("web").decode()


def test_logs_tell_errors_from_requests(web):
    """Django's traceback is an error as a whole; gunicorn's access log and its notes are not."""
    ox = web.ox
    assert ask(web.port, "/boom").status == 500
    ox.wait_log("web", b'"GET /boom HTTP/1.1" 500')
    errors = ox.ok("logs", "--level", "error", "-n", "1000").out.splitlines()
    assert "ERROR django.request: Internal Server Error: /boom" in errors[0]
    assert "Traceback (most recent call last):" in errors[1]
    assert errors[-1].endswith("ValueError: the kettle has boiled over")
    assert not any("GET /" in line or "[INFO]" in line for line in errors)
    everything = ox.ok("logs", "-n", "1000").out
    assert "[INFO] Booting worker with pid" in everything
    assert '"GET /health HTTP/1.1" 200' in everything
