"""The life of one instance of a process, as one total table.

Rules of this file
------------------
1. Everything that changes the state of an instance is in this file, and nowhere else.
2. `step` is a pure function: time and chance are arguments, what is to be done comes back as commands.
3. The table is total: every event in every state has a rule, and every rule names the states it may lead to. The
   diagram in ``docs/concepts/lifecycle.md`` is generated from the table, so it cannot be wrong.

Three axes
----------
*State* is what is (a program is starting, running, stopping). *Desired* is what is wanted (up or down). *Reason* is why
the last incarnation ended or was condemned. A restart is no state of its own: it is STOPPING while UP is desired.

An `Instance` is one (process, slot) of one generation. It lives through many *incarnations*, one per exec. Every event
that speaks of an incarnation carries its number; an event of an earlier one is dropped in `step`, once for all, so a
late exit, a late probe result or a reused pid needs no special case anywhere. A rolling reload puts a second instance
with the next generation beside the first; neither knows of the other.

The way down is always the same: signal to the main pid, at the stop timeout SIGKILL to everything, and after the main
pid is gone a *sweep*: whatever it left behind (grandchildren, escapees of a double fork) is ended before the slot counts
as down or is started again. A dead gunicorn master's workers would otherwise hold the port of its successor.

"Can't happen" is said out loud: `Ignored` with a text, which the supervisor records and which fails the tests.
"""

from __future__ import annotations

from oxherd.core.commands import (
    Announce,
    Arm,
    Command,
    Disarm,
    Ignored,
    KillTree,
    Permit,
    Probe,
    Signal,
    Spawn,
    Sweep,
    Unspawn,
)
from oxherd.core.events import (
    Condemned,
    Event,
    EventKind,
    Exited,
    Permitted,
    Spawned,
    SpawnFailed,
    TimerFired,
    kind_of,
)
from oxherd.core.instance import Desired, Instance, Reason, State, Timer
from oxherd.core.restart import STABLE_AFTER, RestartDecision, RestartMode, backoff_delay, decide
from oxherd.records import dataclass, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["TABLE", "Rule", "step"]

Result = tuple[Instance, tuple[Command, ...]]

if TYPE_CHECKING:
    Action = Callable[[Instance, Event, float, float], Result]


@dataclass(frozen=True, slots=True)
class Rule:
    """One cell of the table: the states it may lead to, and the function that decides between them."""

    targets: frozenset[State]
    action: Action
    note: str = ""


# -- moves: small pure pieces the actions are made of ---------------------------------------------------------------


def _go(instance: Instance, state: State, now: float, **changes: object) -> Instance:
    return replace(instance, state=state, since=now, **changes)  # type: ignore[arg-type]


def _armed(instance: Instance, timer: Timer, seconds: float) -> tuple[Instance, Arm]:
    return replace(instance, timers=instance.timers | {timer}), Arm(timer, seconds)


def _disarmed(instance: Instance) -> tuple[Instance, tuple[Disarm, ...]]:
    commands = tuple(Disarm(timer) for timer in Timer if timer in instance.timers)
    return replace(instance, timers=frozenset()), commands


def _spawn(instance: Instance, now: float) -> Result:
    number = instance.incarnation + 1
    fresh = _go(instance, State.SPAWNING, now, incarnation=number, restart_pending=False, killed=False, completed=False)
    return fresh, (Spawn(number),)


def _ask_permit(instance: Instance, now: float) -> Result:
    waiting = _go(instance, State.WAITING, now, desired=Desired.UP, failures=0, restarts=0, detail="", unhealthy=False)
    return waiting, (Announce("waiting"), Permit())


def _tell_to_go(instance: Instance, now: float) -> Result:
    """Begin the way down; the caller has set desired, reason and restart_pending."""
    quiet, disarms = _disarmed(instance)
    going, arm = _armed(_go(quiet, State.STOPPING, now), Timer.STOP, instance.policy.stop_timeout)
    return going, (*disarms, Probe(on=False), Announce("stopping"), Signal(instance.policy.stop_signal), arm)


