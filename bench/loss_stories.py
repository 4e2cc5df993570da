"""What is done to a server under load, and what is counted meanwhile."""

from __future__ import annotations

import os
import signal
import time

from loss_servers import WORKERS, Kind, Server, launch, lives, wait_for

from support.loss import LossClient, in_flight, loss_client


class Story:
    """One server, one client, one thing done."""

    recycle = False

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.facts: dict[str, object] = {}

    def run(self) -> dict[str, object]:
        """Return the figures of one round."""
        server = launch(self.kind, recycle=self.recycle)
        try:
            with loss_client(address=f"127.0.0.1:{server.port}", **self.kind.load) as client:
                client.warm()
                client.mark("before")
                client.answers(1000)
                wait_for(lambda: len(self.workers(client)) >= WORKERS)
                client.mark("done")
                self.act(server, client)
                report = client.stop()
        finally:
            server.stop()
        return {**self.figures(report), **self.facts, "report": report}

    def workers(self, client: LossClient) -> set[int]:
        """Return the living workers that have answered in this phase."""
        return {int(pid) for pid in client.look()["pids"] if pid.isdecimal() and lives(int(pid))}

    def act(self, server: Server, client: LossClient) -> None:
        raise NotImplementedError

    def figures(self, report: dict) -> dict[str, object]:
        phases = [phase for phase in report["phases"] if phase["name"] not in {"start", "before"}]
        return {
            "requests": sum(phase["requests"] for phase in phases),
            "failed": sum(phase["failed"] for phase in phases),
            "failed before": report["failed"] - sum(phase["failed"] for phase in phases),
            "closed unannounced": sum(
                count for phase in phases for how, count in phase["closed"].items() if how != "polite"
            ),
            "stall, ms": 1000 * max(phase["stall"]["seconds"] for phase in phases),
            "gap, ms": 1000 * max(phase["gap"] for phase in phases),
            "serves at the end": phases[-1]["classes"].get("ok", 0) > 0,
            "p99, ms": 1000 * max(phase["latency"]["p99"] for phase in phases),
        }


class Reload(Story):
    """Two reloads, each to a newer release."""

    def act(self, server: Server, client: LossClient) -> None:
        took, codes = [], []
        for number in range(2):
            wait_for(lambda: len(self.workers(client)) >= WORKERS)
            old = self.workers(client)
            server.release(str(number + 2))
            begun = client.mark(f"reload {number + 1}")
            codes.append(server.reload())

            def replaced(old: set[int] = old, wanted: str = str(number + 2)) -> bool:
                seen = client.look()["generations"]
                return not any(map(lives, old)) and wanted in seen and len(self.workers(client)) >= WORKERS

            done = wait_for(replaced)
            took.append(time.monotonic() - begun if done else None)
            client.answers(1000)
        finished = [seconds for seconds in took if seconds is not None]
        self.facts = {
            "seconds a reload": sum(finished) / len(finished) if finished else None,
            "reloads that ended": len(finished),
            "exit codes": codes,
        }


class Recycle(Story):
    """Workers leave all the time."""

    recycle = True

    def act(self, server: Server, client: LossClient) -> None:
        seen: set[int] = self.workers(client)
        end = time.monotonic() + 75
        # granian has no limit of requests, only of time, and that is a minute at least.
        while time.monotonic() < end and server.ended is None and len(seen) < 3 * WORKERS:
            time.sleep(0.1)
            seen |= self.workers(client)
        self.facts = {"workers seen": len(seen), "ended": server.ended}


class Crash(Story):
    """kill -9 of a worker, and of its successor."""

    def act(self, server: Server, client: LossClient) -> None:
        kills: list[tuple[float, int]] = []
        back: list[float | None] = []
        for number in range(2):
            # Two have to have answered in this phase, or a worker that was there all the time would pass for a new one.
            if not wait_for(lambda: len(self.workers(client)) >= WORKERS or server.ended is not None, 10):
                break
            known = self.workers(client)
            if server.ended is not None or not known:
                break
            victim = max(known)
            client.mark(f"kill {number + 1}")
            # Before the kill: its clients may hear of it before this process goes on.
            at = time.monotonic()
            os.kill(victim, signal.SIGKILL)
            kills.append((at, victim))

            def recovered(known: set[int] = known) -> bool:
                return bool(self.workers(client) - known) or server.ended is not None

            came = wait_for(recovered, 10)
            back.append(time.monotonic() - at if came and server.ended is None else None)
            if server.ended is not None:
                break
        client.mark("after")
        time.sleep(1)
        self.kills = kills
        self.facts = {"kill to new worker, s": back, "ended": server.ended}

    def figures(self, report: dict) -> dict[str, object]:
        figures = super().figures(report)
        flying = sum(in_flight(failure, self.kills) for failure in report["failures"])
        return {**figures, "in flight on the victim": flying, "failed otherwise": figures["failed"] - flying}


class Broken(Story):
    """A reload to a release that raises when it is imported."""

    mode = "import"

    def act(self, server: Server, client: LossClient) -> None:
        wait_for(lambda: len(self.workers(client)) >= WORKERS)
        old = self.workers(client)
        server.release("2", self.mode)
        client.mark("broken reload")
        code = server.reload()
        # Where reload is a command it is over now. granian replaces a worker 3.5 s after the other.
        end = time.monotonic() + (9 if code is None else 1)
        while time.monotonic() < end and server.ended is None:
            time.sleep(0.05)
        client.mark("after")
        time.sleep(1)
        self.facts = {
            "ended": server.ended,
            "exit code of the reload": code,
            "old workers kept": server.ended is None and all(map(lives, old)),
        }


class BrokenStartup(Broken):
    """A reload to a release that raises when it starts."""

    mode = "startup"


STORIES: dict[str, type[Story]] = {
    "reload": Reload,
    "recycle": Recycle,
    "crash": Crash,
    "broken import": Broken,
    "broken startup": BrokenStartup,
}
