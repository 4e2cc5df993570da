"""The life of an instance, told as histories, and the table behind it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from oxherd.core import commands as c
from oxherd.core import events as e
from oxherd.core.exits import ExitStatus
from oxherd.core.instance import Desired, Instance, LifePolicy, Reason, State, Timer
from oxherd.core.lifecycle import TABLE, step
from oxherd.core.restart import RestartMode, RestartPolicy

FAILED = ExitStatus(code=1)
DONE = ExitStatus(code=0)
KILLED = ExitStatus(signal=9)


class Story:
    """Feeds events and keeps what came of them."""

    def __init__(self, **policy: object) -> None:
        self.instance = Instance(policy=LifePolicy(**policy))
        self.commands: tuple[c.Command, ...] = ()
        self.now = 0.0

    def feed(self, event: e.Event, *, at: float | None = None) -> Story:
        self.now = self.now + 1 if at is None else at
        self.instance, self.commands = step(self.instance, event, self.now)
        return self

    def started(self) -> Story:
        self.feed(e.Start()).feed(e.Permitted())
        if self.instance.state is State.WAITING:
            self.feed(e.TimerFired(Timer.START_DELAY))
        return self.feed(e.Spawned(self.instance.incarnation, 1000 + self.instance.incarnation))

    def running(self) -> Story:
        return self.started().feed(e.BecameReady(self.instance.incarnation))

    def exited(self, status: ExitStatus) -> Story:
        return self.feed(e.Exited(self.instance.incarnation, status))

    def swept(self) -> Story:
        return self.feed(e.Swept(self.instance.incarnation))

    @property
    def announced(self) -> list[str]:
        return [command.kind for command in self.commands if isinstance(command, c.Announce)]


def test_the_table_is_total_and_says_where_every_cell_leads():
    for state in State:
        assert set(TABLE[state]) == set(e.EventKind)
        for rule in TABLE[state].values():
            assert rule.targets <= set(State)


def test_every_state_can_be_reached_and_left():
    reached = {target for row in TABLE.values() for rule in row.values() for target in rule.targets}
    assert reached == set(State)
    for state in State:
        assert any(rule.targets - {state} for rule in TABLE[state].values()), state


def test_an_instance_that_is_killed_is_spawned_again_at_once():
    story = Story().running().exited(KILLED)
    assert story.instance.state is State.SWEEPING
    story.swept()
    assert story.instance.state is State.SPAWNING
    assert c.Spawn(2) in story.commands
    assert story.instance.restarts == 1


def test_the_second_failure_in_a_row_waits():
    story = Story().running().exited(KILLED).swept().feed(e.Spawned(2, 7)).exited(FAILED).swept()
    assert story.instance.state is State.BACKOFF
    assert c.Arm(Timer.BACKOFF, 0.1) in story.commands
    story.feed(e.TimerFired(Timer.BACKOFF))
    assert c.Spawn(3) in story.commands


def test_after_max_restarts_failures_in_a_row_it_counts_as_crashed():
    story = Story(restart=RestartPolicy(max_restarts=2)).started()
    for _ in range(2):
        story.exited(FAILED).swept()
        if story.instance.state is State.BACKOFF:
            story.feed(e.TimerFired(Timer.BACKOFF))
        story.feed(e.Spawned(story.instance.incarnation, 5))
    story.exited(FAILED).swept()
    assert story.instance.state is State.CRASHED
    assert story.instance.status == "crashed"
    assert story.instance.detail == "exited with 1"
    assert story.announced == ["crashed"]


def test_a_stable_run_makes_earlier_failures_forgotten():
    story = Story().running().exited(KILLED).swept().feed(e.Spawned(2, 7)).feed(e.BecameReady(2))
    assert story.instance.failures == 1
    story.feed(e.TimerFired(Timer.STABLE))
    assert story.instance.failures == 0


def test_a_stop_signals_the_main_pid_then_kills_everything_at_the_timeout():
    story = Story(stop_signal=2, stop_timeout=7.0).running().feed(e.Stop())
    assert c.Signal(2) in story.commands
    assert c.Arm(Timer.STOP, 7.0) in story.commands
    assert c.Probe(on=False) in story.commands
    story.feed(e.TimerFired(Timer.STOP))
    assert c.KillTree() in story.commands
    story.exited(KILLED)
    assert c.Sweep(gentle=False) in story.commands
    story.swept()
    assert story.instance.state is State.STOPPED
    assert story.instance.timers == frozenset()


def test_what_a_stopped_main_leaves_behind_gets_the_rest_of_the_time():
    story = Story().running().feed(e.Stop()).exited(DONE)
    assert c.Sweep(gentle=True) in story.commands
    assert Timer.STOP in story.instance.timers
    story.feed(e.TimerFired(Timer.STOP))
    assert c.KillTree() in story.commands


def test_what_a_dead_main_leaves_behind_is_killed_before_it_comes_back():
    story = Story().running().exited(KILLED)
    assert c.Sweep(gentle=False) in story.commands
    assert not any(isinstance(command, c.Spawn) for command in story.commands)


def test_a_stop_before_the_exec_is_through_is_kept():
    story = Story().feed(e.Start()).feed(e.Permitted()).feed(e.Stop())
    assert story.instance.desired is Desired.DOWN
    story.feed(e.Spawned(1, 9))
    assert story.instance.state is State.STOPPING
    assert c.Signal(15) in story.commands


def test_stop_and_start_before_the_exec_is_through_keep_the_one_being_born():
    story = Story().feed(e.Start()).feed(e.Permitted()).feed(e.Stop()).feed(e.Start()).feed(e.Spawned(1, 9))
    assert story.instance.state is State.STARTING
    assert not story.instance.restart_pending


def test_a_restart_waits_for_the_old_incarnation_and_skips_the_back_off():
    story = Story().running().feed(e.Restart())
    assert story.instance.state is State.STOPPING
    story.exited(DONE).swept()
    assert story.instance.state is State.SPAWNING
    assert story.instance.restarts == 1
    assert story.instance.failures == 0


def test_a_stop_during_a_restart_wins():
    story = Story().running().feed(e.Restart()).feed(e.Stop()).exited(DONE).swept()
    assert story.instance.state is State.STOPPED


def test_a_start_during_a_stop_wins():
    story = Story().running().feed(e.Stop()).feed(e.Start()).exited(DONE).swept()
    assert story.instance.state is State.SPAWNING


def test_a_program_that_cannot_be_started_at_all_is_not_tried_again():
    story = Story().feed(e.Start()).feed(e.Permitted())
    story.feed(e.SpawnFailed(1, "could not start: executing x: No such file or directory", permanent=True))
    assert story.instance.state is State.CRASHED
    assert "No such file" in story.instance.detail


def test_a_start_that_may_work_later_is_tried_again():
    story = Story().feed(e.Start()).feed(e.Permitted()).feed(e.SpawnFailed(1, "no room"))
    assert story.instance.state is State.SPAWNING
    story.feed(e.SpawnFailed(2, "no room"))
    assert story.instance.state is State.BACKOFF


def test_a_failed_dependency_keeps_it_down_and_says_why():
    story = Story().feed(e.Start()).feed(e.Permitted(ok=False, detail="migrate failed"))
    assert story.instance.state is State.CRASHED
    assert story.instance.reason is Reason.DEPENDENCY
    assert story.instance.detail == "migrate failed"


def test_a_oneshot_that_is_done_is_complete():
    story = Story(oneshot=True, settle=None).started().exited(DONE).swept()
    assert story.instance.state is State.EXITED
    assert story.instance.completed


def test_a_oneshot_that_failed_and_is_not_to_be_repeated_has_crashed():
    story = Story(oneshot=True, settle=None, restart=RestartPolicy(mode=RestartMode.NEVER)).started()
    story.exited(FAILED).swept()
    assert story.instance.state is State.CRASHED
    assert not story.instance.completed


def test_without_a_health_check_living_through_the_settle_time_is_ready():
    story = Story(settle=0.5).started()
    assert c.Arm(Timer.SETTLE, 0.5) in story.commands
    story.feed(e.TimerFired(Timer.SETTLE))
    assert story.instance.state is State.RUNNING


def test_an_unhealthy_program_is_restarted_with_back_off_but_never_given_up():
    story = Story(settle=None, restart=RestartPolicy(max_restarts=1)).running()
    for _ in range(5):
        story.feed(e.Condemned(story.instance.incarnation, Reason.UNHEALTHY, "HTTP 503")).exited(DONE).swept()
        if story.instance.state is State.BACKOFF:
            story.feed(e.TimerFired(Timer.BACKOFF))
        story.feed(e.Spawned(story.instance.incarnation, 5))
        assert story.instance.state is State.STARTING
        assert story.instance.status == "unhealthy"
    story.feed(e.BecameReady(story.instance.incarnation))
    assert story.instance.status == "running"


def test_an_unhealthy_program_that_is_never_restarted_is_shown_and_recovers():
    story = Story(settle=None, restart=RestartPolicy(mode=RestartMode.NEVER)).running()
    story.feed(e.Condemned(1, Reason.UNHEALTHY, "HTTP 503"))
    assert (story.instance.state, story.instance.status) == (State.RUNNING, "unhealthy")
    story.feed(e.BecameReady(1))
    assert story.instance.status == "running"
    assert story.announced == ["healthy"]


def test_a_job_that_runs_too_long_is_stopped():
    story = Story(oneshot=True, settle=None, run_timeout=60.0, restart=RestartPolicy(mode=RestartMode.NEVER)).started()
    story.feed(e.TimerFired(Timer.RUN))
    assert story.instance.state is State.STOPPING
    assert story.instance.reason is Reason.TIMEOUT
    story.exited(ExitStatus(signal=15)).swept()
    assert story.instance.state is State.CRASHED
    assert story.instance.detail == "ran longer than its timeout of 60 s"


def test_a_program_that_does_not_become_ready_in_time_is_condemned():
    story = Story(settle=None, ready_timeout=5.0).started().feed(e.TimerFired(Timer.READY))
    assert story.instance.state is State.STOPPING
    assert story.instance.detail == "not ready after 5 s"


def test_the_start_delay_comes_once_not_at_every_restart():
    story = Story(start_delay=3.0).feed(e.Start()).feed(e.Permitted())
    assert c.Arm(Timer.START_DELAY, 3.0) in story.commands
    story.feed(e.TimerFired(Timer.START_DELAY)).feed(e.Spawned(1, 5)).exited(KILLED).swept()
    assert story.instance.state is State.SPAWNING


def test_news_of_an_earlier_incarnation_change_nothing():
    story = Story().running().exited(KILLED).swept().feed(e.Spawned(2, 7))
    before = story.instance
    assert step(before, e.Exited(1, FAILED), 99.0) == (before, ())


def test_what_cannot_happen_is_said_and_changes_nothing():
    instance = Instance(policy=LifePolicy())
    after, commands = step(instance, e.Spawned(0, 5), 1.0)
    assert after == instance
    assert commands == (c.Ignored("can't happen: Spawned while stopped"),)


def test_a_kill_that_does_not_take_is_repeated():
    story = Story(stop_timeout=30.0).running().feed(e.Stop()).feed(e.TimerFired(Timer.STOP))
    assert "killed" in story.announced
    story.feed(e.TimerFired(Timer.STOP))
    assert c.KillTree() in story.commands
    assert story.announced == []


@pytest.mark.parametrize("state", [State.STOPPED, State.CRASHED, State.EXITED])
def test_a_start_from_down_forgets_old_failures(state):
    old = replace(Instance(policy=LifePolicy()), state=state, failures=9, restarts=9, detail="old")
    after, commands = step(old, e.Start(), 1.0)
    assert (after.state, after.failures, after.restarts, after.detail) == (State.WAITING, 0, 0, "")
    assert c.Permit() in commands
