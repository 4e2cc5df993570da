"""What a supervisor finds when it begins: survivors to go on with, strays to end, stacks to bring back."""

from __future__ import annotations

import os
from functools import partial

from oxherd.daemon.operations import Operation
from oxherd.daemon.records import restore
from oxherd.daemon.stacks import Unit
from oxherd.errors import OxherdError
from oxherd.system import identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from oxherd.config.model import Oxfile
    from oxherd.daemon.adopting.adoption import Adoption
    from oxherd.daemon.eventlog import EventLog
    from oxherd.daemon.handles import StackHandle
    from oxherd.daemon.operations import Outcome
    from oxherd.daemon.rereading import Rereader
    from oxherd.daemon.sinks import Sinks
    from oxherd.daemon.stacks import StackKeeper
    from oxherd.daemon.supervisor import Supervisor
    from oxherd.system.loop import Loop
    from oxherd.system.ports import System

__all__ = ["Boot", "end_strays"]

# What strays get to end by themselves before they are killed, in seconds: the default stop timeout.
_PATIENCE = 10.0

_SIGTERM, _SIGKILL = 15, 9


class _Strays:
    """Ends what nobody goes on with, then calls back."""

    def __init__(self, system: System, loop: Loop, pids: dict[int, str], then: Callable[[], None]) -> None:
        self._system = system
        self._loop = loop
        self._pids = pids
        self._then = then
        self._deadline = loop.now() + _PATIENCE
        system.kill_all(list(pids), _SIGTERM)
        self._look()

    def _look(self) -> None:
        for pid, mark in list(self._pids.items()):
            # A pid that carries another mark, or none, is somebody else by now.
            if identity.mark_of(pid) != mark:
                del self._pids[pid]
        if not self._pids:
            self._then()
            return
        if self._loop.now() >= self._deadline:
            self._system.kill_all(list(self._pids), _SIGKILL)
        # They are not our children, so no signal tells of their end; this lasts seconds at most, once a boot.
        self._loop.call_later(0.02, self._look)


def end_strays(
    system: System,
    loop: Loop,
    events: EventLog,
    prefix: str,
    then: Callable[[], None],
    *,
    spared: Callable[[int, str], bool],
) -> None:
    """End every process that carries a mark of this home and that nobody goes on with, then call ``then``.

    Args:
        system: Signals them.
        loop: Waits for their end.
        events: Told who they were.
        prefix: What the marks of this home begin with.
        then: Called when none is left; at once where there is none.
        spared: Whether a process with this pid and mark is to be left alone.
    """
    found = {pid: mark for pid in identity.pids() if (mark := identity.mark_of(pid)) and mark.startswith(f"{prefix}:")}
    found.pop(os.getpid(), None)
    found = {pid: mark for pid, mark in found.items() if not spared(pid, mark)}
    if not found:
        then()
        return
    names = sorted({"/".join(mark.split("/")[1:3]) for mark in found.values()})
    events.publish(
        "strays",
        f"ending {len(found)} processes that a supervisor left when it died, which nobody can go on with: "
        f"{', '.join(names)}",
        pids=sorted(found),
    )
    _Strays(system, loop, found, then)


