"""Real servers that are passed their listeners: hypercorn, daphne, gunicorn by descriptor, anything that reads LISTEN_FDS.

The listeners are the supervisor's, so no queue is lost by a crash; a reload starts the new one beside the old one, which
goes on with the connections it has before it is told to stop.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
from pathlib import Path

import pytest
from celery import Celery

from support import services
from support.harness import descendants, program
from support.loss import loss_client
from support.services import unused_port
from support.waiting import DEADLINE, wait_gone
from support.web import APPS, Gates, ask, left_of, listening_inodes, try_ask

LOSS = Path(__file__).parent.parent / "loss" / "apps"
SERVERS = {
    "hypercorn": "hypercorn asgi_app:app --bind 127.0.0.1:{port}",
    "daphne": "daphne asgi_app:app --port {port}",
    # What starts it does something of its own for it, so that it is not Oxherd's workers that serve.
    "gunicorn": "nice -n 1 gunicorn wsgi_app:app -k gthread --threads 8 --bind 127.0.0.1:{port}",
}
NONE = {"busy": 0, "idle": 0, "silent": 0, "single": 0, "slow": 0, "post": 0, "stream": 0, "websocket": 0}
# Connections that end by themselves, and connections that are asked again and again.
ENDING = {**NONE, "single": 4, "silent": 3}
KEPT = {**NONE, "busy": 3, "idle": 3, "silent": 2, "single": 2, "slow": 2, "post": 1}

OXFILE = """
[processes.web]
command = "{command}"
working_dir = "{folder}"
{more}
[processes.web.env]
LOSS_DIR = "{base}"
{tables}
"""

HEALTH = """
[processes.web.health_check]
endpoint = "http://127.0.0.1:{port}/health"
interval_secs = 1
"""


@pytest.fixture
def port():
    return unused_port()


@pytest.fixture(params=SERVERS)
def server(request, ox, port):
    """One of the servers, started, with a health check."""
    write(ox, request.param, port)
    ox.ok("start")
    return request.param


def write(ox, name, port, *, more="", tables=HEALTH):
    tables = tables.format(port=port)
    command = SERVERS[name].format(port=port)
    ox.oxfile(OXFILE.format(command=command, folder=LOSS, base=ox.base, more=more, tables=tables))


def release(ox, generation, mode=""):
    """Deploy another release of the app."""
    (ox.base / "release.json").write_text(json.dumps({"generation": generation, "mode": mode}))


def generation(port):
    return ask(port, "/health").json["generation"]


def connect(port):
    return socket.create_connection(("127.0.0.1", port), DEADLINE)


def send(connection, path="/fast?n=hello"):
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())


def answer_of(connection):
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.status, response.read()


# -- a life ---------------------------------------------------------------------------------------------------------


def test_it_serves_from_the_listener_of_the_supervisor(ox, server, port):
    """One socket, which the supervisor has too; asked for health where nobody else can answer."""
    assert ask(port, "/fast?n=hello").body == b"hello"
    row = ox.wait_row("web", status="running", health="healthy")
    (inode,) = listening_inodes(port)
    assert f"socket:[{inode}]" in [
        os.readlink(f"/proc/{ox.supervisor}/fd/{fd}") for fd in os.listdir(f"/proc/{ox.supervisor}/fd")
    ]
    family = [row["pid"], *descendants(row["pid"])]
    ox.ok("stop")
    assert left_of(family) == []
    assert listening_inodes(port) == set()
    assert os.listdir(Path(ox.home.runtime, "workers")) == []


def test_a_queue_outlives_the_program(ox, server, port):
    """Twice killed with a connection in the queue that nobody had accepted: it is answered by the next one."""
    for _ in range(2):
        pid = ox.pid("web")
        family = [pid, *descendants(pid)]
        for member in family:
            os.kill(member, signal.SIGSTOP)
        with connect(port) as waiting:
            send(waiting)
            for member in family:
                os.kill(member, signal.SIGKILL)
            assert answer_of(waiting) == (200, b"hello")
        ox.wait_row("web", status="running")
        assert ox.pid("web") != pid


def test_a_taken_port_is_told_with_its_holder(ox, port):
    """Before the program is started at all."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", port))
        holder.listen()
        write(ox, "hypercorn", port, more='restart = "never"')
        start = ox.cli("start")
        assert start.code == 1
        assert f"127.0.0.1:{port} is in use by" in start.err
        assert f"(pid {os.getpid()})" in start.err
        assert ox.log("web").count(b"Traceback") == 0


