"""Health checks: who is probed when, and what the results mean.

The prober owns one `HealthState` for every incarnation it watches, begins probes when `oxherd.core.health` says so and
reports results and verdicts. Nothing in it waits: a probe is a handful of callbacks, and one that hangs holds one
descriptor until its timeout and delays nothing else.

An incarnation has one check, or two: liveness, whose failures condemn it, and for workers of Oxherd's own readiness, whose
failures only say that it shall get no traffic. Both are probed on their own, and `ProbeResult.check` says which one a
report is about.
"""

from __future__ import annotations

from oxherd.core.endpoint import parse_address, parse_endpoint
from oxherd.core.health import (
    Check,
    HealthPolicy,
    ReadinessState,
    Verdict,
    begin,
    begin_readiness,
    judge,
    judge_readiness,
    next_probe_in,
    next_readiness_probe_in,
)
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
    from oxherd.daemon.probe import Done, Probe
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
    """One check of one incarnation under watch.

    Args:
        key: The incarnation.
        check: Which of its checks this is.
        health: What and how often.
        context: Where commands run, and the slot.
        started: Monotonic time of the exec.
        ready: Whether it was ready before.
        private: Path of the worker's own socket, or None.
        lifelong: Whether a readiness check goes on once it has passed.
    """

    __slots__ = (
        "begun",
        "check",
        "context",
        "health",
        "key",
        "last",
        "once",
        "policy",
        "private",
        "probe",
        "starting",
        "state",
        "timer",
    )

    def __init__(
        self,
        key: Hashable,
        check: Check,
        health: HealthSpec,
        context: ProbeContext,
        started: float,
        *,
        ready: bool,
        private: str | None,
        lifelong: bool,
    ) -> None:
        self.key = key
        self.check = check
        self.health = health
        self.context = context
        self.private = private
        self.once = check is Check.READINESS and not lifelong
        self.policy = _policy(health, condemns=not self.once)
        self.state: HealthState | ReadinessState
        if check is Check.READINESS and lifelong:
            self.state = begin_readiness(self.policy, started, ready=ready)
        else:
            self.state = begin(self.policy, started, ready=ready)
        self.timer: Timer | None = None
        self.probe: Probe | None = None
        self.begun = started
        self.last: ProbeResult | None = None
        self.starting = not ready

    @property
    def is_command(self) -> bool:
        return self.check is Check.LIVENESS and self.health.command is not None

    def judge(self, *, passed: bool, now: float) -> Verdict:
        if isinstance(self.state, ReadinessState):
            self.state, verdict = judge_readiness(self.state, self.policy, passed=passed, now=now)
        else:
            self.state, verdict = judge(self.state, self.policy, passed=passed, now=now)
        return verdict

    def next_in(self, now: float) -> float:
        if isinstance(self.state, ReadinessState):
            return next_readiness_probe_in(self.state, self.policy, now)
        return next_probe_in(self.state, self.policy, now)


