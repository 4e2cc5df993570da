"""What is due by the wall clock: scheduled jobs and restarts by the clock.

The only part of the supervisor that acts on wall time, because that is what a cron expression speaks of. The wait is
monotonic and at most half a minute, so a clock that is set and a machine that slept are noticed soon:

* Jumped forward over a due time: it is run once, not once for every time that was jumped over.
* Jumped back by less than three hours (daylight saving done by hand, a correction): what has run at a fixed hour is not
  run again; what runs "every so often" goes on at once by the new time. Jumped back by more: the old time was wrong, and
  nothing of it counts. These are the rules of cron(8).
"""

from __future__ import annotations

import math

from oxherd.core import schedule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from oxherd.system.loop import Loop, Timer

__all__ = ["Scheduler"]

# Longest wait in seconds; how late a jump of the clock is noticed at most.
_LONGEST = 30.0
# A jump back by this much or more means that the clock had been wrong.
_CORRECTION = 3 * 3600.0
# Smaller steps back than this are the clock being slewed or read twice.
_STEP = 1.0


class _Entry:
    """One schedule."""

    __slots__ = ("cron", "due", "fired", "on_due", "timezone")

    def __init__(self, cron: str, timezone: str | None, on_due: Callable[[], None], fired: float | None) -> None:
        self.cron = cron
        self.timezone = timezone
        self.on_due = on_due
        self.fired = fired
        self.due = math.inf

    def plan(self, now: float) -> None:
        """Set the next due time, as seen at ``now``; never what has run already."""
        floor = now
        if self.fired is not None and 0.0 < self.fired - now < _CORRECTION and schedule.is_fixed(self.cron):
            floor = self.fired
        try:
            self.due = schedule.next_run(self.cron, self.timezone, floor)
        except ValueError:
            # Its last time has come: "0 0 29 2 *" in the last years of the calendar.
            self.due = math.inf


class Scheduler:
    """Calls back when a cron expression is due.

    Args:
        loop: The wait.
        wall: Returns unix seconds.
    """

    def __init__(self, loop: Loop, wall: Callable[[], float]) -> None:
        """Nothing is due; without a schedule there is no timer."""
        self._loop = loop
        self._wall = wall
        self._entries: dict[Hashable, _Entry] = {}
        self._timer: Timer | None = None
        self._seen = -math.inf

    def set(
        self,
        key: Hashable,
        cron: str,
        timezone: str | None,
        on_due: Callable[[], None],
        *,
        last_run: float | None = None,
        catch_up: bool = False,
    ) -> None:
        """Call ``on_due`` whenever the expression is due, until `forget`.

        Args:
            key: Whose schedule it is; an earlier one under the same key is replaced.
            cron: Five or six fields, or a nickname.
            timezone: An IANA name, or None for local time.
            on_due: Called from the loop.
            last_run: Unix time of the last run that is known of, or None.
            catch_up: Whether runs missed since ``last_run`` are made up for, by one run now.

        Raises:
            ValueError: The expression or the timezone cannot be read.
        """
        now = self._wall()
        schedule.next_run(cron, timezone, now)
        entry = _Entry(cron, timezone, on_due, last_run)
        if catch_up and last_run is not None and last_run <= now and schedule.missed(cron, timezone, last_run, now):
            entry.due = now
        else:
            entry.plan(now)
        self._entries[key] = entry
        self._seen = max(self._seen, now)
        self._arm()

    def forget(self, key: Hashable) -> None:
        """Drop a schedule; unknown keys are ignored."""
        if self._entries.pop(key, None) is not None:
            self._arm()

    def close(self) -> None:
        """Drop every schedule."""
        self._entries.clear()
        self._arm()

    def next_run(self, key: Hashable) -> float | None:
        """Return the unix time at which a schedule is due next, or None."""
        entry = self._entries.get(key)
        return None if entry is None or entry.due == math.inf else entry.due

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._entries:
            wait = min(entry.due for entry in self._entries.values()) - self._wall()
            self._timer = self._loop.call_later(max(0.0, min(wait, _LONGEST)), self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._wall()
        if now < self._seen - _STEP:
            for entry in self._entries.values():
                entry.plan(now)
        self._seen = now
        for entry in self._entries.values():
            if entry.due <= now:
                entry.fired = now
                entry.plan(now)
                # Each in its own turn: a callback that fails, or that sets and forgets schedules, touches no other.
                self._loop.call_soon(entry.on_due)
        self._arm()