# -- reloads --------------------------------------------------------------------------------------------------------


def test_a_reload_loses_no_connection_that_ends_by_itself(ox, server, port):
    """One request a connection, and connections that say nothing for a while: new code, and nothing lost."""
    with loss_client(address=f"127.0.0.1:{port}", **ENDING) as client:
        client.warm()
        for number in range(2):
            release(ox, str(number + 2))
            client.mark(f"reload {number + 1}")
            old = ox.pid("web")
            ox.ok("reload", "web")
            wait_gone(old)
            assert generation(port) == str(number + 2)
            client.answers(100)
        report = client.stop()
    assert report["failed"] == 0, report["failures"]
    assert report["requests"] > 200
    drained = ox.events.matching("drained", name="web")
    assert len(drained) == 2
    assert all("no connection any more" in event["text"] for event in drained)


@pytest.mark.parametrize("name", ["hypercorn", "gunicorn"])
def test_what_a_reload_costs_kept_connections(ox, port, name):
    """Threads of gunicorn lose nothing. hypercorn closes them without a word: what is sent in that moment is lost."""
    write(ox, name, port)
    ox.ok("start")
    with loss_client(address=f"127.0.0.1:{port}", **KEPT) as client:
        client.warm()
        client.mark("reload")
        ox.ok("reload", "web")
        client.answers(200)
        report = client.stop()
    lost = {failure["class"] for failure in report["failures"]}
    assert lost <= ({"reset-reused-idle"} if name == "hypercorn" else set()), report["failures"]
    # No connection is closed twice.
    assert report["failed"] <= KEPT["busy"] + KEPT["idle"] + KEPT["slow"] + KEPT["post"]


@pytest.mark.parametrize("mode", ["import", "health"])
def test_code_that_is_broken_does_not_come(ox, server, port, mode):
    """It raises at its import, or its health check fails: exit code 1, and the old one has not noticed a thing."""
    write(ox, server, port, more='ready_timeout = "3s"')
    before = ox.pid("web"), descendants(ox.pid("web"))
    release(ox, "2", mode)
    with loss_client(address=f"127.0.0.1:{port}", **ENDING) as client:
        client.warm()
        done = ox.cli("reload", "web")
        client.answers(50)
        report = client.stop()
    assert done.code == 1, done
    assert "nothing was changed" in done.out + done.err
    # Even where it had begun to accept beside the old one, before its health check condemned it.
    assert report["failed"] == 0, report["failures"]
    assert (ox.pid("web"), descendants(ox.pid("web"))) == before
    ox.wait("stopped", name="web")
    assert generation(port) == "1"
    assert ox.events.matching("draining", "drained", pid=before[0]) == []


# -- anything that reads LISTEN_FDS ---------------------------------------------------------------------------------


def listen_fds(ox, port, kind):
    ox.oxfile(f"""
[processes.web]
command = "{program("inherits", kind)}"
socket = "127.0.0.1:{port}"
""")
    ox.ok("start")


def test_a_program_that_knows_no_lame_duck_is_made_one(ox, port):
    """An idle connection is served by the old one until its time is over, new ones by the new one."""
    listen_fds(ox, port, "epoll")
    assert b"names web blocking True" in ox.wait_log("web", b"blocking")
    old = ox.pid("web")
    kept = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    assert say(kept) == old
    reload = ox.popen("reload", "web")
    ox.wait("draining", name="web")
    new = ox.pid("web")
    assert new != old
    assert say(kept) == old
    assert {int(ask(port, "/").body) for _ in range(20)} == {new}
    kept.close()
    out, _ = reload.communicate(timeout=DEADLINE)
    assert reload.returncode == 0, out
    assert "no connection any more" in ox.wait("drained", name="web")["text"]
    assert left_of([old]) == []


