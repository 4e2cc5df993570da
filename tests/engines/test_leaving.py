"""What every engine does as a lame duck."""

from __future__ import annotations

import signal

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from support.engines import Feature
from support.waiting import DEADLINE, wait_until

# Longer than a test may take: what ends before it does so for another reason.
NEVER = DEADLINE * 2


@pytest.mark.needs_features(Feature.KEEP_ALIVE)
def test_an_idle_connection_is_answered_with_close(serving):
    worker, held = serving(linger=NEVER, graceful_timeout=NEVER, keepalive=NEVER)
    with worker.connect(held) as idle:
        assert not idle.get("/").closes
        worker.drain()
        answer = idle.get("/late")
        assert (answer.body, answer.closes) == ("GET /late", True)
    assert worker.exit_code() == 0
    assert worker.wait("drained")["closed"] == 0


@pytest.mark.needs_features(Feature.SILENT)
def test_a_silent_connection_is_answered_with_close(serving):
    worker, held = serving(linger=NEVER, graceful_timeout=NEVER, keepalive=NEVER)
    with worker.connect(held) as silent, worker.connect(held) as other:
        # Whoever is accepted after it is answered: then it is accepted too.
        assert other.get("/").status == 200
        worker.drain()
        assert silent.get("/first").closes
        assert other.get("/last").closes
    assert worker.exit_code() == 0


def test_what_is_in_flight_is_finished(serving, gate, kind):
    worker, held = serving(linger=1.0, graceful_timeout=NEVER)
    with worker.connect(held) as client:
        client.send(f"/gate?{gate}")
        worker.wait_meters(lambda now: now.in_flight == 1)
        worker.drain()
        gate.touch()
        answer = client.answer()
        assert answer.body == "through the gate"
        assert answer.closes or Feature.IN_FLIGHT_CLOSE in kind.cannot
    assert worker.exit_code() == 0


def test_new_connections_wait_for_the_successor(serving, start, gate):
    worker, held = serving(linger=1.0, graceful_timeout=NEVER)
    with worker.connect(held) as busy:
        busy.send(f"/gate?{gate}")
        worker.wait_meters(lambda now: now.in_flight == 1)
        worker.drain()
        with worker.connect(held) as early, worker.connect(held) as late:
            # One may still be accepted, from a readiness that was noticed before; it is answered too.
            early.send("/early")
            late.send("/late")
            gate.touch()
            assert busy.answer().status == 200
            successor = start()
            successor.started()
            successor.accept("web:0", held)
            assert early.answer().body == "GET /early"
            assert late.answer().body == "GET /late"
    assert worker.exit_code() == 0


@pytest.mark.needs_features(Feature.KEEP_ALIVE)
def test_what_stays_silent_is_closed_after_the_linger(serving):
    worker, held = serving(linger=1.0, graceful_timeout=NEVER, keepalive=NEVER)
    with worker.connect(held) as idle:
        assert idle.get("/").status == 200
        worker.drain()
        assert idle.ended()
    assert worker.exit_code() == 0
    assert worker.wait("drained")["closed"] == 1


@pytest.mark.needs_features(Feature.HURRY, Feature.KEEP_ALIVE)
def test_a_second_sigterm_skips_the_linger(serving, gate):
    worker, held = serving(linger=NEVER, graceful_timeout=NEVER, keepalive=NEVER)
    with worker.connect(held) as idle, worker.connect(held) as busy:
        assert idle.get("/").status == 200
        busy.send(f"/gate?{gate}")
        worker.wait_meters(lambda now: now.in_flight == 1)
        worker.drain()
        worker.signal(signal.SIGTERM)
        gate.touch()
        assert busy.answer().status == 200
        assert idle.ended()
    assert worker.exit_code() == 0


def test_a_drain_without_connections_is_over_at_once(serving):
    worker, _ = serving(linger=NEVER, graceful_timeout=NEVER)
    with worker.connect() as probe:
        probe.get("/health")  # a probe that stays connected holds nobody up
        worker.drain()
        assert worker.exit_code() == 0