def _to_backoff(instance: Instance, now: float, chance: float) -> Result:
    delay = backoff_delay(instance.policy.restart, max(1, instance.failures), chance)
    counted = replace(instance, restarts=instance.restarts + 1)
    if delay <= 0:
        fresh, commands = _spawn(counted, now)
        return fresh, (Announce("restarting"), *commands)
    waiting, arm = _armed(_go(counted, State.BACKOFF, now), Timer.BACKOFF, delay)
    return waiting, (Announce("backoff", f"restart in {delay:.1f} s"), arm)


def _after_failure(instance: Instance, now: float, chance: float, *, success: bool, permanent: bool = False) -> Result:
    """Decide what follows the end of an incarnation that nobody asked to end."""
    counted = instance.reason.counted
    decision = decide(instance.policy.restart, success=success, failures=instance.failures, counted=counted)
    if permanent and decision is RestartDecision.RESTART:
        decision = RestartDecision.GIVE_UP
    if decision is RestartDecision.RESTART:
        return _to_backoff(instance, now, chance)
    if decision is RestartDecision.GIVE_UP:
        return _go(instance, State.CRASHED, now), (Announce("crashed", instance.detail),)
    if not success and (instance.policy.oneshot or instance.reason is Reason.SPAWN_FAILED):
        return _go(instance, State.CRASHED, now, completed=False), (Announce("crashed", instance.detail),)
    return _go(instance, State.EXITED, now, completed=success), (Announce("exited", instance.detail),)


# -- actions --------------------------------------------------------------------------------------------------------


def _ignore(instance: Instance, _event: Event, _now: float, _chance: float) -> Result:
    return instance, ()


def _impossible(instance: Instance, event: Event, _now: float, _chance: float) -> Result:
    return instance, (Ignored(f"can't happen: {type(event).__name__} while {instance.state.value}"),)


def _begin(instance: Instance, _event: Event, now: float, _chance: float) -> Result:
    quiet, disarms = _disarmed(instance)
    waiting, commands = _ask_permit(quiet, now)
    return waiting, (*disarms, *commands)


def _want_up(instance: Instance, _event: Event, _now: float, _chance: float) -> Result:
    """Wanted again while it is on its way down: it comes back when it is gone."""
    return replace(instance, desired=Desired.UP, restart_pending=True, failures=0), ()


def _want_up_spawning(instance: Instance, _event: Event, _now: float, _chance: float) -> Result:
    """Wanted again before the exec was through: the incarnation that is being born will do."""
    return replace(instance, desired=Desired.UP, reason=Reason.NONE), ()


def _want_down(instance: Instance, _event: Event, _now: float, _chance: float) -> Result:
    return replace(instance, desired=Desired.DOWN, restart_pending=False, reason=Reason.REQUESTED), ()


def _cancel_wait(instance: Instance, _event: Event, now: float, _chance: float) -> Result:
    quiet, disarms = _disarmed(instance)
    stopped = _go(quiet, State.STOPPED, now, desired=Desired.DOWN, reason=Reason.REQUESTED)
    return stopped, (*disarms, Unspawn(), Announce("stopped"))


def _rest(instance: Instance, _event: Event, now: float, _chance: float) -> Result:
    """Stop what is already down for another reason: from now on it is down because it was asked to be."""
    quiet, disarms = _disarmed(instance)
    stopped = _go(quiet, State.STOPPED, now, desired=Desired.DOWN, detail="", unhealthy=False)
    return stopped, (*disarms, Announce("stopped"))


def _permitted(instance: Instance, event: Event, now: float, _chance: float) -> Result:
    assert isinstance(event, Permitted)
    if not event.ok:
        down = _go(instance, State.CRASHED, now, reason=Reason.DEPENDENCY, detail=event.detail)
        return down, (Announce("crashed", event.detail),)
    if instance.policy.start_delay > 0:
        waiting, arm = _armed(instance, Timer.START_DELAY, instance.policy.start_delay)
        return waiting, (arm,)
    return _spawn(instance, now)