def say(connection):
    connection.request("GET", "/")
    return int(connection.getresponse().read())


def test_one_that_waits_with_select_cannot_be_and_the_reload_says_so(ox, port):
    listen_fds(ox, port, "select")
    old = ox.pid("web")
    done = ox.ok("reload", "web")
    assert "could not be kept from accepting" in done.out + done.err
    assert "select or poll" in done.out + done.err
    assert left_of([old]) == []
    assert int(ask(port, "/").body) == ox.pid("web")


def test_scaling_down_spares_connections_and_a_stop_does_not_wait(ox, port):
    listen_fds(ox, port, "epoll")
    ox.ok("scale", "web=2")
    first, second = ox.pid("web:0"), ox.pid("web:1")
    kept = []
    while not {pid for _, pid in kept} >= {first, second}:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
        kept.append((connection, say(connection)))
    scale = ox.popen("scale", "web=1")
    ox.wait("draining", name="web")
    assert ox.row("web:1")["status"] == "stopping"
    assert [say(connection) for connection, _ in kept] == [pid for _, pid in kept]
    assert {int(ask(port, "/").body) for _ in range(20)} == {first}
    ox.ok("stop")
    assert left_of([first, second]) == []
    scale.communicate(timeout=DEADLINE)
    assert ox.events.matching("drained") == []
    assert try_ask(port, "/") is None
    for connection, _ in kept:
        connection.close()


# -- another way to serve -------------------------------------------------------------------------------------------


def test_the_address_changes_hands_between_ways_to_serve(ox, port):
    """Oxherd's own worker, a program that is passed the listener, and one that opens it itself: each finds it free."""
    ways = {
        "hosted": f"uvicorn asgi_app:app --port {port}",
        "passed": f"hypercorn asgi_app:app --bind 127.0.0.1:{port}",
        "alone": f"uvicorn asgi_app:app --port {port}",
    }

    def deploy(way):
        more = "adopt = false" if way == "alone" else ""
        ox.oxfile(OXFILE.format(command=ways[way], folder=LOSS, base=ox.base, more=more, tables=""))

    deploy("hosted")
    ox.ok("start")
    for number, way in enumerate(["passed", "hosted", "alone", "passed", "alone", "hosted"], 2):
        release(ox, str(number))
        deploy(way)
        ox.ok("reload", "web")
        assert generation(port) == str(number), way
        assert len(listening_inodes(port)) == 1


# -- without listeners ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def redis():
    with services.redis() as server:
        yield server


@pytest.mark.needs_redis
def test_celery_workers_overlap_and_beat_does_not(ox, redis):
    """The new worker takes tasks before the old one is told to go, which finishes what it has begun; one beat at a time."""
    redis.flush()
    ox.env["REDIS_URL"] = redis.url
    gates = Gates(ox)
    ox.oxfile(f"""
[processes.worker]
command = "celery -A jobs worker --loglevel=info --concurrency=1"
working_dir = "{APPS}"

[processes.beat]
command = "celery -A jobs beat --loglevel=info --schedule {ox.base}/schedule"
working_dir = "{APPS}"
""")
    ox.ok("start")
    ox.wait_log("worker", b" ready.")
    with Celery(broker=redis.url, backend=redis.url) as sender:
        held = sender.send_task("jobs.hold", ["door"])
        holder = gates.wait_begun("door")
        old = ox.pid("worker")
        reload = ox.popen("reload")
        ox.wait_log("worker", b"Warm shutdown")
        # When a worker takes tasks nobody but it can see; when the old one is told to go, the new one is under way.
        ox.wait_log("worker", b" ready.", 2)
        assert sender.send_task("jobs.add", [2, 3]).get(DEADLINE) == 5
        assert left_of([old, holder]) == [old, holder]
        gates.open("door")
        assert held.get(DEADLINE)["held"] == "door"
    out, _ = reload.communicate(timeout=DEADLINE)
    assert reload.returncode == 0, out
    assert left_of([old]) == []
    assert [line for line in gates.lines("overlaps") if line.startswith("beat")] == []
    kinds = [event["kind"] for event in ox.events.matching("started", "ended", name="beat")]
    assert kinds == ["started", "ended", "started"]
