"""One instance driven by every order of events a machine and a person can produce.

The rule of the game: the model plays operating system. It answers commands as a kernel would (a spawn is answered once,
a signal may or may not be followed by an exit, SIGKILL always is, a sweep ends) in any order and with stale and absurd
events in between. The invariants below hold after every step.
"""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from oxherd.core import commands as c
from oxherd.core import events as e
from oxherd.core.exits import ExitStatus
from oxherd.core.instance import Desired, Instance, LifePolicy, Reason, State, Timer
from oxherd.core.lifecycle import step
from oxherd.core.restart import RestartMode, RestartPolicy

policies = st.builds(
    LifePolicy,
    restart=st.builds(
        RestartPolicy,
        mode=st.sampled_from(RestartMode),
        delay=st.sampled_from([0.0, 0.5, 2.0]),
        delay_max=st.sampled_from([0.5, 30.0]),
        max_restarts=st.integers(0, 4),
    ),
    stop_timeout=st.sampled_from([0.0, 10.0]),
    start_delay=st.sampled_from([0.0, 1.0]),
    settle=st.sampled_from([None, 0.5]),
    ready_timeout=st.sampled_from([None, 5.0]),
    oneshot=st.booleans(),
    run_timeout=st.sampled_from([None, 60.0]),
)
endings = st.one_of(
    st.builds(ExitStatus, code=st.sampled_from([0, 1, 127])), st.builds(ExitStatus, signal=st.sampled_from([9, 11, 15]))
)


