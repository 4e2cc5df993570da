"""Several processes reloaded as one: all of them or none."""

from __future__ import annotations

import collections

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oxherd.core.phases import Phase, Plan
from oxherd.core.rollout_messages import Begin, Cancel, Proceed, Revert
from oxherd.core.transaction import Conclude, Progress, Tell, Transaction, begin, cancel, report
from support.rollout_world import World


class Story:
    """Reports phases and keeps what came of the last report."""

    def __init__(self, *levels: str) -> None:
        self.transaction, self.commands = begin([level.split() for level in levels])

    def report(self, name: str, phase: Phase, detail: str = "") -> Story:
        self.transaction, self.commands = report(self.transaction, name, phase, detail)
        return self

    def all(self, phase: Phase, *names: str) -> Story:
        for name in names:
            self.report(name, phase)
        return self


def proved() -> Story:
    """The database and what needs it, all canaries settled."""
    return Story("db", "api web").all(Phase.SETTLED, "db", "api", "web")


def test_canaries_are_proved_level_by_level():
    story = Story("db", "api web")
    assert story.commands == (Tell("db", Begin()),)
    for phase in (Phase.PREPARING, Phase.CANARY, Phase.SETTLING):
        assert story.report("db", phase).commands == ()
    assert story.report("db", Phase.SETTLED).commands == (Tell("api", Begin()), Tell("web", Begin()))


def test_nothing_moves_before_every_canary_is_settled():
    story = Story("db", "api web").all(Phase.SETTLED, "db", "api")
    assert story.commands == ()
    assert story.report("web", Phase.SETTLED).commands == (Tell("db", Proceed()),)
    assert story.transaction.progress is Progress.ROLLING


def test_slots_are_moved_level_by_level_and_all_commit_together():
    story = proved().report("db", Phase.ROLLING)
    assert story.commands == ()
    assert story.report("db", Phase.MOVED).commands == (Tell("api", Proceed()), Tell("web", Proceed()))
    assert story.report("web", Phase.MOVED).commands == ()
    assert story.report("api", Phase.MOVED).commands == (
        Tell("db", Proceed()),
        Tell("api", Proceed()),
        Tell("web", Proceed()),
    )
    assert story.all(Phase.DRAINING, "db", "api", "web").all(Phase.DONE, "db", "web").commands == ()
    assert story.report("api", Phase.DONE).commands == (Conclude(Phase.DONE),)


def test_a_canary_that_fails_takes_back_the_others_and_those_that_were_not_begun():
    story = Story("db", "api", "web").all(Phase.SETTLED, "db").report("api", Phase.ABORTED, "ImportError: shop")
    cause = "api: ImportError: shop"
    assert story.commands == (Tell("web", Revert(cause)), Tell("db", Revert(cause)))
    assert story.report("web", Phase.ABORTED).commands == ()
    assert story.report("db", Phase.ABORTED).commands == (Conclude(Phase.ABORTED, cause),)


def test_a_failure_while_rolling_rolls_back_what_was_moved():
    story = proved().all(Phase.MOVED, "db").report("web", Phase.ROLLING_BACK, "status 3")
    cause = "web: status 3"
    assert story.commands == (Tell("api", Revert(cause)), Tell("db", Revert(cause)))
    story.report("api", Phase.ABORTED).report("db", Phase.ROLLING_BACK).report("web", Phase.ROLLED_BACK)
    assert story.commands == ()
    assert story.report("db", Phase.ROLLED_BACK).commands == (Conclude(Phase.ROLLED_BACK, cause),)


def test_the_first_failure_is_the_cause():
    story = proved().all(Phase.MOVED, "db").report("web", Phase.ROLLING_BACK, "first")
    story.report("api", Phase.ABORTED, "second").report("db", Phase.ROLLED_BACK, "third")
    assert story.report("web", Phase.ROLLED_BACK).commands == (Conclude(Phase.ROLLED_BACK, "web: first"),)


def test_a_failure_of_a_lone_process_concludes_at_once():
    story = Story("web").report("web", Phase.ABORTED, "health: 500")
    assert story.commands == (Conclude(Phase.ABORTED, "web: health: 500"),)


def test_one_that_is_stopped_in_the_middle_takes_back_the_others():
    story = proved().report("web", Phase.CANCELLED)
    assert story.commands == (Tell("api", Revert("web: cancelled")), Tell("db", Revert("web: cancelled")))


def test_one_that_is_stopped_while_it_drains_was_committed_like_the_others():
    story = Story("api web").all(Phase.SETTLED, "api", "web").all(Phase.MOVED, "api", "web")
    assert story.all(Phase.DRAINING, "api", "web").report("web", Phase.CANCELLED).commands == ()
    assert story.report("api", Phase.DONE).commands == (Conclude(Phase.DONE),)


