"""What a worker measures of itself, in memory it shares with the supervisor.

One segment an incarnation, made by the supervisor (memfd), written by the worker alone, read by the supervisor at any
time without a lock: every field is one aligned machine word or is read twice where it is not. The segment outlives the
worker, so what a dead or blocked worker was doing can still be read.

Layout, native byte order, offsets in bytes::

      0  4s  magic "OXM1"            4  I  state, see `State`
      8  d   time of the last tick of the event loop (CLOCK_MONOTONIC, seconds)
     16  Q   ticks                  24  Q  spare
     32  Q   responses 1xx .. 5xx (five words)
     72  Q   requests that ended without a whole answer
     80  Q   requests in flight that the table has no room for
     88  Q   open connections
     96  Q   latency histogram, one word a bucket of `LATENCY_BOUNDS` and one above
    232  Q   loop lag histogram, one word a bucket of `LAG_BOUNDS` and one above
   1024  IfffII  ring of `SECONDS` whole seconds: second, longest lag, longest latency, spare, requests, server errors
   4096      table of `ENTRIES` requests in flight: start (d, 0 = free), text "GET /path" (UTF-8, zeros behind)
"""

from __future__ import annotations

import itertools
import mmap
import struct
import time
from bisect import bisect_left
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "ENTRIES",
    "LAG_BOUNDS",
    "LATENCY_BOUNDS",
    "SECONDS",
    "SIZE",
    "InFlight",
    "Meters",
    "Peak",
    "Reading",
    "State",
]

SIZE = 8192
MAGIC = b"OXM1"
SECONDS = 96
ENTRIES = 32

LATENCY_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
LAG_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

# Numbers of words.
_TICK, _CLASSES, _ABORTED, _MORE, _CONNECTIONS, _LATENCY, _LAG = 1, 4, 9, 10, 11, 12, 29
_RING, _RING_ENTRY = 1024, struct.Struct("=IfffII")
_TABLE, _ENTRY = 4096, struct.Struct("=d120s")
_TABLE_ENTRY = _ENTRY.size
_FIRST_START, _TABLE_WORDS = _TABLE // 8, _TABLE_ENTRY // 8
# Where a status is counted, by its hundreds; 0 is no whole answer, and what no status may be is the server's fault.
_CLASS = (_ABORTED, *range(_CLASSES, _CLASSES + 5))
_write_entry = _ENTRY.pack_into


class State(IntEnum):
    """How far a worker is."""

    BOOTING = 0
    STARTED = 1
    DRAINING = 2
    DONE = 3


@dataclass(frozen=True)
class InFlight:
    """A request that is being answered: "GET /path" and for how long, in seconds."""

    text: str
    seconds: float


@dataclass(frozen=True)
class Peak:
    """The worst of one or more whole seconds: longest loop lag and latency in seconds, requests, server errors."""

    lag: float = 0.0
    latency: float = 0.0
    requests: int = 0
    errors: int = 0


@dataclass(frozen=True)
class Reading:
    """A segment as it is now. Times in seconds; ``ticked_at`` is CLOCK_MONOTONIC, 0 before the first tick."""

    state: State
    ticked_at: float
    ticks: int
    requests: int
    classes: tuple[int, ...]
    aborted: int
    in_flight: int
    connections: int
    latency: tuple[int, ...]
    lag: tuple[int, ...]