class LifecycleMachine(RuleBasedStateMachine):
    """The pure instance, and an operating system that answers it."""

    @initialize(policy=policies)
    def begin(self, policy: LifePolicy) -> None:
        self.now = 100.0
        self.instance = Instance(policy=policy)
        self.armed: set[Timer] = set()
        self.alive: int | None = None  # the incarnation whose main pid lives
        self.leftovers = False
        self.killed_for: int | None = None
        self.spawn_asked: int | None = None
        self.permit_asked = False
        self.sweep_asked: int | None = None
        self.probing = False
        self.spawns = 0
        self.failures_since_start = 0

    def feed(self, event: e.Event, chance: float = 0.5) -> None:
        self.now += 0.01
        before = self.instance
        self.instance, commands = step(before, event, self.now, chance)
        for command in commands:
            self.obey(command)

    def obey(self, command: c.Command) -> None:
        match command:
            case c.Permit():
                self.permit_asked = True
            case c.Unspawn():
                self.permit_asked = False
            case c.Spawn(incarnation):
                assert self.alive is None, "a second main pid in one slot"
                assert self.spawn_asked is None
                assert self.sweep_asked is None, "spawned before the sweep was over"
                assert not self.leftovers
                self.spawn_asked = incarnation
                self.spawns += 1
            case c.Signal():
                assert self.alive == self.instance.incarnation
            case c.KillTree():
                self.killed_for = self.instance.incarnation
            case c.Sweep():
                assert self.alive is None
                self.sweep_asked = self.instance.incarnation
            case c.Arm(timer, seconds):
                assert seconds >= 0
                self.armed.add(timer)
            case c.Disarm(timer):
                self.armed.discard(timer)
            case c.Probe(on):
                self.probing = on
            case c.Announce() | c.Ignored():
                pass

    # -- a person -----------------------------------------------------------------------------------------------

    @rule(event=st.sampled_from([e.Start(), e.Stop(), e.Restart()]))
    def person(self, event: e.Event) -> None:
        self.feed(event)
        wanted = Desired.DOWN if isinstance(event, e.Stop) else Desired.UP
        assert self.instance.desired is wanted

    # -- the operating system -----------------------------------------------------------------------------------

    @precondition(lambda self: self.permit_asked)
    @rule(ok=st.booleans())
    def permit(self, ok: bool) -> None:
        self.permit_asked = False
        self.feed(e.Permitted(ok=ok, detail="" if ok else "db failed"))

    @precondition(lambda self: self.spawn_asked is not None)
    @rule(pid=st.integers(2, 99999))
    def spawned(self, pid: int) -> None:
        self.alive, self.spawn_asked = self.spawn_asked, None
        self.feed(e.Spawned(self.alive, pid))

    @precondition(lambda self: self.spawn_asked is not None)
    @rule(permanent=st.booleans())
    def spawn_failed(self, permanent: bool) -> None:
        number, self.spawn_asked = self.spawn_asked, None
        self.feed(e.SpawnFailed(number, "executing x: No such file or directory", permanent))

    @precondition(lambda self: self.alive is not None)
    @rule(status=endings, leaves_something=st.booleans())
    def exit_of_main(self, status: ExitStatus, leaves_something: bool) -> None:
        number, self.alive = self.alive, None
        self.leftovers = leaves_something
        self.feed(e.Exited(number, status))

    @precondition(lambda self: self.sweep_asked is not None)
    @rule()
    def swept(self) -> None:
        number, self.sweep_asked = self.sweep_asked, None
        self.leftovers = False
        self.feed(e.Swept(number))

    @precondition(lambda self: self.probing)
    @rule()
    def ready(self) -> None:
        self.feed(e.BecameReady(self.instance.incarnation))

    @precondition(lambda self: self.probing)
    @rule(reason=st.sampled_from([Reason.UNHEALTHY, Reason.MEMORY, Reason.CPU]))
    def condemned(self, reason: Reason) -> None:
        self.feed(e.Condemned(self.instance.incarnation, reason, "because"))

    @precondition(lambda self: bool(self.armed))
    @rule(data=st.data())
    def timer(self, data: st.DataObject) -> None:
        timer = data.draw(st.sampled_from(sorted(self.armed, key=lambda timer: timer.value)))
        self.armed.discard(timer)
        self.feed(e.TimerFired(timer))

    @rule(timer=st.sampled_from(Timer))
    def late_timer(self, timer: Timer) -> None:
        """A timer that was disarmed in the very turn in which it ran out changes nothing."""
        if timer not in self.armed:
            before = self.instance
            self.feed(e.TimerFired(timer))
            assert self.instance == before

    @rule(status=endings, age=st.integers(1, 3))
    def late_news(self, status: ExitStatus, age: int) -> None:
        """News of an earlier incarnation changes nothing."""
        old = self.instance.incarnation - age
        before = self.instance
        for event in (e.Exited(old, status), e.Swept(old), e.BecameReady(old), e.Spawned(old, 5)):
            self.feed(event)
        assert self.instance == before

    # -- what always holds --------------------------------------------------------------------------------------

    @invariant()
    def timers_agree(self) -> None:
        """The instance knows which of its timers are armed."""
        if hasattr(self, "instance"):
            assert self.instance.timers == self.armed

    @invariant()
    def quiet_when_down(self) -> None:
        """Down means: no timer, no probe, no pid, nothing asked for."""
        if hasattr(self, "instance") and self.instance.state in {State.STOPPED, State.CRASHED, State.EXITED}:
            assert not self.armed
            assert not self.probing
            assert self.instance.pid is None
            assert self.alive is None
            assert self.spawn_asked is None
            assert self.sweep_asked is None
            assert not self.leftovers

    @invariant()
    def going_down_has_a_deadline(self) -> None:
        """A stop ends: while it goes on, a timer will escalate it."""
        if hasattr(self, "instance") and self.instance.state in {State.STOPPING, State.SWEEPING}:
            assert Timer.STOP in self.armed

    @invariant()
    def pid_and_state_agree(self) -> None:
        """A pid is known exactly while a main pid lives and its exec was reported."""
        if hasattr(self, "instance"):
            assert (self.instance.pid is not None) == (self.alive is not None)
            assert self.probing == (self.instance.state in {State.STARTING, State.RUNNING})

    @invariant()
    def never_up_against_the_will(self) -> None:
        """Stopped is what DOWN leads to; nothing waits or backs off while DOWN is desired."""
        if hasattr(self, "instance") and self.instance.desired is Desired.DOWN:
            assert self.instance.state not in {State.WAITING, State.BACKOFF, State.STARTING, State.RUNNING}

    @invariant()
    def a_pending_restart_is_used_up(self) -> None:
        """Coming back without back-off is for the incarnation that was asked to go, not for those after it."""
        if hasattr(self, "instance") and self.instance.restart_pending:
            assert self.instance.state in {State.STOPPING, State.SWEEPING}
            assert self.instance.desired is Desired.UP

    @invariant()
    def the_ceiling_holds(self) -> None:
        """More failures in a row than allowed are only reached by endings that do not count."""
        if hasattr(self, "instance") and self.instance.state is State.BACKOFF and self.instance.reason.counted:
            limit = self.instance.policy.restart.max_restarts
            assert limit == 0 or self.instance.failures <= limit

    def teardown(self) -> None:
        """From wherever the story ended: a stop, and a fair operating system, lead to STOPPED."""
        if not hasattr(self, "instance"):
            return
        self.feed(e.Stop())
        for _ in range(20):
            if self.spawn_asked is not None:
                self.spawned(4242)
            if self.armed and self.killed_for != self.instance.incarnation and Timer.STOP in self.armed:
                self.armed.discard(Timer.STOP)
                self.feed(e.TimerFired(Timer.STOP))
            if self.alive is not None:
                self.exit_of_main(ExitStatus(signal=9), leaves_something=True)
            if self.sweep_asked is not None:
                self.swept()
        assert self.instance.state is State.STOPPED, self.instance


LifecycleMachine.TestCase.settings = settings(max_examples=300, stateful_step_count=60, deadline=None)
TestLifecycle = LifecycleMachine.TestCase