class Boot:
    """Goes on with what a dead supervisor of this home has left running, and brings back what else was wanted.

    What still runs is adopted as it was written down. Of a stack of which nothing is left (the machine was booted) the oxfile
    is read again, in a process of its own and with the environment that was kept. Where it cannot be used as it is now, the
    stack runs as it was accepted last: a typo in a file must not cost a reboot the whole stack.

    Args:
        supervisor: Tells of it.
        keeper: Registers and starts.
        rereader: Returns what reads oxfiles again.
        sinks: The log files.
        mark: Prefix of the marks of this home.
    """

    def __init__(
        self, *, supervisor: Supervisor, keeper: StackKeeper, rereader: Callable[[], Rereader], sinks: Sinks, mark: str
    ) -> None:
        """Bring nothing back yet."""
        self._supervisor = supervisor
        self._keeper = keeper
        self._rereader = rereader
        self._sinks = sinks
        self._mark = mark

    def begin(self, inherited: Mapping[str, Mapping[str, int]] | None = None) -> None:
        """Register every stack that was written down, adopt survivors, end strays, then start what is wanted.

        Args:
            inherited: Listeners that this very process has kept through an upgrade.
        """
        supervisor = self._supervisor
        records = supervisor.journal.load_stacks()
        for name, record in records.items():
            try:
                restore(self._keeper, record)
            except (OxherdError, TypeError, ValueError, KeyError) as error:
                reason = (
                    error.message if isinstance(error, OxherdError) else f"its record does not fit ({error!r:.200})"
                )
                supervisor.tell("state-trouble", f"stack {record.get('path', name)} does not come back: {reason}")
        adoption = self.adopt(records, inherited)
        self.end_strays(adoption, lambda: self._go_on(adoption))

    def adopt(
        self,
        records: Mapping[str, Mapping[str, object]],
        inherited: Mapping[str, Mapping[str, int]] | None = None,
    ) -> Adoption | None:
        """Go on with what runs of the stacks that are registered; None where nothing was written down of any.

        Args:
            records: What was written down of the stacks, by identity.
            inherited: Listeners that this very process has kept through an upgrade.
        """
        supervisor = self._supervisor
        entries = supervisor.journal.load_instances(identity.boot_id())
        adoption = None
        if entries:
            from oxherd.daemon.adopting.adoption import Adoption  # noqa: PLC0415 - most begin with nothing

            adoption = Adoption(supervisor, self._sinks, entries=entries, records=records, inherited=inherited)
            adoption.run()
        every = [process for stack in supervisor.stacks.values() for process in stack.processes.values()]
        if lost := self._sinks.take_orphans(every):
            supervisor.tell("lines-lost", f"{lost} lines of processes that are not known any more could not be kept")
        return adoption

    def end_strays(self, adoption: Adoption | None, then: Callable[[], None]) -> None:
        """End what was left running and not adopted, then call back."""
        supervisor = self._supervisor
        newer = tuple(f"{self._mark}:{identity}/" for identity in supervisor.journal.newer)

        def spared(pid: int, mark: str) -> bool:
            # What a newer Oxherd wrote down is not touched by an older one.
            return mark.startswith(newer) or (adoption is not None and adoption.has(pid, mark))

        def over() -> None:
            then()
            supervisor.journal.go_on()

        end_strays(supervisor.system, supervisor.loop, supervisor.events, self._mark, over, spared=spared)

    def _go_on(self, adoption: Adoption | None) -> None:
        for stack in tuple(self._supervisor.stacks.values()):
            if adoption is not None and stack in adoption.stacks:
                adoption.start_the_rest(stack)
            elif stack.wanted:
                self._rereader().read(stack, partial(self._reread, stack))

    def _reread(self, stack: StackHandle, oxfile: Oxfile | None, trouble: str) -> None:
        supervisor = self._supervisor
        if oxfile is not None:
            try:
                self._keeper.register(oxfile, None, update_env=False, running_too=True)
            except OxherdError as error:
                trouble = error.message
        if trouble:
            text = f"the oxfile of {stack.name} cannot be used now; it runs as it was accepted last: {trouble}"
            supervisor.tell("oxfile-trouble", text, None, stack=stack.name, stack_path=stack.path)
        self._start(stack)

    def _start(self, stack: StackHandle) -> None:
        units = [Unit(process, None) for process in stack.processes.values() if process.wanted]
        if not units:
            return  # stopped by somebody meanwhile
        for unit in units:
            # Wanted, but not up: without this a oneshot would count as done before the reboot.
            unit.process.wanted = False
        supervisor = self._supervisor
        supervisor.tell("stack-back", f"bringing back {stack.name}", None, stack=stack.name, stack_path=stack.path)
        Operation(supervisor, self._keeper.start(stack, units), progress=None, done=_told)


def _told(_outcome: Outcome) -> None:
    """Nobody waits; what failed is in the events."""
