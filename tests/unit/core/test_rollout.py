"""A rolling replacement told as histories, and the table behind it."""

from __future__ import annotations

import pytest

from oxherd.core import rollout_messages as m
from oxherd.core.phases import Kind, Old, Phase, Plan, Rollout, Stage, Timer, Which
from oxherd.core.rollout import TABLE, step


class Story:
    """Feeds events and keeps what came of them."""

    def __init__(self, *order: int, **plan: object) -> None:
        self.rollout = Rollout.of(Plan(order=order, **plan))
        self.commands: list[m.Command] = []
        self.now = 0.0

    def feed(self, *events: m.Event) -> Story:
        """Feed events one second apart; `commands` are those of the last one."""
        for event in events:
            self.now += 1
            self.rollout, commands = step(self.rollout, event, self.now)
            self.commands = list(commands)
        return self

    def settled(self) -> Story:
        """Up to the end of the canary's settle time."""
        first = self.rollout.plan.order[0]
        return self.feed(m.Begin(), m.Prepared(), m.CandidateReady(first, 1), m.TimerFired(Timer.SETTLE))

    def moved(self, slot: int, attempt: int) -> Story:
        """The candidate of a slot becomes ready, if it is not, and accepts."""
        return self.feed(m.CandidateReady(slot, attempt), m.Accepting(slot, attempt))

    @property
    def phase(self) -> Phase:
        return self.rollout.phase

    @property
    def done(self) -> list[m.Command]:
        """The last commands without what only tells."""
        return [command for command in self.commands if not isinstance(command, m.Announce)]

    @property
    def told(self) -> list[tuple[object, int | None]]:
        return [(one.what, one.slot) for one in self.commands if isinstance(one, m.Announce)]

    def stage(self, slot: int) -> Stage:
        seat = self.rollout.seat(slot)
        assert seat is not None
        return seat.stage


def start(slot: int, attempt: int, which: Which = Which.NEW) -> m.StartCandidate:
    return m.StartCandidate(slot, attempt, which)


# -- forwards -------------------------------------------------------------------------------------------------------


def test_a_reload_prepares_then_proves_then_moves_slot_by_slot_then_commits():
    story = Story(0, 1)
    assert story.feed(m.Begin()).done == [m.Prepare()]
    assert story.feed(m.Prepared()).done == [start(0, 1)]
    assert story.phase is Phase.CANARY
    assert story.feed(m.CandidateReady(0, 1)).done == [m.Arm(Timer.SETTLE, 1.0)]
    assert story.phase is Phase.SETTLING
    assert story.feed(m.TimerFired(Timer.SETTLE)).done == [m.Promote(0, 1), m.Arm(Timer.ACCEPT, 10.0)]
    assert story.phase is Phase.ROLLING
    assert story.feed(m.Accepting(0, 1)).done == [m.Disarm(Timer.ACCEPT), m.RetireOld(0), start(1, 2)]
    assert story.feed(m.CandidateReady(1, 2)).done == [m.Promote(1, 2), m.Arm(Timer.ACCEPT, 10.0)]
    assert story.feed(m.Accepting(1, 2)).done == [m.Disarm(Timer.ACCEPT), m.RetireOld(1), m.CommitGeneration()]
    assert story.phase is Phase.DRAINING
    assert story.rollout.committed
    assert story.feed(m.OldGone(0)).done == []
    assert story.feed(m.OldGone(1)).done == [m.DropGeneration(Which.OLD), m.Finish(Phase.DONE)]
    assert story.phase is Phase.DONE


def test_the_next_slot_does_not_wait_for_an_old_worker_to_be_gone():
    story = Story(0, 1).settled().feed(m.Accepting(0, 1))
    assert start(1, 2) in story.commands
    seat = story.rollout.seat(0)
    assert seat is not None
    assert seat.old is Old.LEAVING


