"""Ticks that come, ticks that stay away, and silences that are nobody's fault."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oxherd.core.pulse import PulsePolicy, PulseState, PulseVerdict, judge

NONE, STALLED, SLOW = PulseVerdict.NONE, PulseVerdict.STALLED, PulseVerdict.SLOW
BLOCKED, RECOVERED = PulseVerdict.BLOCKED, PulseVerdict.RECOVERED


class Watch:
    """Looks at one worker every tenth of a second."""

    def __init__(self, **policy: object) -> None:
        self.policy = PulsePolicy(**{"block_timeout": 5.0, **policy})
        self.state = PulseState()
        self.now = 1000.0
        self.ticked_at: float | None = 1000.0
        self.verdicts: list[PulseVerdict] = []

    def look(self, **facts: bool) -> PulseVerdict:
        self.state, verdict = judge(self.state, self.policy, ticked_at=self.ticked_at, now=self.now, **facts)
        if verdict is not NONE:
            self.verdicts.append(verdict)
        return verdict

    def runs(self, seconds: float, *, interval: float = 0.1) -> Watch:
        """The worker ticks all the time."""
        for _ in range(round(seconds / interval)):
            self.now += interval
            self.ticked_at = self.now - 0.01
            self.look()
        return self

    def silent(self, seconds: float, *, interval: float = 0.1, **facts: bool) -> Watch:
        """The worker does not tick."""
        for _ in range(round(seconds / interval)):
            self.now += interval
            self.look(**facts)
        return self


def test_a_worker_that_ticks_is_well():
    watch = Watch().runs(60)
    assert watch.verdicts == []
    assert not watch.state.stalled


def test_a_silence_is_lent_then_told_then_condemned_each_once():
    watch = Watch().runs(1).silent(0.2)
    assert watch.verdicts == []
    assert watch.silent(0.2).verdicts == [STALLED]
    assert watch.state.stalled
    assert watch.silent(0.8).verdicts == [STALLED, SLOW]
    assert watch.silent(3.5).verdicts == [STALLED, SLOW]
    assert watch.silent(0.5).verdicts == [STALLED, SLOW, BLOCKED]
    assert watch.silent(60).verdicts == [STALLED, SLOW, BLOCKED]


@pytest.mark.parametrize("never", [None, 0])
def test_without_a_block_timeout_nobody_is_condemned(never):
    assert Watch(block_timeout=never).runs(1).silent(3600, interval=0.3).verdicts == [STALLED, SLOW]


def test_a_block_timeout_below_the_other_bounds_gives_the_graver_verdict():
    watch = Watch(block_timeout=0.25).runs(1).silent(0.3)
    assert watch.verdicts == [BLOCKED]
    assert watch.state.stalled


def test_recovered_takes_some_good_looks():
    watch = Watch().runs(1).silent(0.5).runs(0.2)
    assert watch.verdicts == [STALLED]
    assert watch.runs(0.1).verdicts == [STALLED, RECOVERED]
    assert not watch.state.stalled


def test_a_loop_that_limps_does_not_get_its_listeners_back_in_between():
    """One tick between blocking calls of half a second each."""
    watch = Watch().runs(1)
    for _ in range(20):
        watch.silent(0.5).runs(0.1)
    assert watch.verdicts == [STALLED]
    assert watch.runs(1).verdicts == [STALLED, RECOVERED]


def test_a_worker_that_ticks_more_seldom_than_it_is_looked_at_recovers_too():
    """gunicorn's workers tick every 0.2 s."""
    watch = Watch().runs(1).silent(0.5)
    for _ in range(3):
        watch.runs(0.1).silent(0.1)
    assert watch.verdicts == [STALLED, RECOVERED]


def test_slow_is_told_anew_in_a_new_episode():
    watch = Watch().runs(1).silent(1.5).runs(1).silent(1.5)
    assert watch.verdicts == [STALLED, SLOW, RECOVERED, STALLED, SLOW]


def test_each_tick_begins_the_silence_anew():
    """A second of silence three times is not three seconds."""
    watch = Watch(block_timeout=1.5).runs(1)
    for _ in range(5):
        watch.silent(1.2).runs(0.1)
    assert BLOCKED not in watch.verdicts


