"""An app that is well while its PostgreSQL is: what happens to it when the database goes and comes back."""

from __future__ import annotations

import os
import shlex
import signal

import pytest

from support import services
from support.harness import descendants
from support.services import listening, unused_port
from support.waiting import DEADLINE, wait_until
from support.web import APPS, ask, left_of, try_ask

pytestmark = pytest.mark.needs_postgres

WEB = """
[processes.web]
command = "uvicorn stored:app --port {port}"
working_dir = "{apps}"
{more}
[processes.web.env]
DSN = "{dsn}"
[processes.web.health_check]
endpoint = "http://127.0.0.1:{port}/health"
interval = "100ms"
unhealthy_threshold = 3
"""

DATABASE = """
[processes.db]
command = '''{command}'''
working_dir = "{home}"
stop_signal = "SIGINT"
{user}
[processes.db.health_check]
tcp = "127.0.0.1:{port}"
"""


@pytest.fixture(scope="module")
def cluster():
    with services.cluster() as template:
        yield template


@pytest.fixture
def postgres(cluster):
    with services.postgres(cluster) as server:
        yield server


@pytest.fixture
def port():
    return unused_port()


def web(postgres, port, more=""):
    return WEB.format(port=port, apps=APPS, dsn=postgres.dsn, more=more)


def test_it_is_restarted_while_the_database_is_away_and_never_given_up(ox, postgres, port):
    """It is shown as unhealthy until it has proved otherwise; an outage does not use up `max_restarts`."""
    ox.oxfile(web(postgres, port, more="max_restarts = 2"))
    ox.ok("start")
    first = ox.row("web")
    assert (first["status"], first["health"]) == ("running", "healthy")
    postgres.stop()
    wait_until(lambda: (answer := try_ask(port, "/health")) and answer.status == 503, "503")
    unhealthy = ox.wait("unhealthy", name="web")
    assert "503" in unhealthy["text"]
    ox.wait("started", count=2, name="web")
    wait_until(lambda: (answer := try_ask(port, "/health")) and answer.status == 503, "503 of the new one")
    # It fails again and again meanwhile, and is on its way down some of the time.
    waiting = ox.wait_row("web", status="unhealthy")
    assert not waiting["ready"]
    ox.wait_row("web", lambda _row: "unhealthy" in ox.ok("status").out)
    assert "unhealthy" in ox.ok("events").out
    postgres.start()
    row = ox.wait_row("web", status="running", health="healthy")
    assert row["pid"] == waiting["pid"] != first["pid"]
    assert row["restarts"] == 1
    assert ask(port, "/health").status == 200
    assert ox.events.matching("crashed") == []
    # It went when it was asked to; what is told of its end is why it was asked.
    assert "503" in ox.ok("why", "web").out


def test_one_that_is_never_restarted_is_shown_as_unhealthy_and_recovers(ox, postgres, port):
    """With `restart = "never"` the process stays as it is and is healthy again once its database is."""
    ox.oxfile(web(postgres, port, more='restart = "never"'))
    ox.ok("start")
    pid = ox.pid("web")
    assert ask(port, "/notes/before", "POST").json == {"id": 1}
    postgres.stop()
    row = ox.wait_row("web", status="unhealthy")
    assert (row["pid"], row["ready"], row["health"]) == (pid, False, "unhealthy")
    assert "503" in row["detail"]
    assert "unhealthy" in ox.ok("status").out
    assert ox.cli("status", "--json").json[0]["health"] == "unhealthy"
    postgres.start()
    row = ox.wait_row("web", status="running", health="healthy")
    assert (row["pid"], row["ready"], row["restarts"]) == (pid, True, 0)
    assert ask(port, "/notes").json == ["before"]
    kinds = [event["kind"] for event in ox.events.matching(name="web")]
    assert kinds.count("unhealthy") == 1
    assert kinds.index("unhealthy") < len(kinds) - 1, "the recovery is told too"


class Shop:
    """A stack of a database and the app on it."""

    def __init__(self, ox, database, port):
        self.ox, self.database, self.port = ox, database, port
        user = "" if database.account is None else f'user = "{database.account}"'
        self.text = DATABASE.format(
            command=shlex.join(database.command), home=database.home, port=database.port, user=user
        )
        ox.oxfile(self.text + web(database, port, more='depends_on = { db = "ready" }'))
        ox.ok("start")

    def family(self):
        pid = self.ox.pid("db")
        return [pid, *descendants(pid)]


@pytest.fixture
def shop(ox, port, cluster):
    with services.postgres(cluster, started=False) as database:
        yield Shop(ox, database, port)
        # The supervisor must let go of the directory before it is removed.
        ox.ok("stop")


def test_the_app_starts_when_its_database_is_ready_and_stops_before_it(shop):
    """`depends_on = { db = "ready" }` orders the start; the stop goes the other way round."""
    ox = shop.ox
    assert ask(shop.port, "/notes/first", "POST").json == {"id": 1}
    ready = ox.wait("ready", name="db")
    started = ox.wait("started", name="web")
    assert ox.events.seen.index(ready) < ox.events.seen.index(started)
    family = shop.family()
    assert len(family) > 3
    ox.ok("stop")
    assert left_of(family) == []
    ended = ox.wait("ended", name="web")
    stopping = ox.wait("stopping", name="db")
    assert ox.events.seen.index(ended) < ox.events.seen.index(stopping)
    assert "database system is shut down" in ox.log("db").decode()
    ox.ok("start")
    assert ask(shop.port, "/notes").json == ["first"]


def test_after_kill_9_of_the_postmaster_the_database_is_back_with_its_data(shop):
    """A new postmaster refuses to start while a process of the old one has the shared memory: they are gone first."""
    ox = shop.ox
    assert ask(shop.port, "/notes/kept", "POST").json == {"id": 1}
    family = shop.family()
    os.kill(family[0], signal.SIGKILL)
    ox.wait("started", name="db", count=2)
    assert left_of(family) == []
    ox.wait_row("db", status="running")
    ox.wait_row("web", status="running", health="healthy")
    answer = wait_until(lambda: (got := try_ask(shop.port, "/notes")) and got.status == 200 and got, "the notes")
    assert answer.json == ["kept"]
    assert ox.row("db")["restarts"] == 1
    log = ox.log("db").decode()
    assert "database system was not properly shut down; automatic recovery in progress" in log
    assert "pre-existing shared memory block" not in log


def test_the_app_waits_for_its_database_and_says_so(ox, port, cluster):
    """While the database is not ready the app is not started; the waiting is told, and ends with the database."""
    with services.postgres(cluster, started=False) as database:
        told = DATABASE.format(command="sleep 600", home=database.home, port=database.port, user="")
        ox.oxfile(told + web(database, port, more='depends_on = { db = "ready" }'))
        start = ox.popen("start")
        wait_until(lambda: os.path.exists(ox.home.socket), "the supervisor")
        blocked = ox.wait("blocked", name="web")
        assert "db" in blocked["text"]
        assert ox.row("web")["pid"] is None
        assert not listening(port)
        database.start()
        said, _ = start.communicate(timeout=DEADLINE)
        assert start.returncode == 0, said
        assert ask(port, "/health").status == 200
        ox.ok("stop")
