"""The keep-alive time of connections without a timer for each answer.

uvicorn starts a timer with every answer and cancels it with the next request: on uvloop half a microsecond of the 25 a
small request takes, on asyncio 2, for something that happens when a client has been silent for seconds. Here a connection
notes that it is silent in the set of the present moment and takes itself out; a look at the oldest set, with the ticks of
the server, closes who is still there.

It takes the place of the loop in uvicorn's own HTTP protocols, which ask their loop for tasks and for that timer alone;
what else is asked of it, or with another delay, is the loop's.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

__all__ = ["Idle"]

# The parts of the keep-alive time that have a set each; silent connections are closed late by one part and one tick.
_PARTS = 50
# Seconds between two ticks after which the loop was blocked meanwhile.
_LATE = 0.5
# Shorter times are measured by the loop: a tick would be much of them.
_SHORTEST = 1.0
# The protocols that are known; a class of the user's may want anything of its loop.
_KNOWN = "uvicorn.protocols.http."


class Idle:
    """The silent connections of one server.

    Args:
        loop: Its event loop.
        keepalive: Seconds after which a silent connection is closed.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, keepalive: float) -> None:
        """None is silent yet."""
        self._loop = loop
        self._keepalive = keepalive
        self._begun = self._looked = loop.time()
        self._earlier: deque[tuple[float, set[_Connection]]] = deque()
        self.now: set[_Connection] = set()

    def loop_for(self, protocol: type[Any]) -> Any:
        """Return what one connection is to take for its loop."""
        if self._keepalive < _SHORTEST or not protocol.__module__.startswith(_KNOWN):
            return self._loop
        return _Connection(self, self._loop, self._keepalive)

    def tick(self, at: float) -> None:
        """Close who was silent for too long; ``at`` in the loop's time."""
        if at - self._begun >= self._keepalive / _PARTS:
            # Nobody in it became silent later than this.
            self._earlier.append((at + self._keepalive, self.now))
            self._begun, self.now = at, set()
        was_blocked, self._looked = at - self._looked > _LATE, at
        if was_blocked:
            # What came in meanwhile is read first: who has sent a request is not silent.
            return
        while self._earlier and self._earlier[0][0] <= at:
            silent = self._earlier.popleft()[1]
            while silent:
                silent.pop().over()


class _Connection:
    """The loop of one connection, and the handle of its timer: it has one at a time."""

    __slots__ = ("_among", "_handler", "_idle", "_keepalive", "_loop", "create_task")

    def __init__(self, idle: Idle, loop: asyncio.AbstractEventLoop, keepalive: float) -> None:
        self._idle = idle
        self._loop = loop
        self._keepalive = keepalive
        self._among: set[_Connection] | None = None
        self._handler: Callable[[], Any] | None = None
        self.create_task = loop.create_task

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:
        """Be silent from now on; see `asyncio.loop.call_later`."""
        if delay != self._keepalive or args or context is not None or self._among is not None:
            return self._loop.call_later(delay, callback, *args, context=context)
        self._handler = callback
        self._among = among = self._idle.now
        among.add(self)
        return self

    def cancel(self) -> None:
        """Be silent no more; see `asyncio.TimerHandle.cancel`."""
        among = self._among
        if among is not None:
            among.discard(self)
            # The handler is the protocol's, which holds this.
            self._among = self._handler = None

    def over(self) -> None:
        """The time is over."""
        handler, self._among, self._handler = self._handler, None, None
        if handler is not None:
            self._loop.call_soon(handler)
