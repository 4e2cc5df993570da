"""The load on both services, and the verdict on each request that failed: was it on a process that was killed just then?

The clients are those of the loss suite: processes of their own that ask nothing twice. What they could not do for want of a
port, a descriptor or the processor is told apart from what Oxherd did.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from support.loss import LossClient
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from chaos.stack import Stack

__all__ = ["HarnessError", "Kill", "Traffic", "Verdict", "judge"]

# Enough of every kind to meet each action, few enough to leave two processors to the servers.
LIGHT: dict[str, object] = {
    "busy": 4,
    "busy_think": [0.02, 0.06],
    "idle": 4,
    "idle_think": [0.2, 0.6],
    "silent": 2,
    "silent_wait": [0.1, 0.5],
    "single": 2,
    "single_think": [0.05, 0.15],
    "slow": 2,
    "slow_take": [0.2, 0.5],
    "post": 1,
    "stream": 1,
    "websocket": 1,
    # A restart keeps connections waiting while the app is imported, beside whatever else the machine does.
    "timeout": 15.0,
}
NO_WEBSOCKET = {"websocket": 0}
# A client that was itself late by this share of its patience says nothing about who kept it waiting.
LATE = 0.3


class HarnessError(Exception):
    """The harness did not work: nothing can be said of Oxherd."""


@dataclass(frozen=True, kw_only=True)
class Kill:
    """A process that was killed: when, when it was gone for good (its sockets closed), and which; monotonic seconds."""

    at: float
    gone: float
    pid: int


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is made of one failed request: ``allowed``, ``disallowed``, or ``harness``: the client's own doing."""

    word: str
    service: str
    failure: dict[str, Any]

    def __str__(self) -> str:
        failure = self.failure
        return (
            f"{self.service}: a {failure['kind']} request ended as {failure['class']} ({failure['text']}) at "
            f"{failure['stage']}, begun {failure['begun']:.3f}, ended {failure['ended']:.3f}, pid {failure['pid']}, "
            f"{failure['answered']} answers before on its connection"
        )


def judge(failure: dict[str, Any], kills: list[Kill], *, late: float, timeout: float) -> str:
    """Return the word for a failed request.

    Args:
        failure: As the client tells it.
        kills: Of this run so far.
        late: How late the client itself was at the most meanwhile, seconds.
        timeout: After which it gave up, seconds.
    """
    if failure["class"] == "client" or (failure["class"] == "timeout" and late > LATE * timeout):
        return "harness"
    # A killed process goes on answering until the kernel has torn it down; when it is gone its sockets are closed.
    # A connection that has had no answer yet may have been anybody's.
    in_flight = failure["class"].startswith("reset") and any(
        failure["begun"] <= kill.gone and failure["ended"] >= kill.at and failure["pid"] in {None, kill.pid}
        for kill in kills
    )
    return "allowed" if in_flight else "disallowed"


class Traffic:
    """A client at each service."""

    def __init__(self, stack: Stack, seed: int) -> None:
        """Start asking, and wait until every kind of traffic has been answered.

        Raises:
            HarnessError: A client did not come up, or is not answered.
        """
        self.kills: list[Kill] = []
        self.clients: dict[str, LossClient] = {}
        self.reports: dict[str, dict[str, Any]] = {}
        try:
            for service, port in stack.ports.items():
                less = {} if service == "web" else NO_WEBSOCKET
                self.clients[service] = LossClient(address=f"127.0.0.1:{port}", seed=seed, **{**LIGHT, **less})
            for client in self.clients.values():
                client.warm()
        except BaseException as error:
            self.kill()
            if isinstance(error, AssertionError):
                raise HarnessError(str(error)) from error
            raise

    def mark(self, phase: str) -> None:
        """Begin a phase."""
        for client in self.clients.values():
            _asked(client.mark, phase)

    def answers(self, count: int, *services: str) -> None:
        """Wait until so many more requests have been answered by each service, or by those that are named.

        Raises:
            AssertionError: They are not.
        """
        goals = {service: self.look(service)["answers"] + count for service in services or self.clients}
        for service, goal in goals.items():
            wait_until(
                lambda service=service, goal=goal: self.look(service)["answers"] >= goal,
                lambda service=service, goal=goal: f"{service} to answer: {self.look(service)['answers']} of {goal}",
            )

    def look(self, service: str) -> dict[str, Any]:
        """Return the count of a client so far."""
        seen: dict[str, Any] = _asked(self.clients[service].look)
        return seen

    def verdicts(self) -> list[Verdict]:
        """Return what is made of the failures since the last time."""
        return [
            self._verdict(service, failure, float(self.look(service)["lag"]))
            for service, client in self.clients.items()
            for failure in _asked(client.take_failures)
        ]

    def stop(self) -> list[Verdict]:
        """Stop asking; return what is made of the failures of the end.

        Raises:
            HarnessError: There were failures of which nothing is known.
        """
        found = []
        for service, client in self.clients.items():
            report = self.reports[service] = _asked(client.stop)
            found += [self._verdict(service, failure, report["client_lag"]) for failure in report["failures"]]
            if report["failures_left_out"]:
                raise HarnessError(f"{service}: {report['failures_left_out']} failures of which nothing is known")
        return found

    def kill(self) -> None:
        """End the clients however they are."""
        for client in self.clients.values():
            if client.report is None:
                client.kill()

    def _verdict(self, service: str, failure: dict[str, Any], late: float) -> Verdict:
        word = judge(failure, self.kills, late=late, timeout=float(str(LIGHT["timeout"])))
        return Verdict(word=word, service=service, failure=failure)


def _asked(ask: Callable[..., Any], *arguments: object) -> Any:
    """Ask a client; one that does not answer is the harness's trouble."""
    try:
        return ask(*arguments)
    except AssertionError as error:
        raise HarnessError(str(error)) from error
