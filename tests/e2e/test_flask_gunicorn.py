"""Flask: on gunicorn with a configuration file, and on its own development server."""

from __future__ import annotations

import pytest

from support.harness import descendants
from support.services import unused_port
from support.waiting import DEADLINE
from support.web import APPS, Asking, Gates, ask, left_of, listening_inodes, server_pids

GUNICORN = """
[processes.web]
command = "gunicorn -c gunicorn_settings.py flasky:app"
working_dir = "{apps}"
[processes.web.env]
PORT = "{port}"
[processes.web.health_check]
endpoint = "http://127.0.0.1:{port}/health"
interval_secs = 1
"""

FLASK_RUN = """
[processes.web]
command = "flask --app flasky run --port {port}"
working_dir = "{apps}"
[processes.web.health_check]
endpoint = "http://127.0.0.1:{port}/health"
"""


@pytest.fixture
def port():
    return unused_port()


@pytest.fixture
def gates(ox):
    return Gates(ox)


def family_of(ox):
    pid = ox.pid("web")
    return [pid, *descendants(pid)]


def test_gunicorn_reads_its_configuration_file(ox, port, gates):
    """What stands in `gunicorn -c FILE` holds as if gunicorn were started by hand."""
    ox.oxfile(GUNICORN.format(port=port, apps=APPS))
    ox.ok("start")
    assert ask(port, "/health").json["config"] == "gunicorn_settings"
    assert len(server_pids(port, 2)) == 2
    ox.wait_log("web", b'"GET /health HTTP/1.1" 200')
    explained = ox.ok("explain", "web").out
    assert f"127.0.0.1:{port} (held by the supervisor" in explained
    assert "gunicorn" in explained


def test_start_health_restart_stop_and_nothing_left(ox, port, gates):
    """Through a whole life; each generation is gone before the next one comes."""
    ox.oxfile(GUNICORN.format(port=port, apps=APPS))
    ox.ok("start")
    first = set(ox.pids().values())
    assert server_pids(port, 2) == first
    assert ox.row("web")["health"] == "healthy"
    ox.ok("restart")
    assert left_of(first) == []
    second = set(ox.pids().values())
    assert server_pids(port, 2) == second
    ox.ok("stop")
    assert left_of(second) == []
    assert listening_inodes(port) == set()


def test_a_stop_lets_the_request_in_flight_end(ox, port, gates):
    """gunicorn gives its workers the graceful_timeout of its configuration file, within the stop timeout."""
    ox.oxfile(GUNICORN.format(port=port, apps=APPS))
    ox.ok("start")
    asking = Asking(port, "/hold/door")
    gates.wait_begun("door")
    stop = ox.popen("stop")
    ox.wait("stopping", count=2, name="web")
    gates.open("door")
    answer = asking.answer()
    assert (answer.status, answer.json["held"]) == (200, "door")
    said, _ = stop.communicate(timeout=DEADLINE)
    assert stop.returncode == 0, said


def test_logs_tell_errors_from_requests(ox, port, gates):
    """Flask's traceback is an error as a whole."""
    ox.oxfile(GUNICORN.format(port=port, apps=APPS))
    ox.ok("start")
    assert ask(port, "/boom").status == 500
    ox.wait_log("web", b'"GET /boom HTTP/1.1" 500')
    errors = ox.ok("logs", "--level", "error", "-n", "1000").out.splitlines()
    assert "ERROR in app: Exception on /boom [GET]" in errors[0]
    assert errors[-1].endswith("ValueError: the kettle has boiled over")
    assert not any("GET /" in line for line in errors)


def test_flask_run_works_and_is_told_to_be_for_development(ox, port, gates):
    """It runs as it is; `validate` says what it is not made for."""
    ox.oxfile(FLASK_RUN.format(port=port, apps=APPS))
    told = ox.ok("validate")
    assert "development server" in told.out + told.err
    ox.ok("start")
    assert ask(port, "/health").json["pid"] in family_of(ox)
    family = family_of(ox)
    ox.ok("stop")
    assert left_of(family) == []
    assert listening_inodes(port) == set()
