"""What an action is, what it says it has done, and how it chooses whom to do it to."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chaos.stack import COMMANDS, SERVICES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from random import Random

    from chaos.world import World

__all__ = ["BEGUN", "FEWER", "WHILE", "Action", "Done", "a_command", "a_worker", "a_zygote", "fill", "the_other"]

# Requests that are answered while something is out of order: that is what measures how long, and it needs no clock.
WHILE = 150
FEWER = 40

# The first that is told of a restart, a scale or an apply.
BEGUN = {"waiting", "stopping", "restarting", "started"}


@dataclass(frozen=True, kw_only=True)
class Done:
    """What was done.

    Attributes:
        what: In words, with pids.
        touched: Instances (``web:0``) and processes (``web``) that may have another pid now.
        gone: Pids that must not be shown any more.
        events: Kind, process (None: any) and a part of the text of events that have to be there.
        supervisor: Whether there may be another supervisor now.
        unread: Programs that died while there was no supervisor: what was in their pipes is lost.
        ring: Whether a supervisor died that held lines for a full disk.
    """

    what: str
    touched: frozenset[str] = frozenset()
    gone: frozenset[int] = frozenset()
    events: tuple[tuple[str, str | None, str], ...] = ()
    supervisor: bool = False
    unread: frozenset[int] = frozenset()
    ring: bool = False


@dataclass(frozen=True, kw_only=True)
class Action:
    """One kind of thing to do.

    Attributes:
        name: For the command line and the table.
        do: Does it; the randomness is all it may decide by.
        needs: Returns why it cannot be done here, or "".
    """

    name: str
    do: Callable[[World, Random], Done]
    needs: Callable[[World], str] = field(default=lambda _: "")


def a_worker(world: World, rng: Random, *, siblings: bool = False) -> tuple[str, str, int]:
    """Choose a worker: its service, its label, its pid; where it must have siblings, another one is started first."""
    service = rng.choice(SERVICES)
    if siblings and world.stack.count(service) == 1:
        world.ox.ok("scale", f"{service}=2")
        world.stack.scaled[service] = 2
    label = f"{service}:{rng.randrange(world.stack.count(service))}"
    return service, label, world.ox.pid(label)


def a_zygote(world: World, rng: Random) -> tuple[str, int]:
    """Choose a zygote: its service and its pid."""
    service = rng.choice(SERVICES)
    (pid,) = world.zygotes()[service]
    return service, pid


def a_command(world: World, rng: Random) -> tuple[str, int]:
    name = rng.choice([name for name in COMMANDS if f"{name}:0" in world.stack.running()])
    return name, world.ox.pid(name)


def the_other(service: str) -> str:
    return SERVICES[1 - SERVICES.index(service)]


def fill(world: World) -> Path:
    """Leave no room on the small disk; return what has to go to make room again."""
    disk = world.stack.spill
    assert disk is not None
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 4096)
    left = os.statvfs(disk).f_bavail
    assert left == 0, f"the disk has {left} blocks left"
    return ballast
