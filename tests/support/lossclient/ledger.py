"""The count: every request once, in the phase in which it ended, and the worst that was seen in each phase.

A phase is what the test did at the time (``"reload 3"``). A request belongs to the phase in which its outcome was known;
a failure's record says in which it began.
"""

from __future__ import annotations

import time
from array import array
from collections import Counter
from typing import Any

from support.lossclient.outcome import Closed, Lost, Outcome

__all__ = ["FAST", "Ledger", "Phase"]

# The kinds whose answers take the server no time of their own, so that what they took is the service's.
FAST = frozenset({"busy", "idle", "silent", "single", "websocket"})
SAMPLE = 200
# A client that waits longer than this notices.
STALLED = 0.5


class Phase:
    """What happened in one phase."""

    def __init__(self, name: str, now: float) -> None:
        self.name, self.begun, self.ended = name, now, now
        self.counts: Counter[tuple[str, Outcome]] = Counter()
        self.closed: Counter[Closed] = Counter()
        self.pids: Counter[str] = Counter()
        # Of the first answers on connections that were made in this phase: who accepts.
        self.accepting: Counter[str] = Counter()
        self.generations: Counter[str] = Counter()
        self.latencies = array("d")
        self.stall: dict[str, Any] = {"seconds": 0.0}
        self.stalled: Counter[str] = Counter()
        self.gap = 0.0
        self.lag = 0.0

    def report(self) -> dict[str, Any]:
        """Return it as JSON."""
        kinds: dict[str, dict[str, int]] = {}
        for (kind, outcome), count in sorted(self.counts.items()):
            kinds.setdefault(kind, {})[outcome] = count
        return {
            "name": self.name,
            "begun": self.begun,
            "ended": self.ended,
            "seconds": self.ended - self.begun,
            **totals(self.counts),
            "kinds": kinds,
            "closed": dict(self.closed),
            "pids": dict(self.pids),
            "accepting": dict(self.accepting),
            "generations": dict(self.generations),
            "latency": spread(self.latencies),
            "stall": self.stall,
            "stalled": dict(self.stalled),
            "gap": self.gap,
            "client_lag": self.lag,
        }


