"""A stack under load: one process of the table of `support.served`, run by a real supervisor, and the client at it."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.loss import LossClient, in_flight, loss_client
from support.lossclient.load import Load
from support.services import unused_port
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.harness import Result, Supervised
    from support.served import Served

__all__ = ["LOSS_APPS", "Scene", "told"]

LOSS_APPS = Path(__file__).resolve().parent.parent / "loss" / "apps"

# Those who say nothing say it for less long, so that a worker that leaves is not waited for.
SHORT: dict[str, object] = {"idle_think": [0.2, 0.6], "silent_wait": [0.1, 0.5], "slow_take": [0.2, 0.5]}
# And websockets, which say nothing of their end, are closed sooner.
# Time for two slow requests: gthread and granian announce the end of a connection with the answer after the one in flight.
SHORT_DRAIN = 'graceful_timeout = "2s"\n'

HEALTH = """
[processes.web.health_check]
endpoint = "http://127.0.0.1:{port}/health"
"""


class Scene:
    """One process ``web`` and what is done to it.

    Args:
        ox: The supervisor.
        served: How it is served.
        full: Whether the whole load is wanted, or one whose silences are short.
    """

    def __init__(self, ox: Supervised, served: Served, *, full: bool) -> None:
        self.ox, self.served, self.full = ox, served, full
        self.port = unused_port()
        self.directory = ox.base / "deployed"
        self.directory.mkdir()
        self.generation = 0
        self.kills: list[tuple[float, int]] = []
        self.traffic: dict[str, object] = {}
        self.report: dict[str, Any] | None = None

    # -- the stack --------------------------------------------------------------------------------------------------

    def start(self, more: str = "", health: str = HEALTH) -> None:
        """Write the oxfile, with more lines for ``[processes.web]``, and start it."""
        self.release()
        drain = "" if self.full else SHORT_DRAIN
        self.ox.oxfile(
            f'[processes.web]\n{self.served.lines(self.port)}working_dir = "{LOSS_APPS}"\n{drain}{more}\n'
            f'[processes.web.env]\nLOSS_DIR = "{self.directory}"\n{health.format(port=self.port)}'
        )
        self.ox.ok("start")

    def release(self, mode: str = "") -> str:
        """Deploy: what a worker that begins from now on imports; return the name of the release."""
        self.generation += 1
        new = self.directory / "release.new"
        new.write_text(json.dumps({"generation": str(self.generation), "mode": mode}))
        new.rename(self.directory / "release.json")
        return str(self.generation)

    def unready(self, *who: str) -> None:
        """Say which workers are not ready: none, their slots, or ``"all"``."""
        path = self.directory / "unready"
        if who:
            path.write_text(" ".join(who))
        else:
            path.unlink()

    def reload(self) -> Result:
        return self.ox.cli("reload", "web")

    def pids(self) -> dict[str, int | None]:
        """The main pid of each slot."""
        return self.ox.pids()

    # -- the load ---------------------------------------------------------------------------------------------------

    @contextmanager
    def load(self, **more: object) -> Iterator[LossClient]:
        """Run the load beside the block; afterwards `report` has the count."""
        self.traffic = {**({} if self.full else SHORT), **self.served.traffic(), **more}
        with loss_client(address=f"127.0.0.1:{self.port}", **self.traffic) as client:
            client.warm()
            yield client
            self.report = client.stop()

    def wait_answering(self, client: LossClient, generation: str) -> None:
        """Wait until a release answers."""
        wait_until(
            lambda: generation in client.look()["generations"],
            lambda: f"release {generation} to answer; so far {client.look()['generations']}",
        )

    # -- the verdict ------------------------------------------------------------------------------------------------

    def unexplained(self) -> list[dict[str, Any]]:
        """Return the failures that neither the table admits nor a kill explains."""
        assert self.report is not None
        return [
            failure
            for failure in self.report["failures"]
            if not self.served.excused(failure["kind"], failure["class"]) and not in_flight(failure, self.kills)
        ]

    def too_many(self) -> list[str]:
        """Return where more was lost than the table can excuse: a connection loses its last request, once a phase."""
        assert self.report is not None
        clients = Load.parse({"address": "", **self.traffic}).counts()
        return [
            f"{phase['name']}: {lost} of {kind}, {clients[kind]} connections"
            for phase in self.report["phases"]
            for kind, counts in phase["kinds"].items()
            if (lost := sum(counts.values()) - counts.get("ok", 0)) > clients[kind] and not self.kills
        ]

    def assert_nothing_lost(self) -> None:
        """Insist that every request was answered, and every connection ended as the protocol wants it."""
        report = self.report
        assert report is not None
        assert self.unexplained() == [], told(report)
        assert report["failures_left_out"] == 0, told(report)
        assert self.too_many() == [], told(report)
        if not self.kills:
            rude = {how: count for how, count in report["closed"].items() if not self.served.closes(how)}
            assert rude == {}, told(report)


def told(report: dict[str, Any]) -> str:
    """Return a report for people."""
    lines = [
        f"{report['failed']} of {report['requests']} requests failed: {report['classes']}",
        f"connections ended: {report['closed']}",
    ]
    lines += [
        f"  {phase['name']}: {phase['seconds']:.1f} s, {phase['requests']} requests, {phase['failed']} failed, "
        f"closed {phase['closed']}, stall {phase['stall']['seconds'] * 1000:.0f} ms ({phase['stall'].get('kind')}), "
        f"gap {phase['gap'] * 1000:.0f} ms, client late by {phase['client_lag'] * 1000:.0f} ms, "
        f"pids {phase['pids']}, generations {phase['generations']}"
        for phase in report["phases"]
    ]
    lines += [f"  {failure}" for failure in report["failures"][:20]]
    return "\n".join(lines)
