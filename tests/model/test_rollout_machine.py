"""A rolling replacement under every order of events that workers, people and a transaction can produce.

`support.rollout_world` plays the supervisor and the operating system and checks what `oxherd.core.rollout` promises in
its head. Small plans are tried in every order there is; larger ones in orders that Hypothesis draws.
"""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from oxherd.core.phases import Kind, Phase, Plan
from oxherd.core.rollout import TABLE
from oxherd.core.rollout_messages import EventKind
from support.rollout_world import World

orders = st.sampled_from([(0, 1), (1, 0, 2), (0,), (3, 0, 2, 1), ()])


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    order = draw(orders)
    kind = draw(st.sampled_from([Kind.RELOAD, Kind.RELOAD, Kind.REPLACE]))
    return Plan(
        order=order,
        kind=kind,
        down=frozenset(draw(st.sampled_from([(), (), (0,), order]))) & set(order),
        overlap=kind is Kind.REPLACE or draw(st.booleans()),
        gated=draw(st.booleans()),
        settle=draw(st.sampled_from([0.0, 1.0])),
        ready_timeout=draw(st.sampled_from([None, 5.0])),
    )


class RolloutMachine(RuleBasedStateMachine):
    """Larger plans and more misfortunes than can be tried in every order."""

    world: World

    @initialize(plan=plans(), misfortunes=st.integers(0, 5))
    def plan(self, plan: Plan, misfortunes: int) -> None:
        self.world = World(plan, misfortunes)

    @rule(choices=st.lists(st.integers(0, 99), min_size=1, max_size=4))
    def goes_on(self, choices: list[int]) -> None:
        for choice in choices:
            moves = self.world.owed()
            if moves:
                self.world.move(moves[choice % len(moves)])
                self.world.check()

    @precondition(lambda self: self.world.rollout.phase is not Phase.PLANNED and self.world.mishaps())
    @rule(choice=st.integers(0, 99))
    def goes_wrong(self, choice: int) -> None:
        moves = self.world.mishaps()
        self.world.move(moves[choice % len(moves)])

    @rule()
    def news_that_change_nothing(self) -> None:
        self.world.noise()

    @rule(really=st.integers(0, 15))
    def cancel(self, really: int) -> None:
        if really == 15:
            self.world.cancel()

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "world"):
            self.world.check()

    def teardown(self) -> None:
        """From wherever the story stopped it ends, if nothing goes wrong any more."""
        if hasattr(self, "world"):
            self.world.to_the_end()


RolloutMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
TestRollout = RolloutMachine.TestCase


def explore(plan: Plan, misfortunes: int) -> tuple[set[Phase], World]:
    """Go through every state that a plan and so many misfortunes can lead to, and from each of them to the end.

    Returns:
        How it can end, and the world it began with, which knows the cells that were used.
    """
    start = World(plan, misfortunes)
    seen, waiting, ends = {start.key}, [start], set()
    while waiting:
        world = waiting.pop()
        world.noise()
        world.copy().to_the_end()
        world.copy().cancel()
        if world.result is not None:
            ends.add(world.result)
        for move in (*world.owed(), *world.mishaps()):
            after = world.copy()
            after.move(move)
            after.check()
            if after.key not in seen:
                seen.add(after.key)
                waiting.append(after)
    return ends, start


def test_every_order_of_events_of_a_reload():
    """Three misfortunes: one to roll back, two for a slot that cannot be brought back."""
    ends, _ = explore(Plan(order=(0, 1), ready_timeout=5.0), 3)
    assert ends == {Phase.DONE, Phase.ABORTED, Phase.ROLLED_BACK}


def test_every_order_of_events_without_overlap():
    ends, _ = explore(Plan(order=(0, 1), overlap=False, ready_timeout=5.0), 3)
    assert ends == {Phase.DONE, Phase.ABORTED, Phase.ROLLED_BACK}


def test_every_order_of_events_of_a_replacement():
    ends, _ = explore(Plan(order=(0, 1), kind=Kind.REPLACE, ready_timeout=5.0), 3)
    assert ends == {Phase.DONE, Phase.ABORTED}


def test_every_order_of_events_where_nothing_runs():
    """A reload that is to mend what has crashed in every slot."""
    ends, _ = explore(Plan(order=(0, 1), down=frozenset({0, 1})), 2)
    assert ends == {Phase.DONE, Phase.ABORTED, Phase.ROLLED_BACK}


def test_every_order_of_events_in_a_transaction():
    ends, _ = explore(Plan(order=(0, 1), gated=True, ready_timeout=5.0), 2)
    assert ends == {Phase.DONE, Phase.ABORTED, Phase.ROLLED_BACK}


def test_what_the_table_says_can_happen_and_nothing_else():
    """Every cell that is not marked as impossible is used, and leads to each of its phases, and to no other."""
    used: set[tuple[Phase, EventKind, Phase]] = set()
    for kind, overlap in ((Kind.RELOAD, True), (Kind.RELOAD, False), (Kind.REPLACE, True)):
        for gated in (False, True):
            for order in ((), (0,), (0, 1)):
                for settle in (0.0, 1.0):
                    plan = Plan(order=order, kind=kind, overlap=overlap, gated=gated, settle=settle, ready_timeout=5.0)
                    _, start = explore(plan, 2 if len(order) == 2 else 3)
                    used |= start.cells
    cells = {(phase, kind) for phase, row in TABLE.items() for kind, rule in row.items() if rule.note != "can't happen"}
    assert {(phase, kind) for phase, kind in cells if not phase.over} == {
        (phase, kind) for phase, kind, _ in used if not phase.over
    }
    arrows = {(phase, kind, to) for phase, row in TABLE.items() for kind, rule in row.items() for to in rule.targets}
    assert arrows == {arrow for arrow in used if arrow[0] is not arrow[2]}
