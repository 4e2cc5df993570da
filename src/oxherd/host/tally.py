"""Counting at a tenth of the price of the meters, for engines that answer in a few microseconds.

The meters are written with every request, some ten words of them. Where that would be a tenth of a request, the counts
are kept here and written at every tick, and the table of requests in flight with them; where the ticks fail to come, a
thread of its own writes the table, so that it has the request that blocks the loop.
"""

from __future__ import annotations

import _thread
from operator import attrgetter
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from .meters import LATENCY_BOUNDS

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from .meters import Meters

__all__ = ["Tally"]

_One = TypeVar("_One")

# Seconds without a tick after which the table is written by the thread, and between two looks of it.
_LATE = 0.25


def _taken(among: list[_One]) -> list[_One]:
    """Take what is there out of a list to which others append meanwhile."""
    taken = among[:]
    # Each of the two is one step, and what came between them is behind.
    del among[: len(taken)]
    return taken


class Tally:
    """What was counted since the last tick.

    Attributes:
        flying: The requests in flight, oldest first: whatever stands for one, and when it began (CLOCK_MONOTONIC).
            Set and deleted by whoever serves it, from any thread.
        fine: Requests answered with 200: seconds. Appended to from any thread.
        over: Other requests that are over: status (0: no whole answer) and seconds. Appended to from any thread.
    """

    def __init__(self, meters: Meters, text: Callable[[Any], str] = attrgetter("text")) -> None:
        """Begin at nothing.

        Args:
            meters: Where it is written to.
            text: Returns "GET /path" of what stands for a request; its own ``text`` where nothing else is given.
        """
        self.flying: dict[Any, float] = {}
        self.fine: list[float] = []
        self.over: list[tuple[int, float]] = []
        self._meters = meters
        self._text = text
        self._written = 0.0

    @property
    def busy(self) -> int:
        """How many requests are in flight."""
        return len(self.flying)

    def flush(self, now: float) -> int:
        """Write everything; returns how many requests were over. By the one thread that ticks."""
        # Everything over all of them is done in C: it is a part of the price of a request too.
        seconds, others = _taken(self.fine), _taken(self.over)
        count = len(seconds) + len(others)
        if count:
            self._count(now, seconds, others)
        self._show(now)
        return count

    def _count(self, now: float, seconds: list[float], others: list[tuple[int, float]]) -> None:
        classes = [0, len(seconds), 0, 0, 0]
        aborted = 0
        for status, took in others:
            if status:
                classes[min(5, max(1, status // 100)) - 1] += 1
            else:
                aborted += 1
            seconds.append(took)
        longest = max(seconds)
        latency = [0] * (len(LATENCY_BOUNDS) + 1)
        # Nearly all are in the first buckets: counting what is above a bound, again and again, sorts less than sorting.
        for place, bound in enumerate(LATENCY_BOUNDS):
            if longest <= bound:
                latency[place] = len(seconds)
                break
            above = [one for one in seconds if one > bound]
            latency[place] = len(seconds) - len(above)
            seconds = above
        else:
            latency[-1] = len(seconds)
        self._meters.add(
            now,
            classes=classes,
            aborted=aborted,
            latency=latency,
            longest=longest,
        )

    def _show(self, now: float) -> None:
        self._written = now
        # A copy, at once: others set and delete meanwhile.
        flying = list(self.flying.items())
        self._meters.show(len(flying), ((started, self._text(one)) for one, started in flying))

    def watch(self, ended: threading.Event) -> None:
        """Start the thread that writes the table while no tick comes, until ``ended`` is set; none of the app's sees it."""
        _thread.start_new_thread(self._watch, (ended,))

    def _watch(self, ended: threading.Event) -> None:
        while not ended.wait(_LATE):
            now = monotonic()
            if now - self._written > _LATE:
                self._show(now)
