"""The collector of a process that serves."""

from __future__ import annotations

import gc

import pytest

from oxherd.host.garbage import look_seldom, settle


@pytest.fixture(autouse=True)
def own_collector():
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


@pytest.mark.parametrize(
    ("before", "after"), [((700, 10, 10), 10_000), ((2000, 10, 0), 10_000), ((50_000, 5, 5), 50_000), ((0, 10, 10), 0)]
)
def test_the_first_threshold_is_raised_and_nothing_else(before, after):
    gc.set_threshold(*before)
    look_seldom()
    assert gc.get_threshold() == (after, *before[1:])


def test_what_is_there_is_left_alone_from_now_on():
    settle()
    frozen = gc.get_freeze_count()
    assert frozen > 1000
    assert len(gc.get_objects()) < frozen