@pytest.mark.needs_features(Feature.GIVES_UP)
def test_what_takes_too_long_is_given_up(serving, gate):
    worker, held = serving(linger=0.5, graceful_timeout=1.0)
    with worker.connect(held) as stuck:
        stuck.send(f"/gate?{gate}")
        wait_until(lambda: "in the gate" in worker.output(), worker.story)
        worker.drain()
        assert worker.exit_code() == 0
    assert worker.wait("drained")["closed"] == 1


def test_a_worker_that_was_killed_leaves_its_listener_to_the_next(serving, start):
    worker, held = serving()
    worker.signal(signal.SIGKILL)
    assert worker.exit_code() == -signal.SIGKILL
    with worker.connect(held) as client:
        client.send("/waited")
        successor = start()
        successor.started()
        successor.accept("web:0", held)
        assert client.answer().body == "GET /waited"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT], ids=["int", "quit"])
def test_it_stops_quickly_when_told_to(serving, number):
    worker, held = serving(linger=NEVER, graceful_timeout=NEVER, keepalive=NEVER)
    with worker.connect(held) as idle:
        idle.get("/")
        worker.signal(number)
        assert worker.exit_code() == 0


@pytest.mark.needs_features(Feature.LIFESPAN)
def test_the_lifespan_is_ended_after_the_last_request(serving, gate):
    worker, held = serving(linger=1.0)
    with worker.connect(held) as client:
        client.send(f"/gate?{gate}")
        worker.wait_meters(lambda now: now.in_flight == 1)
        worker.drain()
        assert "shutdown done" not in worker.output()
        gate.touch()
        assert client.answer().status == 200
    assert worker.exit_code() == 0
    assert "shutdown done" in worker.output()


def test_what_the_app_left_for_the_end_of_its_process_is_done(start, kind):
    worker = start(kind.target.replace("serving", "ending"), linger=1.0)
    worker.started()
    worker.drain()
    assert worker.exit_code() == 0
    output = worker.output()
    assert "the thread has ended\nat exit\n" in output
    # A thread of a foreign runtime in an interpreter that is being taken apart ends it by SIGSEGV, one time in many.
    assert ("taken apart" in output) is (kind.engine != "granian")


# -- websockets -------------------------------------------------------------------------------------------------------


@pytest.mark.needs_features(Feature.WEBSOCKETS)
def test_a_websocket_speaks_and_is_closed_by_the_app(serving):
    _, held = serving()
    with connect(f"ws://127.0.0.1:{held.getsockname()[1]}/") as client:
        client.send("hello")
        assert client.recv(DEADLINE) == "hello"
        client.send("state")
        assert client.recv(DEADLINE) == "in the lifespan"
        client.send("close 4001")
        with pytest.raises(ConnectionClosed):
            client.recv(DEADLINE)
        assert client.close_code == 4001


@pytest.mark.needs_features(Feature.WEBSOCKETS)
def test_the_app_hears_that_a_websocket_was_closed(serving):
    worker, held = serving()
    with connect(f"ws://127.0.0.1:{held.getsockname()[1]}/") as client:
        client.send("hello")
        client.recv(DEADLINE)
    wait_until(lambda: "websocket ended" in worker.output(), worker.story)


@pytest.mark.needs_features(Feature.WEBSOCKETS)
def test_a_websocket_gets_1012_when_its_worker_leaves(serving):
    worker, held = serving(linger=1.0)
    with connect(f"ws://127.0.0.1:{held.getsockname()[1]}/") as client:
        client.send("hello")
        assert client.recv(DEADLINE) == "hello"
        worker.drain()
        with pytest.raises(ConnectionClosed):
            client.recv(DEADLINE)
        assert client.close_code == 1012
    assert worker.exit_code() == 0
    assert "websocket ended" in worker.output()
