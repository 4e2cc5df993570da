"""The client as a process: commands in as JSON lines, what became of them out as JSON lines.

    {"do": "start", "load": {...}}           -> {"said": "started", "at": 12.3}
    {"do": "mark", "phase": "reload 1"}      -> {"said": "marked", "at": 12.3}
    {"do": "await", "answers": 500}          -> {"said": "awaited", ...}  so many more have been answered
    {"do": "await", "kinds": true}           -> {"said": "awaited", ...}  each kind has been answered, since the start
    {"do": "look"}                           -> {"said": "seen", "answers": 12, "failed": 0, "pids": {"7": 3}}
    {"do": "failures"}                       -> {"said": "failures", "failures": [...]}  those since the last time
    {"do": "stop"}                           -> {"said": "report", "report": {...}}, after what is under way has ended

Times are of CLOCK_MONOTONIC, which is the same clock in every process of the machine.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from typing import TYPE_CHECKING, Any

from support.lossclient.ledger import Ledger
from support.lossclient.load import Load
from support.lossclient.traffic import Client

if TYPE_CHECKING:
    from collections.abc import Callable

TICK = 0.01


class Run:
    """One run of the client."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.ledger = Ledger()
        self.clients = [
            Client(load, self.ledger, kind, number) for kind, count in load.counts().items() for number in range(count)
        ]
        self.tasks: dict[asyncio.Task[None], Client] = {}

    def start(self) -> None:
        self.tasks = {asyncio.create_task(client.run()): client for client in self.clients}

    async def reached(self, command: dict[str, Any]) -> None:
        """Wait until as much has been answered as a command says."""
        goal = self.ledger.answers + int(command.get("answers", 0))
        kinds = set(self.load.counts()) if command.get("kinds") else set()
        await self.until(lambda: self.ledger.answers >= goal and kinds <= self.ledger.answered_kinds)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something holds, as long as all clients live."""
        while True:
            self.look_after()
            if condition():
                return
            await asyncio.sleep(TICK)

    def look_after(self) -> None:
        """A client that broke is an error of the client, and ends the run."""
        for task in self.tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def stop(self) -> dict[str, Any]:
        """Let what is under way end, and return the report."""
        self.ledger.wind_down()
        for task, client in self.tasks.items():
            client.stopping = True
            if client.resting:
                task.cancel()
        await asyncio.wait(self.tasks)
        self.look_after()
        return self.ledger.report()


async def watch_lag(runs: list[Run]) -> None:
    """Measure how late this process is itself, by a sleep that should last a tick."""
    while True:
        before = time.monotonic()
        await asyncio.sleep(TICK)
        late = time.monotonic() - before - TICK
        for run in runs:
            run.ledger.lag(late)


async def commands() -> asyncio.StreamReader:
    """Return the standard input as lines."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


async def main() -> None:
    """Do what is said until the input ends or the run is stopped."""
    lines = await commands()
    runs: list[Run] = []
    lag = asyncio.create_task(watch_lag(runs))
    async for line in lines:
        command = json.loads(line)
        said: dict[str, Any]
        match command["do"]:
            case "start":
                run = Run(Load.parse(command["load"]))
                runs.append(run)
                run.start()
                said = {"said": "started"}
            case "mark":
                runs[-1].ledger.mark(command["phase"])
                said = {"said": "marked"}
            case "await":
                await runs[-1].reached(command)
                said = {"said": "awaited", **runs[-1].ledger.look()}
            case "look":
                said = {"said": "seen", **runs[-1].ledger.look()}
            case "failures":
                said = {"said": "failures", "failures": runs[-1].ledger.take_failures()}
            case "stop":
                said = {"said": "report", "report": await runs[-1].stop()}
            case unknown:
                raise SystemExit(f"unknown command: {unknown}")
        print(json.dumps({**said, "at": time.monotonic()}), flush=True)
        if command["do"] == "stop":
            break
    lag.cancel()


if __name__ == "__main__":
    # A pause to collect garbage would look like a stall of the server.
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    asyncio.run(main())
