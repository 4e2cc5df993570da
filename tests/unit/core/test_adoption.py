"""In which state an instance goes on whose supervisor has died, and what is done at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oxherd.core.adoption import LIVE, Claim, Remembered, generation_to_keep, holders, revive
from oxherd.core.commands import Arm, KillTree, Permit, Probe, Signal, Sweep
from oxherd.core.exits import ExitStatus
from oxherd.core.instance import Desired, Instance, LifePolicy, Reason, State, Timer
from oxherd.core.restart import STABLE_AFTER, RestartPolicy

UP, DOWN = Desired.UP, Desired.DOWN
DONE, FAILED = ExitStatus(code=0), ExitStatus(code=1)
POLICY = LifePolicy(
    restart=RestartPolicy(delay=8.0, delay_max=8.0), stop_signal=3, stop_timeout=10.0, settle=0.5, ready_timeout=20.0
)
NOW = 1000.0


def revived(state, *, ago=0.0, policy=POLICY, told=True, **fields):
    """Return state and commands of one that changed its state some seconds ago."""
    fields = {"desired": UP, "incarnation": 4, "started_at": NOW - ago, **fields}
    remembered = Remembered(state=state, since=NOW - ago, **fields)
    instance, commands = revive(remembered, policy, NOW, 0.0, told=told)
    assert {command.timer for command in commands if isinstance(command, Arm)} == instance.timers
    assert instance.policy is policy
    return instance, commands


def test_what_was_written_down_of_an_instance_is_all_but_its_policy_and_timers():
    instance = Instance(
        policy=POLICY, generation=3, state=State.RUNNING, desired=UP, reason=Reason.UNHEALTHY, incarnation=7, pid=9,
        failures=2, restarts=5, restart_pending=True, killed=True, unhealthy=True, completed=True, since=1.0,
        started_at=2.0, exit=FAILED, detail="x", timers=frozenset({Timer.STABLE}),
    )  # fmt: skip
    remembered = Remembered.of(instance)
    kept = {name: getattr(remembered, name) for name in Remembered.__slots__}
    assert set(kept) == set(Instance.__slots__) - {"policy", "timers"}
    assert kept == {name: getattr(instance, name) for name in kept}


REST = (State.STOPPED, State.CRASHED, State.EXITED)


@pytest.mark.parametrize("state", REST)
@pytest.mark.parametrize("desired", Desired)
def test_what_is_down_is_down(state, desired):
    instance, commands = revived(state, desired=desired, pid=5, exit=DONE, completed=True, detail="why")
    assert commands == ()
    assert (instance.state, instance.desired, instance.pid, instance.started_at) == (state, desired, None, None)
    assert (instance.exit, instance.completed, instance.detail) == (DONE, True, "why")


@pytest.mark.parametrize("state", [State.WAITING, State.SPAWNING])
@pytest.mark.parametrize(
    ("desired", "expected", "commands"), [(UP, State.WAITING, (Permit(),)), (DOWN, State.STOPPED, ())]
)
def test_what_was_about_to_start_asks_again_if_it_is_wanted(state, desired, expected, commands):
    instance, done = revived(state, desired=desired, ago=50)
    assert (instance.state, instance.since, instance.pid, done) == (expected, NOW, None, commands)


@pytest.mark.parametrize(("ago", "left"), [(0.0, 8.0), (3.0, 5.0), (8.0, 0.0), (3600.0, 0.0)])
def test_a_back_off_has_the_rest_of_its_delay(ago, left):
    instance, commands = revived(State.BACKOFF, ago=ago, failures=1)
    assert (instance.state, commands) == (State.BACKOFF, (Arm(Timer.BACKOFF, left),))


def armed(commands):
    return {command.timer: command.seconds for command in commands if isinstance(command, Arm)}


@pytest.mark.parametrize(
    ("ago", "settle", "ready"),
    [
        (0.0, 0.5, 20.0),
        (0.2, 0.3, 19.8),
        (12.0, 0.0, 8.0),
        (16.0, 0.0, 5.0),  # not less: perhaps it is ready, and nobody has asked it yet
        (3600.0, 0.0, 5.0),
    ],
)
def test_one_that_is_starting_is_probed_and_has_the_rest_of_its_time(ago, settle, ready):
    instance, commands = revived(State.STARTING, ago=ago, pid=5)
    assert (instance.state, instance.pid, instance.started_at) == (State.STARTING, 5, NOW - ago)
    assert commands[0] == Probe(on=True)
    assert armed(commands) == pytest.approx({Timer.SETTLE: settle, Timer.READY: ready})


def test_no_one_gets_more_time_to_become_ready_than_it_ever_had():
    policy = LifePolicy(settle=None, ready_timeout=2.0)
    assert armed(revived(State.STARTING, ago=60, policy=policy)[1]) == {Timer.READY: 2.0}


def test_a_job_that_is_starting_does_not_settle():
    policy = LifePolicy(oneshot=True, settle=0.5, run_timeout=60.0)
    assert armed(revived(State.STARTING, ago=15, policy=policy)[1]) == {Timer.RUN: 45.0}
    assert armed(revived(State.STARTING, ago=70, policy=policy)[1]) == {Timer.RUN: 0.0}


def test_the_time_of_one_whose_exec_nobody_timed_is_counted_from_its_state():
    policy = LifePolicy(settle=None, run_timeout=60.0)
    assert armed(revived(State.STARTING, ago=15, policy=policy, started_at=None)[1]) == {Timer.RUN: 45.0}


@pytest.mark.parametrize(("ago", "left"), [(0.0, STABLE_AFTER), (1.0, STABLE_AFTER - 1), (1e6, 0.0)])
def test_one_that_runs_is_probed_and_becomes_stable_when_it_would_have(ago, left):
    instance, commands = revived(State.RUNNING, ago=ago, pid=5, failures=3)
    assert (instance.state, instance.pid, instance.failures) == (State.RUNNING, 5, 3)
    assert commands == (Probe(on=True), Arm(Timer.STABLE, left))


def test_a_run_is_bounded_from_its_exec():
    policy = LifePolicy(run_timeout=60.0)
    commands = revived(State.RUNNING, ago=5, policy=policy, started_at=NOW - 40)[1]
    assert armed(commands) == {Timer.STABLE: STABLE_AFTER - 5, Timer.RUN: 20.0}
    assert Timer.RUN not in armed(revived(State.RUNNING, policy=policy, started_at=None)[1])


@pytest.mark.parametrize(
    ("told", "killed", "ago", "expected"),
    [
        (True, False, 4.0, (Arm(Timer.STOP, 6.0),)),
        (True, False, 60.0, (Arm(Timer.STOP, 1.0),)),
        (False, False, 4.0, (Signal(3), Arm(Timer.STOP, 10.0))),
        (True, True, 4.0, (KillTree(), Arm(Timer.STOP, 6.0))),
        (False, True, 60.0, (KillTree(), Arm(Timer.STOP, 1.0))),
    ],
)
def test_a_stop_goes_on_to_its_end(told, killed, ago, expected):
    instance, commands = revived(State.STOPPING, ago=ago, pid=5, told=told, killed=killed, desired=DOWN)
    assert (instance.state, instance.pid, instance.killed, commands) == (State.STOPPING, 5, killed, expected)


@pytest.mark.parametrize(
    ("fields", "gentle"),
    [
        ({"reason": Reason.REQUESTED}, True),
        ({"reason": Reason.REQUESTED, "killed": True}, False),
        ({"reason": Reason.UNHEALTHY}, True),
        ({"reason": Reason.EXITED, "exit": DONE}, True),
        ({"reason": Reason.EXITED, "exit": FAILED}, False),
        ({"reason": Reason.EXITED, "exit": None}, False),
        ({"reason": Reason.EXITED, "exit": FAILED, "killed": True}, False),
    ],
)
def test_a_sweep_goes_on_as_it_was_begun(fields, gentle):
    policy = LifePolicy(oneshot=True, stop_timeout=10.0)
    instance, commands = revived(State.SWEEPING, ago=4, pid=5, policy=policy, **fields)
    assert (instance.state, instance.pid) == (State.SWEEPING, None)
    assert commands == (Sweep(gentle=gentle), Arm(Timer.STOP, 6.0))


def test_what_a_service_left_is_not_asked_first_whatever_it_exited_with():
    assert Sweep(gentle=False) in revived(State.SWEEPING, reason=Reason.EXITED, exit=DONE)[1]


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("desired", Desired)
@pytest.mark.parametrize("told", [False, True])
def test_every_state_goes_on_in_one_that_it_may_be_in(state, desired, told):
    """Nothing but what lives keeps a pid, and what goes down has a deadline."""
    instance, _ = revived(state, desired=desired, told=told, pid=5)
    if state in LIVE:
        assert instance.state is state
    assert (instance.pid is None) == (instance.state not in {State.STARTING, State.RUNNING, State.STOPPING})
    assert (Timer.STOP in instance.timers) == (instance.state in {State.STOPPING, State.SWEEPING})
    assert (instance.incarnation, instance.restarts) == (4, 0)


# -- generations ------------------------------------------------------------------------------------------------------


def claim(text, serial=0):
    """Return a claim: ``1@0`` generation 1 in slot 0, ``+`` with its place, ``r`` running, ``c`` brought by a reload."""
    generation, _, rest = text.partition("@")
    return Claim(
        slot=int(rest[0]),
        generation=int(generation),
        current="+" in rest,
        running="r" in rest,
        candidate="c" in rest,
        serial=serial,
    )


@pytest.mark.parametrize(
    ("claims", "kept"),
    [
        ("", 1),
        ("1@0+r 1@1+r", 1),
        ("1@0+r 2@0", 1),
        ("1@0+r 2@0r", 1),  # ready, but it has not taken the place: its canary may have been at work
        ("1@0+r 2@0+", 1),
        ("2@0+r 1@0r 1@1+r", 2),
        ("2@0+r 2@1+r", 2),
        ("2@0+r 3@1+r", 3),
        ("0@0+r", 1),
        ("2@0+rc 1@0r 1@1+r", 2),
        ("2@0+rc 1@0c 1@1+r", 1),  # its slot was being given back to the old generation
        ("1@0+rc 2@1+rc", 1),
    ],
)
def test_a_generation_is_kept_that_has_proven_itself(claims, kept):
    assert generation_to_keep(1, [claim(text) for text in claims.split()]) == kept


@pytest.mark.parametrize(
    ("kept", "claims", "expected"),
    [
        (1, "1@0+r", "1@0+r"),
        (1, "1@0+r 2@0", "1@0+r"),
        (1, "1@0+r 2@0r", "1@0+r"),
        (2, "2@0+r 1@0r", "2@0+r"),
        (2, "1@0+r 2@0r", "2@0r"),
        (2, "1@0+r 2@0", "1@0+r"),  # on its way up: it has not taken the place
        (1, "2@0+r 1@0r", "1@0r"),  # taken back, the old one is still there
        (1, "2@0+ 1@0", "2@0+"),  # and on its way out it is of no use
        (1, "1@0r", "1@0r"),
        (1, "1@0", ""),
        (2, "1@0r", ""),
    ],
)
def test_a_slot_goes_to_the_generation_that_is_kept(kept, claims, expected):
    found = holders(kept, [claim(text) for text in claims.split()])
    assert list(found.values()) == [claim(text) for text in expected.split()]


claims = st.lists(
    st.builds(
        Claim,
        slot=st.integers(0, 2),
        generation=st.integers(0, 4),
        current=st.booleans(),
        running=st.booleans(),
        candidate=st.booleans(),
        serial=st.integers(0, 99),
    ),
    max_size=9,
    unique_by=lambda one: (one.slot, one.serial),
)


@given(accepted=st.integers(0, 4), found=claims)
def test_a_generation_that_is_kept_is_the_accepted_one_or_a_newer_one_that_holds_a_slot(accepted, found):
    kept = generation_to_keep(accepted, found)
    assert kept >= accepted
    chosen = holders(kept, found)
    if kept > accepted:
        assert any(one.generation == kept and one.running and one.current for one in chosen.values())
    taken_back = any(one.candidate and one.generation == accepted for one in found)
    newer = any(one.generation > kept and one.running and one.current for one in found)
    assert kept == accepted if taken_back else not newer


@given(kept=st.integers(0, 4), found=claims)
def test_a_slot_has_one_holder_of_its_own_and_whoever_had_it_keeps_it_unless_a_better_one_runs(kept, found):
    chosen = holders(kept, found)
    assert all(one.slot == slot and one in found for slot, one in chosen.items())
    for one in found:
        if one.current:
            assert one.slot in chosen
        best = chosen.get(one.slot)
        if one.generation == kept and one.running:
            assert best is not None
            assert (best.generation, best.running) == (kept, True)


@given(kept=st.integers(0, 4), found=claims)
def test_the_order_of_the_journal_says_nothing_about_generations(kept, found):
    def sight(chosen):
        return {slot: (one.generation, one.running, one.current) for slot, one in chosen.items()}

    forwards, backwards = holders(kept, found), holders(kept, reversed(found))
    of_kept = {slot for slot, one in forwards.items() if one.generation == kept}
    assert of_kept == {slot for slot, one in backwards.items() if one.generation == kept}
    assert {slot: sight(forwards)[slot] for slot in of_kept} == {slot: sight(backwards)[slot] for slot in of_kept}