def test_what_happens_is_told_in_order():
    story = Story(0, 1)
    assert story.feed(m.Begin()).told == [(Phase.PREPARING, None)]
    assert story.feed(m.Prepared()).told == [(Phase.CANARY, 0), (Stage.STARTING, 0)]
    assert story.feed(m.CandidateReady(0, 1)).told == [(Phase.SETTLING, 0)]
    assert story.feed(m.TimerFired(Timer.SETTLE)).told == [(Phase.ROLLING, None)]
    assert story.feed(m.Accepting(0, 1)).told == [(Stage.MOVED, 0), (Stage.STARTING, 1)]
    assert story.rollout.moved == 1
    assert story.moved(1, 2).told == [(Stage.MOVED, 1), (Phase.DRAINING, None)]
    assert story.feed(m.CandidateFailed(0, 1, "x"), m.OldGone(0), m.OldGone(1)).told == []


def test_the_seconds_of_each_phase_are_kept():
    story = Story(0).settled().feed(m.Accepting(0, 1), m.OldGone(0))
    assert story.rollout.spent == (
        (Phase.PREPARING, 1),
        (Phase.CANARY, 1),
        (Phase.SETTLING, 1),
        (Phase.ROLLING, 1),
        (Phase.DRAINING, 1),
    )


def test_without_a_time_to_settle_the_canary_is_promoted_when_it_is_ready():
    story = Story(0, settle=0.0).feed(m.Begin(), m.Prepared(), m.CandidateReady(0, 1))
    assert story.phase is Phase.ROLLING
    assert m.Promote(0, 1) in story.commands


def test_a_reload_of_no_slots_prepares_and_commits():
    """A process scaled to nothing: its next start is of the new generation, if that can be prepared at all."""
    story = Story().feed(m.Begin())
    assert story.done == [m.Prepare()]
    assert story.feed(m.Prepared()).done == [
        m.CommitGeneration(),
        m.DropGeneration(Which.OLD),
        m.Finish(Phase.DONE),
    ]


def test_a_candidate_has_its_time_to_become_ready():
    story = Story(0, ready_timeout=5.0).feed(m.Begin(), m.Prepared())
    assert story.done == [start(0, 1), m.Arm(Timer.READY, 5.0)]
    story.feed(m.TimerFired(Timer.READY))
    assert story.phase is Phase.ABORTED
    assert story.rollout.cause == "not ready after 5 s"


def test_readiness_that_comes_and_goes_and_listeners_that_are_lent_change_nothing():
    story = Story(0, 1).settled().feed(m.Accepting(0, 1))
    before = story.rollout
    assert story.feed(m.CandidateReady(0, 1), m.Accepting(0, 1)).commands == []
    assert story.rollout == before


# -- aborted: nothing has changed -----------------------------------------------------------------------------------


def test_what_cannot_be_prepared_aborts():
    story = Story(0, 1).feed(m.Begin(), m.PrepareFailed("ImportError: no module named shop"))
    assert story.done == [m.DropGeneration(Which.NEW), m.Finish(Phase.ABORTED, "ImportError: no module named shop")]
    assert story.phase is Phase.ABORTED


def test_a_canary_that_fails_aborts():
    story = Story(0, 1).feed(m.Begin(), m.Prepared(), m.CandidateFailed(0, 1, "health: 500"))
    assert story.done == [
        m.DiscardCandidate(0, 1),
        m.DropGeneration(Which.NEW),
        m.Finish(Phase.ABORTED, "health: 500"),
    ]


def test_a_canary_that_falls_over_while_it_settles_aborts():
    """The code that exits with 3 a second later."""
    story = Story(0, 1).feed(m.Begin(), m.Prepared(), m.CandidateReady(0, 1), m.CandidateFailed(0, 1, "status 3"))
    assert story.done == [
        m.Disarm(Timer.SETTLE),
        m.DiscardCandidate(0, 1),
        m.DropGeneration(Which.NEW),
        m.Finish(Phase.ABORTED, "status 3"),
    ]


