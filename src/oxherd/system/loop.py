"""The one wait of the supervisor: file descriptors, timers and signals, in one thread.

A plain ``selectors`` loop (ADR 0001): half the memory of asyncio and one visible place where the process sleeps.
Callbacks run one after the other and must not block. A callback that raises does not end the loop: the exception goes
to ``on_error``, because the supervisor must not die of a bug in the handling of one event.
"""

from __future__ import annotations

import heapq
import os
import select
import selectors
import signal
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Loop", "Timer", "readable"]


class Timer:
    """A callback at a monotonic time; `cancel` is idempotent and cheap."""

    __slots__ = ("_loop", "callback", "when")

    def __init__(self, loop: Loop, when: float, callback: Callable[[], None]) -> None:
        """Made by `Loop.call_later`."""
        self._loop = loop
        self.when = when
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Make sure the callback does not run."""
        if self.callback is not None:
            self.callback = None
            self._loop._timer_cancelled()  # noqa: SLF001 - the timer is the loop's own half

    @property
    def active(self) -> bool:
        """Whether the callback is still to come."""
        return self.callback is not None


class Loop:
    """Waits for descriptors, timers and signals and calls back.

    Args:
        on_error: Called with the exception of a callback that raised.
    """

    def __init__(self, on_error: Callable[[BaseException], None]) -> None:
        """Open the selector and the self-pipe for signals."""
        self._selector = selectors.DefaultSelector()
        self._on_error = on_error
        self._timers: list[tuple[float, int, Timer]] = []
        self._sequence = 0
        self._cancelled = 0
        self._soon: list[Callable[[], None]] = []
        self._last: dict[Callable[[], None], None] = {}
        self._signals: dict[int, Callable[[int], None]] = {}
        self._previous: dict[int, object] = {}
        self._running = False
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._watch(self._wake_read, selectors.EVENT_READ, self._on_wake)

    # -- time ---------------------------------------------------------------------------------------------------

    def now(self) -> float:
        """Return monotonic seconds; wall-clock jumps do not touch it."""
        return time.monotonic()

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call back once after ``seconds``."""
        timer = Timer(self, self.now() + seconds, callback)
        self._sequence += 1
        heapq.heappush(self._timers, (timer.when, self._sequence, timer))
        return timer

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call back in this turn of the loop, after the callbacks that run now."""
        self._soon.append(callback)

    def call_last(self, callback: Callable[[], None]) -> None:
        """Call back at the end of this turn, before the next wait; once, however often it is asked for until then.

        For what has to be done soon and for which nobody waits, so that it comes after that for which somebody does: the
        successor of a program that has died is started before its crash card is written.
        """
        self._last[callback] = None

    @property
    def timers(self) -> int:
        """Number of timers that are still to fire."""
        return len(self._timers) - self._cancelled

    # -- descriptors --------------------------------------------------------------------------------------------

    def watch_read(self, fd: int, callback: Callable[[], None]) -> None:
        """Call back whenever ``fd`` is readable (or at its end), until `unwatch`."""
        self._watch(fd, selectors.EVENT_READ, callback)

    def watch_write(self, fd: int, callback: Callable[[], None]) -> None:
        """Call back whenever ``fd`` is writable, until `unwatch`. Replaces what was watched on ``fd``."""
        self._watch(fd, selectors.EVENT_WRITE, callback)

    def watch_both(self, fd: int, callback: Callable[[], None]) -> None:
        """Call back whenever ``fd`` is readable or writable, until `unwatch`."""
        self._watch(fd, selectors.EVENT_READ | selectors.EVENT_WRITE, callback)

    def unwatch(self, fd: int) -> None:
        """Stop watching ``fd``; call it before the descriptor is closed. Unknown descriptors are ignored."""
        try:
            self._selector.unregister(fd)
        except (KeyError, ValueError):
            return

    @property
    def watched(self) -> frozenset[int]:
        """The descriptors that are watched, without the loop's own."""
        return frozenset(key.fd for key in self._selector.get_map().values() if key.fd != self._wake_read)

    def _watch(self, fd: int, events: int, callback: Callable[[], None]) -> None:
        try:
            self._selector.register(fd, events, callback)
        except KeyError:
            self._selector.modify(fd, events, callback)

    # -- signals ------------------------------------------------------------------------------------------------

    def on_signal(self, signum: int, callback: Callable[[int], None]) -> None:
        """Call back in the loop, not in the handler, when the process gets ``signum``."""
        self._signals[signum] = callback
        # A handler has to be set for the wake-up descriptor to be written; signal(7), PEP 475.
        self._previous.setdefault(signum, signal.signal(signum, _ignore_in_handler))
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)

    def _on_wake(self) -> None:
        try:
            numbers = os.read(self._wake_read, 4096)
        except BlockingIOError:
            return
        # The same signal twice in one read is one event, as the kernel itself merges pending signals.
        for signum in dict.fromkeys(numbers):
            callback = self._signals.get(signum)
            if callback is not None:
                self._call(lambda callback=callback, signum=signum: callback(signum))  # type: ignore[misc]

    def wake(self) -> None:
        """Make the wait return; safe from another thread."""
        os.write(self._wake_write, b"\0")

    # -- running ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run until `stop`."""
        self._running = True
        while self._running:
            self.run_once()

    def stop(self) -> None:
        """Make `run` return after this turn."""
        self._running = False

    def run_once(self, timeout: float | None = None) -> None:
        """Wait once, at most ``timeout`` seconds, and run what is due."""
        wait = self._wait_time()
        if timeout is not None:
            wait = timeout if wait is None else min(wait, timeout)
        for key, _ in self._selector.select(wait):
            # An earlier callback of this turn may have unwatched (and closed) this descriptor.
            current = self._selector.get_map().get(key.fd)
            if current is not None and current.data is key.data:
                self._call(key.data)
        # What came counts before what ran out: after a pause (a suspended machine, SIGSTOP) both are there in one turn,
        # and a program that ended in time, with the look at what it left behind, is not one that timed out.
        self._run_soon()
        self._run_timers()
        self._run_soon()
        self.end_turn()

    def end_turn(self) -> None:
        """Do now what was put off to the end of this turn: it may have none, as before an execve(2)."""
        while self._last:
            batch, self._last = self._last, {}
            for callback in batch:
                self._call(callback)

    def _wait_time(self) -> float | None:
        if self._soon or self._last:
            return 0.0
        while self._timers and not self._timers[0][2].active:
            heapq.heappop(self._timers)
            self._cancelled -= 1
        return max(0.0, self._timers[0][0] - self.now()) if self._timers else None

    def _run_timers(self) -> None:
        now = self.now()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            callback, timer.callback = timer.callback, None
            if callback is None:
                self._cancelled -= 1
            else:
                self._call(callback)

    def _run_soon(self) -> None:
        while self._soon:
            batch, self._soon = self._soon, []
            for callback in batch:
                self._call(callback)

    def _timer_cancelled(self) -> None:
        self._cancelled += 1
        # Restarted timers leave dead entries behind; sweep them before they outnumber the living.
        if self._cancelled > 64 and self._cancelled * 2 > len(self._timers):
            self._timers = [entry for entry in self._timers if entry[2].active]
            heapq.heapify(self._timers)
            self._cancelled = 0

    def failed(self, error: BaseException) -> None:
        """Report the exception of something that must not end the turn it happened in."""
        self._on_error(error)

    def _call(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception as error:  # noqa: BLE001 - a bug in one callback must not end the supervisor
            self._on_error(error)

    def close(self) -> None:
        """Give back signals and descriptors."""
        if self._previous:
            signal.set_wakeup_fd(-1)
            for signum, handler in self._previous.items():
                signal.signal(signum, handler)  # type: ignore[arg-type]
        self._selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)


def readable(fd: int) -> bool:
    """Return whether there is something to read, or somebody to accept, right now; takes no descriptor."""
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(0))


def _ignore_in_handler(_signum: int, _frame: object) -> None:
    """Do nothing: the wake-up descriptor has been written, the loop does the rest."""
