"""nginx in front of a supervised app, and nginx as a supervised process.

A command process owns its listening socket, so between its end and the next start nobody listens, and nginx answers
502 itself. What holds nevertheless: no answer is cut off, none hangs, and after the restart all is as before without a
word to nginx.
"""

from __future__ import annotations

import os
import signal
import threading

import pytest

from support import services
from support.harness import descendants
from support.services import find_binary, listening, nginx_config, unused_port
from support.waiting import DEADLINE, wait_until
from support.web import APPS, Asking, Gates, ask, left_of, try_ask

WEB = """
[processes.web]
command = "uvicorn fast:app --port {port}"
working_dir = "{apps}"
stop_timeout = "60s"
[processes.web.health_check]
endpoint = "http://127.0.0.1:{port}/health"
"""

FRONT = """
[processes.front]
command = "{nginx} -p {home} -e stderr -c {config}"
stop_signal = "SIGQUIT"
depends_on = ["web"]
[processes.front.health_check]
tcp = "127.0.0.1:{front}"
"""


class Visitor:
    """Asks again and again on a thread of its own, and counts what comes back."""

    def __init__(self, port):
        self.answers = []
        self.broken = []
        self._port = port
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_exc):
        self._enough.set()
        self._thread.join(DEADLINE)

    def _run(self):
        while not self._enough.is_set():
            try:
                self.answers.append(ask(self._port, "/health").status)
            except Exception as error:  # noqa: BLE001 - whatever goes wrong is what the test is about
                self.broken.append(repr(error))


@pytest.fixture
def port():
    return unused_port()


@pytest.fixture
def gates(ox):
    return Gates(ox)


@pytest.fixture
def front(ox, port):
    with services.nginx(port) as server:
        yield server


def test_a_restart_of_the_app_behind_nginx(ox, gates, port, front):
    """Every request is answered by the app: those that come between two workers wait in the queue."""
    ox.oxfile(WEB.format(port=port, apps=APPS))
    ox.ok("start")
    assert ask(front.port, "/health").json["pid"] == ox.pid("web")
    with Visitor(front.port) as visitor:
        wait_until(lambda: len(visitor.answers) > 5, "some answers")
        ox.ok("restart", "web")
        after = len(visitor.answers)
        wait_until(lambda: len(visitor.answers) > after + 20, "more answers")
    assert visitor.broken == []
    assert set(visitor.answers) == {200}
    assert ask(front.port, "/health").json["pid"] == ox.pid("web")


def test_a_request_in_flight_through_nginx_survives_the_restart(ox, gates, port, front):
    """The old process answers what it has before it goes, and nginx hands that on."""
    ox.oxfile(WEB.format(port=port, apps=APPS))
    ox.ok("start")
    old = ox.pid("web")
    asking = Asking(front.port, "/hold/door")
    gates.wait_begun("door")
    restart = ox.popen("restart", "web")
    ox.wait_log("web", b"Waiting for connections to close.")
    # The listener is the supervisor's and stays: who comes now waits in its queue, and nginx with him.
    assert listening(port)
    waiting = Asking(front.port, "/health")
    gates.open("door")
    answer = asking.answer()
    assert (answer.status, answer.json) == (200, {"held": "door", "pid": old})
    assert waiting.answer().status == 200
    said, _ = restart.communicate(timeout=DEADLINE)
    assert restart.returncode == 0, said
    assert ask(front.port, "/health").json["pid"] == ox.pid("web") != old


def test_nginx_as_a_process_of_the_stack(ox, gates, port):
    """It starts after the app, is back after kill -9 without its old workers, and drains at the stop."""
    front = unused_port()
    home = ox.base / "nginx"
    home.mkdir()
    config = nginx_config(home, front, port)
    text = FRONT.format(nginx=find_binary("nginx"), home=home, config=config, front=front)
    ox.oxfile(WEB.format(port=port, apps=APPS) + text)
    ox.ok("start")
    assert ask(front, "/health").status == 200
    family = [ox.pid("front"), *descendants(ox.pid("front"))]
    assert len(family) == 2
    os.kill(family[0], signal.SIGKILL)
    ox.wait("started", name="front", count=2)
    assert left_of(family) == []
    ox.wait_row("front", status="running", restarts=1)
    assert wait_until(lambda: try_ask(front, "/health"), "nginx").status == 200
    family = [ox.pid("front"), *descendants(ox.pid("front"))]
    asking = Asking(front, "/hold/door")
    gates.wait_begun("door")
    stop = ox.popen("stop", "front")
    wait_until(lambda: not listening(front), "nginx to close its port")
    assert not asking.over
    gates.open("door")
    assert asking.answer().status == 200
    said, _ = stop.communicate(timeout=DEADLINE)
    assert stop.returncode == 0, said
    assert left_of(family) == []
    assert ox.row("web")["status"] == "running"