def test_a_promoted_canary_that_does_not_accept_aborts_for_nothing_old_was_told_to_go():
    story = Story(0, 1).settled().feed(m.TimerFired(Timer.ACCEPT))
    assert story.done == [
        m.DiscardCandidate(0, 1, serving=True),
        m.DropGeneration(Which.NEW),
        m.Finish(Phase.ABORTED, "does not accept after 10 s"),
    ]


# -- rolled back ----------------------------------------------------------------------------------------------------


def test_a_later_candidate_that_fails_rolls_back_what_was_moved():
    story = Story(0, 1).settled().feed(m.Accepting(0, 1), m.CandidateFailed(1, 2, "out of memory"))
    assert story.phase is Phase.ROLLING_BACK
    assert story.done == [m.DiscardCandidate(1, 2), start(0, 3, Which.OLD)]
    assert story.told[0] == (Phase.ROLLING_BACK, None)
    assert story.feed(m.CandidateReady(0, 3)).done == [m.Promote(0, 3), m.Arm(Timer.ACCEPT, 10.0)]
    assert story.feed(m.Accepting(0, 3)).done == [
        m.Disarm(Timer.ACCEPT),
        m.DiscardCandidate(0, 1, serving=True),
        m.DropGeneration(Which.NEW),
        m.Finish(Phase.ROLLED_BACK, "out of memory"),
    ]
    assert story.stage(1) is Stage.OLD


def test_a_new_worker_that_dies_after_its_slot_was_moved_rolls_back():
    story = Story(0, 1).settled().feed(m.Accepting(0, 1), m.OldGone(0), m.CandidateFailed(0, 1, "signal 11"))
    assert story.phase is Phase.ROLLING_BACK
    assert m.DiscardCandidate(1, 2) in story.commands
    assert start(0, 3, Which.OLD) in story.commands
    # The lost one has nobody to be discarded when its successor accepts.
    story.moved(0, 3)
    assert [one for one in story.done if isinstance(one, m.DiscardCandidate)] == []


def test_a_slot_without_any_worker_is_brought_back_first():
    story = Story(0, 1, 2).settled().feed(m.Accepting(0, 1)).moved(1, 2).feed(m.CandidateFailed(1, 2, "signal 11"))
    assert m.DiscardCandidate(2, 3) in story.commands
    assert start(1, 4, Which.OLD) in story.commands
    assert start(0, 5, Which.OLD) in story.moved(1, 4).commands


def test_a_new_worker_that_dies_while_its_slot_waits_to_be_brought_back_is_noted():
    story = Story(0, 1, 2).settled().feed(m.Accepting(0, 1)).moved(1, 2)
    story.feed(m.CandidateFailed(2, 3, "x"), m.CandidateFailed(1, 2, "signal 11"))
    assert story.phase is Phase.ROLLING_BACK
    assert story.done == [m.DiscardCandidate(1, 2, serving=True)]
    story.moved(0, 4)
    assert story.moved(1, 5).phase is Phase.ROLLED_BACK


def test_a_slot_that_cannot_be_brought_back_is_tried_again_and_then_handed_over():
    story = Story(0, 1).settled().feed(m.Accepting(0, 1), m.CandidateFailed(1, 2, "x"))
    assert story.feed(m.CandidateFailed(0, 3, "no database")).done == [
        m.DiscardCandidate(0, 3),
        start(0, 4, Which.OLD),
    ]
    assert story.feed(m.CandidateFailed(0, 4, "no database")).done == [
        m.DiscardCandidate(0, 4),
        m.HandOver(0, "no database"),
        m.DropGeneration(Which.NEW),
        m.Finish(Phase.ROLLED_BACK, "x; slot 0 could not be brought back: no database"),
    ]
    # The new worker was not told to go: it serves until the lifecycle has something better.
    assert story.stage(0) is Stage.LEFT


def test_a_worker_that_was_brought_back_and_dies_is_its_lifecycles_business():
    story = Story(0, 1, 2).settled().feed(m.Accepting(0, 1)).moved(1, 2).feed(m.CandidateFailed(2, 3, "x"))
    story.moved(0, 4).feed(m.CandidateFailed(0, 4, "signal 9"))
    assert story.done == [m.HandOver(0, "signal 9")]
    assert story.moved(1, 5).phase is Phase.ROLLED_BACK


