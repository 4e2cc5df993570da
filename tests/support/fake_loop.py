"""The supervisor's loop under a clock that moves only when a test says so.

`FakeLoop` is the real loop with virtual time: timers fire in `advance`, in order and each at its own moment. Real
descriptors work too: `run_until` waits for what they bring while the clock stands still, so that no timeout can run out
under a slow test machine. An exception in a callback is raised in the test instead of being reported.
"""

from __future__ import annotations

import heapq
import time
from typing import TYPE_CHECKING

from oxherd.system.loop import Loop

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FakeLoop"]


class FakeLoop(Loop):
    """A `Loop` with virtual time.

    Args:
        start: The first reading of the clock.
    """

    def __init__(self, start: float = 1000.0) -> None:
        self.time = start
        self.errors: list[BaseException] = []
        self.handlers: dict[int, Callable[[int], None]] = {}
        super().__init__(self.errors.append)

    def now(self) -> float:
        """Return virtual monotonic seconds."""
        return self.time

    def on_signal(self, signum: int, callback: Callable[[int], None]) -> None:
        """Keep the handler for `deliver`; the test process keeps its own signal handlers."""
        self.handlers[signum] = callback

    def deliver(self, signum: int) -> None:
        """Call the handler of a signal as the loop would."""
        self._call(lambda: self.handlers[signum](signum))
        self.advance(0.0)

    def advance(self, seconds: float) -> None:
        """Move the clock and run every timer on the way at its own moment, and what comes of it."""
        until = self.time + seconds
        self._turn()
        while (when := self._next_timer()) is not None and when <= until:
            self.time = max(self.time, when)
            self._turn()
        self.time = until
        self._turn()

    def run_until(self, predicate: Callable[[], bool], deadline: float = 20.0) -> None:
        """Serve real descriptors until the predicate holds; virtual time stands still.

        Raises:
            TimeoutError: It did not hold within ``deadline`` real seconds.
        """
        end = time.monotonic() + deadline
        while not predicate():
            if time.monotonic() > end:
                raise TimeoutError(f"not within {deadline:g} s")
            self.run_once(0.02)
            self._raise()

    def next_timer_in(self) -> float | None:
        """Return the virtual seconds until the next timer, or None."""
        when = self._next_timer()
        return None if when is None else when - self.time

    def _next_timer(self) -> float | None:
        while self._timers and not self._timers[0][2].active:
            heapq.heappop(self._timers)
            self._cancelled -= 1
        return self._timers[0][0] if self._timers else None

    def _turn(self) -> None:
        self.run_once(0.0)
        while self._soon:
            self.run_once(0.0)
        self._raise()

    def _raise(self) -> None:
        if self.errors:
            raise self.errors.pop(0)
