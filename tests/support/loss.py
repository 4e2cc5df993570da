"""The tests' end of the loss client: starts it, tells it what is being done, and reads its count."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.waiting import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["TEARDOWN", "LossClient", "in_flight", "loss_client"]

# A killed process goes on answering until the kernel has torn it down: measured at 2 to 4 ms on an idle machine. A
# request that begins within this time of kill(2) may be on it.
TEARDOWN = 0.05

TESTS = Path(__file__).resolve().parent.parent


class LossClient:
    """A running client.

    Args:
        load: The fields of `support.lossclient.load.Load` that differ from its defaults.
    """

    def __init__(self, **load: object) -> None:
        self.load = load
        self.report: dict[str, Any] | None = None
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.lossclient"],
            cwd=TESTS,
            env={**os.environ, "PYTHONPATH": str(TESTS)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._say("start", load=load)

    @property
    def pid(self) -> int:
        """The client's own process."""
        return self._process.pid

    def mark(self, phase: str) -> float:
        """Begin a phase; return when, on the monotonic clock."""
        return float(self._say("mark", phase=phase)["at"])

    def warm(self) -> None:
        """Wait until every kind of traffic has been answered."""
        self._say("await", kinds=True)

    def answers(self, count: int) -> dict[str, Any]:
        """Wait until so many more requests have been answered; return the count so far."""
        return self._say("await", answers=count)

    def look(self) -> dict[str, Any]:
        """Return the count so far."""
        return self._say("look")

    def take_failures(self) -> list[dict[str, Any]]:
        """Return the failures since the last time; the report has them no more."""
        failures: list[dict[str, Any]] = self._say("failures")["failures"]
        return failures

    def stop(self) -> dict[str, Any]:
        """Stop the traffic and return the report."""
        if self.report is None:
            self.report = self._say("stop")["report"]
            self._end()
        return self.report

    def kill(self) -> None:
        """End the process however it is."""
        self._process.kill()
        self._end()

    def _end(self) -> None:
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()
        self._process.wait()

    def _say(self, do: str, **fields: object) -> dict[str, Any]:
        stdin, stdout, stderr = self._process.stdin, self._process.stdout, self._process.stderr
        assert stdin is not None
        assert stdout is not None
        assert stderr is not None
        try:
            stdin.write(json.dumps({"do": do, **fields}) + "\n")
            stdin.flush()
        except BrokenPipeError:
            line = ""
        else:
            ready, _, _ = select.select([stdout], [], [], 2 * DEADLINE)
            assert ready, f"the loss client did not answer {do!r}"
            line = stdout.readline()
        assert line, f"the loss client ended at {do!r}: {stderr.read()}"
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def loss_client(**load: object) -> Iterator[LossClient]:
    """Run a client beside what is done in the block; it is ended with it."""
    client = LossClient(**load)
    try:
        yield client
        client.stop()
    finally:
        if client.report is None:
            client.kill()


def in_flight(failure: dict[str, Any], kills: list[tuple[float, int]]) -> bool:
    """Whether a failure is a request that was on a process when it was killed.

    Args:
        failure: Of the report.
        kills: When, on the monotonic clock, and whom.
    """
    return failure["class"].startswith("reset") and any(
        failure["begun"] <= at + TEARDOWN and failure["ended"] >= at and failure["pid"] in {None, pid}
        for at, pid in kills
    )
