"""Threads that nobody waits for."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from oxherd.host.threads import Threads
from support.waiting import DEADLINE


def test_a_call_is_made_in_a_thread_and_its_result_comes_back():
    one = Threads(2, "named")
    assert one.submit(lambda a, b: a + b, 1, b=2).result(DEADLINE) == 3
    assert one.submit(lambda: threading.current_thread().name).result(DEADLINE).startswith("named-")


def test_what_a_call_raises_comes_back():
    def fail():
        raise KeyError("as asked")

    with pytest.raises(KeyError):
        Threads(1, "named").submit(fail).result(DEADLINE)


def test_there_are_no_more_than_wanted_and_the_rest_waits():
    one, gate = Threads(2, "few"), threading.Event()
    waiting = [one.submit(gate.wait, DEADLINE) for _ in range(5)]
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("few-")] == ["few-1", "few-2"]
    gate.set()
    assert all(each.result(DEADLINE) for each in waiting)


def test_an_idle_thread_is_used_again():
    one = Threads(5, "again")
    names = set()
    for _ in range(5):
        names.add(one.submit(lambda: threading.current_thread().name).result(DEADLINE))
        # The result is there a moment before its thread is idle.
        while not one._idle._value:
            continue
    assert names == {"again-1"}


def test_one_that_was_cancelled_is_not_called():
    one, gate, called = Threads(1, "one"), threading.Event(), []
    first, second = one.submit(gate.wait, DEADLINE), one.submit(called.append, 1)
    assert second.cancel()
    gate.set()
    first.result(DEADLINE)
    one.submit(lambda: None).result(DEADLINE)
    assert called == []


def test_a_call_that_never_ends_does_not_keep_the_process():
    program = (
        "import threading; from oxherd.host.threads import Threads;"
        " Threads(1, 'stuck').submit(threading.Event().wait); print('over')"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=DEADLINE, check=True)
    assert ran.stdout == "over\n"
