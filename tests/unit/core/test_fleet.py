"""Dependencies, orders and differences of a stack's processes."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oxherd.core.fleet import (
    DependencyCondition,
    Diff,
    ProcessFacts,
    blocked_by,
    closure,
    dependents,
    diff,
    find_cycle,
    order,
    scale_plan,
    stop_order,
)

STARTED, READY, COMPLETED = DependencyCondition.STARTED, DependencyCondition.READY, DependencyCondition.COMPLETED


def needs(**names: str):
    """Return a dependency mapping of ``web="db cache"``."""
    return {name: tuple((needed, READY) for needed in text.split()) for name, text in names.items()}


SHOP = needs(web="migrate cache", worker="cache", beat="worker", cache="", migrate="db", db="", docs="")


def test_levels_start_together_and_keep_the_order_of_the_file():
    assert order(SHOP, SHOP) == [["cache", "db", "docs"], ["worker", "migrate"], ["web", "beat"]]


def test_dependencies_outside_of_the_names_are_taken_to_hold():
    assert order(["web", "worker"], SHOP) == [["web", "worker"]]


def test_what_nothing_needs_stops_first():
    assert stop_order(SHOP, SHOP) == [["web", "beat", "docs"], ["worker", "migrate"], ["cache", "db"]]


def test_a_circle_is_refused_with_the_circle_in_the_text():
    circle = needs(a="b", b="c", c="b", d="")
    with pytest.raises(ValueError, match="the dependencies form a circle: b -> c -> b"):
        order(circle, circle)
    with pytest.raises(ValueError, match="circle"):
        stop_order(circle, circle)


@pytest.mark.parametrize(
    ("graph", "cycle"),
    [
        (needs(), ()),
        (SHOP, ()),
        (needs(a="a"), ("a", "a")),
        (needs(a="b", b="a"), ("a", "b", "a")),
        (needs(x="a", a="b", b="c", c="a"), ("a", "b", "c", "a")),
        (needs(a="b c", b="d", c="d", d=""), ()),
        (needs(a="nowhere"), ()),
    ],
)
def test_a_cycle_is_found_and_shown_closed(graph, cycle):
    assert find_cycle(graph) == cycle


def test_a_chain_of_ten_thousand_does_not_exhaust_the_stack():
    chain = {f"p{i}": ((f"p{i + 1}", READY),) for i in range(10_000)}
    assert find_cycle(chain) == ()
    assert len(closure(["p0"], chain)) == 10_001


def test_the_closure_is_what_start_has_to_start_too():
    assert closure(["web"], SHOP) == ("db", "migrate", "cache", "web")
    assert closure(["docs", "beat"], SHOP) == ("docs", "cache", "worker", "beat")


def test_the_closure_of_a_circle_ends():
    assert set(closure(["a"], needs(a="b", b="a"))) == {"a", "b"}


def test_dependents_are_found_however_far_away():
    assert dependents(["cache"], SHOP) == ("web", "worker", "beat")
    assert dependents(["db", "migrate"], SHOP) == ("web",)
    assert dependents(["web"], SHOP) == ()


UP = ProcessFacts(started=True)
IS_READY = ProcessFacts(started=True, ready=True)
DONE = ProcessFacts(completed=True)
FAILED = ProcessFacts(failed=True)
DOWN = ProcessFacts()


@pytest.mark.parametrize(
    ("condition", "facts", "waiting", "failed"),
    [
        (STARTED, DOWN, "db has not started", ""),
        (STARTED, UP, "", ""),
        (STARTED, IS_READY, "", ""),
        (STARTED, DONE, "", ""),
        (STARTED, FAILED, "", "db failed"),
        (READY, DOWN, "db is not ready", ""),
        (READY, UP, "db is not ready", ""),
        (READY, IS_READY, "", ""),
        (READY, DONE, "", ""),
        (READY, FAILED, "", "db failed"),
        (COMPLETED, DOWN, "db has not completed", ""),
        (COMPLETED, UP, "db has not completed", ""),
        (COMPLETED, IS_READY, "db has not completed", ""),
        (COMPLETED, DONE, "", ""),
        (COMPLETED, FAILED, "", "db failed"),
    ],
)
def test_what_each_condition_waits_for(condition, facts, waiting, failed):
    blocked = blocked_by("web", {"web": (("db", condition),)}, {"db": facts})
    if not waiting and not failed:
        assert blocked is None
        return
    assert blocked is not None
    assert ", ".join(blocked.waiting) == waiting
    assert ", ".join(blocked.failed) == failed


def test_a_failed_dependency_outweighs_those_that_are_waited_for():
    blocked = blocked_by(
        "web",
        {"web": (("db", READY), ("migrate", COMPLETED), ("cache", STARTED))},
        {"db": UP, "migrate": FAILED, "cache": IS_READY},
    )
    assert blocked is not None
    assert blocked.failed
    assert blocked.text == "migrate failed"
    assert blocked.waiting == ("db is not ready",)


def test_a_dependency_that_does_not_run_here_is_waited_for_by_name():
    blocked = blocked_by("web", needs(web="db"), {})
    assert blocked is not None
    assert not blocked.failed
    assert blocked.text == "db does not run here"


@pytest.mark.parametrize(
    ("current", "wanted", "add", "remove"),
    [
        ((), 2, (0, 1), ()),
        ((0, 1), 4, (2, 3), ()),
        ((0, 1, 2, 3), 2, (), (3, 2)),
        ((0, 2), 3, (1,), ()),
        ((2, 0), 0, (), (2, 0)),
        ((0, 5), 2, (1,), (5,)),
    ],
)
def test_slots_are_filled_from_zero_and_given_up_from_the_top(current, wanted, add, remove):
    assert scale_plan(current, wanted) == (add, remove)


def test_a_diff_touches_only_what_changed():
    assert diff({"a": 1, "b": 2, "c": 3}, {"d": 4, "c": 30, "a": 1}) == Diff(
        added=("d",), changed=("c",), removed=("b",), unchanged=("a",)
    )
    assert diff({"a": 1}, {"a": 1}).empty
    assert not diff({}, {"a": 1}).empty


@st.composite
def acyclic(draw):
    """A graph whose edges point to earlier names only, given in a drawn order."""
    count = draw(st.integers(0, 12))
    names = [f"p{i}" for i in range(count)]
    graph = {
        name: tuple((needed, READY) for needed in names[:i] if draw(st.booleans())) for i, name in enumerate(names)
    }
    return {name: graph[name] for name in draw(st.permutations(names))}


graphs = st.dictionaries(
    st.sampled_from("abcdefgh"),
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(DependencyCondition)), max_size=4),
)


@settings(deadline=None)
@given(acyclic())
def test_every_level_needs_only_earlier_ones_and_stops_before_them(graph):
    assert find_cycle(graph) == ()
    levels = order(graph, graph)
    at = {name: index for index, level in enumerate(levels) for name in level}
    assert set(at) == set(graph)
    assert sum(len(level) for level in levels) == len(graph)
    stopping = {name: index for index, level in enumerate(stop_order(graph, graph)) for name in level}
    assert set(stopping) == set(graph)
    for name, dependencies in graph.items():
        for needed, _ in dependencies:
            assert at[needed] < at[name]
            assert stopping[name] < stopping[needed]


@settings(deadline=None)
@given(graphs)
def test_an_order_exists_exactly_where_there_is_no_cycle(graph):
    cycle = find_cycle(graph)
    if cycle:
        assert cycle[0] == cycle[-1]
        for name, needed in itertools.pairwise(cycle):
            assert needed in [other for other, _ in graph[name]]
        with pytest.raises(ValueError, match="circle"):
            order(graph, graph)
    else:
        assert sorted(name for level in order(graph, graph) for name in level) == sorted(graph)


@settings(deadline=None)
@given(graphs, st.sets(st.sampled_from("abcdefgh")))
def test_a_closure_is_closed_and_dependents_are_its_mirror(graph, names):
    closed = closure(sorted(names), graph)
    assert len(closed) == len(set(closed))
    assert names <= set(closed)
    for name in closed:
        assert {needed for needed, _ in graph.get(name, ())} <= set(closed)
    for name in graph:
        needs_one = bool(names & (set(closure([name], graph)) - {name}))
        assert (name in dependents(sorted(names), graph)) == (needs_one and name not in names)


@settings(deadline=None)
@given(st.sets(st.integers(0, 20)), st.integers(0, 20))
def test_a_scale_plan_ends_with_exactly_the_wanted_slots(current, wanted):
    add, remove = scale_plan(current, wanted)
    assert (current | set(add)) - set(remove) == set(range(wanted))
    assert not current & set(add)
    assert set(remove) <= current
