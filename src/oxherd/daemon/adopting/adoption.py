"""A new supervisor goes on with what a dead one has left running.

It reads the journal, holds every process that is still the one that was written down, and gives each its place again: output,
limits, health checks, timers, back-off. What ended while nobody watched is told, with an exit status nobody invents. A reload
that was cut off is finished or taken back. All of it happens before the supervisor takes its first command.
"""

from __future__ import annotations

import contextlib
import os

from oxherd.core import adoption as rules
from oxherd.core.commands import Arm
from oxherd.core.events import Restart, Start, Stop
from oxherd.core.exits import ExitStatus
from oxherd.core.instance import Desired, State
from oxherd.daemon.adopting.reunion import Reunion
from oxherd.daemon.adopting.survivors import Survivor, survivors_of
from oxherd.daemon.handles import InstanceHandle, life_policy
from oxherd.daemon.operations import Goal, Operation, Target
from oxherd.daemon.records import other_specs
from oxherd.system.identity import read_stat
from oxherd.system.passed_handle import PassedHandle
from oxherd.system.spawn import Launch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from oxherd.config.model import ProcessSpec
    from oxherd.core.commands import Command
    from oxherd.core.instance import Instance
    from oxherd.daemon.handles import ProcessHandle, StackHandle
    from oxherd.daemon.operations import Outcome
    from oxherd.daemon.remembering import InstanceRecord
    from oxherd.daemon.sinks import Sinks
    from oxherd.daemon.supervisor import Supervisor

__all__ = ["Adoption"]

_ENDED_UNSEEN = "it ended while there was no supervisor; how is not known"
_INTERRUPTED = "the reload that the death of the supervisor cut off is finished"


