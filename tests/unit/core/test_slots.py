"""Who accepts on which listener: lent where nobody is at home, back when somebody is, and never left alone between."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from oxherd.core.slots import assign


def serving(*slots: int, of: int = 4) -> dict[int, bool]:
    return {slot: slot in slots for slot in range(of)}


def held(owners: dict[int, int]) -> dict[int, frozenset[int]]:
    """What each slot accepts on, of who accepts on each listener."""
    return {
        slot: frozenset(listener for listener, owner in owners.items() if owner == slot) for slot in owners.values()
    }


def test_everybody_is_at_home():
    assert assign(range(4), serving(0, 1, 2, 3)) == {0: 0, 1: 1, 2: 2, 3: 3}


def test_the_listener_of_a_slot_that_cannot_serve_is_lent():
    assert assign(range(4), serving(0, 1, 3)) == {0: 0, 1: 1, 2: 0, 3: 3}


def test_what_is_lent_is_spread():
    assert assign(range(4), serving(1, 3)) == {0: 1, 1: 1, 2: 3, 3: 3}


def test_the_one_with_less_to_do_is_lent_to():
    assert assign(range(3), serving(0, 1, of=3), load={0: 50, 1: 3})[2] == 1


def test_load_never_outweighs_the_number_of_listeners():
    """Two listeners are two shares of the new connections, however few there are of old ones."""
    owners = assign(range(4), serving(0, 1), load={0: 0, 1: 500})
    assert sorted(owners.values()) == [0, 0, 1, 1]


def test_a_borrower_keeps_what_it_has():
    assert assign(range(3), serving(0, 1, of=3), held={1: frozenset({1, 2})})[2] == 1


def test_a_borrower_that_cannot_serve_any_more_keeps_nothing():
    assert assign(range(3), serving(0, of=3), held={1: frozenset({1, 2})}) == {0: 0, 1: 0, 2: 0}


def test_a_listener_is_back_home_when_its_worker_serves_again():
    assert assign(range(3), serving(0, 1, 2, of=3), held={0: frozenset({0, 2})})[2] == 2


def test_listeners_of_slots_that_were_scaled_away_are_lent_for_good():
    assert assign(range(4), {0: True, 1: True}) == {0: 0, 1: 1, 2: 0, 3: 1}


def test_one_that_comes_back_relieves_the_one_that_had_everything():
    """Slot 0 was alone; slot 1 is back. Without a move 0 would have three listeners of four."""
    owners = assign(range(4), serving(0, 1), held={0: frozenset({0, 1, 2, 3})})
    assert owners == {0: 0, 1: 1, 2: 0, 3: 1}


def test_nobody_serves_nobody_accepts():
    assert assign(range(4), serving()) == {}
    assert assign(range(2), {}) == {}


def test_a_listener_on_its_way_from_one_to_another_stays_with_the_one_that_has_less():
    both = {0: frozenset({0, 3}), 1: frozenset({1, 2, 3})}
    assert assign(range(4), serving(0, 1), held=both)[3] == 0


situations = st.integers(1, 6).flatmap(
    lambda count: st.tuples(
        st.integers(count, 8),
        st.lists(st.booleans(), min_size=count, max_size=count),
        st.dictionaries(st.integers(0, 7), st.frozensets(st.integers(0, 7), max_size=5), max_size=6),
        st.one_of(st.none(), st.dictionaries(st.integers(0, 7), st.integers(0, 100))),
    )
)


@given(situations)
def test_a_listener_has_somebody_while_anybody_serves(situation):
    listeners, alive, has, load = situation
    able = dict(enumerate(alive))
    owners = assign(range(listeners), able, load, has)
    assert set(owners) == (set(range(listeners)) if any(alive) else set())
    assert all(able[slot] for slot in owners.values())
    for slot, serves in able.items():
        if serves:
            assert owners[slot] == slot


@given(situations)
def test_no_serving_slot_has_two_more_than_another(situation):
    listeners, alive, has, load = situation
    owners = assign(range(listeners), dict(enumerate(alive)), load, has)
    counts = [list(owners.values()).count(slot) for slot, serves in enumerate(alive) if serves]
    assert not counts or max(counts) - min(counts) <= 1


@given(situations)
def test_asked_again_nothing_moves(situation):
    listeners, alive, has, load = situation
    able = dict(enumerate(alive))
    owners = assign(range(listeners), able, load, has)
    assert assign(range(listeners), able, load, held(owners)) == owners


@given(st.lists(st.booleans(), min_size=6, max_size=6), st.integers(0, 5))
def test_one_change_of_one_worker_moves_as_little_as_it_can(alive, changed):
    """At most the listeners of the worker that went; at most its fair share and its own for one that came."""
    before = dict(enumerate(alive))
    after = {**before, changed: not before[changed]}
    owners = assign(range(6), before)
    again = assign(range(6), after, held=held(owners))
    moved = {listener for listener in again if owners.get(listener) != again[listener]} if owners else set()
    if before[changed]:
        gone = {listener for listener, owner in owners.items() if owner == changed}
        # Those it had, and no others: what remains is as even as it was.
        assert moved <= gone or not any(after.values())
    else:
        share = -(-6 // sum(after.values()))
        assert len(moved) <= share
