"""What a supervisor finds when it starts: survivors of a dead predecessor, and stacks that are wanted up.

Survivors are recognised by pid, kernel start time and mark together, never by the pid alone. They are ended before
their stacks are started again, so that nothing runs twice.
"""

from __future__ import annotations

import os
from functools import partial

from oxherd.daemon.operations import Operation
from oxherd.daemon.stacks import Unit
from oxherd.errors import OxherdError
from oxherd.system import identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oxherd.config.model import Oxfile
    from oxherd.daemon.eventlog import EventLog
    from oxherd.daemon.handles import StackHandle
    from oxherd.daemon.operations import Outcome
    from oxherd.daemon.rereading import Rereader
    from oxherd.daemon.stacks import StackKeeper
    from oxherd.daemon.supervisor import Supervisor
    from oxherd.system.loop import Loop
    from oxherd.system.ports import System

__all__ = ["Boot", "end_survivors"]

# What survivors get to end by themselves before they are killed, in seconds: the default stop timeout.
_PATIENCE = 10.0

_SIGTERM, _SIGKILL = 15, 9


class _Survivors:
    """Ends what a dead supervisor left running, then goes on."""

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


def end_survivors(system: System, loop: Loop, events: EventLog, prefix: str, then: Callable[[], None]) -> None:
    """End every process that carries a mark of this home, then call ``then``.

    Args:
        system: Signals them.
        loop: Waits for their end.
        events: Told who they were.
        prefix: What the marks of this home begin with.
        then: Called when none is left; at once where there is none.
    """
    found = {pid: mark for pid in identity.pids() if (mark := identity.mark_of(pid)) and mark.startswith(f"{prefix}:")}
    found.pop(os.getpid(), None)
    if not found:
        then()
        return
    names = sorted({"/".join(mark.split("/")[1:3]) for mark in found.values()})
    events.publish(
        "survivors",
        f"ending {len(found)} processes that a supervisor left when it died: {', '.join(names)}",
        pids=sorted(found),
    )
    _Survivors(system, loop, found, then)


class Boot:
    """Brings back what was wanted when the last supervisor of this home ended, however it ended.

    The oxfile is read again, in a process of its own and with the environment that was kept. Where it cannot be used as
    it is now, the stack runs as it was accepted last: a typo in a file must not cost a reboot the whole stack.

    Args:
        supervisor: Tells of it.
        keeper: Registers and starts.
        rereader: Reads oxfiles again.
        mark: Prefix of the marks of this home.
    """

    def __init__(
        self,
        *,
        supervisor: Supervisor,
        keeper: StackKeeper,
        rereader: Rereader,
        mark: str,
    ) -> None:
        """Bring nothing back yet."""
        self._supervisor = supervisor
        self._keeper = keeper
        self._rereader = rereader
        self._mark = mark

    def begin(self) -> None:
        """Register every stack that was written down, end survivors, then start what is wanted."""
        supervisor = self._supervisor
        for name, record in supervisor.journal.load_stacks().items():
            try:
                self._keeper.load(record)
            except (OxherdError, TypeError, ValueError, KeyError) as error:
                reason = (
                    error.message if isinstance(error, OxherdError) else f"its record does not fit ({error!r:.200})"
                )
                supervisor.tell("state-trouble", f"stack {record.get('path', name)} does not come back: {reason}")
        end_survivors(supervisor.system, supervisor.loop, supervisor.events, self._mark, self._read_again)

    def _read_again(self) -> None:
        for stack in tuple(self._supervisor.stacks.values()):
            if stack.wanted:
                self._rereader.read(stack, partial(self._reread, stack))

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
