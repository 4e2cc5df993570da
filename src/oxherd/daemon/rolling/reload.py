"""A reload as a person asks for it: one process or several, all of them or none, with figures at the end."""

from __future__ import annotations

import collections

from oxherd.core import fleet, transaction
from oxherd.core.instance import State
from oxherd.core.phases import Phase, Plan, Stage
from oxherd.core.rollout_messages import Begin, Cancel
from oxherd.daemon.hosting.figures import Figures
from oxherd.daemon.rolling.running import Running
from oxherd.daemon.rows import progress
from oxherd.records import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from oxherd.core.rollout_messages import Announce
    from oxherd.daemon.handles import InstanceHandle, Pin, ProcessHandle
    from oxherd.daemon.supervisor import Supervisor

    Item = dict[str, object]

__all__ = ["READY_TIMEOUT", "Member", "Reload", "overlaps"]

# Seconds the first new worker has to stay ready before anything old goes: code that falls over right after its start is
# found while it has hurt nobody. What has no address of its own to lose is believed sooner.
_SETTLE_HELD = 2.0
_SETTLE_OTHER = 1.0

# Seconds in which a program without a health check and without a word of its own has to become ready.
READY_TIMEOUT = 300.0

_PHASES = {
    Phase.PREPARING: "preparing generation {generation}",
    Phase.CANARY: "the first new worker starts, unseen by anybody but its health check",
    Phase.SETTLING: "it is ready; watching it for {settle:g} s",
    Phase.ROLLING: "replacing {slots}",
    Phase.DRAINING: "generation {generation} is live; the old one finishes what it has",
    Phase.ROLLING_BACK: "rolling back to generation {old}",
}

# A program that runs by itself has the listeners of the old one, and nobody can keep it from them.
_CANARY_SHARES = "the first new one starts beside the old one; it takes connections as soon as it can"


@dataclass(slots=True, kw_only=True)
class Member:
    """One process of a reload.

    Attributes:
        process: The process.
        order: Its slots.
        pin: What comes.
        prepare: Makes it ready to be started; calls back with "" or what is wrong.
    """

    process: ProcessHandle
    order: tuple[int, ...]
    pin: Pin
    prepare: Callable[[Callable[[str], None]], None]
    old_generation: int = 0
    running: Running | None = None
    before: Figures = field(default_factory=Figures)
    detail: str = ""


def overlaps(process: ProcessHandle, pin: Pin) -> bool:
    """Whether an old and a new instance of a process may run side by side."""
    old, new = process.spec.host, pin.spec.host
    if pin.spec.singleton or process.spec.singleton:
        return False
    if old is None or new is None or old.way is not new.way or bool(old.bind) is not bool(new.bind):
        # A program that brings its own listener and one that is passed it are in each other's way.
        return False
    return old.overlap and new.overlap


