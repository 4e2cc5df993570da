"""Counts kept between two ticks, and the meters they end up in."""

from __future__ import annotations

import threading

from oxherd.host.tally import Tally
from support.waiting import wait_until


def tally(meters):
    return Tally(meters, lambda request: f"GET /{request}")


def test_nothing_is_written_before_the_flush(meters):
    one = tally(meters)
    one.fine.append(0.5)
    one.flying["a"] = 1.0
    assert (meters.read().requests, meters.read().in_flight) == (0, 0)
    assert one.busy == 1


def test_a_flush_counts_by_class_and_bucket(meters):
    one = tally(meters)
    one.fine.extend([0.0005, 0.001, 0.3])
    one.over.extend([(404, 0.0005), (503, 2.0), (0, 70.0), (301, 0.0), (599, 0.0), (101, 0.0)])
    assert one.flush(100.0) == 9
    reading = meters.read()
    assert reading.classes == (1, 3, 1, 1, 2)
    assert (reading.requests, reading.aborted) == (8, 1)
    assert (reading.latency[0], reading.latency[-1], sum(reading.latency)) == (6, 1, 9)


def test_a_bucket_holds_what_the_meters_themselves_put_there(meters):
    one = tally(meters)
    for seconds in (0.001, 0.0011, 0.25, 60.0, 60.1):
        meters.leave(meters.enter("GET /", 0.0), 200, 0.0, seconds)
    direct = meters.read().latency
    one.fine.extend([0.001, 0.0011, 0.25, 60.0, 60.1])
    one.flush(100.0)
    assert [after - before for before, after in zip(direct, meters.read().latency, strict=True)] == list(direct)


def test_a_flush_is_in_the_second_it_happens(meters):
    one = tally(meters)
    one.over.append((500, 0.7))
    one.fine.append(0.2)
    one.flush(100.2)
    meters.tick(101.1, 0.0)
    peak = meters.peak(100.0, 100.9)
    assert (peak.requests, peak.errors) == (2, 1)
    assert round(peak.latency, 3) == 0.7


def test_nothing_is_counted_twice(meters):
    one = tally(meters)
    one.fine.append(0.1)
    assert (one.flush(1.0), one.flush(2.0)) == (1, 0)
    assert meters.read().requests == 1


def test_the_table_has_what_is_in_flight_oldest_first(meters):
    one = tally(meters)
    one.flying.update({"old": 10.0, "young": 20.0})
    one.flush(30.0)
    assert [(found.text, found.seconds) for found in meters.in_flight(30.0)] == [
        ("GET /old", 20.0),
        ("GET /young", 10.0),
    ]
    del one.flying["old"]
    one.flush(31.0)
    assert [found.text for found in meters.in_flight(31.0)] == ["GET /young"]
    assert meters.read().in_flight == 1


def test_more_in_flight_than_there_is_room_for_are_counted(meters):
    one = tally(meters)
    one.flying.update(dict.fromkeys(range(100), 1.0))
    one.flush(2.0)
    assert meters.read().in_flight == 100
    assert len(meters.in_flight(2.0)) == 32


def test_without_ticks_a_thread_writes_the_table(meters):
    """A loop that blocks does not flush; what blocks it has to be seen all the same."""
    one, ended = tally(meters), threading.Event()
    one.watch(ended)
    try:
        one.flying["blocked"] = 1.0
        wait_until(lambda: [found.text for found in meters.in_flight()] == ["GET /blocked"], "the table")
    finally:
        ended.set()


def test_threads_may_add_while_it_is_flushed(meters):
    one = tally(meters)

    def serve():
        for number in range(5000):
            one.flying[number, threading.get_ident()] = 1.0
            one.fine.append(0.1)
            del one.flying[number, threading.get_ident()]

    threads = [threading.Thread(target=serve) for _ in range(3)]
    for thread in threads:
        thread.start()
    counted = 0
    while any(thread.is_alive() for thread in threads):
        counted += one.flush(1.0)
    counted += one.flush(1.0)
    assert counted == meters.read().requests == 15000
