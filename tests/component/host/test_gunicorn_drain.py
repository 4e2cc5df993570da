"""The lame duck of each of gunicorn's worker classes: nothing that is connected is left without an answer."""

from __future__ import annotations

import contextlib
import signal
import socket
from pathlib import Path

import pytest

from support.hosting import HostedWorker, job, listener
from support.waiting import DEADLINE, wait_until

APPS = Path(__file__).parent / "apps" / "gunicorn_sites"
WSGI = ("gthread", "gevent", "gevent_pywsgi")
ASGI = ("asgi", "uvicorn_worker.UvicornWorker")
KEEPING = (*WSGI, *ASGI)
ALL = ("sync", *KEEPING)


@pytest.fixture
def start():
    with contextlib.ExitStack() as stack:

        def started(worker_class: str, **fields) -> HostedWorker:
            target = "site_asgi:app" if worker_class in ASGI else "site_wsgi:app"
            options = {"worker_class": worker_class, **fields.pop("options", {})}
            spec = job("gunicorn", target=target, cwd=APPS, options=options, **fields)
            worker = stack.enter_context(HostedWorker(spec))
            worker.started()
            return worker

        yield started


@pytest.fixture
def public():
    with listener() as made:
        yield made


def in_the_gate(worker, times=1):
    wait_until(lambda: worker.output().count("in the gate") >= times, "requests in the gate")


@pytest.mark.parametrize("worker_class", ALL)
def test_an_idle_worker_leaves_at_once(start, public, worker_class):
    """Nobody is connected: the exit code is 0 and no linger is waited for."""
    worker = start(worker_class, linger=DEADLINE * 2, graceful_timeout=DEADLINE * 2)
    worker.accept("web:0", public)
    assert worker.request("/", to=public).status == 200
    worker.drain()
    assert worker.exit_code() == 0
    assert worker.wait("drained")["closed"] == 0


@pytest.mark.parametrize("worker_class", KEEPING)
def test_a_kept_connection_is_answered_and_told_to_go(start, public, worker_class):
    """A request on an idle keep-alive connection after SIGTERM is answered with `Connection: close`."""
    worker = start(worker_class, keepalive=60, linger=60, graceful_timeout=60)
    worker.accept("web:0", public)
    with worker.connect(public) as client:
        assert not client.get("/").closes
        worker.drain()
        answer = client.get("/late")
        assert (answer.status, answer.body, answer.closes) == (200, "hello /late", True)
    assert worker.exit_code() == 0
    assert worker.wait("drained")["closed"] == 0


@pytest.mark.parametrize("worker_class", KEEPING)
def test_a_silent_connection_is_answered_when_it_speaks(start, public, worker_class):
    """A connection that was accepted and has said nothing is no reason to reset it."""
    worker = start(worker_class, keepalive=60, linger=60, graceful_timeout=60)
    worker.accept("web:0", public)
    with worker.connect(public) as client:
        wait_until(lambda: worker.report()["connections"] == 1, "the connection")
        worker.drain()
        answer = client.get("/first")
        assert (answer.status, answer.closes) == (200, True)
    assert worker.exit_code() == 0


@pytest.mark.parametrize("worker_class", KEEPING)
def test_silence_is_waited_for_as_long_as_the_linger(start, public, worker_class):
    """After the linger silent and idle connections are closed, and counted."""
    worker = start(worker_class, keepalive=60, linger=0.5, graceful_timeout=60)
    worker.accept("web:0", public)
    with worker.connect(public) as idle, worker.connect(public) as silent:
        idle.get("/")
        wait_until(lambda: worker.report()["connections"] == 2, "both connections")
        worker.drain()
        assert idle.ended()
        assert silent.ended()
    assert worker.exit_code() == 0
    assert worker.wait("drained")["closed"] == 2


@pytest.mark.parametrize("worker_class", ALL)
def test_what_is_in_flight_is_finished(start, public, tmp_path, worker_class):
    """A request that is being answered when the drain begins gets all of its answer."""
    worker = start(worker_class, linger=0.1, graceful_timeout=60)
    worker.accept("web:0", public)
    with worker.connect(public) as client:
        client.send(f"/gate?{tmp_path}/gate")
        in_the_gate(worker)
        worker.drain()
        (tmp_path / "gate").touch()
        assert client.answer().body == "through the gate"
    assert worker.exit_code() == 0
    assert worker.wait("drained")["closed"] == 0


@pytest.mark.parametrize("worker_class", ALL)
def test_a_stream_is_finished(start, public, tmp_path, worker_class):
    """So does an answer whose first part has been sent."""
    worker = start(worker_class, linger=0.1, graceful_timeout=60)
    worker.accept("web:0", public)
    with worker.connect(public) as client:
        client.send(f"/stream?{tmp_path}/gate")
        in_the_gate(worker)
        worker.drain()
        (tmp_path / "gate").touch()
        assert client.answer().body == "first last"
    assert worker.exit_code() == 0