def _stop_while_spawning(instance: Instance, _event: Event, _now: float, _chance: float) -> Result:
    """The exec cannot be taken back; `Spawned` or `SpawnFailed` is about to come and finds DOWN desired."""
    return replace(instance, desired=Desired.DOWN, reason=Reason.REQUESTED, restart_pending=False), ()


def _spawned(instance: Instance, event: Event, now: float, _chance: float) -> Result:
    assert isinstance(event, Spawned)
    born = replace(instance, pid=event.pid, started_at=now, exit=None)
    if instance.desired is Desired.DOWN:
        return _tell_to_go(born, now)
    policy = instance.policy
    starting = _go(born, State.STARTING, now, reason=Reason.NONE)
    commands: list[Command] = [Announce("started"), Probe(on=True)]
    timers = [(Timer.RUN, policy.run_timeout), (Timer.READY, policy.ready_timeout)]
    if not policy.oneshot:
        timers.append((Timer.SETTLE, policy.settle))
    for timer, seconds in timers:
        if seconds is not None:
            starting, arm = _armed(starting, timer, seconds)
            commands.append(arm)
    return starting, tuple(commands)


def _spawn_failed(instance: Instance, event: Event, now: float, chance: float) -> Result:
    assert isinstance(event, SpawnFailed)
    failed = replace(
        instance,
        pid=None,
        started_at=None,
        reason=Reason.SPAWN_FAILED,
        detail=event.detail,
        failures=instance.failures + 1,
    )
    announce = Announce("spawn-failed", event.detail)
    if instance.desired is Desired.DOWN:
        return _go(failed, State.STOPPED, now), (announce, Announce("stopped"))
    after, commands = _after_failure(failed, now, chance, success=False, permanent=event.permanent)
    return after, (announce, *commands)


def _ready(instance: Instance, _event: Event, now: float, _chance: float) -> Result:
    """Ready: by its health check, or because it lived through the settle time."""
    commands: list[Command] = [Disarm(timer) for timer in (Timer.SETTLE, Timer.READY) if timer in instance.timers]
    kept = replace(instance, timers=instance.timers - {Timer.SETTLE, Timer.READY})
    running, arm = _armed(_go(kept, State.RUNNING, now, unhealthy=False, detail=""), Timer.STABLE, STABLE_AFTER)
    return running, (*commands, arm, Announce("ready"))


def _healthy_again(instance: Instance, _event: Event, _now: float, _chance: float) -> Result:
    if not instance.unhealthy:
        return instance, ()
    return replace(instance, unhealthy=False, detail=""), (Announce("healthy"),)


def _stable(instance: Instance, _event: Event, _now: float, _chance: float) -> Result:
    return replace(instance, failures=0), ()


def _stop_running(instance: Instance, _event: Event, now: float, _chance: float) -> Result:
    down = replace(instance, desired=Desired.DOWN, reason=Reason.REQUESTED, restart_pending=False, detail="")
    return _tell_to_go(down, now)


def _restart_running(instance: Instance, _event: Event, now: float, _chance: float) -> Result:
    again = replace(instance, desired=Desired.UP, reason=Reason.REQUESTED, restart_pending=True, failures=0, detail="")
    return _tell_to_go(replace(again, restarts=again.restarts + 1), now)


def _condemned(instance: Instance, event: Event, now: float, _chance: float) -> Result:
    assert isinstance(event, Condemned)
    unhealthy = event.reason is Reason.UNHEALTHY
    marked = replace(instance, unhealthy=unhealthy or instance.unhealthy, detail=event.detail)
    if unhealthy and instance.policy.restart.mode is RestartMode.NEVER:
        # Nobody wants it restarted: it is shown as unhealthy and its probes go on, so that it can recover.
        return marked, (() if instance.unhealthy else (Announce("unhealthy", event.detail),))
    failing = replace(marked, reason=event.reason, failures=instance.failures + 1)
    going, commands = _tell_to_go(failing, now)
    if event.reason is Reason.BLOCKED:
        # What does not come by its event loop hears no signal either, and every second of waiting is one without it.
        going = replace(going, killed=True)
        commands = tuple(KillTree() if isinstance(command, Signal) else command for command in commands)
    return going, (Announce(event.reason.event, event.detail), *commands)


