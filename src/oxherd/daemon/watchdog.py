"""What the service manager hears of the supervisor: that it is ready, that its loop turns, what runs, that it ends.

Without a service manager nothing here costs anything: no timer, no observer, no descriptor.
"""

from __future__ import annotations

import os
from collections import Counter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from oxherd.daemon.supervisor import Supervisor
    from oxherd.system.loop import Timer
    from oxherd.system.notify import Notifier

__all__ = ["Watchdog", "ending_marker", "summary"]

# Seconds in which changes are gathered: a stack of fifty processes that starts is told of a few times, not fifty.
_GATHER = 0.5
# Seconds after which the same is tried again when the service manager was too busy to take it.
_AGAIN = 0.1
# While everything is being stopped, the service manager is asked for this many seconds more at a time, and asked well
# before they are over. So a stop takes what the stop timeouts of the oxfiles take, whatever the unit says, and a
# supervisor that hangs while it stops is killed nevertheless: it does not ask.
_EXTENSION = 30.0
_ASK_EVERY = 10.0
# The words of `oxherd status` that are worth one in the service manager's, in this order; what was stopped or has ended
# by itself is as it should be.
_TOLD = ("starting", "reloading", "stopping", "unhealthy", "backoff", "crashed")


class Watchdog:
    """The line to the service manager.

    Args:
        supervisor: What it tells of, and the loop whose turning it shows.
        notifier: The socket.
        runtime: The runtime directory of the home, for the marker that outlives a death in the middle of a stop.
    """

    def __init__(self, supervisor: Supervisor, notifier: Notifier, runtime: str) -> None:
        """Say nothing yet."""
        self._supervisor = supervisor
        self._loop = supervisor.loop
        self._notifier = notifier
        self._marker = ending_marker(runtime)
        self._unsent: dict[str, str] = {}
        self._again: Timer | None = None
        self._gathering: Timer | None = None
        self._next_beat: Timer | None = None
        self._next_question: Timer | None = None
        self._status = ""
        self._ending = False
        if notifier.listens:
            supervisor.observe(lambda _handle: self._changed())

    @property
    def environ(self) -> Mapping[str, str]:
        """The variables of the service manager, which a re-exec of the supervisor needs again."""
        return self._notifier.environ

    def ready(self) -> None:
        """Say that the supervisor is ready, and from now on that it is alive; also the end of a reload."""
        if not self._notifier.listens:
            return
        self._unmark()
        self._status = self._summary()
        # MAINPID for the sake of a supervisor that was re-exec'd by another way than the service manager's own.
        self._say(READY="1", MAINPID=str(os.getpid()), STATUS=self._status)
        if self._notifier.watchdog and self._next_beat is None:
            self._beat()

    def reloading(self) -> None:
        """Say that the supervisor is about to be re-exec'd; `ready` of what comes after it, or of this one, ends it."""
        # The time is that of clock_gettime(CLOCK_MONOTONIC), by which the manager tells this reload from an older one.
        self._say(RELOADING="1", MONOTONIC_USEC=str(int(self._loop.now() * 1_000_000)), STATUS="being replaced")

    def stopping(self) -> None:
        """Say that everything is being stopped, and keep asking for the time it takes."""
        if not self._notifier.listens or self._ending:
            return
        self._ending = True
        self._mark()
        self._say(STOPPING="1", STATUS=self._summary())
        self._extend()

    def close(self) -> None:
        """Say no more. An end in good order leaves no marker."""
        for timer in (self._again, self._gathering, self._next_beat, self._next_question):
            if timer is not None:
                timer.cancel()
        if self._notifier.listens:
            self._unmark()
        self._notifier.close()

    # -- what is repeated ---------------------------------------------------------------------------------------

    def _beat(self) -> None:
        """Show that the loop turns, twice in the time the service manager waits for it; sd_watchdog_enabled(3)."""
        self._say(WATCHDOG="1")
        self._next_beat = self._loop.call_later(self._notifier.watchdog / 2, self._beat)

    def _extend(self) -> None:
        self._say(EXTEND_TIMEOUT_USEC=str(int(_EXTENSION * 1_000_000)))
        self._next_question = self._loop.call_later(_ASK_EVERY, self._extend)

    def _changed(self) -> None:
        if self._gathering is None:
            self._gathering = self._loop.call_later(_GATHER, self._tell)

    def _tell(self) -> None:
        self._gathering = None
        text = self._summary()
        if text != self._status:
            self._status = text
            self._say(STATUS=text)

    def _summary(self) -> str:
        text = summary(handle.machine.status for handle in self._supervisor.instances())
        return f"stopping: {text}" if self._ending else text

    def _say(self, **variables: str) -> None:
        """Send, together with what could not be sent before; of a variable only the last value counts."""
        self._unsent.update(variables)
        if self._again is None:
            self._send()

    def _send(self) -> None:
        self._again = None
        if self._notifier.send(**self._unsent):
            self._unsent.clear()
        else:
            self._again = self._loop.call_later(_AGAIN, self._send)

    # -- the marker ---------------------------------------------------------------------------------------------

    def _mark(self) -> None:
        """Leave a word for `oxherd daemon sweep`: whoever dies now died while everything was to be stopped."""
        try:
            os.close(os.open(self._marker, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            # A full disk must not keep anything from being stopped.
            self._supervisor.tell("state-trouble", f"cannot write {self._marker}: {error.strerror}")

    def _unmark(self) -> None:
        try:
            os.unlink(self._marker)
        except FileNotFoundError:
            return
        except OSError as error:
            self._supervisor.tell("state-trouble", f"cannot remove {self._marker}: {error.strerror}")


def ending_marker(runtime: str) -> str:
    """Return the path of the file that is there while a supervisor under a service manager stops everything."""
    return os.path.join(runtime, "ending")


def summary(statuses: Iterable[str]) -> str:
    """Return what runs and what does not as one short line: ``12 processes run, 1 crashed``."""
    counts = Counter(statuses)
    running = counts["running"]
    parts = [f"{running} process{'' if running == 1 else 'es'} run{'s' if running == 1 else ''}"]
    parts += [f"{counts[word]} {word}" for word in _TOLD if counts[word]]
    return ", ".join(parts)
