"""Health checks: who is probed when, and what the results mean.

The prober owns one `HealthState` for every incarnation it watches, begins probes when `oxherd.core.health` says so and
reports results and verdicts. Nothing in it waits: a probe is a handful of callbacks, and one that hangs holds one
descriptor until its timeout and delays nothing else.
"""

from __future__ import annotations

from oxherd.core.endpoint import parse_address, parse_endpoint
from oxherd.core.health import HealthPolicy, Verdict, begin, judge, next_probe_in
from oxherd.daemon.environment import substitute
from oxherd.daemon.probe import Outcome, ProbeContext, ProbeResult
from oxherd.daemon.probes_command import CommandProbe
from oxherd.daemon.probes_http import HttpProbe
from oxherd.daemon.probes_tcp import TcpProbe
from oxherd.daemon.resolver import Resolver
from oxherd.units import format_seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from oxherd.config.model import HealthSpec
    from oxherd.core.health import HealthState
    from oxherd.daemon.helpers import Helpers
    from oxherd.daemon.probe import Probe
    from oxherd.system.loop import Loop, Timer

    Report = Callable[[Hashable, Verdict, ProbeResult], None]

__all__ = ["Prober"]

# A probe command costs a process. While a program starts, its probes take at most a quarter of the time.
_COMMAND_SHARE = 3.0

# Seconds between the probes of all starting programs together: 200 that start at once are not probed 2000 times a second.
_STARTING_SPACING = 0.005

# More failures in a row than there will ever be.
_NEVER = 1 << 60


class _Watched:
    """One incarnation under watch."""

    __slots__ = ("begun", "context", "health", "key", "last", "policy", "probe", "state", "timer")

    def __init__(
        self, key: Hashable, health: HealthSpec, context: ProbeContext, started: float, *, ready: bool
    ) -> None:
        self.key = key
        self.health = health
        self.context = context
        self.policy = _policy(health)
        self.state: HealthState = begin(self.policy, started, ready=ready)
        self.timer: Timer | None = None
        self.probe: Probe | None = None
        self.begun = started
        self.last: ProbeResult | None = None