def test_a_worker_that_is_to_come_back_and_does_not_accept_is_tried_again():
    story = Story(0, 1).settled().feed(m.Accepting(0, 1), m.CandidateFailed(1, 2, "x"), m.CandidateReady(0, 3))
    story.feed(m.TimerFired(Timer.ACCEPT))
    assert story.done == [m.DiscardCandidate(0, 3, serving=True), start(0, 4, Which.OLD)]


# -- the old ones meanwhile -----------------------------------------------------------------------------------------


def test_the_canary_takes_the_place_of_an_old_worker_that_dies_while_it_settles():
    story = Story(0, 1).feed(m.Begin(), m.Prepared(), m.CandidateReady(0, 1), m.OldCrashed(0))
    assert story.done == [m.Promote(0, 1), m.Arm(Timer.ACCEPT, 10.0)]
    assert story.phase is Phase.SETTLING
    story.feed(m.Accepting(0, 1))
    assert story.stage(0) is Stage.ACCEPTING
    assert story.feed(m.TimerFired(Timer.SETTLE)).done == [m.RetireOld(0), start(1, 2)]


def test_a_canary_that_took_a_place_unsettled_and_fails_still_aborts():
    """The old worker was not told to go, so its lifecycle brings it back."""
    story = Story(0, 1).feed(m.Begin(), m.Prepared(), m.CandidateReady(0, 1), m.OldCrashed(0), m.Accepting(0, 1))
    story.feed(m.CandidateFailed(0, 1, "status 3"))
    assert story.done == [
        m.Disarm(Timer.SETTLE),
        m.DiscardCandidate(0, 1, serving=True),
        m.DropGeneration(Which.NEW),
        m.Finish(Phase.ABORTED, "status 3"),
    ]


def test_where_nothing_runs_the_canary_serves_at_once():
    story = Story(0, 1, down=frozenset({0, 1})).feed(m.Begin(), m.Prepared(), m.CandidateReady(0, 1))
    assert m.Promote(0, 1) in story.commands
    assert story.phase is Phase.SETTLING


def test_an_old_worker_that_came_back_is_not_replaced_by_an_unsettled_canary():
    story = Story(0, 1).feed(m.Begin(), m.Prepared(), m.OldCrashed(0), m.OldReady(0), m.CandidateReady(0, 1))
    assert story.done == [m.Arm(Timer.SETTLE, 1.0)]


def test_the_settle_time_ends_before_a_canary_that_was_promoted_accepts():
    story = Story(0, 1).feed(m.Begin(), m.Prepared(), m.CandidateReady(0, 1), m.OldCrashed(0))
    assert story.feed(m.TimerFired(Timer.SETTLE)).done == []
    assert story.feed(m.Accepting(0, 1)).done == [m.Disarm(Timer.ACCEPT), m.RetireOld(0), start(1, 2)]


# -- replacements ---------------------------------------------------------------------------------------------------


def test_a_replacement_has_no_canary_and_no_generations():
    story = Story(2, kind=Kind.REPLACE)
    assert story.feed(m.Begin()).done == [start(2, 1)]
    assert story.phase is Phase.ROLLING
    assert m.RetireOld(2) in story.moved(2, 1).commands
    assert m.CommitGeneration() not in story.commands
    assert story.feed(m.OldGone(2)).done == [m.Finish(Phase.DONE)]


def test_a_replacement_that_fails_keeps_the_old_worker():
    story = Story(2, kind=Kind.REPLACE).feed(m.Begin(), m.CandidateFailed(2, 1, "no memory"))
    assert story.done == [m.DiscardCandidate(2, 1), m.Finish(Phase.ABORTED, "no memory")]