def _too_slow(instance: Instance, event: Event, now: float, chance: float) -> Result:
    """It did not become ready in time, or ran longer than it may."""
    if event == TimerFired(Timer.READY):
        detail = f"not ready after {instance.policy.ready_timeout:g} s"
    else:
        detail = f"ran longer than its timeout of {instance.policy.run_timeout:g} s"
    return _condemned(instance, Condemned(instance.incarnation, Reason.TIMEOUT, detail), now, chance)


def _exited_by_itself(instance: Instance, event: Event, now: float, _chance: float) -> Result:
    assert isinstance(event, Exited)
    quiet, disarms = _disarmed(instance)
    # A run that did all it had to do is no failure, however often it is repeated; a service that ends is one.
    done = event.status.success and instance.policy.oneshot
    gone = replace(
        quiet,
        pid=None,
        exit=event.status,
        reason=Reason.EXITED,
        detail="" if done else event.detail or event.status.text,
        failures=0 if done else instance.failures + 1,
    )
    sweeping, arm = _armed(_go(gone, State.SWEEPING, now), Timer.STOP, instance.policy.stop_timeout)
    return sweeping, (
        *disarms,
        Probe(on=False),
        Announce("ended", event.detail or event.status.text),
        Sweep(gentle=done),
        arm,
    )


def _exited_as_told(instance: Instance, event: Event, now: float, _chance: float) -> Result:
    assert isinstance(event, Exited)
    gone = _go(replace(instance, pid=None, exit=event.status), State.SWEEPING, now)
    # The stop timer runs on: what is left has the rest of the time the process was given.
    return gone, (Announce("ended", event.status.text), Sweep(gentle=not instance.killed))


def _stop_timed_out(instance: Instance, _event: Event, _now: float, _chance: float) -> Result:
    # Timer on again: a process in uninterruptible sleep survives SIGKILL for a while; later kills catch late forks.
    rearmed, arm = _armed(replace(instance, killed=True), Timer.STOP, max(1.0, min(10.0, instance.policy.stop_timeout)))
    first = () if instance.killed else (Announce("killed", f"still there after {instance.policy.stop_timeout:g} s"),)
    return rearmed, (*first, KillTree(), arm)


def _swept(instance: Instance, _event: Event, now: float, chance: float) -> Result:
    quiet, disarms = _disarmed(instance)
    clean = replace(quiet, started_at=None)
    if clean.desired is Desired.DOWN:
        return _go(clean, State.STOPPED, now, detail=""), (*disarms, Announce("stopped"))
    if clean.restart_pending:
        after, commands = _spawn(clean, now)
        return after, (*disarms, Announce("restarting"), *commands)
    success = clean.reason is Reason.EXITED and clean.exit is not None and clean.exit.success
    after, commands = _after_failure(clean, now, chance, success=success)
    return after, (*disarms, *commands)


def _delay_over(instance: Instance, _event: Event, now: float, _chance: float) -> Result:
    fresh, commands = _spawn(instance, now)
    return (fresh, (Announce("restarting"), *commands)) if instance.state is State.BACKOFF else (fresh, commands)


# -- the table ------------------------------------------------------------------------------------------------------


def _rule(action: Action, *targets: State, note: str = "") -> Rule:
    return Rule(frozenset(targets), action, note)