class Ledger:
    """All phases, and the failures in their order."""

    def __init__(self) -> None:
        now = time.monotonic()
        self.phases = [Phase("start", now)]
        self.failures: list[dict[str, Any]] = []
        self.taken = 0
        self.answers = 0
        self.answered_kinds: set[str] = set()
        self.gone_unanswered = 0
        # While the clients stop there are fewer answers and nothing to learn from it.
        self.winding_down = False
        self._last_answer = now

    @property
    def phase(self) -> Phase:
        """The present one."""
        return self.phases[-1]

    @property
    def failed(self) -> int:
        """Requests that failed so far."""
        return sum(totals(phase.counts)["failed"] for phase in self.phases)

    def look(self) -> dict[str, Any]:
        """Return the count so far, and who has answered in this phase, what release."""
        phase = self.phase
        return {
            "answers": self.answers,
            "failed": self.failed,
            "pids": dict(phase.pids),
            "accepting": dict(phase.accepting),
            "generations": dict(phase.generations),
            # A failure is seen when the phase it began in may be over.
            "lag": max(recent.lag for recent in self.phases[-2:]),
        }

    def take_failures(self) -> list[dict[str, Any]]:
        """Return what is known of the failures so far and forget it, so that a long run has its sample in pieces."""
        failures, self.failures = self.failures, []
        self.taken += len(failures)
        return failures

    def wind_down(self) -> None:
        """Measure gaps no longer."""
        self._close_phase(time.monotonic())
        self.winding_down = True

    def mark(self, name: str) -> None:
        """Begin a phase."""
        now = time.monotonic()
        self._close_phase(now)
        self.phases.append(Phase(name, now))

    def ok(
        self, kind: str, begun: float, served: float, headers: dict[str, str] | None, *, made: float | None = None
    ) -> None:
        """Count an answer.

        Args:
            kind: Of traffic.
            begun: When the request had been asked, monotonic.
            served: How long the server was asked to take.
            headers: Of the answer; None of a websocket's echo.
            made: When the connection was made, if this was the first answer on it.
        """
        now = time.monotonic()
        phase = self.phases[-1]
        phase.counts[kind, Outcome.OK] += 1
        self.answers += 1
        self.answered_kinds.add(kind)
        gap, self._last_answer = now - self._last_answer, now
        if not self.winding_down:
            phase.gap = max(phase.gap, gap)
        took = now - begun - served
        if kind in FAST:
            phase.latencies.append(took)
            if took > STALLED:
                phase.stalled[kind] += 1
            if took > phase.stall["seconds"]:
                phase.stall = {"seconds": took, "kind": kind, "begun": begun, "ended": now}
        if headers is not None:
            phase.pids[headers.get("x-pid", "?")] += 1
            phase.generations[headers.get("x-generation", "?")] += 1
            if made is not None and made >= phase.begun:
                phase.accepting[headers.get("x-pid", "?")] += 1
            if took >= phase.stall["seconds"]:
                phase.stall["pid"] = headers.get("x-pid")

    def lost(self, kind: str, lost: Lost, begun: float, **detail: object) -> None:
        """Count a failure and keep what is known of it."""
        now = time.monotonic()
        self.phase.counts[kind, lost.outcome] += 1
        if len(self.failures) < SAMPLE:
            began_in = next((phase.name for phase in reversed(self.phases) if phase.begun <= begun), "start")
            self.failures.append(
                {
                    "kind": kind,
                    "class": lost.outcome,
                    "text": lost.text,
                    "phase": self.phase.name,
                    "began_in": began_in,
                    "begun": begun,
                    "ended": now,
                    "seconds": now - begun,
                    **detail,
                }
            )

    def closed(self, how: Closed) -> None:
        """Count a connection that the server ended while nothing was under way."""
        self.phase.closed[how] += 1

    def lag(self, seconds: float) -> None:
        """Note that the client itself was late by so much: its machine was busy, and stalls are partly its own."""
        self.phase.lag = max(self.phase.lag, seconds)

    def report(self) -> dict[str, Any]:
        """Return the whole count as JSON."""
        self._close_phase(time.monotonic())
        counts: Counter[tuple[str, Outcome]] = Counter()
        closed: Counter[Closed] = Counter()
        generations: Counter[str] = Counter()
        pids: Counter[str] = Counter()
        latencies = array("d")
        for phase in self.phases:
            counts += phase.counts
            closed += phase.closed
            generations += phase.generations
            pids += phase.pids
            latencies.extend(phase.latencies)
        kinds: dict[str, dict[str, int]] = {}
        for (kind, outcome), count in sorted(counts.items()):
            kinds.setdefault(kind, {})[outcome] = count
        return {
            **totals(counts),
            "seconds": self.phases[-1].ended - self.phases[0].begun,
            "kinds": kinds,
            "closed": dict(closed),
            "pids": dict(pids),
            "generations": dict(generations),
            "latency": spread(latencies),
            "stall": max((phase.stall for phase in self.phases), key=lambda stall: stall["seconds"]),
            "gap": max(phase.gap for phase in self.phases),
            "client_lag": max(phase.lag for phase in self.phases),
            "websocket_texts_not_answered_before_a_close": self.gone_unanswered,
            "phases": [phase.report() for phase in self.phases],
            "failures": self.failures,
            "failures_left_out": max(0, totals(counts)["failed"] - self.taken - len(self.failures)),
        }

    def _close_phase(self, now: float) -> None:
        # A gap that has not ended yet belongs to the phase too: nothing may have answered at all.
        self.phase.ended = now
        if not self.winding_down:
            self.phase.gap = max(self.phase.gap, now - self._last_answer)


def totals(counts: Counter[tuple[str, Outcome]]) -> dict[str, Any]:
    """Return the sums over all kinds."""
    classes: Counter[str] = Counter()
    for (_, outcome), count in counts.items():
        classes[outcome] += count
    total = sum(classes.values())
    return {"requests": total, "failed": total - classes[Outcome.OK], "classes": dict(classes)}


def spread(values: array[float]) -> dict[str, float]:
    """Return the median, the 99th percentile and the greatest of some latencies, seconds."""
    if not values:
        return {"count": 0, "p50": 0.0, "p99": 0.0, "max": 0.0}
    ordered = sorted(values)
    last = len(ordered) - 1
    return {
        "count": len(ordered),
        "p50": ordered[last // 2],
        "p99": ordered[min(last, round(last * 0.99))],
        "max": ordered[-1],
    }
