"""What takes the arbiter's place around a worker of gunicorn."""

from __future__ import annotations

import os
import socket
import threading
from types import SimpleNamespace

import pytest
from gunicorn.config import Config

from oxherd.host.engines import gunicorn_hosting
from oxherd.host.engines.base import EngineError, Job, Told
from oxherd.host.engines.gunicorn_hosting import (
    LEAVING,
    AnyParent,
    Beat,
    Course,
    Errand,
    Server,
    Wake,
    gunicorn_socket,
)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class FakeMeters:
    def __init__(self) -> None:
        self.ticks: list[float] = []
        self.connections: list[int] = []

    def tick(self, now: float, lag: float) -> None:
        self.ticks.append(round(lag, 3))

    def connected(self, count: int) -> None:
        self.connections.append(count)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(gunicorn_hosting, "time", clock)
    return clock


@pytest.fixture
def said():
    return []


@pytest.fixture
def course(clock, said):
    told = Told(
        started=lambda: said.append("started"),
        draining=lambda: said.append("draining"),
        closed=said.append,
    )
    return Course(Job(engine="gunicorn", linger=7.0, graceful_timeout=20.0, keepalive=5.0), FakeMeters(), told)


def test_any_parent_is_the_right_one():
    """The workers of gunicorn ask with `!=`."""
    parent = AnyParent(12)
    assert not parent != 13  # noqa: SIM202 - it is `!=` that they ask with
    assert parent == 14
    assert len({parent, AnyParent(12)}) == 1


def test_a_beat_is_a_file_that_is_nowhere():
    beats = []
    beat = Beat(lambda: beats.append(1))
    beat.notify()
    assert beats == [1]
    assert os.fstat(beat.fileno())
    beat.close()
    beat.close()


def test_started_is_told_once(course, said):
    course.ready()
    course.ready()
    assert said == ["started"]
    course.wait()


def test_who_waits_for_a_worker_that_never_serves_is_told(course):
    course.end()
    with pytest.raises(EngineError, match=LEAVING):
        course.wait()


def test_the_end_of_the_linger_and_of_patience(course, clock, said):
    """Silence first, then what is in flight; told once, when somebody has stopped accepting."""
    assert course.drain()
    assert (course.linger_end, course.give_up, course.duck.on, said) == (1007.0, 1020.0, True, [])
    course.announce()
    course.announce()
    assert said == ["draining"]


def test_a_linger_longer_than_the_graceful_time_is_cut(clock):
    job = Job(engine="gunicorn", linger=30.0, graceful_timeout=2.0)
    course = Course(job, FakeMeters(), Told(started=int, draining=int, closed=lambda _count: None))
    course.drain()
    assert course.linger_end == course.give_up == 1002.0


def test_a_second_drain_ends_the_linger(course, clock):
    course.drain()
    clock.now += 1
    assert not course.drain()
    assert (course.linger_end, course.give_up) == (1001.0, 1020.0)
    assert course.has_waited_enough(clock.now)


def test_who_has_just_been_answered_is_given_time(course, clock):
    """Its answer said that the connection stays open; the client may be about to ask again."""
    course.drain()
    assert not course.has_waited_enough(900.0)
    clock.now = 1008.0
    assert course.has_waited_enough(1002.0)
    assert not course.has_waited_enough(1004.0)


def test_the_tick_comes_when_it_is_due_and_tells_how_late(course, clock):
    course.ready()
    meters = course.meters
    assert not course.passed(3)
    clock.now += gunicorn_hosting.TICK + 0.05
    assert course.until_tick() == 0
    assert course.passed(3)
    assert meters.ticks[-1] == pytest.approx(0.05)
    clock.now += gunicorn_hosting.TICK
    assert course.passed(3)
    assert meters.connections == [0, 3]


def test_a_worker_that_gets_nothing_done_does_not_tick(course, clock):
    course.ready()
    clock.now += 1
    assert course.passed(0, well=False)
    assert len(course.meters.ticks) == 1
    assert not course.passed(0)


def test_the_first_reason_counts(course):
    course.failed("")
    course.failed("no database")
    course.failed("and more")
    assert course.reason == "no database"


def test_an_errand_is_done_in_the_loop_and_waited_for():
    wake, done = Wake(), []
    thread = threading.Thread(target=lambda: Errand(lambda: done.append(1)).by(wake.push))
    thread.start()
    while not done:
        wake.run()
    thread.join()
    wake.close()


def test_an_errand_that_fails_fails_where_it_is_waited_for():
    def push(call) -> bool:
        call()
        return True

    def fail() -> None:
        raise OSError("in use")

    with pytest.raises(OSError, match="in use"):
        Errand(fail).by(push)


def test_nobody_waits_for_a_poller_that_has_ended():
    wake, done = Wake(), []
    wake.push(lambda: done.append("left over"))
    wake.close()
    assert done == ["left over"]
    with pytest.raises(EngineError, match=LEAVING):
        Errand(lambda: done.append("late")).by(wake.push)
    assert done == ["left over"]


def test_a_wake_makes_a_poller_look():
    wake, done = Wake(), []
    for number in range(100_000 // 500):
        wake.push(lambda number=number: done.append(number))
    wake.run()
    assert done == list(range(200))
    wake.close()


@pytest.mark.parametrize(
    ("family", "address", "kind"),
    [(socket.AF_INET, ("127.0.0.1", 0), "TCPSocket"), (socket.AF_INET6, ("::1", 0), "TCP6Socket")],
)
def test_a_listener_as_gunicorn_has_it(family, address, kind):
    """Listening with our backlog, not inherited by what the app starts."""
    cfg = Config()
    with socket.socket(family) as made:
        made.bind(address)
        wrapped = gunicorn_socket(made, cfg, None)
        assert made.fileno() == -1
    assert type(wrapped).__name__ == kind
    assert wrapped.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    assert not wrapped.sock.get_inheritable()
    wrapped.close()


def test_a_family_gunicorn_does_not_know():
    with pytest.raises(EngineError, match="serves TCP and unix sockets"):
        gunicorn_socket(SimpleNamespace(family=socket.AF_PACKET), Config(), None)


def test_a_server_for_hooks():
    """What hooks in the wild touch, and what they are told when one of them fails."""
    cfg = Config()
    called = []
    cfg.set("when_ready", lambda server: called.append(server.num_workers))
    server = Server(SimpleNamespace(cfg=cfg))
    assert server.has("when_ready")
    assert not server.has("on_starting")
    server.call("when_ready")
    server.call("on_starting")
    assert called == [1]
    assert server.WORKERS == {}
    assert server.address
