"""Verdicts over probe results."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oxherd.core.health import (
    FIRST_GAP,
    HealthPolicy,
    HealthState,
    ReadinessState,
    Verdict,
    begin,
    begin_readiness,
    judge,
    judge_readiness,
    next_probe_in,
    next_readiness_probe_in,
)

POLICY = HealthPolicy(interval=30.0, timeout=5.0, grace=10.0, healthy_threshold=2, unhealthy_threshold=3)


def play(policy: HealthPolicy, results: list[tuple[float, bool]], *, ready: bool = False):
    """Return the state and the verdicts with their times, of results given as (seconds since the start, passed)."""
    state = begin(policy, 0.0, ready=ready)
    verdicts: list[tuple[float, Verdict]] = []
    for now, passed in results:
        state, verdict = judge(state, policy, passed=passed, now=now)
        if verdict is not Verdict.NONE:
            verdicts.append((now, verdict))
    return state, verdicts


def simulate(policy: HealthPolicy, answer, until: float) -> list[tuple[float, Verdict]]:
    """Probe as `next_probe_in` says and return the verdicts with their times."""
    state = begin(policy, 0.0)
    now = 0.0
    verdicts = []
    while now < until:
        now += next_probe_in(state, policy, now)
        state, verdict = judge(state, policy, passed=answer(now), now=now)
        if verdict is not Verdict.NONE:
            verdicts.append((now, verdict))
    return verdicts


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        pytest.param([(0.1, True)], [], id="one pass of two is not ready"),
        pytest.param([(0.1, True), (0.2, True)], [(0.2, Verdict.READY)], id="two passes in a row are ready"),
        pytest.param([(0.1, True), (0.2, False), (0.3, True)], [], id="a failure between the passes starts anew"),
        pytest.param([(t / 10, False) for t in range(100)], [], id="failures in the grace do not count"),
        pytest.param([(10.0 + t / 10, False) for t in range(100)], [], id="many failures in one interval count once"),
        pytest.param(
            [(40.0, False), (70.0, False), (99.9, False), (100.0, False)],
            [(100.0, Verdict.UNHEALTHY)],
            id="condemned at grace + threshold * interval",
        ),
        pytest.param(
            [(3600.0, False), (3600.1, False), (3600.2, False)],
            [],
            id="intervals missed while the machine slept are not counted after the fact",
        ),
        pytest.param(
            [(40.0, False), (70.0, False), (75.0, True), (100.0, False), (130.0, False)],
            [],
            id="a pass forgets the failures of a slow start",
        ),
        pytest.param(
            [(1, True), (2, True), (3, False), (4, False), (5, False)],
            [(2, Verdict.READY), (5, Verdict.UNHEALTHY)],
            id="once ready every failure counts, within the grace too",
        ),
        pytest.param(
            [(1, True), (2, True), (3, False), (4, False), (5, True), (6, False), (7, False)],
            [(2, Verdict.READY)],
            id="a pass resets the failures",
        ),
        pytest.param(
            [(1, True), (2, True), (3, False), (4, False), (5, False), (6, False), (7, False), (8, False), (9, False)],
            [(2, Verdict.READY), (5, Verdict.UNHEALTHY)],
            id="unhealthy is said once",
        ),
        pytest.param(
            [(1, True), (2, True), (3, False), (4, False), (5, False), (6, True), (7, True), (8, True)],
            [(2, Verdict.READY), (5, Verdict.UNHEALTHY), (7, Verdict.RECOVERED)],
            id="recovery takes healthy_threshold passes and is said once",
        ),
        pytest.param(
            [(40.0, False), (70.0, False), (100.0, False), (101.0, True), (102.0, True)],
            [(100.0, Verdict.UNHEALTHY), (102.0, Verdict.READY)],
            id="condemned before it was ever ready, it becomes ready and not recovered",
        ),
    ],
)
def test_the_verdict_of_a_series_of_results(results, expected):
    _, verdicts = play(POLICY, results)
    assert verdicts == expected


@pytest.mark.parametrize(
    ("results", "word"),
    [
        ([], None),
        ([(1, False)], None),
        ([(1, True)], None),
        ([(1, True), (2, True)], "healthy"),
        ([(1, True), (2, True), (3, False)], "failing"),
        ([(40.0, False)], "failing"),
        ([(1, True), (2, True), (3, False), (4, False), (5, False)], "unhealthy"),
        ([(1, True), (2, True), (3, False), (4, False), (5, False), (6, True)], "unhealthy"),
        ([(1, True), (2, True), (3, False), (4, False), (5, False), (6, True), (7, True)], "healthy"),
    ],
)
def test_the_word_shown_by_status(results, word):
    state, _ = play(POLICY, results)
    assert state.word == word


def test_an_adopted_incarnation_that_was_ready_counts_every_failure_at_once():
    _, verdicts = play(POLICY, [(1, False), (2, False), (3, False)], ready=True)
    assert verdicts == [(3, Verdict.UNHEALTHY)]


@pytest.mark.parametrize(
    ("state", "now", "seconds"),
    [
        (HealthState(since=0, last_counted=10), 0.0, FIRST_GAP),
        (HealthState(since=0, last_counted=10), 9.9, FIRST_GAP),
        (HealthState(since=0, last_counted=10), 10.0, 1.0),
        (HealthState(since=0, last_counted=10), 60.0, 5.0),
        (HealthState(since=0, last_counted=10), 5000.0, 30.0),
        (HealthState(since=0, last_counted=10, ready=True), 1.0, 30.0),
        (HealthState(since=0, last_counted=10, ready=True, unhealthy=True), 1.0, 30.0),
    ],
)
def test_the_gap_between_probes(state, now, seconds):
    assert next_probe_in(state, POLICY, now) == pytest.approx(seconds)


def test_an_interval_shorter_than_the_fast_gap_wins():
    policy = HealthPolicy(interval=0.05, grace=1.0)
    assert next_probe_in(begin(policy, 0.0), policy, 0.5) == 0.05
    assert next_probe_in(begin(policy, 0.0), policy, 2.0) == 0.05


def test_a_program_that_answers_after_three_seconds_is_ready_within_two_gaps():
    policy = HealthPolicy(interval=30.0, grace=10.0, healthy_threshold=2)
    ((when, verdict),) = simulate(policy, lambda now: now >= 3.0, until=5.0)
    assert verdict is Verdict.READY
    assert when <= 3.0 + 2 * FIRST_GAP + 1e-6


policies = st.builds(
    HealthPolicy,
    interval=st.floats(0.5, 120.0),
    timeout=st.just(5.0),
    grace=st.floats(0.0, 120.0),
    healthy_threshold=st.integers(1, 5),
    unhealthy_threshold=st.integers(1, 5),
)


@settings(deadline=None)
@given(policies)
def test_a_program_that_never_answers_is_condemned_when_the_two_numbers_say_so(policy):
    expected = policy.grace + policy.unhealthy_threshold * policy.interval
    verdicts = simulate(policy, lambda _now: False, until=expected * 1.2 + 10.0)
    assert [verdict for _, verdict in verdicts] == [Verdict.UNHEALTHY]
    assert expected <= verdicts[0][0] + 1e-6
    assert verdicts[0][0] <= expected + min(policy.interval, max(1.0, 0.12 * expected)) + 1e-6


@settings(deadline=None)
@given(policies, st.lists(st.tuples(st.floats(0.0, 400.0), st.booleans()), max_size=60))
def test_verdicts_alternate_and_never_come_without_the_results_that_justify_them(policy, steps):
    state = begin(policy, 0.0)
    now = 0.0
    last = Verdict.NONE
    ready = False
    tail: list[bool] = []
    for gap, passed in steps:
        now += gap
        tail.append(passed)
        before = state
        state, verdict = judge(state, policy, passed=passed, now=now)
        match verdict:
            case Verdict.READY:
                assert not ready
                ready = True
                assert all(tail[-policy.healthy_threshold :])
            case Verdict.UNHEALTHY:
                assert last is not Verdict.UNHEALTHY
                assert not any(tail[-policy.unhealthy_threshold :])
                assert now >= policy.grace or ready
            case Verdict.RECOVERED:
                assert last is Verdict.UNHEALTHY
                assert all(tail[-policy.healthy_threshold :])
            case Verdict.NONE:
                assert state.ready == before.ready
                assert state.unhealthy == before.unhealthy
        last = verdict if verdict is not Verdict.NONE else last
        assert state.ready == ready
        assert 0.0 < next_probe_in(state, policy, now) <= policy.interval


# -- readiness --------------------------------------------------------------------------------------------------------


def readiness(results: str, *, ready: bool = False) -> tuple[ReadinessState, list[Verdict]]:
    """Play results, P and F, one a second, and return the state and a verdict for each."""
    state = begin_readiness(POLICY, 0.0, ready=ready)
    verdicts = []
    for now, result in enumerate(results, 1):
        state, verdict = judge_readiness(state, POLICY, passed=result == "P", now=float(now))
        verdicts.append(verdict)
    return state, verdicts


@pytest.mark.parametrize(
    ("results", "ready", "verdicts"),
    [
        ("P", False, "."),
        ("PP", False, ".R"),
        ("PFPFPP", False, ".....R"),
        ("FFFFFFFFFF", False, ".........."),
        ("PPFF", False, ".R.."),
        ("PPFFPFFP", False, ".R......"),
        ("PPFFF", False, ".R..N"),
        ("PPFFFFFFFF", False, ".R..N....."),
        ("PPFFFPFPP", False, ".R..N...R"),
        ("PPFFFPPFFF", False, ".R..N.R..N"),
        ("FFF", True, "..N"),
        ("PPP", True, "..."),
    ],
)
def test_readiness_is_given_and_taken_by_results_in_a_row(results, ready, verdicts):
    letters = {Verdict.NONE: ".", Verdict.READY: "R", Verdict.NOT_READY: "N"}
    assert "".join(letters[verdict] for verdict in readiness(results, ready=ready)[1]) == verdicts


@pytest.mark.parametrize(
    ("results", "word"),
    [
        ("", None),
        ("F", None),
        ("P", None),
        ("PP", "healthy"),
        ("PPF", "failing"),
        ("PPFFF", "failing"),
        ("PPFFFP", "failing"),
        ("PPFFFPP", "healthy"),
    ],
)
def test_the_word_of_readiness(results, word):
    assert readiness(results)[0].word == word


@pytest.mark.parametrize(
    ("state", "now", "seconds"),
    [
        pytest.param(ReadinessState(late_since=10.0), 9.9, FIRST_GAP, id="within the grace"),
        pytest.param(ReadinessState(late_since=10.0), 10.0, 1.0, id="after the grace"),
        pytest.param(ReadinessState(late_since=10.0), 110.0, 10.0, id="long after the grace"),
        pytest.param(ReadinessState(late_since=10.0), 1000.0, 30.0, id="never less often than the interval"),
        pytest.param(ReadinessState(late_since=10.0, ready=True), 5.0, 30.0, id="ready"),
        pytest.param(ReadinessState(late_since=10.0, ready=True, failures=1), 50.0, 1.0, id="a failure is confirmed"),
        pytest.param(ReadinessState(late_since=100.0, lost=True, failures=3), 100.0, 1.0, id="lost"),
        pytest.param(ReadinessState(late_since=100.0, lost=True, failures=3), 300.0, 20.0, id="lost for long"),
    ],
)
def test_the_gap_between_readiness_probes(state, now, seconds):
    assert next_readiness_probe_in(state, POLICY, now) == pytest.approx(seconds)


def test_a_short_interval_wins_over_every_gap_of_readiness():
    policy = HealthPolicy(interval=0.05)
    for state in (
        ReadinessState(late_since=10.0),
        ReadinessState(late_since=0.0),
        ReadinessState(late_since=0.0, ready=True, failures=1),
        ReadinessState(late_since=0.0, lost=True),
    ):
        assert next_readiness_probe_in(state, policy, 5.0) == pytest.approx(0.05)


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 4), st.integers(1, 4))
@settings(max_examples=200)
def test_readiness_verdicts_alternate_and_follow_their_thresholds(results, healthy, unhealthy):
    policy = HealthPolicy(healthy_threshold=healthy, unhealthy_threshold=unhealthy)
    state = begin_readiness(policy, 0.0)
    said = []
    for now, passed in enumerate(results):
        state, verdict = judge_readiness(state, policy, passed=passed, now=float(now))
        recent = results[: now + 1]
        if verdict is Verdict.READY:
            assert recent[-healthy:] == [True] * healthy
        if verdict is Verdict.NOT_READY:
            assert recent[-unhealthy:] == [False] * unhealthy
        if verdict is not Verdict.NONE:
            said.append(verdict)
        assert state.ready == (bool(said) and said[-1] is Verdict.READY)
    assert said == [Verdict.READY, Verdict.NOT_READY] * (len(said) // 2) + [Verdict.READY] * (len(said) % 2)
