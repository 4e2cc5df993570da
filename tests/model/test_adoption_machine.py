"""The life of one instance whose supervisor is killed between any two events, and goes on with the next one.

The lifecycle's own machine plays on; what it adds is the death: what was written down goes through JSON as in the journal, time
passes, programs may end unseen, and what the next supervisor is told to do at once is done. Everything that holds of an
instance under one supervisor holds of it under many.
"""

from __future__ import annotations

import json
from types import SimpleNamespace

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import precondition, rule

from oxherd.core import commands as c
from oxherd.core import events as e
from oxherd.core.adoption import LIVE, Remembered, revive
from oxherd.core.exits import ExitStatus
from oxherd.core.instance import Desired, Instance, State
from oxherd.daemon.remembering import read_record, record_of

from .test_lifecycle_machine import LifecycleMachine

PENDING = {State.WAITING, State.SPAWNING}


def journaled(instance: Instance) -> Remembered:
    """Return what the next supervisor reads of an instance."""
    handle = SimpleNamespace(
        machine=instance, start_ticks=77, main_pid=instance.pid or 0, slot=0, pipes=[], pinned=None, cgroup=None, worker=None,
        passed=None, retired=False, process=SimpleNamespace(instances={}, reloading=False),
    )  # fmt: skip
    return read_record(json.loads(json.dumps(record_of(handle)))).remembered


class AdoptionMachine(LifecycleMachine):
    """The lifecycle with supervisors that die."""

    def obey(self, command: c.Command) -> None:
        assert not isinstance(command, c.Ignored), command.detail
        super().obey(command)

    @precondition(lambda self: hasattr(self, "instance"))
    @rule(
        seconds=st.sampled_from([0.0, 0.3, 20.0, 1e6]),
        chance=st.sampled_from([0.0, 0.5, 0.99]),
        told=st.booleans(),
        ended=st.booleans(),
    )
    def killed(self, seconds: float, chance: float, told: bool, ended: bool) -> None:
        before = self.instance
        remembered = journaled(before)
        assert remembered == Remembered.of(before)
        self.now += seconds
        self.armed.clear()
        self.probing = self.permit_asked = False
        self.sweep_asked = None
        # A program that was exec'd and not written down is a stray: it is ended before anything of its slot starts.
        self.spawn_asked = None
        self.instance, commands = revive(remembered, before.policy, self.now, chance, told=told)
        self.same_axes(before)
        if ended and self.alive is not None:
            # It ended while nobody watched: only what bounds the sweep is done at once, then its end is told.
            self.armed = set(self.instance.timers)
            self.probing = any(command == c.Probe(on=True) for command in commands)
            self.alive, self.leftovers = None, True
            self.feed(e.Exited(self.instance.incarnation, ExitStatus()))
            assert self.instance.state is State.SWEEPING
            return
        for command in commands:
            self.obey(command)

    def same_axes(self, before: Instance) -> None:
        after = self.instance
        assert (after.desired, after.reason, after.incarnation, after.exit) == (
            before.desired,
            before.reason,
            before.incarnation,
            before.exit,
        )
        assert (after.failures, after.restarts, after.restart_pending) == (
            before.failures,
            before.restarts,
            before.restart_pending,
        )
        if before.state in PENDING:
            assert after.state is (State.WAITING if before.desired is Desired.UP else State.STOPPED)
        else:
            assert after.state is before.state
        if before.state in LIVE:
            assert (after.pid, after.started_at, after.since) == (before.pid, before.started_at, before.since)


AdoptionMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestAdoption = AdoptionMachine.TestCase