class Meters:
    """A segment, for its one writer and any reader.

    The ring is written by `tick` and `turn`, everything else at once.

    Args:
        fd: The memfd; it is mapped and not kept open.
    """

    def __init__(self, fd: int) -> None:
        """Map the segment."""
        self._map = mmap.mmap(fd, SIZE)
        # Views write a word for half the price of struct's functions; the worker writes some ten words a request.
        self._words = memoryview(self._map).cast("Q")
        self._times = memoryview(self._map).cast("d")
        self._ticks = 0
        self._free = list(range(ENTRIES - 1, -1, -1))
        self._second = 0
        self._then = (0, 0)
        self._second_lag = self._second_latency = 0.0

    # -- writing: the worker ------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Make the segment valid: called once by the worker that owns it."""
        self._map[:4] = MAGIC
        self.state(State.BOOTING)

    def state(self, state: State) -> None:
        """Say how far the worker is."""
        struct.pack_into("=I", self._map, 4, state)

    def tick(self, now: float, lag: float) -> None:
        """The event loop (or what takes its place) has come by; ``lag`` is how late it was."""
        self._ticks += 1
        self._times[_TICK] = now
        self._words[_TICK + 1] = self._ticks
        self._words[_LAG + bisect_left(LAG_BOUNDS, lag)] += 1
        self.turn(now)
        self._second_lag = max(self._second_lag, lag)
        self._write_second()

    def turn(self, now: float) -> None:
        """Begin a new second in the ring where one has begun. `tick` does; who ticks seldom calls it with a request."""
        second = int(now)
        if second != self._second:
            if self._second:
                self._write_second()
            self._second = second
            self._then = self._totals()
            self._second_lag = self._second_latency = 0.0

    def connected(self, count: int) -> None:
        """Say how many connections are open."""
        self._words[_CONNECTIONS] = count

    def enter(self, text: str, now: float) -> int:
        """A request begins. Returns its entry for `leave`; -1 where the table is full, which loses the text alone."""
        if not self._free:
            self._words[_MORE] += 1
            return -1
        entry = self._free.pop()
        _write_entry(self._map, _TABLE + entry * _TABLE_ENTRY, now, text.encode("utf-8", "replace"))
        return entry

    def leave(self, entry: int, status: int, started: float, now: float) -> None:
        """A request is over; ``status`` 0 means that it ended without a whole answer."""
        words = self._words
        latency = now - started
        if latency > self._second_latency:  # noqa: PLR1730 - max() costs more than all the rest of the line
            self._second_latency = latency
        words[_LATENCY + bisect_left(LATENCY_BOUNDS, latency)] += 1
        words[_CLASS[status // 100] if 0 <= status < 600 else _CLASS[5]] += 1
        # Last: who sees it gone from here finds it above.
        if entry >= 0:
            self._times[_FIRST_START + entry * _TABLE_WORDS] = 0.0
            self._free.append(entry)
        else:
            words[_MORE] -= 1

    def add(self, now: float, *, classes: Sequence[int], aborted: int, latency: Sequence[int], longest: float) -> None:
        """Count many requests that are over at once, for engines that keep a tally between two ticks.

        Args:
            now: CLOCK_MONOTONIC; they belong to this second.
            classes: How many were answered with 1xx .. 5xx.
            aborted: How many ended without a whole answer.
            latency: How many fall into each bucket, as in the histogram.
            longest: The longest of them, in seconds.
        """
        self.turn(now)
        words = self._words
        for place, count in enumerate(latency, _LATENCY):
            words[place] += count
        for place, count in enumerate((*classes, aborted), _CLASSES):
            words[place] += count
        self._second_latency = max(self._second_latency, longest)

    def show(self, count: int, flying: Iterable[tuple[float, str]]) -> None:
        """Write the whole table of requests in flight, in place of `enter` and `leave`.

        Args:
            count: How many there are.
            flying: When each began and its text, the oldest first; as many as there is room for are taken.
        """
        entry = -1
        for entry, (started, text) in enumerate(itertools.islice(flying, ENTRIES)):
            _write_entry(self._map, _TABLE + entry * _TABLE_ENTRY, started, text.encode("utf-8", "replace"))
        for free in range(entry + 1, ENTRIES):
            self._times[_FIRST_START + free * _TABLE_WORDS] = 0.0
        self._words[_MORE] = max(0, count - ENTRIES)

    def _totals(self) -> tuple[int, int]:
        """Return the numbers of requests and of server errors so far."""
        counts = self._words[_CLASSES : _ABORTED + 1].tolist()
        return sum(counts), counts[-1] + counts[-2]

    def _write_second(self) -> None:
        requests, errors = self._totals()
        _RING_ENTRY.pack_into(
            self._map,
            _RING + (self._second % SECONDS) * _RING_ENTRY.size,
            self._second,
            self._second_lag,
            self._second_latency,
            0.0,
            requests - self._then[0],
            errors - self._then[1],
        )

    # -- reading: the supervisor --------------------------------------------------------------------------------

    @property
    def answered(self) -> int:
        """Requests answered."""
        return sum(self._words[_CLASSES : _CLASSES + 5])

    @property
    def ticked_at(self) -> float:
        """Time of the last tick, CLOCK_MONOTONIC; 0 before the first."""
        return self._times[_TICK]

    def read(self) -> Reading:
        """Return everything but the tables."""
        latency, lag = len(LATENCY_BOUNDS) + 1, len(LAG_BOUNDS) + 1
        try:
            state = State(struct.unpack_from("=I", self._map, 4)[0])
        except ValueError:
            state = State.BOOTING
        return Reading(
            state=state,
            ticked_at=self.ticked_at,
            ticks=self._words[_TICK + 1],
            requests=self.answered,
            classes=tuple(self._words[_CLASSES : _CLASSES + 5]),
            aborted=self._words[_ABORTED],
            in_flight=self._words[_MORE] + sum(map(bool, self._times[_FIRST_START::_TABLE_WORDS])),
            connections=self._words[_CONNECTIONS],
            latency=tuple(self._words[_LATENCY : _LATENCY + latency]),
            lag=tuple(self._words[_LAG : _LAG + lag]),
        )

    def in_flight(self, now: float | None = None) -> list[InFlight]:
        """Return the requests in flight that the table has, the oldest first."""
        now = time.monotonic() if now is None else now
        found = []
        for entry in range(ENTRIES):
            started, raw = _ENTRY.unpack_from(self._map, _TABLE + entry * _TABLE_ENTRY)
            if started:
                # A text that was cut may end in the middle of a character.
                text = raw.rstrip(b"\0").decode("utf-8", "ignore")
                found.append(InFlight(text, max(0.0, now - started)))
        return sorted(found, key=lambda one: -one.seconds)

    def peak(self, since: float, until: float) -> Peak:
        """Return the worst of the whole seconds from ``since`` to ``until`` (CLOCK_MONOTONIC), as far as the ring goes back."""
        first, last = int(since), int(until)
        lag = latency = 0.0
        requests = errors = 0
        for place in range(SECONDS):
            at, lag_then, latency_then, _, some, bad = _RING_ENTRY.unpack_from(
                self._map, _RING + place * _RING_ENTRY.size
            )
            if first <= at <= last and at:
                lag, latency = max(lag, lag_then), max(latency, latency_then)
                requests, errors = requests + some, errors + bad
        return Peak(lag=lag, latency=latency, requests=requests, errors=errors)

    def close(self) -> None:
        """Unmap."""
        self._words.release()
        self._times.release()
        self._map.close()
