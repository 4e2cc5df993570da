"""Something a person asked for that takes a while: start, stop, restart, scale, apply.

An operation is a list of batches. A batch sends events to instances and is over when each has reached its goal; then
comes the next. Dependencies order the batches of a stop, one instance at a time makes a rolling restart. The operation
reports progress as the instances change and answers once, when all is done or has failed.
"""

from __future__ import annotations

from enum import Enum

from oxherd.core.instance import Desired, Instance, State
from oxherd.records import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oxherd.core.events import Event
    from oxherd.daemon.handles import InstanceHandle
    from oxherd.daemon.supervisor import Supervisor

__all__ = ["Goal", "Operation", "Outcome", "Target"]

# A start counts as failed after this many failures in a row. The supervisor goes on trying under its restart policy,
# but nobody wants to sit before a progress display for the minutes that a back-off can take.
_FAILURES_OF_A_START = 3


class Goal(Enum):
    """What has to become true of an instance."""

    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One instance of a batch, the event it gets (None: it is only waited for) and the incarnation before it."""

    handle: InstanceHandle
    goal: Goal
    event: Event | None = None
    after: int = 0


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What came of an operation. ``failed`` holds (handle, reason)."""

    failed: list[tuple[InstanceHandle, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Operation:
    """Runs batches one after the other.

    Args:
        supervisor: Feeds the events and tells of changes.
        batches: The targets, batch by batch.
        progress: Called with an instance whose status changed, or None for nobody.
        done: Called once with the outcome.
        abort_on_failure: Whether the batches after a failed one are left alone.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        batches: list[list[Target]],
        *,
        progress: Callable[[InstanceHandle], None] | None,
        done: Callable[[Outcome], None],
        abort_on_failure: bool = False,
    ) -> None:
        """Begin at once; ``done`` may be called before the constructor returns."""
        self._supervisor = supervisor
        self._batches = batches
        self._progress = progress
        self._done: Callable[[Outcome], None] | None = done
        self._abort = abort_on_failure
        self._open: dict[InstanceHandle, Target] = {}
        self._shown: dict[InstanceHandle, tuple[str, int, str]] = {}
        self._checking = False
        self.outcome = Outcome()
        self._end = supervisor.observe(self._changed)
        self._next()

    def _next(self) -> None:
        while not self._open and self._done is not None:
            if not self._batches or (self._abort and self.outcome.failed):
                self._finish()
                return
            batch = self._batches.pop(0)
            self._open = {target.handle: target for target in batch}
            # Judge only after every event of the batch is in: an instance that is stopped already is at its goal.
            self._checking = True
            for target in batch:
                if target.event is not None:
                    self._supervisor.feed(target.handle, target.event)
            self._checking = False
            for target in batch:
                self._judge(target)

    def _changed(self, handle: InstanceHandle) -> None:
        target = self._open.get(handle)
        if target is None or self._done is None:
            return
        # At the end of the turn: what lasts no time, such as a sweep that finds nothing, is not worth a line.
        self._supervisor.loop.call_soon(lambda: self._show(handle))
        if not self._checking:
            self._judge(target)
            if not self._open:
                # Not now: the supervisor is in the middle of its queue, and events fed here would only be queued.
                self._supervisor.loop.call_soon(self._next)

    def _judge(self, target: Target) -> None:
        handle = target.handle
        if handle not in self._open:
            return
        verdict = _up(target, handle.machine) if target.goal is Goal.UP else _down(handle.machine)
        if verdict is None:
            return
        del self._open[handle]
        self._show(handle)
        if verdict:
            self.outcome.failed.append((handle, verdict))

    def _show(self, handle: InstanceHandle) -> None:
        machine = handle.machine
        shown = (machine.status, machine.incarnation, machine.detail)
        if self._done is not None and self._progress is not None and self._shown.get(handle) != shown:
            self._shown[handle] = shown
            self._progress(handle)

    def _finish(self) -> None:
        done, self._done = self._done, None
        self._end()
        if done is not None:
            done(self.outcome)


def _up(target: Target, machine: Instance) -> str | None:
    """Return "" when it is up, the reason when it will not be, None while that is open."""
    if target.handle.process.scheduled and target.event is None:
        return ""
    fresh = machine.incarnation > target.after
    if machine.state is State.RUNNING and fresh:
        return ""
    if machine.state is State.EXITED and (fresh or target.event is None):
        if machine.completed:
            return ""
        return machine.detail or "it has exited"
    if machine.state is State.CRASHED:
        return machine.detail or "it has crashed"
    if machine.desired is Desired.DOWN:
        return "it was stopped meanwhile"
    if machine.state is State.BACKOFF and machine.failures >= _FAILURES_OF_A_START:
        return f"{machine.detail}; failed {machine.failures} times in a row, Oxherd goes on trying"
    if machine.reason.condemned and fresh and machine.failures:
        return f"{machine.reason.value}: {machine.detail}; Oxherd goes on trying"
    return None


def _down(machine: Instance) -> str | None:
    if machine.state in {State.STOPPED, State.CRASHED, State.EXITED}:
        return ""
    if machine.desired is Desired.UP:
        return "it was started again meanwhile"
    return None
