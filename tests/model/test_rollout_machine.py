"""A rolling replacement under every order of events that workers, people and a transaction can produce.

`support.rollout_world` plays the supervisor and the operating system and checks what `oxherd.core.rollout` promises in
its head. Small plans are tried in every order there is; larger ones in orders that Hypothesis draws.
"""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from oxherd.core.phases import Kind, Phase, Plan
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


@pytest.mark.parametrize("gated", [False, True], ids=["alone", "gated"])
@pytest.mark.parametrize(
    ("kind", "overlap"),
    [(Kind.RELOAD, True), (Kind.RELOAD, False), (Kind.REPLACE, True)],
    ids=["reload", "without overlap", "replace"],
)
def test_every_order_of_events_of_two_slots(kind, overlap, gated):
    """Every state that two slots and three misfortunes can lead to, and from each of them to the end."""
    plan = Plan(order=(0, 1), kind=kind, overlap=overlap, gated=gated, ready_timeout=5.0)
    start = World(plan, misfortunes=3)
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
    expected = {Phase.DONE, Phase.ABORTED} | ({Phase.ROLLED_BACK} if kind is Kind.RELOAD else set())
    assert ends == expected
    assert len(seen) > 100