def _build() -> Mapping[State, Mapping[EventKind, Rule]]:
    """Write the table out, then fill the cells that cannot happen with an explicit "can't happen"."""
    s, e = State, EventKind
    down = {  # nothing runs, nothing is armed
        e.START: _rule(_begin, s.WAITING),
        e.RESTART: _rule(_begin, s.WAITING),
        e.STOP: _rule(_rest, s.STOPPED),
    }
    ends = (s.BACKOFF, s.SPAWNING, s.CRASHED, s.EXITED)
    living = {
        e.START: _rule(_ignore),
        e.STOP: _rule(_stop_running, s.STOPPING),
        e.RESTART: _rule(_restart_running, s.STOPPING),
        e.EXITED: _rule(_exited_by_itself, s.SWEEPING),
        e.T_RUN: _rule(_too_slow, s.STOPPING),
    }
    written: dict[State, dict[EventKind, Rule]] = {
        s.STOPPED: {**down, e.STOP: _rule(_ignore)},
        s.CRASHED: dict(down),
        s.EXITED: dict(down),
        s.WAITING: {
            e.START: _rule(_ignore),
            e.RESTART: _rule(_ignore),
            e.STOP: _rule(_cancel_wait, s.STOPPED),
            e.PERMITTED: _rule(_permitted, s.WAITING, s.SPAWNING, s.CRASHED),
            e.T_START_DELAY: _rule(_delay_over, s.SPAWNING),
        },
        s.SPAWNING: {
            e.START: _rule(_want_up_spawning),
            e.RESTART: _rule(_want_up_spawning),
            e.STOP: _rule(_stop_while_spawning),
            e.SPAWNED: _rule(_spawned, s.STARTING, s.STOPPING),
            e.SPAWN_FAILED: _rule(_spawn_failed, s.STOPPED, *ends),
        },
        s.STARTING: {
            **living,
            e.READY: _rule(_ready, s.RUNNING),
            e.T_SETTLE: _rule(_ready, s.RUNNING),
            e.T_READY: _rule(_too_slow, s.STOPPING),
            e.CONDEMNED: _rule(_condemned, s.STARTING, s.STOPPING),
        },
        s.RUNNING: {
            **living,
            e.READY: _rule(_healthy_again),
            e.CONDEMNED: _rule(_condemned, s.RUNNING, s.STOPPING),
            e.T_STABLE: _rule(_stable),
        },
        s.STOPPING: {
            e.START: _rule(_want_up, note="comes back when it is gone"),
            e.RESTART: _rule(_want_up, note="comes back when it is gone"),
            e.STOP: _rule(_want_down),
            e.READY: _rule(_ignore),
            e.CONDEMNED: _rule(_ignore),
            e.EXITED: _rule(_exited_as_told, s.SWEEPING),
            e.T_STOP: _rule(_stop_timed_out, note="SIGKILL to everything"),
        },
        s.SWEEPING: {
            e.START: _rule(_want_up, note="comes back when it is gone"),
            e.RESTART: _rule(_want_up, note="comes back when it is gone"),
            e.STOP: _rule(_want_down),
            e.SWEPT: _rule(_swept, s.STOPPED, *ends),
            e.T_STOP: _rule(_stop_timed_out, note="SIGKILL to everything"),
        },
        s.BACKOFF: {
            e.START: _rule(_begin, s.WAITING),
            e.RESTART: _rule(_begin, s.WAITING),
            e.STOP: _rule(_rest, s.STOPPED),
            e.T_BACKOFF: _rule(_delay_over, s.SPAWNING),
        },
    }
    return {
        state: {kind: written[state].get(kind, _rule(_impossible, note="can't happen")) for kind in EventKind}
        for state in State
    }


TABLE: Mapping[State, Mapping[EventKind, Rule]] = _build()


def step(instance: Instance, event: Event, now: float, chance: float = 0.0) -> Result:
    """Return the instance after the event and what is to be done about it.

    Args:
        instance: The instance as it is.
        event: What happened.
        now: Monotonic seconds.
        chance: A random number in [0, 1), for the jitter of the back-off.
    """
    number = getattr(event, "incarnation", None)
    if number is not None and number != instance.incarnation:
        return instance, ()
    kind = kind_of(event)
    if isinstance(event, TimerFired):
        if event.timer not in instance.timers:
            # The timer was disarmed in the same turn of the loop in which it ran out.
            return instance, ()
        instance = replace(instance, timers=instance.timers - {event.timer})
    rule = TABLE[instance.state][kind]
    after, commands = rule.action(instance, event, now, chance)
    if after.state is not instance.state and after.state not in rule.targets:
        raise AssertionError(f"{kind.value} led from {instance.state.value} to {after.state.value}")
    return after, commands