def test_importing_for_a_minute_is_no_hang():
    watch = Watch()
    watch.ticked_at = 0.0
    watch.silent(60, booting=True)
    assert watch.verdicts == []
    watch.silent(0.2)
    assert watch.verdicts == [], "the silence begins when it has started, not when it was born"
    assert watch.silent(0.3).verdicts == [STALLED]


def test_a_draining_worker_is_left_alone():
    watch = Watch().runs(1).silent(0.5)
    assert watch.verdicts == [STALLED]
    watch.silent(60, draining=True)
    assert watch.verdicts == [STALLED]
    assert not watch.state.stalled


def test_a_worker_without_a_pulse_is_never_judged():
    watch = Watch()
    watch.ticked_at = None
    assert watch.silent(600).verdicts == []


def test_a_first_look_at_an_old_tick_condemns_nobody():
    """A supervisor that took over a worker an hour after its last look."""
    watch = Watch()
    watch.ticked_at = 10.0
    assert watch.look() is NONE
    assert watch.silent(0.2).verdicts == []
    assert watch.silent(0.2).verdicts == [STALLED]


@pytest.mark.parametrize("pause", [0.6, 3.0, 3600.0, 1e7])
def test_a_pause_of_everything_condemns_nobody(pause):
    """A suspended machine, or both stopped by a debugger: the last tick is as old as the last look."""
    watch = Watch().runs(1)
    watch.now += pause
    assert watch.look() is NONE
    assert watch.runs(1).verdicts == []


def test_a_late_supervisor_condemns_nobody_for_what_it_did_not_see():
    watch = Watch().runs(1).silent(0.2)
    watch.now += 3600
    assert watch.look() is NONE
    # One ordinary look was counted; the next one on time is believed.
    assert watch.silent(0.1).verdicts == [STALLED]


def test_a_pause_gives_no_recovery_either():
    watch = Watch().runs(1).silent(0.5).runs(0.2)
    watch.now += 60
    watch.look()
    assert watch.verdicts == [STALLED]
    assert watch.runs(0.3).verdicts == [STALLED, RECOVERED]


def test_a_supervisor_that_is_always_late_condemns_in_the_end():
    watch = Watch(block_timeout=2.0).runs(1)
    for _ in range(25):
        watch.now += 5.0
        watch.look()
    assert watch.verdicts == [], "no verdict comes of a late look"
    assert watch.silent(0.2).verdicts == [BLOCKED]


def test_a_new_tick_that_is_old_already_is_a_silence():
    """It ticked right after the last look and not again: nothing recovered, something began."""
    watch = Watch().runs(1)
    watch.ticked_at = watch.now + 0.01
    watch.now += 0.35
    assert watch.look() is STALLED


def test_a_tick_from_the_future_is_a_tick():
    """The worker wrote it after the supervisor had read the clock."""
    watch = Watch().runs(1)
    watch.ticked_at = watch.now + 0.2
    watch.now += 0.1
    assert watch.look() is NONE
    assert watch.state.silence == 0.0


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.05, 0.1, 0.2, 0.35, 1.0, 500.0]),
            st.booleans(),
            st.sampled_from(["", "booting", "draining"]),
        ),
        max_size=80,
    )
)
def test_verdicts_come_in_order_and_never_of_unseen_time(looks):
    policy = PulsePolicy(block_timeout=2.0)
    state, now, tick = PulseState(), 50.0, 50.0
    stalled = False
    # What a strict judge could hold against it: silence between looks that came in time.
    watched = 0.0
    for gap, ticks, life in looks:
        now += gap
        if ticks:
            tick = now
        watched = 0.0 if ticks or life else watched + min(gap, 0.4)
        state, verdict = judge(
            state, policy, ticked_at=tick, now=now, booting=life == "booting", draining=life == "draining"
        )
        if life:
            stalled = False
            assert verdict is NONE
        match verdict:
            case PulseVerdict.STALLED:
                assert not stalled
                assert watched >= policy.lend_after - 1e-9
                stalled = True
            case PulseVerdict.SLOW:
                assert watched >= policy.slow_after - 1e-9
                stalled = True
            case PulseVerdict.BLOCKED:
                assert watched >= 2.0 - 1e-9
                stalled = True
            case PulseVerdict.RECOVERED:
                assert stalled
                assert ticks
                stalled = False
            case PulseVerdict.NONE:
                pass
        assert state.stalled == stalled
        assert not (verdict is not NONE and gap > 0.4 and verdict is not RECOVERED)