class Reload:
    """A transaction of reloads.

    Args:
        supervisor: Carries it out.
        members: The processes.
        show: Takes progress items.
        done: Called once at the end.

    Attributes:
        result: How it ended, or None.
        detail: What went wrong first, or "".
    """

    def __init__(
        self,
        supervisor: Supervisor,
        members: Sequence[Member],
        *,
        show: Callable[[Item], None],
        done: Callable[[Reload], None],
    ) -> None:
        """Wait for `begin`."""
        self._supervisor = supervisor
        self.members = {member.process.name: member for member in members}
        self._show = show
        self._done = done
        self._transaction: transaction.Transaction | None = None
        self._queue: collections.deque[transaction.Tell | transaction.Conclude] = collections.deque()
        self._telling = False
        self._began = supervisor.loop.now()
        self._shown: dict[InstanceHandle, tuple[str, str]] = {}
        self._unobserve: Callable[[], None] | None = None
        self.result: Phase | None = None
        self.detail = ""
        self.seconds = 0.0

    @property
    def done(self) -> bool:
        """Whether the new generation of each process is live."""
        return self.result is Phase.DONE

    # -- the way ------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Go; `done` may be called before this returns."""
        self._unobserve = self._supervisor.observe(self._changed)
        for member in self.members.values():
            member.old_generation = member.process.generation
            member.before = self._figures(member)
            member.process.reloading = True
            member.running = self._running(member)
        names = list(self.members)
        depends = {name: member.pin.spec.depends_on for name, member in self.members.items()}
        self._transaction, commands = transaction.begin(fleet.order(names, depends))
        self._carry_out(commands)

    def cancel(self, process: ProcessHandle, detail: str) -> None:
        """One of the processes is being stopped: its part ends at once; the transaction takes the others back."""
        member = self.members.get(process.name)
        running = None if member is None else member.running
        if running is None or running.over:
            return
        if running.value.phase is Phase.PLANNED:
            # Not begun: a level below it is still at work. There is nothing of its own to end.
            self._report_as(process.name, Phase.CANCELLED, detail)
            return
        running.feed(Cancel(detail))

    def _report_as(self, name: str, phase: Phase, detail: str) -> None:
        if self._transaction is not None:
            self._transaction, commands = transaction.report(self._transaction, name, phase, detail)
            self._carry_out(commands)

    def _running(self, member: Member) -> Running:
        process, pin = member.process, member.pin
        side_by_side = overlaps(process, pin)
        hosted, held = pin.spec.hosted, pin.spec.hosted or pin.spec.passed
        down = frozenset(
            slot
            for slot in member.order
            if slot not in process.instances or process.instances[slot].machine.state is not State.RUNNING
        )
        plan = Plan(
            order=member.order,
            down=down,
            overlap=side_by_side,
            gated=True,
            settle=_SETTLE_HELD if held else _SETTLE_OTHER,
            ready_timeout=None if hosted or pin.spec.ready_timeout is not None else READY_TIMEOUT,
        )
        return Running(
            self._supervisor,
            process,
            plan,
            pin=pin,
            prepare=member.prepare,
            told=lambda announce: self._announced(member, announce),
            moved=lambda running: self._report(member, running),
        )

    def _report(self, member: Member, running: Running) -> None:
        value = running.value
        if value.cause:
            member.detail = value.cause
        self._report_as(member.process.name, value.phase, value.cause)

    def _carry_out(self, commands: Sequence[transaction.Tell | transaction.Conclude]) -> None:
        self._queue.extend(commands)
        if self._telling:
            return
        self._telling = True
        try:
            while self._queue:
                match self._queue.popleft():
                    case transaction.Tell(name, event):
                        running = self.members[name].running
                        assert running is not None
                        if event == Begin():
                            running.begin()
                        else:
                            running.feed(event)
                    case transaction.Conclude(result, detail):
                        self._conclude(result, detail)
        finally:
            self._telling = False

    def _conclude(self, result: Phase, detail: str) -> None:
        self.result, self.detail = result, detail
        self.seconds = self._supervisor.loop.now() - self._began
        if self._unobserve is not None:
            self._unobserve()
        for member in self.members.values():
            member.process.reloading = False
            kind = "reloaded" if result is Phase.DONE else "reload-failed"
            self._supervisor.tell(kind, self._sentence(member), member.process, generation=member.process.generation)
        # Not from within the event that ended it: what is done next has to find the supervisor's queue at rest.
        self._supervisor.loop.call_soon(lambda: self._done(self))

    # -- telling ------------------------------------------------------------------------------------------------

    def _announced(self, member: Member, announce: Announce) -> None:
        process = member.process
        if isinstance(announce.what, Phase):
            shared = announce.what is Phase.CANARY and member.pin.spec.passed
            text = (_CANARY_SHARES if shared else _PHASES.get(announce.what, "")).format(
                generation=member.pin.generation,
                old=member.old_generation,
                settle=member.running.value.plan.settle if member.running else 0,
                slots=f"{len(member.order)} worker{'' if len(member.order) == 1 else 's'}",
            )
            if text:
                text = f"{text}: {announce.detail}" if announce.detail else text
                self._supervisor.tell("reloading", text, process, phase=announce.what.value)
                self._show(_item(process.name, "reloading", text))
        elif announce.what is Stage.LEFT:
            self._supervisor.tell("reloading", f"slot {announce.slot}: {announce.detail}", process)

    def _changed(self, handle: InstanceHandle) -> None:
        member = self.members.get(handle.process.name)
        if member is None or member.process is not handle.process or handle.machine.generation != member.pin.generation:
            return
        item = progress(handle)
        shown = (str(item["status"]), str(item["detail"]))
        if self._shown.get(handle) != shown and not handle.retired:
            self._shown[handle] = shown
            self._show(item)

    def _figures(self, member: Member) -> Figures:
        hosting = self._supervisor.hosting
        if hosting is None or not member.process.spec.hosted:
            return Figures()
        return hosting.host(member.process).figures

    def _stall(self, member: Member) -> float | None:
        hosting = self._supervisor.hosting
        if hosting is None or not member.process.spec.hosted:
            return None
        return hosting.host(member.process).longest_stall(self._began, self._supervisor.loop.now())

    def facts(self) -> list[Item]:
        """Return what was measured, by process."""
        return [self._facts(member) for member in self.members.values()]

    @staticmethod
    def _phases(member: Member) -> dict[str, float]:
        """Return the seconds of each phase, in the order they came."""
        phases: dict[str, float] = {}
        for phase, seconds in member.running.value.spent if member.running is not None else ():
            phases[phase.value] = phases.get(phase.value, 0.0) + seconds
        return phases

    def _facts(self, member: Member) -> Item:
        served = self._figures(member) - member.before
        stall = self._stall(member)
        failure = member.running.failure if member.running is not None else None
        if failure is None and self._supervisor.hosting is not None:
            failure = self._supervisor.hosting.failures.pop(member.process, None)
        return {
            "process": member.process.name,
            "result": self.result.value if self.result is not None else None,
            "detail": member.detail,
            "text": self._sentence(member),
            "generation": member.process.generation,
            "workers": len(member.order),
            "requests": served.requests,
            "server_errors": served.errors,
            "failed_requests": served.aborted,
            "longest_stall_seconds": None if stall is None else round(stall, 4),
            "seconds": round(self.seconds, 3),
            "phases": {name: round(seconds, 3) for name, seconds in self._phases(member).items()},
            "traceback": str((failure or {}).get("traceback") or ""),
            "note": self._note(member),
        }

    def _note(self, member: Member) -> str:
        """Say what could not be done as it should be."""
        hosting = self._supervisor.hosting
        why_not = hosting.leaving.notes.pop(member.process, "") if hosting is not None else ""
        if not why_not:
            return ""
        return (
            f"{member.process.name}: the old one could not be kept from accepting, so it was told to stop at once, and "
            f"may have lost connections: {why_not}"
        )

    def _sentence(self, member: Member) -> str:
        whole = f"{self.seconds:.1f} s"
        if self.result is not Phase.DONE:
            back = "nothing was changed" if self.result is Phase.ABORTED else f"it is {self.result.value}"  # type: ignore[union-attr]
            return f"reload failed after {whole}, {back}: {member.detail or self.detail}"
        text = f"reloaded in {whole}, generation {member.process.generation}"
        if not member.process.spec.hosted:
            return text
        served = self._figures(member) - member.before
        stall = self._stall(member) or 0.0
        took = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self._phases(member).items() if seconds >= 0.05)
        counted = f"{served.requests} requests served meanwhile, {served.aborted} failed"
        return f"{text}; {counted}, longest stall {stall * 1000:.0f} ms ({took})"


def _item(name: str, status: str, detail: str) -> Item:
    return {"process": name, "label": name, "instance": None, "status": status, "pid": None, "detail": detail}