class Prober:
    """Probes every watched incarnation.

    Args:
        loop: The loop.
        helpers: Starts probe commands.
        report: Called with (key, verdict, result) for every result; the verdict says what the result changed, and
            ``result.check`` which check it is of.
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
        self._watched: dict[tuple[Hashable, Check], _Watched] = {}
        self._starting = 0
        self._troubled = False

    # -- who is watched -----------------------------------------------------------------------------------------

    def watch(
        self,
        key: Hashable,
        health: HealthSpec,
        context: ProbeContext,
        started: float,
        *,
        ready: bool = False,
        private: str | None = None,
        lifelong: bool = False,
    ) -> None:
        """Probe an incarnation until `forget`.

        Args:
            key: The incarnation; what was watched under the same key is forgotten.
            health: What and how often. Of a program that is run as it is, ``readiness`` counts where nothing else is
                checked: it is asked until it passes, and never condemns.
            context: Where commands run, and the slot.
            started: Monotonic time of the exec.
            ready: Whether it was ready before this supervisor took it over: it is then probed at the interval.
            private: Path of a unix socket of this very incarnation, of any length. URLs are asked there, with the path,
                the Host header and the TLS they ask for, and a ``tcp`` check connects there; commands are run as ever.
            lifelong: Whether ``readiness`` is a check of its own, beside any other and for life. Its results have
                `Check.READINESS`, and its verdicts are `Verdict.READY` and `Verdict.NOT_READY`, in turn.
        """
        self.forget(key)
        alone = health.endpoint is None and health.tcp is None and health.command is None
        checks = [] if alone else [Check.LIVENESS]
        if health.readiness is not None and (alone or lifelong):
            checks.append(Check.READINESS)
        for check in checks:
            watched = _Watched(key, check, health, context, started, ready=ready, private=private, lifelong=lifelong)
            self._watched[key, check] = watched
            self._starting += watched.starting
            gap = watched.next_in(self._loop.now())
            # Adopted incarnations are spread over an interval: a new supervisor takes over all of them at once.
            self._arm(watched, gap * self._chance() if ready else gap)

    def forget(self, key: Hashable) -> None:
        """Stop probing; a probe under way is ended and its result is never reported. Unknown keys are ignored."""
        for check in Check:
            watched = self._watched.pop((key, check), None)
            if watched is None:
                continue
            self._starting -= watched.starting
            if watched.timer is not None:
                watched.timer.cancel()
            if watched.probe is not None:
                watched.probe.cancel()

    def close(self) -> None:
        """Forget everything."""
        for key, _ in tuple(self._watched):
            self.forget(key)

    def word(self, key: Hashable) -> str | None:
        """Return the HEALTH word of an incarnation: None while nothing is known, healthy, failing or unhealthy.

        It is that of the check that can condemn; of the readiness check where there is no other.
        """
        watched = self._first(key)
        return None if watched is None else watched.state.word

    def ready(self, key: Hashable) -> bool:
        """Whether every check of an incarnation says that it is ready; True where none is watched.

        A check that condemns is ready from its first verdict on. A lifelong readiness check may change its mind.
        """
        return all(self._watched[key, check].state.ready for check in Check if (key, check) in self._watched)

    def last(self, key: Hashable, check: Check | None = None) -> ProbeResult | None:
        """Return the last result of an incarnation, or None; of the check that `word` tells of unless one is named."""
        watched = self._first(key) if check is None else self._watched.get((key, check))
        return None if watched is None else watched.last

    def _first(self, key: Hashable) -> _Watched | None:
        return self._watched.get((key, Check.LIVENESS)) or self._watched.get((key, Check.READINESS))

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

        if watched.check is Check.READINESS:
            return self._http(watched, health.readiness, done)
        if health.command is not None:
            argv = tuple(substitute(argument, context.instance) for argument in health.command.argv)
            return CommandProbe(self._loop, self._helpers, argv, context, done)
        if health.tcp is not None:
            address = parse_address(substitute(health.tcp, context.instance))
            return TcpProbe(self._loop, self._resolver, address, done, private=watched.private)
        return self._http(watched, health.endpoint, done)

    def _http(self, watched: _Watched, url: str | None, done: Done) -> Probe:
        endpoint = parse_endpoint(substitute(url or "", watched.context.instance))
        return HttpProbe(self._loop, self._resolver, endpoint, done, private=watched.private)

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
        verdict = watched.judge(passed=outcome.passed, now=now)
        if watched.starting and watched.state.ready:
            watched.starting = False
            self._starting -= 1
        seconds = now - watched.begun
        watched.last = ProbeResult(ok=outcome.passed, detail=outcome.detail, seconds=seconds, check=watched.check)
        self._report(watched.key, verdict, watched.last)
        # The report may have forgotten it, or watch a new incarnation under the same key by now.
        if self._watched.get((watched.key, watched.check)) is watched:
            self._plan(watched, became_ready=watched.state.ready and not was_ready)

    def _could_not_ask(self, watched: _Watched, detail: str) -> None:
        if not self._troubled:
            self._troubled = True
            self._trouble(f"health checks cannot be made: {detail}")
        # Less often than a starting program is probed: the machine is short of something.
        self._arm(watched, min(watched.policy.interval, 1.0))

    def _plan(self, watched: _Watched, *, became_ready: bool) -> None:
        now = self._loop.now()
        gap = watched.next_in(now)
        if not watched.state.ready:
            took = now - watched.begun
            cost = took * _COMMAND_SHARE if watched.is_command else 0.0
            self._arm(watched, min(watched.policy.interval, max(gap, cost, self._starting * _STARTING_SPACING)))
        elif watched.once:
            watched.timer = None
        elif became_ready:
            # Programs that became ready together would otherwise be probed together for ever.
            self._arm(watched, gap * (0.5 + 0.5 * self._chance()))
        else:
            self._arm(watched, watched.begun + gap - now)


def _policy(health: HealthSpec, *, condemns: bool) -> HealthPolicy:
    return HealthPolicy(
        interval=health.interval,
        timeout=health.timeout,
        grace=health.grace,
        healthy_threshold=health.healthy_threshold,
        unhealthy_threshold=health.unhealthy_threshold if condemns else _NEVER,
    )