@pytest.mark.parametrize("worker_class", ALL)
def test_a_body_that_comes_in_pieces_is_read(start, public, worker_class):
    """A POST whose body is on its way when the drain begins is answered."""
    worker = start(worker_class, linger=0.1, graceful_timeout=60)
    worker.accept("web:0", public)
    with socket.create_connection(public.getsockname(), timeout=DEADLINE) as client:
        client.sendall(b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n12345")
        wait_until(lambda: worker.report()["in_flight"], "the request")
        worker.drain()
        client.sendall(b"67890")
        with client.makefile("rb") as answer:
            whole = answer.read()
    assert whole.startswith(b"HTTP/1.1 200")
    assert whole.endswith(b"1234567890")
    assert worker.exit_code() == 0


@pytest.mark.parametrize("worker_class", ALL)
def test_what_outlasts_the_graceful_time_is_given_up(start, public, tmp_path, worker_class):
    """There is an end: the worker leaves with 0 and says how many it left without an answer."""
    worker = start(worker_class, linger=0.1, graceful_timeout=0.5)
    worker.accept("web:0", public)
    with worker.connect(public) as client:
        client.send(f"/gate?{tmp_path}/never")
        in_the_gate(worker)
        worker.drain()
        assert worker.exit_code() == 0
    assert worker.wait("drained")["closed"] == 1


@pytest.mark.parametrize("worker_class", KEEPING)
def test_a_second_term_ends_the_linger(start, public, worker_class):
    """Whoever is impatient sends it twice: silence is no longer waited for."""
    worker = start(worker_class, keepalive=60, linger=60, graceful_timeout=60)
    worker.accept("web:0", public)
    with worker.connect(public) as client:
        client.get("/")
        worker.drain()
        worker.signal(signal.SIGTERM)
        assert client.ended()
    assert worker.exit_code() == 0


@pytest.mark.parametrize("worker_class", ALL)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_stop_waits_for_nobody(start, public, tmp_path, worker_class, number):
    """SIGINT and SIGQUIT end a worker whatever it does."""
    worker = start(worker_class, linger=60, graceful_timeout=60)
    worker.accept("web:0", public)
    with worker.connect(public) as client:
        client.send(f"/gate?{tmp_path}/never")
        in_the_gate(worker)
        worker.signal(number)
        assert worker.exit_code() == 0


@pytest.mark.parametrize("worker_class", ALL)
def test_connections_made_after_term_wait_for_a_successor(start, public, worker_class):
    """A lame duck takes no more: the queue is the listener's, and the listener is the supervisor's."""
    old = start(worker_class, keepalive=60, linger=60, graceful_timeout=60)
    old.accept("web:0", public)
    with contextlib.ExitStack() as held:
        if worker_class != "sync":
            held.enter_context(old.connect(public)).get("/")
        old.drain()
        with old.connect(public) as late:
            late.send("/pid")
            new = start(worker_class)
            new.accept("web:0", public)
            assert late.answer().body == str(new.pid)


@pytest.mark.parametrize("worker_class", KEEPING)
def test_the_private_listener_is_served_to_the_end(start, public, worker_class):
    """Health is asked of a worker that drains, too, and does not keep it from leaving."""
    worker = start(worker_class, keepalive=60, linger=60, graceful_timeout=60)
    worker.accept("web:0", public)
    probing = worker.connect()
    with worker.connect(public) as client:
        client.get("/")
        worker.drain()
        assert worker.request("/pid").body == str(worker.pid)
        assert probing.get("/pid").body == str(worker.pid)
        client.get("/")
    assert worker.exit_code() == 0
    probing.close()


def test_sync_a_silent_client_does_not_hold_it(start, public):
    """gunicorn's own sync worker waits for such a client for ever."""
    worker = start("sync", linger=0.5, graceful_timeout=60)
    worker.accept("web:0", public)
    with worker.connect(public) as client:
        wait_until(lambda: worker.report()["connections"] == 1, "the connection")
        worker.drain()
        assert client.ended()
    assert worker.exit_code() == 0
    assert worker.wait("drained")["closed"] == 1


def test_sync_a_silent_client_that_speaks_is_answered(start, public):
    """During the linger it is."""
    worker = start("sync", linger=60, graceful_timeout=60)
    worker.accept("web:0", public)
    with worker.connect(public) as client:
        wait_until(lambda: worker.report()["connections"] == 1, "the connection")
        worker.drain()
        assert client.get("/").closes
    assert worker.exit_code() == 0


def test_sync_a_signal_that_interrupts_nothing_is_heard(start, public):
    """As one does that comes between the last instruction of Python and the read of a client that says nothing."""
    worker = start("sync", linger=60, graceful_timeout=60)
    worker.accept("web:0", public)
    assert worker.request("/deaf", to=public).body == "pardon?"
    # It is answered before it is let go of, and would pass for the next one.
    wait_until(lambda: worker.report()["connections"] == 0, "the end of that connection")
    with worker.connect(public) as client:
        wait_until(lambda: worker.report()["connections"] == 1, "the connection")
        worker.drain()
        assert client.get("/").closes
    assert worker.exit_code() == 0


def test_sync_what_is_given_up_is_answered_with_500(start, public, tmp_path):
    """The request ends as gunicorn ends one that timed out: its hook runs, its client is told."""
    worker = start("sync", linger=0.1, graceful_timeout=0.3)
    worker.accept("web:0", public)
    with worker.connect(public) as client:
        client.send(f"/gate?{tmp_path}/never")
        in_the_gate(worker)
        worker.drain()
        assert client.answer().status == 500
    assert worker.exit_code() == 0


@pytest.mark.parametrize("worker_class", ASGI)
def test_a_websocket_is_closed_with_1012(start, public, worker_class):
    """After its app had its chance; the app is told, too."""
    worker = start(worker_class, linger=0.2, graceful_timeout=0.6)
    worker.accept("web:0", public)
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    host, port = public.getsockname()
    with connect(f"ws://{host}:{port}/") as client:
        client.send("hello")
        assert client.recv(DEADLINE) == "hello"
        worker.drain()
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(DEADLINE)
        assert closed.value.rcvd.code == 1012
    assert worker.exit_code() == 0
    assert "websocket ended with 1012" in worker.output()
    assert "shutdown done" in worker.output()
