"""When a worker is due, and whose turn it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oxherd.core.recycle import (
    Budget,
    RecyclePolicy,
    RecycleReason,
    RecycleState,
    Turn,
    asked,
    budget_for,
    due,
    sampled,
)

MB = 1024 * 1024
NEW = RecycleState()


def test_a_worker_without_bounds_is_never_due():
    assert due(NEW, RecyclePolicy(), age=1e9, chance=0.5) is None
    assert due(NEW, RecyclePolicy(max_lifetime=0, max_memory=0), age=1e9, chance=0.5) is None


def test_a_worker_that_asks_is_due_at_once():
    assert due(asked(NEW), RecyclePolicy(), age=0.0, chance=0.5) is RecycleReason.REQUESTS


@pytest.mark.parametrize(("chance", "at"), [(0.0, 90.0), (0.5, 100.0), (0.9999, 109.99)])
def test_lifetimes_are_spread_by_a_tenth_to_both_sides(chance, at):
    policy = RecyclePolicy(max_lifetime=100.0)
    assert due(NEW, policy, age=at - 0.1, chance=chance) is None
    assert due(NEW, policy, age=at + 0.1, chance=chance) is RecycleReason.LIFETIME


@given(st.floats(1, 1e6), st.floats(0, 1, exclude_max=True))
def test_a_lifetime_stays_within_its_spread(lifetime, chance):
    policy = RecyclePolicy(max_lifetime=lifetime)
    assert due(NEW, policy, age=lifetime * 0.899, chance=chance) is None
    assert due(NEW, policy, age=lifetime * 1.101, chance=chance) is RecycleReason.LIFETIME


def test_one_sample_over_the_memory_limit_proves_nothing_two_do():
    policy = RecyclePolicy(max_memory=100 * MB)
    once = sampled(NEW, policy, 120 * MB)
    assert due(once, policy, age=600, chance=0) is None
    assert due(sampled(once, policy, 120 * MB), policy, age=600, chance=0) is RecycleReason.MEMORY


def test_a_sample_below_the_limit_forgets_the_one_over_it():
    policy = RecyclePolicy(max_memory=100 * MB)
    state = sampled(sampled(NEW, policy, 120 * MB), policy, 90 * MB)
    assert due(sampled(state, policy, 120 * MB), policy, age=600, chance=0) is None


def test_a_worker_that_is_too_large_from_birth_is_replaced_once_a_minute_and_not_for_ever():
    policy = RecyclePolicy(max_memory=100 * MB)
    state = sampled(sampled(NEW, policy, 120 * MB), policy, 120 * MB)
    assert due(state, policy, age=59, chance=0) is None
    assert due(state, policy, age=60, chance=0) is RecycleReason.MEMORY


def test_without_a_limit_no_sample_counts():
    assert sampled(NEW, RecyclePolicy(), 10**12) == NEW


# -- the budget -----------------------------------------------------------------------------------------------------


def turn(process: str, slot: int, reason: RecycleReason = RecycleReason.LIFETIME) -> Turn:
    return Turn(process, slot, reason)


def test_the_budget_is_half_the_cpus_and_at_least_one():
    assert [budget_for(cpus).limit for cpus in (1, 2, 3, 4, 64)] == [1, 1, 1, 2, 32]


def test_the_longest_waiting_comes_first_and_one_of_a_process():
    budget = Budget(limit=3)
    for one in (turn("web", 1), turn("web", 0), turn("api", 2), turn("admin", 0), turn("jobs", 0)):
        budget = budget.request(one)
    assert budget.ready() == (turn("web", 1), turn("api", 2), turn("admin", 0))


def test_what_runs_counts_against_the_limit_and_its_process():
    budget = Budget(limit=2).request(turn("web", 0)).request(turn("web", 1)).request(turn("api", 0))
    budget = budget.begun(turn("web", 0))
    assert budget.ready() == (turn("api", 0),)
    budget = budget.begun(turn("api", 0)).request(turn("jobs", 0))
    assert budget.ready() == ()
    assert budget.over("web", 0).ready() == (turn("web", 1),)


def test_a_process_that_is_reloaded_waits_and_holds_up_nobody():
    budget = Budget().request(turn("web", 0)).request(turn("api", 0))
    assert budget.ready(excluded={"web"}) == (turn("api", 0),)
    assert budget.ready() == (turn("web", 0),)


def test_one_that_is_due_twice_keeps_its_place_and_its_reason():
    budget = Budget().request(turn("web", 0)).request(turn("web", 0, RecycleReason.MEMORY))
    assert budget.waiting == (turn("web", 0),)
    assert budget.begun(turn("web", 0)).request(turn("web", 0, RecycleReason.MEMORY)).waiting == ()


def test_a_worker_that_is_gone_by_itself_gives_up_its_turn():
    budget = Budget().request(turn("web", 0)).request(turn("web", 1)).over("web", 0)
    assert budget.waiting == (turn("web", 1),)
    assert budget.over("nobody", 7) == budget


def test_a_process_that_is_gone_is_forgotten():
    budget = Budget(limit=2).request(turn("web", 0)).request(turn("web", 1)).request(turn("api", 0))
    assert budget.begun(turn("web", 0)).forget("web") == Budget(limit=2, waiting=(turn("api", 0),))


moves = st.lists(
    st.tuples(st.sampled_from(["request", "go", "over", "forget"]), st.sampled_from("abc"), st.integers(0, 2)),
    max_size=60,
)


@given(moves, st.integers(1, 3), st.sets(st.sampled_from("abc")))
def test_the_budget_is_never_exceeded_and_nobody_waits_for_nothing(story, limit, excluded):
    budget = Budget(limit=limit)
    for what, process, slot in story:
        match what:
            case "request":
                budget = budget.request(turn(process, slot))
            case "go":
                for one in budget.ready(excluded):
                    assert one.process not in excluded
                    budget = budget.begun(one)
                idle = {one.process for one in budget.waiting} - excluded - {one.process for one in budget.running}
                assert not idle or len(budget.running) == limit
            case "over":
                budget = budget.over(process, slot)
            case _:
                budget = budget.forget(process)
        running = [one.process for one in budget.running]
        assert len(running) <= limit
        assert len(set(running)) == len(running)
        known = [(one.process, one.slot) for one in (*budget.waiting, *budget.running)]
        assert len(set(known)) == len(known)
