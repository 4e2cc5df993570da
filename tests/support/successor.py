"""The supervisor that comes after: a real loop and real handles that go through the doors of what another has started.

The one before is a `support.hosting` helper whose ``hang_up`` is its death::

    worker.hang_up()
    with Successor() as successor:
        back = successor.rejoin(worker)              # or rejoin_zygote: waits until all has been said
        successor.wait(lambda: back.handle.draining) # turns the loop meanwhile
        back.say("release", key="web:0")
        back.wait("released", key="web:0")
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from oxherd.system.loop import Loop
from oxherd.system.worker_handle import WorkerHandle
from oxherd.system.zygote_handle import ZygoteHandle
from support.waiting import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from support.hosting import HostedWorker, HostedZygote

__all__ = ["Back", "Successor"]


class Back:
    """One worker or zygote that is back: its handle, all its messages in order, and whether it has gone again."""

    def __init__(self, successor: Successor) -> None:
        self._successor = successor
        self.messages: list[dict[str, Any]] = []
        self.is_closed = False
        self.handle: Any = None

    def hear(self, message: dict[str, Any], fds: list[int]) -> None:
        self.messages.append({**message, "fds": fds})

    def close(self) -> None:
        self.is_closed = True

    def say(self, kind: str, fds: tuple[int, ...] = (), **fields: object) -> None:
        """Send a message."""
        assert self.handle.channel.send(kind, fds, **fields)

    def wait(self, kind: str, *, after: int = 0, **fields: object) -> dict[str, Any]:
        """Return the first message of a kind with these fields from position ``after`` on, and wait for it."""

        def found() -> dict[str, Any] | None:
            for message in self.messages[after:]:
                if message["kind"] == kind and all(message.get(key) == value for key, value in fields.items()):
                    return message
            return None

        self._successor.wait(lambda: found() is not None, lambda: f"{kind} {fields} among {self.messages}")
        message = found()
        assert message is not None
        return message


class Successor:
    """A supervisor's loop. Leaving the block is its death: nothing is said, and no file is removed."""

    def __init__(self) -> None:
        self.errors: list[object] = []
        self.loop = Loop(self.errors.append)
        self._all: list[Back] = []

    def knock(self, worker: HostedWorker) -> Back:
        """Connect to a worker and do not wait until it answers."""
        back = Back(self)
        back.handle = WorkerHandle.rejoin(self.loop, worker.private_path, worker.door_path, back.hear, back.close)
        self._all.append(back)
        return back

    def rejoin(self, worker: HostedWorker) -> Back:
        """Connect to a worker and wait until it has said what it is."""
        back = self.knock(worker)
        back.wait("here-end")
        return back

    def knock_zygote(self, zygote: HostedZygote) -> Back:
        """Connect to a zygote and do not wait until it answers."""
        back = Back(self)
        back.handle = ZygoteHandle.rejoin(self.loop, zygote.door_path, back.hear, back.close)
        self._all.append(back)
        return back

    def rejoin_zygote(self, zygote: HostedZygote) -> Back:
        """Connect to a zygote and wait until it has said what it is."""
        back = self.knock_zygote(zygote)
        back.wait("here-end")
        return back

    def wait(self, condition: Callable[[], object], story: Callable[[], str] = lambda: "") -> None:
        """Turn the loop until a condition holds."""
        end = self.loop.now() + DEADLINE
        while not condition():
            assert self.loop.now() < end, story()
            self.loop.run_once(0.05)
        assert self.errors == []

    def die(self) -> None:
        """Close every descriptor and touch no file, as a kill does."""
        for back in self._all:
            back.handle.channel.close()
            for message in back.messages:
                for fd in message["fds"]:
                    os.close(fd)
            match back.handle:
                case WorkerHandle() as worker:
                    worker.private = worker.door = "/nonexistent"
                    worker.close()
                case ZygoteHandle() as zygote:
                    zygote.door = ""
                    zygote.close()
        self._all.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.die()
        self.loop.close()