class Adoption:
    """Takes over what is there.

    Args:
        supervisor: Goes on with it; its stacks are registered as they were written down.
        sinks: The log files.
        entries: The journal.
        records: The record of each stack, by its identity.
        inherited: Listeners that this very process had before it was upgraded, by stack mark, process and key.

    Attributes:
        marks: The marks of everything that was adopted.
        pids: Main processes and zygotes of it.
        stacks: The stacks of which anything was written down.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        sinks: Sinks,
        *,
        entries: Mapping[str, Mapping[str, object]],
        records: Mapping[str, Mapping[str, object]],
        inherited: Mapping[str, Mapping[str, int]] | None = None,
    ) -> None:
        """Look at nothing yet."""
        self._upgraded = inherited is not None
        self._supervisor = supervisor
        self._sinks = sinks
        self._entries = entries
        self._records = records
        self._reunion = Reunion(supervisor, sinks, entries, inherited or {})
        self._survivors: dict[ProcessHandle, list[Survivor]] = {}
        self._later: list[tuple[InstanceHandle, Instance, tuple[Command, ...]]] = []
        self._laggards: dict[ProcessHandle, list[InstanceHandle]] = {}
        self._wanted: set[InstanceHandle] = set()  # are to be up again, whatever they are said to be wanted
        self.marks: set[str] = set()
        self.pids: set[int] = set()
        self.stacks: set[StackHandle] = set()

    def run(self) -> None:
        """Adopt everything that lives; the supervisor can take commands when this returns."""
        supervisor = self._supervisor
        began = supervisor.loop.now()
        for stack in supervisor.stacks.values():
            for process in stack.processes.values():
                self._find(process)
        for process, survivors in self._survivors.items():
            self._place(process, survivors)
        everybody = [survivor for survivors in self._survivors.values() for survivor in survivors]
        self._reunion.call(everybody)
        for survivor in everybody:
            if survivor.handle is not None:
                self._resume(survivor, survivor.handle)
        self._reunion.complete()
        self.pids |= self._reunion.pids
        for survivor in everybody:
            if survivor.handle is not None and survivor.alive:
                supervisor.remember(survivor.handle)
        for survivor in everybody:
            if survivor.handle is not None and survivor.lost:
                status = survivor.status or self._reunion.statuses.get(survivor.pid) or ExitStatus()
                self._lost(survivor.handle, status)
        self._deliver_what_was_read()
        self._tell(everybody, supervisor.loop.now() - began)

    def _deliver_what_was_read(self) -> None:
        """Write what was read from pipes that nobody goes on with: every other one is attached by now."""
        supervisor = self._supervisor
        lost = self._sinks.take_orphans(p for stack in supervisor.stacks.values() for p in stack.processes.values())
        if lost:
            supervisor.tell("log-trouble", f"log lines of processes that are gone: {lost}; they are lost")

    def has(self, pid: int, mark: str) -> bool:
        """Whether a process belongs to what was adopted: it is one of it, has a mark of it, or descends from one of it."""
        return mark in self.marks or _descends(pid, self.pids)

    # -- who is there -------------------------------------------------------------------------------------------

    def _find(self, process: ProcessHandle) -> None:
        supervisor = self._supervisor
        found: list[Survivor] = []
        try:
            for survivor in survivors_of(process, self._entries, supervisor.system, own=self._upgraded):
                found.append(survivor)  # noqa: PERF402 - those that were held before one could not be are let go
        except OSError as error:
            for survivor in found:
                if survivor.alive:
                    os.close(survivor.pidfd)
            text = f"what ran of it cannot be taken over: {error.strerror}; it is ended and started anew"
            supervisor.tell("adoption-trouble", text, process)
            return
        if supervisor.journal.ended and not any(one.alive or one.lost or one.sweeping for one in found):
            # All of it was stopped because its supervisor ended: it is brought back like after a boot.
            for survivor in found:
                supervisor.journal.forget_instance(survivor.key)
            return
        if found:
            self._survivors[process] = found
            self.stacks.add(process.stack)

    def _specs(self, process: ProcessHandle) -> dict[str, ProcessSpec]:
        record = self._records.get(process.stack.identity, {})
        try:
            return other_specs(record, process.name)
        except Exception as error:  # noqa: BLE001 - whatever a record holds, what runs is not ended for it
            text = f"the settings it runs under cannot be read ({error!r:.200}); those of its oxfile count"
            self._supervisor.tell("adoption-trouble", text, process)
            return {}

    # -- their places -------------------------------------------------------------------------------------------

    def _place(self, process: ProcessHandle, survivors: list[Survivor]) -> None:
        """Give each instance its place, and decide in which generation the process goes on."""
        specs = self._specs(process)
        claims = {_claim(survivor): survivor for survivor in survivors if survivor.alive}
        kept = rules.generation_to_keep(process.generation, claims)
        holding = {claim.slot: claims[claim] for claim in rules.holders(kept, claims).values()}
        if kept != process.generation:
            newest = next(one for one in holding.values() if one.record.remembered.generation == kept)
            process.generation, process.spec = kept, specs.get(newest.key, process.spec)
            process.latest_generation = max(process.latest_generation, kept)
            self._supervisor.save(process.stack)
        for survivor in survivors:
            slot = survivor.place.slot
            if not survivor.alive and survivor.record.current and slot not in holding:
                # Nothing may start in its place before a candidate is gone that cannot be beside it.
                holding[slot] = _candidate(survivor, survivors) or survivor
        for survivor in sorted(survivors, key=lambda one: one.place.serial):
            if not survivor.alive:
                _remove_files(survivor.record)
            survivor.chosen = holding.get(survivor.place.slot) is survivor
            if survivor.chosen or survivor.alive:
                self._make(process, survivor, specs.get(survivor.key, process.spec))
            else:
                self._supervisor.journal.forget_instance(survivor.key)
        for slot, survivor in holding.items():
            handle = survivor.handle
            if handle is not None and survivor.alive and survivor.record.remembered.generation != kept:
                self._laggards.setdefault(process, []).append(process.instances[slot])

    def _make(self, process: ProcessHandle, survivor: Survivor, spec: ProcessSpec) -> None:
        slot = survivor.place.slot
        if survivor.chosen:
            process.instances.pop(slot, None)
        handle = survivor.handle = InstanceHandle(process, slot)
        handle.serial = survivor.place.serial
        process.serials[slot] = max(process.serials.get(slot, 0), handle.serial)
        handle.spec = spec
        handle.adopted = True
        handle.main_pid = survivor.pid or survivor.record.main_pid
        handle.start_ticks = survivor.record.start_ticks
        handle.cgroup = survivor.record.cgroup
        if survivor.chosen:
            process.instances[slot] = handle
            if survivor.record.displaced or survivor.record.candidate:
                self._wanted.add(handle)
            handle.retired = slot >= process.wanted_instances
        else:
            process.others.append(handle)
            handle.retired = True

    # -- going on -----------------------------------------------------------------------------------------------

    def _resume(self, survivor: Survivor, handle: InstanceHandle) -> None:
        supervisor = self._supervisor
        remembered = survivor.record.remembered
        # A program with passed listeners has its signal kept back for a while; a worker is asked whether it drains.
        told = not handle.spec.passed
        machine, commands = rules.revive(
            remembered, life_policy(handle.spec), supervisor.loop.now(), supervisor.system.chance(), told=told
        )
        if survivor.alive or survivor.lost or survivor.sweeping:
            # What runs of others nobody has seen to its exec, or it should be gone: that is a stray.
            self.marks.add(f"{handle.key}/{machine.incarnation}")
        if survivor.alive or survivor.sweeping:
            self._attach(survivor, handle)
        handle.machine = machine
        if survivor.alive:
            self.pids.add(survivor.pid)
            launch = Launch(survivor.pid, survivor.pidfd)
            supervisor.executor.adopt(handle, launch, foreign=self._reunion.forked(survivor))
            supervisor.resume(handle, machine, commands)
        elif survivor.lost:
            # Its end is told below; only what bounds the sweep after it has to run.
            supervisor.resume(handle, machine, tuple(command for command in commands if isinstance(command, Arm)))
        elif survivor.sweeping:
            supervisor.resume(handle, machine, commands)
        else:
            self._later.append((handle, machine, commands))

    def _attach(self, survivor: Survivor, handle: InstanceHandle) -> None:
        """Read its output again."""
        system = self._supervisor.system

        def find(inode: int) -> int:
            fd = system.output_of([survivor.pid], inode) if survivor.alive else -1
            return self._output_below(survivor, handle, inode) if fd < 0 else fd

        handle.pipes, whole = self._sinks.attach(handle.process, handle.slot, survivor.record.pipes, find)
        if not whole:
            survivor.notes.append("its output goes somewhere else than it was told to")

    def _output_below(self, survivor: Survivor, handle: InstanceHandle, inode: int) -> int:
        """Only what it has started writes there, or what it has left behind: that takes a look at everybody."""
        system = self._supervisor.system
        mark = f"{handle.key}/{survivor.record.remembered.incarnation}"
        try:
            below = system.tree(survivor.pid) if survivor.alive else []
            left = system.leftovers(mark, handle.main_pid, (), {inode}, anywhere=True)
        except OSError as error:
            survivor.notes.append(f"what it started cannot be looked for: {error.strerror}")
            return -1
        return system.output_of([*below, *left], inode)

    def _lost(self, handle: InstanceHandle, status: ExitStatus) -> None:
        supervisor = self._supervisor
        detail = _ENDED_UNSEEN if status == ExitStatus() else f"while there was no supervisor it {status.text}"
        supervisor.announce(handle, "lost", detail)
        supervisor.executor.ended_before(handle, status)

    # -- afterwards ---------------------------------------------------------------------------------------------

    def start_the_rest(self, stack: StackHandle) -> None:
        """Go on with what does not run, start what is wanted and was never started, finish cut-off reloads.

        Called when nobody is left who was not adopted: what is started must not meet them.
        """
        supervisor = self._supervisor
        for handle, machine, commands in self._later:
            # Whoever was told something meanwhile goes on from there.
            if handle.process.stack is stack and handle.machine is machine and handle in handle.process.everyone():
                supervisor.resume(handle, machine, commands)
                supervisor.remember(handle)
        for process in stack.processes.values():
            self._fill(process)
            supervisor.duties.settle(process)
            for handle in tuple(process.everyone()):
                if handle.retired:
                    supervisor.feed(handle, Stop())
                    if handle.down:
                        supervisor.drop(handle)
            if laggards := [handle for handle in self._laggards.get(process, ()) if _goes_on(handle)]:
                self._catch_up(process, laggards)

    def _fill(self, process: ProcessHandle) -> None:
        known = {survivor.handle for survivor in self._survivors.get(process, ())}
        for slot, handle in tuple(process.instances.items()):
            if slot >= process.wanted_instances and handle not in known:
                # Made when the oxfile was registered; it has been scaled away since.
                self._supervisor.drop(handle)
        if not process.wanted:
            return
        for slot in range(process.wanted_instances):
            if slot not in process.instances:
                process.instances[slot] = InstanceHandle(process, slot)
        for handle in tuple(process.instances.values()):
            if handle.retired or process.scheduled:
                continue
            never_started = handle not in known
            # A stop that came with the end of the supervisor, or from a reload, is none that anybody wanted for good.
            unwanted = self._supervisor.journal.ended or handle in self._wanted
            if never_started or (unwanted and handle.machine.desired is Desired.DOWN):
                self._supervisor.feed(handle, Start())

    def _catch_up(self, process: ProcessHandle, laggards: list[InstanceHandle]) -> None:
        """Bring the slots that a reload had not come to yet to its generation."""
        supervisor = self._supervisor
        supervisor.tell("reload-finished", _INTERRUPTED, process)
        from oxherd.core.recycle import RecycleReason  # noqa: PLC0415 - rare

        rolls = supervisor.need_rolls()
        stubborn = [handle for handle in laggards if not rolls.replace(handle, RecycleReason.RELOAD, _INTERRUPTED)]
        if stubborn:
            batches = [
                [Target(handle=handle, goal=Goal.UP, event=Restart(), after=handle.machine.incarnation)]
                for handle in stubborn
            ]
            Operation(supervisor, batches, progress=None, done=_unheard, abort_on_failure=True)

    # -- telling ------------------------------------------------------------------------------------------------

    def _tell(self, everybody: list[Survivor], seconds: float) -> None:
        supervisor = self._supervisor
        adopted = [one for one in everybody if one.alive and one.handle is not None]
        for survivor in adopted:
            assert survivor.handle is not None
            notes = [*survivor.notes, *self._reunion.notes_of(survivor)]
            supervisor.announce(survivor.handle, "adopted", "; ".join([f"pid {survivor.pid} goes on", *notes]))
        lost = sum(one.lost for one in everybody)
        if adopted or lost:
            gone = f", {lost} ended meanwhile" if lost else ""
            supervisor.events.publish(
                "supervisor-adopted",
                f"adopted {len(adopted)} processes of the supervisor before in {seconds * 1000:.0f} ms{gone}",
                adopted=len(adopted),
                lost=lost,
                seconds=round(seconds, 4),
            )


def _goes_on(handle: InstanceHandle) -> bool:
    """Whether an instance is up and is to stay so, so that it can be replaced."""
    return handle.process.wanted and not handle.retired and handle.machine.state in {State.STARTING, State.RUNNING}


def _descends(pid: int, roots: Container[int]) -> bool:
    """Whether a process is one of some, or below one of them."""
    while pid > 1:
        if pid in roots:
            return True
        stat = read_stat(pid)
        pid = 0 if stat is None else stat.ppid
    return False


def _remove_files(record: InstanceRecord) -> None:
    """Nobody listens any more where one that is gone had its private listener and its door."""
    for path in filter(None, (record.private, record.door)):
        with contextlib.suppress(OSError):  # a read-only disk: it leads nowhere
            PassedHandle.again((), path).close()


def _candidate(displaced: Survivor, survivors: list[Survivor]) -> Survivor | None:
    """Return what a reload had started in the place of one that it had stopped for that, as far as anything of it is there."""
    if not displaced.record.displaced:
        return None
    beside = (one for one in survivors if one.place.slot == displaced.place.slot and one.record.candidate)
    return next((one for one in beside if one.alive or one.lost or one.sweeping), None)


def _claim(survivor: Survivor) -> rules.Claim:
    remembered, record = survivor.record.remembered, survivor.record
    return rules.Claim(
        slot=survivor.place.slot,
        generation=remembered.generation,
        current=record.current,
        running=remembered.state is State.RUNNING,
        candidate=record.candidate,
        serial=survivor.place.serial,
    )


def _unheard(_outcome: Outcome) -> None:
    """Nobody waits; what failed is in the events."""
