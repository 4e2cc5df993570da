"""Verdicts over resource samples."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oxherd.core.limits import MEMORY_SAMPLES, WINDOW_POINTS, LimitPolicy, LimitState, LimitVerdict, weigh

MB = 1 << 20


def verdicts(policy: LimitPolicy, samples) -> list[LimitVerdict]:
    """Return the verdict of each sample (seconds, rss, cpu seconds)."""
    state = LimitState()
    out = []
    for now, rss, cpu in samples:
        state, verdict = weigh(state, policy, rss=rss, cpu_seconds=cpu, now=now)
        out.append(verdict)
    return out


NONE, MEMORY, CPU = LimitVerdict.NONE, LimitVerdict.MEMORY, LimitVerdict.CPU


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([100, 100, 100], [NONE, NONE, NONE]),
        ([101, 100, 101], [NONE, NONE, NONE]),
        ([101, 101], [NONE, MEMORY]),
        ([101, 101, 101, 101], [NONE, MEMORY, NONE, MEMORY]),
        ([101, 101, 99, 101], [NONE, MEMORY, NONE, NONE]),
    ],
)
def test_memory_is_condemned_by_samples_in_a_row(sizes, expected):
    policy = LimitPolicy(memory=100 * MB)
    assert verdicts(policy, [(i * 2.0, size * MB, 0.0) for i, size in enumerate(sizes)]) == expected


def test_without_limits_nothing_is_condemned():
    assert set(verdicts(LimitPolicy(), [(t, 1 << 50, t * 64.0) for t in range(200)])) == {NONE}


def test_a_spin_is_condemned_when_the_window_is_full_and_not_before():
    policy = LimitPolicy(cpu_percent=150.0, cpu_window=60.0)
    out = verdicts(policy, [(t, 0, t * 1.6) for t in range(0, 70, 2)])
    assert out.index(CPU) == 30
    assert out.count(CPU) == 1


def test_cpu_at_the_limit_is_allowed():
    policy = LimitPolicy(cpu_percent=200.0, cpu_window=10.0)
    assert set(verdicts(policy, [(float(t), 0, t * 2.0) for t in range(60)])) == {NONE}


def test_a_burst_that_the_average_absorbs_is_free():
    policy = LimitPolicy(cpu_percent=50.0, cpu_window=60.0)
    # 20 s of a full core in every minute is a third of a core.
    cpu = 0.0
    samples = []
    for t in range(0, 600, 2):
        cpu += 2.0 if t % 60 < 20 else 0.0
        samples.append((float(t), 0, cpu))
    assert set(verdicts(policy, samples)) == {NONE}


def test_the_excess_is_not_held_against_it_twice():
    policy = LimitPolicy(cpu_percent=50.0, cpu_window=10.0)
    out = verdicts(policy, [(float(t), 0, min(t, 11) * 1.0) for t in range(40)])
    assert out.count(CPU) == 1


def test_a_spin_that_goes_on_is_condemned_again_a_window_later():
    policy = LimitPolicy(cpu_percent=50.0, cpu_window=10.0)
    out = verdicts(policy, [(float(t), 0, float(t)) for t in range(40)])
    assert [index for index, verdict in enumerate(out) if verdict is CPU] == [10, 20, 30]


def test_a_gap_longer_than_the_window_starts_the_window_anew():
    policy = LimitPolicy(cpu_percent=50.0, cpu_window=10.0)
    before = [(float(t), 0, float(t)) for t in range(8)]
    after = [(1000.0 + t, 0, 900.0) for t in range(12)]
    assert set(verdicts(policy, before + after)) == {NONE}


def test_a_clock_that_steps_back_starts_the_window_anew():
    policy = LimitPolicy(cpu_percent=50.0, cpu_window=10.0)
    out = verdicts(policy, [(100.0, 0, 0.0), (50.0, 0, 100.0), (55.0, 0, 101.0), (60.0, 0, 102.0)])
    assert set(out) == {NONE}


def test_a_member_of_the_tree_that_ends_takes_no_cpu_back():
    policy = LimitPolicy(cpu_percent=50.0, cpu_window=10.0)
    # The tree burns a core; every five seconds a child ends and its 5 s leave the sum.
    out = verdicts(policy, [(float(t), 0, 100.0 + t % 5) for t in range(40)])
    assert CPU in out


@settings(deadline=None)
@given(st.floats(1.0, 86400.0), st.lists(st.tuples(st.floats(0.0, 600.0), st.floats(0.0, 1e6)), max_size=200))
def test_the_memory_of_a_window_is_bounded_and_its_average_is_never_negative(window, steps):
    policy = LimitPolicy(cpu_percent=1e9, cpu_window=window)
    state = LimitState()
    now = 0.0
    for gap, cpu in steps:
        now += gap
        state, _ = weigh(state, policy, rss=0, cpu_seconds=cpu, now=now)
        assert len(state.window) <= WINDOW_POINTS + 2
        assert list(state.window) == sorted(state.window)
        assert state.average is None or state.average >= 0.0


@settings(deadline=None)
@given(st.lists(st.booleans(), max_size=50))
def test_a_memory_verdict_always_rests_on_enough_samples_in_a_row(overs):
    policy = LimitPolicy(memory=10)
    out = verdicts(policy, [(float(i), 11 if over else 10, 0.0) for i, over in enumerate(overs)])
    for index, verdict in enumerate(out):
        if verdict is MEMORY:
            assert all(overs[index - MEMORY_SAMPLES + 1 : index + 1])
