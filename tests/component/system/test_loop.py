"""The order of one turn of the loop."""

from __future__ import annotations

import os

import pytest

from oxherd.system.loop import Loop


@pytest.fixture
def loop():
    errors = []
    made = Loop(errors.append)
    made.errors = errors
    yield made
    made.close()


def test_what_comes_last_comes_after_everything_of_its_turn(loop):
    read, write = os.pipe()
    done = []
    loop.call_last(lambda: done.append("last"))

    def heard():
        os.read(read, 1)
        loop.call_last(lambda: done.append("last of what was heard"))
        loop.call_soon(lambda: done.append("soon"))
        loop.call_later(0, lambda: done.append("timer"))
        done.append("heard")

    loop.watch_read(read, heard)
    os.write(write, b"x")
    loop.run_once(5)
    loop.unwatch(read)
    os.close(read)
    os.close(write)
    assert done == ["heard", "soon", "timer", "last", "last of what was heard"]


def test_what_comes_last_is_not_waited_for(loop):
    """It was asked for outside of a turn, when nothing else is to come."""
    done = []
    loop.call_last(lambda: done.append("first"))
    loop.run_once()
    assert done == ["first"]


def test_what_comes_last_comes_once_a_turn(loop):
    done = []

    class Batch:
        def write(self):
            done.append("written")

    batch = Batch()
    for _ in range(3):
        loop.call_last(batch.write)
    loop.run_once()
    loop.call_last(batch.write)
    loop.end_turn()
    assert done == ["written", "written"]


def test_what_comes_last_may_put_off_more_and_fail(loop):
    done = []

    def fail():
        loop.call_last(lambda: done.append("more"))
        raise ValueError("no")

    loop.call_last(fail)
    loop.call_last(lambda: done.append("next"))
    loop.end_turn()
    assert done == ["next", "more"]
    assert [str(error) for error in loop.errors] == ["no"]
