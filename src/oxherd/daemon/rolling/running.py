"""One rollout under way: what `oxherd.core.rollout` decides is done to instances, what happens to them is told to it.

A candidate is an instance of its own beside the current one of its slot, under the settings of its generation. The
lifecycle starts and watches it like any other; it has one try, and the rollout decides what its failure means.
"""

from __future__ import annotations

import collections

from oxherd.core import rollout_messages as m
from oxherd.core.events import Start, Stop
from oxherd.core.instance import Reason, State
from oxherd.core.phases import Plan, Rollout, Which
from oxherd.core.rollout import step
from oxherd.daemon.handles import InstanceHandle, Pin, life_policy
from oxherd.records import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oxherd.core import phases
    from oxherd.daemon.handles import ProcessHandle
    from oxherd.daemon.supervisor import Supervisor
    from oxherd.system.loop import Timer

    Prepare = Callable[[Callable[[str], None]], None]

__all__ = ["Running"]


class Running:
    """One rollout of one process.

    Args:
        supervisor: Starts and stops the instances.
        process: What is rolled.
        plan: What is to be done.
        pin: Settings, generation and environment of what comes; those of the process itself in a replacement.
        prepare: Makes the new generation ready to be started; calls back once with "" or with what went wrong.
        moved: Called with it after every change of its phase, its end included.
        told: Takes every `oxherd.core.rollout_messages.Announce`, after what it tells of was begun.

    Attributes:
        value: The rollout.
        over: Whether it has come to its end.
        failure: What the app's own interpreter said of the first candidate that failed, or None.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        process: ProcessHandle,
        plan: Plan,
        *,
        pin: Pin,
        prepare: Prepare,
        told: Callable[[m.Announce], None],
        moved: Callable[[Running], None],
    ) -> None:
        """Wait for `begin`."""
        self._supervisor = supervisor
        self.process = process
        self.value = Rollout.of(plan)
        self.failure: dict[str, object] | None = None
        self._pins = {
            Which.NEW: pin,
            Which.OLD: Pin.of(process),
        }
        self._prepare = prepare
        self._told = told
        self._moved = moved
        self.over = False
        self._candidates: dict[InstanceHandle, tuple[int, int]] = {}
        self._seen_ready: set[InstanceHandle] = set()
        self._accepted: set[InstanceHandle] = set()
        self._olds: dict[int, InstanceHandle] = {
            slot: process.instances[slot] for slot in plan.order if slot in process.instances
        }
        self._told_to_go: set[int] = set()
        self._displaced: dict[InstanceHandle, InstanceHandle] = {}
        self._timers: dict[phases.Timer, Timer] = {}
        self._queue: collections.deque[m.Event] = collections.deque()
        self._busy = False
        self._ends: list[Callable[[], None]] = []

    def begin(self) -> None:
        """Go."""
        self._ends.append(self._supervisor.observe(self._changed))
        if any(pin.spec.hosted for pin in self._pins.values()):
            # Also where only the old generation is: a slot that goes back to it waits for its worker to accept.
            self._ends.append(self._supervisor.need_hosting().observe(self._accepts))
        self.feed(m.Begin())

    def feed(self, event: m.Event) -> None:
        """Take an event; it is handled now, or after the one that is being handled."""
        self._queue.append(event)
        if self._busy:
            return
        self._busy = True
        try:
            while self._queue and not self.over:
                before = self.value.phase
                self.value, commands = step(self.value, self._queue.popleft(), self._supervisor.loop.now())
                for command in commands:
                    self._execute(command)
                if self.value.phase is not before:
                    self._moved(self)
        finally:
            self._busy = False

    def _execute(self, command: m.Command) -> None:
        match command:
            case m.Prepare():
                self._prepare(lambda error: self.feed(m.PrepareFailed(error) if error else m.Prepared()))
            case m.StartCandidate(slot, attempt, which):
                self._start(slot, attempt, self._pins[which])
            case m.Promote(slot, attempt):
                self._promote(slot, self._candidate(slot, attempt))
            case m.RetireOld(slot):
                self._retire(slot)
            case m.DiscardCandidate(slot, attempt, _):
                self._discard(slot, self._candidate(slot, attempt), attempt)
            case m.HandOver(slot, _):
                self._hand_over(slot)
            case m.CommitGeneration():
                self._commit()
            case m.DropGeneration():
                pass  # with the end, which is the next command
            case m.Arm(timer, seconds):
                self._arm(timer, seconds)
            case m.Disarm(timer):
                self._disarm(timer)
            case m.Announce():
                self._told(command)
            case m.Finish():
                self._finish()
            case m.Ignored(detail):
                self._supervisor.tell("ignored", detail, self.process)

    # -- candidates ---------------------------------------------------------------------------------------------

    def _start(self, slot: int, attempt: int, pin: Pin) -> None:
        handle = InstanceHandle(self.process, slot)
        handle.pinned = pin
        self.process.others.append(handle)
        self._candidates[handle] = (slot, attempt)
        self._supervisor.feed(handle, Start())

    def _candidate(self, slot: int, attempt: int) -> InstanceHandle | None:
        return next((handle for handle, known in self._candidates.items() if known == (slot, attempt)), None)

    def _promote(self, slot: int, handle: InstanceHandle | None) -> None:
        if handle is None:
            return
        process = self.process
        before = process.instances.get(slot)
        process.others.remove(handle)
        process.instances[slot] = handle
        self._supervisor.remember(handle)  # first: what has a place is known to have it, whatever happens now
        if before is not None:
            process.others.append(before)
            self._displaced[handle] = before
            self._supervisor.remember(before)
            if before.down and slot in self._told_to_go:
                before.retired = True
                self._supervisor.drop(before)
        hosting = self._supervisor.hosting
        if handle.spec.hosted and hosting is not None:
            hosting.settle(hosting.host(process))
            self._accepts(handle)
        else:
            self._accepted.add(handle)
            self.feed(m.Accepting(*self._candidates[handle]))

    def _accepts(self, handle: InstanceHandle) -> None:
        """A worker has said that it accepts somewhere: perhaps it does now wherever it was promoted to."""
        known = self._candidates.get(handle)
        hosting = self._supervisor.hosting
        if known is None or hosting is None or handle in self._accepted:
            return
        if self.process.instances.get(handle.slot) is handle and hosting.accepting(hosting.host(self.process), handle):
            self._accepted.add(handle)
            self.feed(m.Accepting(*known))

    def _discard(self, slot: int, handle: InstanceHandle | None, attempt: int) -> None:
        if handle is None:
            self.feed(m.CandidateGone(slot, attempt))
            return
        process = self.process
        before = self._displaced.get(handle)
        if process.instances.get(slot) is handle:
            process.others.append(handle)
            if before is not None and before in process.others and not before.retired:
                process.others.remove(before)
                process.instances[slot] = before
                self._supervisor.remember(before)
            else:
                del process.instances[slot]
        self._end(handle)
        if handle.down:
            self._gone(handle)

    def _end(self, handle: InstanceHandle) -> None:
        """Let an instance go for good; it is forgotten when it is down."""
        handle.retired = True
        self._supervisor.feed(handle, Stop())
        if handle.down:
            self._supervisor.drop(handle)

    def _gone(self, handle: InstanceHandle) -> None:
        known = self._candidates.pop(handle, None)
        if known is not None:
            self.feed(m.CandidateGone(*known))

    # -- the old ones -------------------------------------------------------------------------------------------

    def _retire(self, slot: int) -> None:
        handle = self._olds.get(slot)
        self._told_to_go.add(slot)
        if handle is None or handle.down:
            if handle is not None and handle in self.process.others:
                handle.retired = True
                self._supervisor.drop(handle)
            self.feed(m.OldGone(slot))
            return
        if self.process.instances.get(slot) is handle:
            # Without overlap it keeps its place in the table until there is another one.
            self._supervisor.feed(handle, Stop())
        else:
            self._end(handle)
        if handle.down:
            self.feed(m.OldGone(slot))

    def _hand_over(self, slot: int) -> None:
        """The slot goes on under the old generation, by its lifecycle alone."""
        process = self.process
        handle = process.instances.get(slot)
        if handle is None:
            handle = process.instances[slot] = InstanceHandle(process, slot)
        self._unpin(handle)
        if handle.down:
            self._supervisor.feed(handle, Start())

    # -- the generation -----------------------------------------------------------------------------------------

    def _commit(self) -> None:
        pin = self._pins[Which.NEW]
        self.process.spec, self.process.generation = pin.spec, pin.generation
        self._supervisor.save(self.process.stack)

    def _finish(self) -> None:
        for end in self._ends:
            end()
        for timer in tuple(self._timers):
            self._disarm(timer)
        for handle in tuple(self.process.everyone()):
            if handle.pinned is not None and not handle.retired:
                self._unpin(handle)
        self.over = True
        if self._supervisor.hosting is not None:
            self._supervisor.hosting.let_go(self.process)

    def _unpin(self, handle: InstanceHandle) -> None:
        """From now on it is an instance like any other, restarts included."""
        handle.pinned = None
        self._supervisor.remember(handle)
        handle.machine = replace(handle.machine, policy=life_policy(handle.spec))

    # -- what happens -------------------------------------------------------------------------------------------

    def _changed(self, handle: InstanceHandle) -> None:
        if handle.process is not self.process:
            return
        if handle in self._candidates:
            self._candidate_changed(handle)
        elif self._olds.get(handle.slot) is handle:
            self._old_changed(handle)

    def _candidate_changed(self, handle: InstanceHandle) -> None:
        slot, attempt = self._candidates[handle]
        machine = handle.machine
        if handle.retired:
            if handle.down:
                self._gone(handle)
        elif handle.down or machine.unhealthy or machine.reason.condemned:
            self.failure = self.failure or handle.failure
            self.feed(m.CandidateFailed(slot, attempt, _reason(handle)))
        elif machine.state is State.RUNNING and handle not in self._seen_ready:
            self._seen_ready.add(handle)
            self.feed(m.CandidateReady(slot, attempt))

    def _old_changed(self, handle: InstanceHandle) -> None:
        slot = handle.slot
        if slot in self._told_to_go:
            if handle.down:
                self.feed(m.OldGone(slot))
        elif handle.machine.state is State.RUNNING:
            self.feed(m.OldReady(slot))
        elif not handle.machine.alive or handle.machine.state is State.SWEEPING:
            self.feed(m.OldCrashed(slot))

    # -- timers -------------------------------------------------------------------------------------------------

    def _arm(self, timer: phases.Timer, seconds: float) -> None:
        self._disarm(timer)

        def fire() -> None:
            self._timers.pop(timer, None)
            self.feed(m.TimerFired(timer))

        self._timers[timer] = self._supervisor.loop.call_later(seconds, fire)

    def _disarm(self, timer: phases.Timer) -> None:
        armed = self._timers.pop(timer, None)
        if armed is not None:
            armed.cancel()


def _reason(handle: InstanceHandle) -> str:
    said = handle.failure or {}
    text = str(said.get("text", "")) or handle.machine.detail
    if handle.machine.reason is Reason.TIMEOUT and handle.last_failure:
        text = f"{text}: {handle.last_failure}"
    status = handle.machine.exit
    return text or (status.text if status is not None else "it did not become ready")