def test_a_replacement_that_fails_in_a_later_slot_leaves_the_earlier_ones_replaced():
    story = Story(0, 1, kind=Kind.REPLACE).feed(m.Begin()).moved(0, 1).feed(m.CandidateFailed(1, 2, "x"))
    assert story.done == [m.DiscardCandidate(1, 2), m.Finish(Phase.ABORTED, "x")]
    assert story.stage(0) is Stage.MOVED


def test_a_worker_that_replaced_another_and_dies_is_its_lifecycles_business():
    story = Story(0, 1, kind=Kind.REPLACE).feed(m.Begin()).moved(0, 1).feed(m.CandidateFailed(0, 1, "signal 9"))
    assert story.done == [m.HandOver(0, "signal 9")]
    assert story.phase is Phase.ROLLING


def test_a_new_worker_that_dies_after_the_commit_is_its_lifecycles_business():
    story = Story(0).settled().feed(m.Accepting(0, 1))
    assert story.phase is Phase.DRAINING
    assert story.feed(m.CandidateFailed(0, 1, "signal 9")).done == [m.HandOver(0, "signal 9")]
    assert story.feed(m.OldGone(0)).phase is Phase.DONE


def test_plans_that_mean_nothing_are_refused():
    with pytest.raises(ValueError, match="a replacement needs overlap"):
        Plan(order=(0,), kind=Kind.REPLACE, overlap=False)
    with pytest.raises(ValueError, match=r"a slot twice in \(0, 1, 0\)"):
        Plan(order=(0, 1, 0))


# -- without overlap ------------------------------------------------------------------------------------------------


def apart(*order: int, **plan: object) -> Story:
    return Story(*order, overlap=False, **plan).feed(m.Begin(), m.Prepared())


def test_without_overlap_the_old_one_is_gone_before_the_new_one_starts():
    story = apart(0, 1)
    assert story.done == [m.RetireOld(0)]
    assert story.feed(m.OldGone(0)).done == [start(0, 1)]
    # The first new one has to settle before the second slot is touched; after that there is no more waiting.
    assert story.moved(0, 1).done == [m.Disarm(Timer.ACCEPT), m.Arm(Timer.SETTLE, 1.0)]
    assert story.feed(m.TimerFired(Timer.SETTLE)).done == [m.RetireOld(1)]
    assert story.feed(m.OldGone(1)).done == [start(1, 2)]
    assert story.moved(1, 2).phase is Phase.DONE


def test_without_overlap_three_slots_settle_once():
    story = apart(0, 1, 2).feed(m.OldGone(0)).moved(0, 1).feed(m.TimerFired(Timer.SETTLE), m.OldGone(1)).moved(1, 2)
    assert m.RetireOld(2) in story.commands


def test_a_single_slot_without_overlap_does_not_settle_for_nobody():
    assert apart(0).feed(m.OldGone(0)).moved(0, 1).phase is Phase.DONE


def test_without_overlap_a_first_failure_brings_the_old_one_back_and_touches_nothing_else():
    story = apart(0, 1).feed(m.OldGone(0), m.CandidateFailed(0, 1, "port in use"))
    assert story.done == [m.DiscardCandidate(0, 1)]
    assert story.phase is Phase.ROLLING_BACK
    assert story.feed(m.CandidateGone(0, 1)).done == [start(0, 2, Which.OLD)]
    story.moved(0, 2)
    assert story.phase is Phase.ROLLED_BACK
    assert story.stage(1) is Stage.OLD


def test_without_overlap_what_fails_again_while_it_is_told_to_go_is_waited_for():
    story = apart(0, 1).feed(m.OldGone(0), m.CandidateFailed(0, 1, "x"), m.CandidateFailed(0, 1, "x again"))
    assert story.commands == []
    assert start(0, 2, Which.OLD) in story.feed(m.CandidateGone(0, 1)).commands


def test_without_overlap_a_candidate_that_is_simply_gone_needs_not_be_told_to_go():
    story = apart(0, 1).feed(m.OldGone(0), m.CandidateGone(0, 1))
    assert story.done == [start(0, 2, Which.OLD)]