def test_a_stop_cancels_all_that_are_not_over_at_once():
    story = Story("db", "api web").report("db", Phase.SETTLED)
    after, commands = cancel(story.transaction, "the stack is being stopped")
    told = Cancel("the stack is being stopped")
    assert commands == (
        Tell("db", told),
        Tell("api", told),
        Tell("web", told),
        Conclude(Phase.CANCELLED, "the stack is being stopped"),
    )
    assert report(after, "db", Phase.CANCELLED) == (after, ())
    assert cancel(after, "again") == (after, ())


def test_levels_without_anybody_do_not_count():
    assert Story("", "web", "").report("web", Phase.SETTLED).commands == (Tell("web", Proceed()),)
    assert Story().commands == (Conclude(Phase.DONE),)
    assert Story("", "").transaction.progress is Progress.OVER


# -- with real rollouts ---------------------------------------------------------------------------------------------


class Together:
    """A transaction and the rollouts of its processes, wired as a supervisor wires them."""

    def __init__(self, levels: list[list[str]], plans: dict[str, Plan], misfortunes: int) -> None:
        self.worlds = {name: World(plan, misfortunes) for name, plan in plans.items()}
        self.queue: collections.deque[Tell | Conclude] = collections.deque()
        self.conclusion: Conclude | None = None
        self.transaction, commands = begin(levels)
        self.carry_out(commands)

    def carry_out(self, commands: tuple[Tell | Conclude, ...]) -> None:
        self.queue.extend(commands)
        while self.queue:
            match self.queue.popleft():
                case Tell(name, event):
                    if event == Proceed():
                        settled = {world.rollout.phase for world in self.worlds.values()}
                        early = {Phase.PLANNED, Phase.PREPARING, Phase.CANARY, Phase.SETTLING}
                        assert not settled & early, "moved before all were settled"
                    world = self.worlds[name]
                    if isinstance(event, Revert):
                        world.failed = True
                    self.after(name, lambda world=world, event=event: world.feed(event))
                case Conclude() as conclusion:
                    assert self.conclusion is None
                    self.conclusion = conclusion

    def after(self, name: str, move) -> None:
        """Do something to a rollout and report where that led."""
        world = self.worlds[name]
        before = world.rollout.phase
        move()
        world.check()
        if world.rollout.phase is not before:
            self.transaction, commands = report(self.transaction, name, world.rollout.phase, world.rollout.cause)
            self.queue.extend(commands)

    def moves(self, *, mishaps: bool) -> list[tuple[str, object]]:
        found = []
        for name, world in self.worlds.items():
            gates = world.rollout.phase in {Phase.PLANNED, Phase.SETTLED, Phase.MOVED}
            # Passing a gate is the transaction's business, and so is reverting.
            owed = [] if gates and not world.preparing else world.owed()
            owed += [move for move in world.owed() if move[0] in {"goes_on", "old_gone"}] if gates else []
            wrong = [move for move in world.mishaps() if move[0] != "revert"] if mishaps else []
            found += [(name, move) for move in (*owed, *wrong)]
        return found

    def go(self, name: str, move) -> None:
        self.after(name, lambda: self.worlds[name].move(move))
        self.carry_out(())


plans = st.builds(
    Plan,
    order=st.sampled_from([(0,), (0, 1), (2, 0, 1), ()]),
    gated=st.just(True),
    overlap=st.booleans(),
    settle=st.sampled_from([0.0, 1.0]),
)


@given(
    st.sampled_from([[["a"]], [["a"], ["b"]], [["a", "b"]], [["a"], ["b", "c"]], [["a", "b"], ["c"]]]),
    st.fixed_dictionaries(dict.fromkeys("abc", plans)),
    st.integers(0, 2),
    st.lists(st.integers(0, 999), max_size=60),
)
@settings(max_examples=200, deadline=None)
def test_all_or_none(levels, plans, misfortunes, choices):
    """Whatever goes wrong in whatever order: in the end all are of the new generation, or all are of the old one."""
    names = [name for level in levels for name in level]
    together = Together(levels, {name: plans[name] for name in names}, misfortunes)
    for number in range(600):
        if together.conclusion is not None:
            break
        left = number < len(choices)
        moves = together.moves(mishaps=left)
        assert moves, together.transaction
        together.go(*moves[choices[number] % len(moves)] if left else moves[0])
    assert together.conclusion is not None
    phases = {world.rollout.phase for world in together.worlds.values()}
    if together.conclusion.result is Phase.DONE:
        assert phases == {Phase.DONE}
        assert all(world.committed for world in together.worlds.values())
    else:
        assert phases <= {Phase.ABORTED, Phase.ROLLED_BACK}
        assert not any(world.committed for world in together.worlds.values())
        assert together.conclusion.detail
    if misfortunes == 0:
        assert together.conclusion.result is Phase.DONE


@pytest.mark.parametrize("progress", Progress)
def test_every_progress_takes_a_report(progress):
    transaction: Transaction = Story("db", "web").transaction
    changed = type(transaction)(members=transaction.members, progress=progress, cause="x")
    after, _ = report(changed, "db", Phase.PREPARING)
    assert after.progress is progress