class Prober:
    """Probes every watched incarnation.

    Args:
        loop: The loop.
        helpers: Starts probe commands.
        report: Called with (key, verdict, result) for every result; the verdict says what the result changed.
        trouble: Called with a line when this machine cannot probe (no descriptors), once until it can again.
        chance: Returns a random number in [0, 1), to spread probes.
        resolver: Looks names up; made here by default.
    """

    def __init__(
        self,
        *,
        loop: Loop,
        helpers: Helpers,
        report: Report,
        trouble: Callable[[str], None],
        chance: Callable[[], float],
        resolver: Resolver | None = None,
    ) -> None:
        """Watch nothing yet."""
        self._loop = loop
        self._helpers = helpers
        self._report = report
        self._trouble = trouble
        self._chance = chance
        self._resolver = resolver if resolver is not None else Resolver(loop)
        self._watched: dict[Hashable, _Watched] = {}
        self._starting = 0
        self._troubled = False

    # -- who is watched -----------------------------------------------------------------------------------------

    def watch(
        self, key: Hashable, health: HealthSpec, context: ProbeContext, started: float, *, ready: bool = False
    ) -> None:
        """Probe an incarnation until `forget`.

        Args:
            key: The incarnation; what was watched under the same key is forgotten.
            health: What and how often. With ``readiness`` alone it is asked until it passes, and never condemns.
            context: Where commands run, and the slot.
            started: Monotonic time of the exec.
            ready: Whether it was ready before this supervisor took it over: it is then probed at the interval.
        """
        self.forget(key)
        watched = _Watched(key, health, context, started, ready=ready)
        self._watched[key] = watched
        self._starting += not ready
        gap = next_probe_in(watched.state, watched.policy, self._loop.now())
        # Adopted incarnations are spread over an interval: a new supervisor takes over all of them at once.
        self._arm(watched, gap * self._chance() if ready else gap)

    def forget(self, key: Hashable) -> None:
        """Stop probing; a probe under way is ended and its result is never reported. Unknown keys are ignored."""
        watched = self._watched.pop(key, None)
        if watched is None:
            return
        self._starting -= not watched.state.ready
        if watched.timer is not None:
            watched.timer.cancel()
        if watched.probe is not None:
            watched.probe.cancel()

    def close(self) -> None:
        """Forget everything."""
        for key in tuple(self._watched):
            self.forget(key)

    def word(self, key: Hashable) -> str | None:
        """Return the HEALTH word of an incarnation: None while nothing is known, healthy, failing or unhealthy."""
        watched = self._watched.get(key)
        return None if watched is None else watched.state.word

    def last(self, key: Hashable) -> ProbeResult | None:
        """Return the last result of an incarnation, or None."""
        watched = self._watched.get(key)
        return None if watched is None else watched.last

    # -- one probe ----------------------------------------------------------------------------------------------

    def _arm(self, watched: _Watched, seconds: float) -> None:
        watched.timer = self._loop.call_later(max(0.0, seconds), lambda: self._begin(watched))

    def _begin(self, watched: _Watched) -> None:
        watched.begun = self._loop.now()
        watched.timer = self._loop.call_later(watched.policy.timeout, lambda: self._timed_out(watched))
        try:
            watched.probe = self._probe(watched)
        except ValueError as error:
            # An address that only {instance} made wrong; the reader of the oxfile has seen it without.
            self._ended(watched, Outcome(passed=False, detail=f"cannot be probed: expected {error}"))
            return
        watched.probe.start()

    def _probe(self, watched: _Watched) -> Probe:
        health, context = watched.health, watched.context

        def done(outcome: Outcome) -> None:
            self._ended(watched, outcome)

        if health.command is not None:
            argv = tuple(substitute(argument, context.instance) for argument in health.command.argv)
            return CommandProbe(self._loop, self._helpers, argv, context, done)
        if health.tcp is not None:
            address = parse_address(substitute(health.tcp, context.instance))
            return TcpProbe(self._loop, self._resolver, address, done)
        endpoint = parse_endpoint(substitute(health.endpoint or health.readiness or "", context.instance))
        return HttpProbe(self._loop, self._resolver, endpoint, done)

    def _timed_out(self, watched: _Watched) -> None:
        probe = watched.probe
        assert probe is not None
        detail = f"{probe.missing} within {format_seconds(watched.policy.timeout)}"
        self._ended(watched, Outcome(passed=False, detail=detail))

    def _ended(self, watched: _Watched, outcome: Outcome) -> None:
        """Take the outcome of a probe, give everything of it back, judge, report, and plan the next one."""
        if watched.timer is not None:
            watched.timer.cancel()
            watched.timer = None
        if watched.probe is not None:
            watched.probe.cancel()
            watched.probe = None
        if outcome.passed is None:
            self._could_not_ask(watched, outcome.detail)
            return
        self._troubled = False
        now = self._loop.now()
        was_ready = watched.state.ready
        watched.state, verdict = judge(watched.state, watched.policy, passed=outcome.passed, now=now)
        self._starting -= watched.state.ready and not was_ready
        watched.last = ProbeResult(ok=outcome.passed, detail=outcome.detail, seconds=now - watched.begun)
        self._report(watched.key, verdict, watched.last)
        # The report may have forgotten it, or watch a new incarnation under the same key by now.
        if self._watched.get(watched.key) is watched:
            self._plan(watched, became_ready=watched.state.ready and not was_ready)

    def _could_not_ask(self, watched: _Watched, detail: str) -> None:
        if not self._troubled:
            self._troubled = True
            self._trouble(f"health checks cannot be made: {detail}")
        # Less often than a starting program is probed: the machine is short of something.
        self._arm(watched, min(watched.policy.interval, 1.0))

    def _plan(self, watched: _Watched, *, became_ready: bool) -> None:
        now = self._loop.now()
        gap = next_probe_in(watched.state, watched.policy, now)
        if not watched.state.ready:
            took = now - watched.begun
            cost = took * _COMMAND_SHARE if watched.health.command is not None else 0.0
            self._arm(watched, min(watched.policy.interval, max(gap, cost, self._starting * _STARTING_SPACING)))
        elif _gate_only(watched.health):
            watched.timer = None
        elif became_ready:
            # Programs that became ready together would otherwise be probed together for ever.
            self._arm(watched, gap * (0.5 + 0.5 * self._chance()))
        else:
            self._arm(watched, watched.begun + gap - now)


def _gate_only(health: HealthSpec) -> bool:
    """Whether a readiness URL is all there is: it is asked until it passes and says nothing about liveness."""
    return health.endpoint is None and health.tcp is None and health.command is None


def _policy(health: HealthSpec) -> HealthPolicy:
    return HealthPolicy(
        interval=health.interval,
        timeout=health.timeout,
        grace=health.grace,
        healthy_threshold=health.healthy_threshold,
        unhealthy_threshold=_NEVER if _gate_only(health) else health.unhealthy_threshold,
    )
