"""When and how soon a process comes back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oxherd.core.restart import RestartDecision, RestartMode, RestartPolicy, backoff_delay, decide

FINISHED, RESTART, GIVE_UP = RestartDecision.FINISHED, RestartDecision.RESTART, RestartDecision.GIVE_UP


@pytest.mark.parametrize(
    ("mode", "success", "failures", "counted", "expected"),
    [
        (RestartMode.ALWAYS, True, 1, True, RESTART),
        (RestartMode.ALWAYS, False, 3, True, RESTART),
        (RestartMode.ALWAYS, True, 4, True, GIVE_UP),
        (RestartMode.ALWAYS, False, 4, False, RESTART),
        (RestartMode.ON_FAILURE, True, 1, True, FINISHED),
        (RestartMode.ON_FAILURE, True, 99, True, FINISHED),
        (RestartMode.ON_FAILURE, False, 3, True, RESTART),
        (RestartMode.ON_FAILURE, False, 4, True, GIVE_UP),
        (RestartMode.ON_FAILURE, False, 4000, False, RESTART),
        (RestartMode.NEVER, False, 1, True, FINISHED),
        (RestartMode.NEVER, False, 99, False, FINISHED),
    ],
)
def test_what_follows_an_exit(mode, success, failures, counted, expected):
    policy = RestartPolicy(mode=mode, max_restarts=3)
    assert decide(policy, success=success, failures=failures, counted=counted) is expected


def test_zero_max_restarts_is_without_end():
    assert decide(RestartPolicy(max_restarts=0), success=False, failures=10**6) is RESTART


@pytest.mark.parametrize(
    ("delay", "failures", "expected"),
    [(0, 1, 0), (0, 2, 0.1), (0, 3, 0.2), (0, 4, 0.4), (0, 99, 30), (2, 1, 2), (2, 2, 4), (2, 5, 30), (45, 3, 45)],
)
def test_delays_double_from_the_first_up_to_the_ceiling(delay, failures, expected):
    assert backoff_delay(RestartPolicy(delay=delay, delay_max=30), failures, 0.0) == pytest.approx(expected)


@given(
    delay=st.floats(0, 100),
    ceiling=st.floats(0, 1000),
    failures=st.integers(1, 10**9),
    chance=st.floats(0, 1, exclude_max=True),
)
def test_a_delay_is_never_negative_nor_above_its_ceiling(delay, ceiling, failures, chance):
    policy = RestartPolicy(delay=delay, delay_max=ceiling)
    assert 0 <= backoff_delay(policy, failures, chance) <= max(delay, ceiling)


@given(failures=st.integers(2, 40), chance=st.floats(0, 1, exclude_max=True))
def test_jitter_takes_off_at_most_a_quarter(failures, chance):
    policy = RestartPolicy(delay=1, delay_max=1000)
    whole = backoff_delay(policy, failures, 0.0)
    assert whole * 0.75 <= backoff_delay(policy, failures, chance) <= whole