def test_without_overlap_a_worker_that_does_not_come_back_is_gone_before_it_is_tried_again():
    story = apart(0).feed(m.OldGone(0), m.CandidateGone(0, 1), m.CandidateFailed(0, 2, "x"))
    assert story.done == [m.DiscardCandidate(0, 2)]
    assert story.feed(m.CandidateGone(0, 2)).done == [start(0, 3, Which.OLD)]
    assert story.feed(m.CandidateFailed(0, 3, "y")).done == [m.DiscardCandidate(0, 3)]
    assert m.HandOver(0, "y") in story.feed(m.CandidateGone(0, 3)).commands


def test_without_overlap_an_old_worker_on_its_way_out_is_waited_for_before_another_comes():
    story = Story(0, 1, overlap=False, gated=True).feed(m.Begin(), m.Prepared(), m.Proceed(), m.Revert("api: x"))
    assert story.done == []
    assert story.feed(m.OldGone(0)).done == [start(0, 1, Which.OLD)]


# -- transactions and stops -----------------------------------------------------------------------------------------


def test_a_gated_reload_waits_twice():
    story = Story(0, gated=True).settled()
    assert story.phase is Phase.SETTLED
    assert m.Promote(0, 1) in story.feed(m.Proceed()).commands
    story.feed(m.Accepting(0, 1))
    assert story.phase is Phase.MOVED
    assert m.CommitGeneration() not in story.commands
    assert story.feed(m.Proceed()).done == [m.CommitGeneration()]


def test_without_overlap_a_gated_reload_touches_nothing_before_all_are_settled():
    story = Story(0, gated=True, overlap=False).feed(m.Begin(), m.Prepared())
    assert story.phase is Phase.SETTLED
    assert story.done == []


def test_a_reload_whose_slots_are_all_moved_can_be_reverted_until_it_is_committed():
    story = Story(0, gated=True).settled().feed(m.Proceed(), m.Accepting(0, 1), m.Revert("api: status 3"))
    assert story.phase is Phase.ROLLING_BACK
    assert start(0, 2, Which.OLD) in story.commands


def test_a_reload_that_was_never_begun_is_reverted_without_a_trace():
    assert Story(0, gated=True).feed(m.Revert("api: x")).done == [m.Finish(Phase.ABORTED, "api: x")]


@pytest.mark.parametrize(
    ("events", "discards"),
    [
        ([], []),
        ([m.Begin()], []),
        ([m.Begin(), m.Prepared()], [m.DiscardCandidate(0, 1)]),
        ([m.Begin(), m.Prepared(), m.CandidateReady(0, 1)], [m.DiscardCandidate(0, 1)]),
        (
            [m.Begin(), m.Prepared(), m.CandidateReady(0, 1), m.TimerFired(Timer.SETTLE)],
            [m.DiscardCandidate(0, 1, serving=True)],
        ),
    ],
)
def test_a_stop_is_honoured_at_once(events, discards):
    story = Story(0, 1).feed(*events, m.Cancel("the stack is being stopped"))
    assert story.phase is Phase.CANCELLED
    assert [one for one in story.done if isinstance(one, m.DiscardCandidate)] == discards
    assert story.done[-1] == m.Finish(Phase.CANCELLED, "the stack is being stopped")
    assert story.rollout.timers == frozenset()


def test_a_stop_while_rolling_moves_nothing_more():
    story = Story(0, 1).settled().feed(m.Accepting(0, 1), m.Cancel("stop"))
    assert story.done == [
        m.DiscardCandidate(1, 2),
        m.DropGeneration(Which.NEW),
        m.Finish(Phase.CANCELLED, "stop"),
    ]


def test_a_stop_while_rolling_back_starts_nothing_more():
    story = Story(0, 1).settled().feed(m.Accepting(0, 1), m.CandidateFailed(1, 2, "x"), m.Cancel("stop"))
    assert story.done == [
        m.DiscardCandidate(0, 3),
        m.DropGeneration(Which.NEW),
        m.Finish(Phase.CANCELLED, "stop"),
    ]
    assert story.rollout.cause == "x"


