"""The segment: what a worker writes is what a reader reads, whatever became of the worker."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oxherd.host.meters import ENTRIES, LATENCY_BOUNDS, SIZE, InFlight, Meters, Peak, State


def test_a_fresh_segment_reads_as_nothing(meters):
    reading = meters.read()
    assert reading.state is State.BOOTING
    assert (reading.requests, reading.in_flight, reading.connections, reading.ticked_at) == (0, 0, 0, 0.0)
    assert sum(reading.latency) == sum(reading.lag) == sum(reading.classes) == 0
    assert meters.in_flight(now=1.0) == []


def test_a_reader_changes_nothing():
    fd = os.memfd_create("meters")
    os.ftruncate(fd, SIZE)
    before = os.pread(fd, SIZE, 0)
    reader = Meters(fd)
    reader.read()
    reader.in_flight(now=1.0)
    reader.peak(0, 100)
    reader.close()
    assert os.pread(fd, SIZE, 0) == before
    os.close(fd)


def test_another_map_of_the_segment_reads_the_same():
    fd = os.memfd_create("meters")
    os.ftruncate(fd, SIZE)
    writer, reader = Meters(fd), Meters(fd)
    writer.begin()
    writer.state(State.DRAINING)
    writer.tick(5.0, 0.2)
    writer.connected(7)
    writer.enter("GET /grün", 5.5)
    writer.close()
    reading = reader.read()
    assert (reading.state, reading.ticked_at, reading.ticks) == (State.DRAINING, 5.0, 1)
    assert (reading.connections, reading.in_flight) == (7, 1)
    assert reader.in_flight(now=6.5) == [InFlight("GET /grün", 1.0)]
    reader.close()
    os.close(fd)


@pytest.mark.parametrize(
    ("status", "classes", "aborted"),
    [
        (101, (1, 0, 0, 0, 0), 0),
        (200, (0, 1, 0, 0, 0), 0),
        (302, (0, 0, 1, 0, 0), 0),
        (404, (0, 0, 0, 1, 0), 0),
        (500, (0, 0, 0, 0, 1), 0),
        (999, (0, 0, 0, 0, 1), 0),
        (0, (0, 0, 0, 0, 0), 1),
    ],
)
def test_an_answer_is_counted_by_its_class(meters, status, classes, aborted):
    meters.leave(meters.enter("GET /", 1.0), status, 1.0, 1.5)
    reading = meters.read()
    assert (reading.classes, reading.aborted, reading.requests) == (classes, aborted, int(bool(status)))
    assert reading.in_flight == 0


@given(st.lists(st.floats(0, 100)))
def test_every_latency_lies_in_its_bucket(seconds):
    fd = os.memfd_create("meters")
    os.ftruncate(fd, SIZE)
    meters = Meters(fd)
    os.close(fd)
    for one in seconds:
        meters.leave(meters.enter("GET /", 0.0), 200, 0.0, one)
    expected = [0] * (len(LATENCY_BOUNDS) + 1)
    for one in seconds:
        expected[next((place for place, bound in enumerate(LATENCY_BOUNDS) if one <= bound), len(LATENCY_BOUNDS))] += 1
    assert list(meters.read().latency) == expected
    meters.close()


@given(st.lists(st.integers(-1, 40), max_size=200))
def test_in_flight_is_what_entered_and_did_not_leave(steps):
    """-1 begins a request; n ends the n-th of those in flight. No order, no text and no number breaks the table."""
    fd = os.memfd_create("meters")
    os.ftruncate(fd, SIZE)
    meters = Meters(fd)
    os.close(fd)
    flying: list[int] = []
    for step in steps:
        if step < 0:
            flying.append(meters.enter("GET /" + "ü" * 200, 1.0))
        elif flying:
            meters.leave(flying.pop(step % len(flying)), 200, 1.0, 2.0)
        assert meters.read().in_flight == len(flying)
        assert len(meters.in_flight(now=2.0)) == len([entry for entry in flying if entry >= 0]) <= ENTRIES
    meters.close()


def test_more_requests_than_the_table_holds_are_counted_all_the_same(meters):
    entries = [meters.enter(f"GET /{number}", 1.0) for number in range(ENTRIES + 5)]
    assert entries.count(-1) == 5
    assert meters.read().in_flight == ENTRIES + 5
    for entry in entries:
        meters.leave(entry, 200, 1.0, 2.0)
    assert (meters.read().in_flight, meters.read().requests) == (0, ENTRIES + 5)
    assert meters.enter("GET /next", 3.0) >= 0


def test_an_old_text_does_not_show_through_a_shorter_one(meters):
    meters.leave(meters.enter("GET /a/long/path", 1.0), 200, 1.0, 1.0)
    meters.enter("GET /", 2.0)
    assert [one.text for one in meters.in_flight(now=3.0)] == ["GET /"]


def test_the_oldest_in_flight_comes_first(meters):
    for started in (3.0, 1.0, 2.0):
        meters.enter(f"GET /{started}", started)
    assert [one.seconds for one in meters.in_flight(now=4.0)] == [3.0, 2.0, 1.0]


def test_the_worst_of_some_seconds(meters):
    meters.tick(100.2, 0.01)
    meters.leave(meters.enter("GET /", 100.0), 200, 100.0, 100.3)
    meters.tick(101.1, 0.5)
    meters.leave(meters.enter("GET /", 101.0), 503, 101.0, 101.2)
    meters.leave(meters.enter("GET /", 101.0), 0, 101.0, 101.9)
    meters.tick(102.0, 0.0)
    assert meters.peak(100, 100) == Peak(lag=pytest.approx(0.01), latency=pytest.approx(0.3), requests=1, errors=0)
    assert meters.peak(101, 101) == Peak(lag=pytest.approx(0.5), latency=pytest.approx(0.9), requests=2, errors=2)
    assert meters.peak(99, 102) == Peak(lag=pytest.approx(0.5), latency=pytest.approx(0.9), requests=3, errors=2)
    assert meters.peak(103, 200) == Peak()


def test_a_second_is_written_over_by_its_successor(meters):
    meters.tick(100.0, 9.0)
    meters.tick(196.0, 0.5)
    meters.tick(197.0, 0.0)
    assert meters.peak(0, 1000).lag == pytest.approx(0.5)


def test_a_segment_of_garbage_reads_without_an_error():
    """A worker may have died in the middle of a word, or be no worker at all."""
    fd = os.memfd_create("meters")
    os.write(fd, os.urandom(SIZE))
    meters = Meters(fd)
    os.close(fd)
    meters.read()
    meters.in_flight(now=1.0)
    meters.peak(0, 1 << 30)
    meters.close()