def test_a_stop_after_the_commit_drops_the_old_generation():
    story = Story(0).settled().feed(m.Accepting(0, 1), m.Cancel("stop"))
    assert m.DropGeneration(Which.OLD) in story.commands


# -- the table ------------------------------------------------------------------------------------------------------

EVENTS = {
    m.EventKind.BEGIN: m.Begin(),
    m.EventKind.PREPARED: m.Prepared(),
    m.EventKind.PREPARE_FAILED: m.PrepareFailed("x"),
    m.EventKind.READY: m.CandidateReady(0, 1),
    m.EventKind.FAILED: m.CandidateFailed(0, 1, "x"),
    m.EventKind.GONE: m.CandidateGone(0, 1),
    m.EventKind.ACCEPTING: m.Accepting(0, 1),
    m.EventKind.OLD_GONE: m.OldGone(0),
    m.EventKind.OLD_CRASHED: m.OldCrashed(0),
    m.EventKind.OLD_READY: m.OldReady(0),
    m.EventKind.PROCEED: m.Proceed(),
    m.EventKind.REVERT: m.Revert("x"),
    m.EventKind.CANCEL: m.Cancel("x"),
    m.EventKind.T_SETTLE: m.TimerFired(Timer.SETTLE),
    m.EventKind.T_READY: m.TimerFired(Timer.READY),
    m.EventKind.T_ACCEPT: m.TimerFired(Timer.ACCEPT),
}


def in_phase(phase: Phase) -> Rollout:
    """A rollout in a phase, with a candidate and every timer armed, so that nothing is dropped before the table."""
    story = Story(0).feed(m.Begin(), m.Prepared())
    return Rollout(plan=story.rollout.plan, phase=phase, seats=story.rollout.seats, attempts=1, timers=frozenset(Timer))


def test_the_table_is_total():
    assert set(EVENTS) == set(m.EventKind)
    for phase in Phase:
        assert set(TABLE[phase]) == set(m.EventKind)
        for rule in TABLE[phase].values():
            assert rule.targets <= set(Phase) - {phase}


def test_every_phase_can_be_reached_and_left():
    reached = {target for row in TABLE.values() for rule in row.values() for target in rule.targets}
    assert reached == set(Phase) - {Phase.PLANNED}
    for phase in Phase:
        assert any(rule.targets for rule in TABLE[phase].values()) != phase.over


@pytest.mark.parametrize(
    ("phase", "kind"),
    [(phase, kind) for phase, row in TABLE.items() for kind, rule in row.items() if rule.note == "can't happen"],
)
def test_what_cannot_happen_is_said_out_loud_and_changes_nothing(phase, kind):
    before = in_phase(phase)
    after, commands = step(before, EVENTS[kind], 1.0)
    assert after.seats == before.seats
    assert after.phase is phase
    (ignored,) = commands
    assert isinstance(ignored, m.Ignored)
    assert phase.value in ignored.detail


@pytest.mark.parametrize(
    ("phase", "kind"),
    [(phase, kind) for phase, row in TABLE.items() for kind, rule in row.items() if rule.note == "late"],
)
def test_late_news_after_the_end_change_nothing(phase, kind):
    before = in_phase(phase)
    assert step(before, EVENTS[kind], 1.0) == (before, ())


def test_an_old_worker_that_is_gone_without_having_been_told_to_go_cannot_be():
    story = Story(0, 1).settled().feed(m.OldGone(1))
    assert story.commands == [m.Ignored("can't happen: OldGone while rolling")]


def test_news_of_what_is_none_of_its_are_dropped():
    story = Story(0).settled()
    before = story.rollout
    for event in (m.OldGone(7), m.OldCrashed(7), m.CandidateReady(0, 9), m.Accepting(7, 1), m.TimerFired(Timer.READY)):
        assert story.feed(event).commands == []
    assert story.rollout == before
