"""What a person may do to a stack: register, start, stop, restart, reload, scale, apply, delete.

Every method changes what is wanted first and writes it down, then returns the batches of an operation.
"""

from __future__ import annotations

from oxherd.config.model import Oxfile, ProcessSpec
from oxherd.core import fleet
from oxherd.core.events import Restart, Start, Stop
from oxherd.core.instance import State
from oxherd.daemon.environment import account_of, keep
from oxherd.daemon.handles import InstanceHandle, ProcessHandle, StackHandle
from oxherd.daemon.hooks import needs_restart
from oxherd.daemon.operations import Goal, Target
from oxherd.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from oxherd.daemon.records import StackRecords
    from oxherd.daemon.sinks import Sinks
    from oxherd.daemon.supervisor import Supervisor

__all__ = ["Change", "StackKeeper", "Unit"]

Batches = list[list[Target]]


class Unit:
    """A process, or one instance of it, that a command names."""

    __slots__ = ("process", "slot")

    def __init__(self, process: ProcessHandle, slot: int | None) -> None:
        """``slot`` None means all instances."""
        self.process = process
        self.slot = slot

    def handles(self) -> list[InstanceHandle]:
        """The instances that are meant, in the order of their slots."""
        chosen = sorted(self.process.instances.items())
        return [handle for slot, handle in chosen if self.slot is None or slot == self.slot]

    def beside(self) -> list[InstanceHandle]:
        """What a reload has beside them."""
        return [handle for handle in self.process.others if self.slot is None or handle.slot == self.slot]


class Change:
    """What an apply does to each process."""

    __slots__ = ("added", "batches", "changed", "removed", "unchanged")

    def __init__(self) -> None:
        """Nothing yet."""
        self.added: list[str] = []
        self.changed: list[str] = []
        self.removed: list[str] = []
        self.unchanged: list[str] = []
        self.batches: Batches = []


class StackKeeper:
    """Keeps the stacks of a supervisor.

    Args:
        supervisor: Owns them.
        records: Writes them down.
        sinks: Their log files.
        identify: From an oxfile's path to the stack's identity.
        mark: Prefix of every mark, unique to this supervisor's home.
        euid: Effective user of the supervisor: only root may run processes as somebody else.
    """

    def __init__(
        self, supervisor: Supervisor, records: StackRecords, sinks: Sinks, *, identify: _Identify, mark: str, euid: int
    ) -> None:
        """Know no stack yet."""
        self._supervisor = supervisor
        self._records = records
        self._sinks = sinks
        self._identify = identify
        self._mark = mark
        self._euid = euid

    # -- finding ------------------------------------------------------------------------------------------------

    def find(self, path: str) -> StackHandle | None:
        """Return a stack by its path, or None if it is not registered."""
        return self._supervisor.stacks.get(self._identify(path))

    def stack(self, path: str) -> StackHandle:
        """Return a stack by its path.

        Raises:
            UsageError: It is not registered.
        """
        stack = self.find(path)
        if stack is None:
            raise UsageError(
                f"the stack of {path} is not known to the supervisor", hint="start it with `oxherd start`", code="OX210"
            )
        return stack

    def units(self, stack: StackHandle, names: Iterable[str]) -> list[Unit]:
        """Return what the names mean, all processes where there is none.

        Raises:
            UsageError: A name fits no process or instance; the text lists those there are.
        """
        chosen = list(names)
        if not chosen:
            return [Unit(process, None) for process in stack.processes.values()]
        return [self._unit(stack, name) for name in chosen]

    def units_to_start(self, stack: StackHandle, names: Iterable[str]) -> list[Unit]:
        """Return what the names mean; where there is none, everything that the oxfile does not disable.

        Raises:
            UsageError: A name fits no process or instance.
        """
        chosen = list(names)
        units = self.units(stack, chosen)
        return units if chosen else [unit for unit in units if not unit.process.spec.disabled]

    def _unit(self, stack: StackHandle, name: str) -> Unit:
        process = stack.processes.get(name)
        if process is not None:
            return Unit(process, None)
        base, _, number = name.rpartition(":")
        process = stack.processes.get(base)
        if process is not None and number.isdigit() and int(number) in process.instances:
            return Unit(process, int(number))
        known = ", ".join(stack.processes) or "none"
        raise UsageError(f"stack {stack.name} has no process {name}", hint=f"its processes are: {known}", code="OX211")

    # -- registering --------------------------------------------------------------------------------------------

    def register(
        self, oxfile: Oxfile, env: Mapping[str, str] | None, *, update_env: bool, running_too: bool = False
    ) -> tuple[StackHandle, list[str]]:
        """Take a stack as its oxfile describes it now.

        Args:
            oxfile: The compiled oxfile.
            env: The caller's environment; taken for a new stack, or with ``update_env``.
            update_env: Whether a known stack takes the caller's environment anew.
            running_too: Whether processes that run take their new settings (with their next incarnation).

        Returns:
            The stack, and notes about processes that run under older settings.

        Raises:
            UsageError: It asks for another user and the supervisor is not root, or a newer Oxherd runs it.
        """
        self.refuse_foreign_users(oxfile)
        identity = self._identify(oxfile.path)
        if identity in self._supervisor.journal.newer:
            raise UsageError(
                f"the stack of {oxfile.path} was written down by a newer Oxherd, and may run; this one leaves it alone",
                hint="use the newer version again: install it and `oxherd daemon upgrade`",
                code="OX218",
            )
        stack = self._supervisor.stacks.get(identity)
        if stack is None:
            mark = f"{self._mark}:{identity}"
            stack = StackHandle(path=oxfile.path, name=oxfile.name, identity=identity, mark=mark)
            self._supervisor.stacks[identity] = stack
            update_env = True
        stack.name, stack.profile = oxfile.name, oxfile.profile
        if update_env and env is not None:
            stack.env = keep(env)
        notes = []
        for spec in oxfile.processes:
            process = stack.processes.get(spec.name)
            if process is None:
                process = stack.processes[spec.name] = ProcessHandle(stack, spec)
                self.fill(process)
            elif process.spec != spec:
                if running_too or all(handle.down for handle in process.instances.values()):
                    self._take(process, spec)
                else:
                    notes.append(
                        f"{spec.name} runs with older settings; `oxherd apply` or restart it to take the new ones"
                    )
        return stack, notes

    def _take(self, process: ProcessHandle, spec: ProcessSpec) -> None:
        if process.spec.instances != spec.instances:
            process.scale = None
        process.spec = spec

    def refuse_foreign_users(self, oxfile: Oxfile) -> None:
        """Insist that this supervisor may run the processes of an oxfile as whom they ask for.

        Raises:
            UsageError: It is not root, or there is no such user.
        """
        for spec in oxfile.processes:
            if spec.user is None and spec.group is None:
                continue
            if self._euid != 0:
                raise UsageError(
                    f"{spec.name}: user and group need a supervisor that runs as root; this one runs as uid {self._euid}",
                    hint="remove user/group from the oxfile, or run the supervisor as root",
                    code="OX212",
                )
            if spec.user is not None and account_of(spec.user) is None and not spec.user.isdigit():
                raise UsageError(f"{spec.name}: there is no user {spec.user} on this machine", code="OX213")

    # -- slots --------------------------------------------------------------------------------------------------

    def fill(self, process: ProcessHandle) -> tuple[list[InstanceHandle], list[InstanceHandle]]:
        """Make the slots fit the wanted number; return the instances to start and those that have to go."""
        present = [slot for slot, handle in process.instances.items() if not handle.retired]
        add, remove = fleet.scale_plan(present, process.wanted_instances)
        for slot in add:
            # One that is still on its way out comes back when it is gone: a slot never runs twice.
            if slot not in process.instances:
                process.instances[slot] = InstanceHandle(process, slot)
            process.instances[slot].retired = False
        gone = [process.instances[slot] for slot in remove]
        for handle in gone:
            handle.retired = True
            if handle.down:
                self._supervisor.drop(handle)
        self._supervisor.duties.settle(process)
        return [process.instances[slot] for slot in add], [handle for handle in gone if not handle.down]

    # -- starting -----------------------------------------------------------------------------------------------

    def start(self, stack: StackHandle, units: list[Unit]) -> Batches:
        """Want the units up, with what they depend on."""
        named = [unit.process.name for unit in units]
        depends = {name: process.spec.depends_on for name, process in stack.processes.items()}
        names = fleet.closure(named, depends)
        processes = [process for process in stack.processes.values() if process.name in names]
        processes = [process for process in processes if not process.spec.disabled or process.name in named]
        slots = {unit.process.name: unit.slot for unit in units if unit.slot is not None}
        batch: list[Target] = []
        retiring: list[Target] = []
        for process in processes:
            fresh = not process.wanted
            process.wanted = True
            if (fresh or not process.generation) and all(handle.down for handle in process.instances.values()):
                self.next_generation(process)
            _, gone = self.fill(process)
            retiring.extend(Target(handle=handle, goal=Goal.DOWN, event=Stop()) for handle in gone)
            for slot, handle in sorted(process.instances.items()):
                if not handle.retired and slots.get(process.name) in {None, slot}:
                    batch.append(self._start_target(handle, fresh=fresh))
        self._records.save(stack)
        for process in processes:
            self._supervisor.duties.settle(process)
        return [batch, retiring] if retiring else [batch]

    def _start_target(self, handle: InstanceHandle, *, fresh: bool) -> Target:
        machine, process = handle.machine, handle.process
        if process.scheduled or (machine.completed and machine.state is State.EXITED and not fresh):
            # The clock starts it; or it has done what it had to do and the stack was up all the time.
            return Target(handle=handle, goal=Goal.UP)
        return Target(handle=handle, goal=Goal.UP, event=Start())

    def next_generation(self, process: ProcessHandle) -> None:
        """From now on new incarnations belong to a new release; its ``pre_start`` runs once more."""
        process.generation = process.new_generation()
        process.pre_start = ""

    # -- stopping -----------------------------------------------------------------------------------------------

    def stop(self, stack: StackHandle, units: list[Unit]) -> Batches:
        """Want the units down; dependents go before what they depend on."""
        for unit in units:
            if unit.slot is None:
                unit.process.wanted = False
                self._supervisor.duties.settle(unit.process)
        self._records.save(stack)
        return self._ordered_stop(stack, units)

    def _ordered_stop(self, stack: StackHandle, units: list[Unit]) -> Batches:
        rolls = self._supervisor.rolls
        for unit in units:
            if unit.slot is None and rolls is not None:
                rolls.cancel(unit.process, "it is being stopped")
        depends = {name: process.spec.depends_on for name, process in stack.processes.items()}
        by_name = {unit.process.name: unit for unit in units}
        levels = fleet.stop_order(list(by_name), depends)
        return [
            [
                Target(handle=handle, goal=Goal.DOWN, event=Stop())
                for name in level
                for handle in (*by_name[name].handles(), *by_name[name].beside())
            ]
            for level in levels
        ]

    def stop_for_now(self, stack: StackHandle) -> Batches:
        """Stop everything of a stack because the supervisor ends; what is wanted stays wanted."""
        return self._ordered_stop(stack, [Unit(process, None) for process in stack.processes.values()])

    # -- restarting ---------------------------------------------------------------------------------------------

    def restart(self, stack: StackHandle, units: list[Unit]) -> Batches:
        """Begin a new incarnation of every unit at once."""
        batch: list[Target] = []
        for unit in units:
            unit.process.wanted = True
            if unit.slot is None:
                self.next_generation(unit.process)
                self.fill(unit.process)
            batch.extend(self._restart_target(handle) for handle in unit.handles() if not handle.retired)
        self._records.save(stack)
        for unit in units:
            self._supervisor.duties.settle(unit.process)
        return [batch]

    def rolling_restart(self, stack: StackHandle, units: list[Unit]) -> Batches:
        """Begin new incarnations one instance at a time, in the order of the dependencies."""
        (batch,) = self.restart(stack, units)
        depends = {name: process.spec.depends_on for name, process in stack.processes.items()}
        levels = fleet.order([unit.process.name for unit in units], depends)
        rank = {name: place for place, level in enumerate(levels) for name in level}
        batch.sort(key=lambda target: (rank[target.handle.process.name], target.handle.slot))
        return [[target] for target in batch]

    def _restart_target(self, handle: InstanceHandle) -> Target:
        if handle.process.scheduled and handle.down:
            return Target(handle=handle, goal=Goal.UP)
        return Target(handle=handle, goal=Goal.UP, event=Restart(), after=handle.machine.incarnation)

    # -- scaling and applying -----------------------------------------------------------------------------------

    def scale(self, stack: StackHandle, process: ProcessHandle, instances: int) -> Batches:
        """Want another number of instances.

        Raises:
            UsageError: The process is a singleton and more than one is asked for, or less than one.
        """
        if instances < 1:
            raise UsageError(
                f"{process.name} cannot have {instances} instances",
                hint=f"to have none running: oxherd stop {process.name}",
                code="OX214",
            )
        if instances > 1 and (process.spec.singleton or process.scheduled):
            raise UsageError(f"{process.name} is a singleton: it never runs twice", code="OX215")
        process.scale = instances if instances != process.spec.instances else None
        process.wanted = process.wanted or instances > len(process.instances)
        return self.refit(stack, [process])

    def refit(self, stack: StackHandle, processes: Iterable[ProcessHandle]) -> Batches:
        """Make the number of instances fit what is wanted now; what runs already stays."""
        up: list[Target] = []
        down: list[Target] = []
        for process in processes:
            new, gone = self.fill(process)
            up += [Target(handle=handle, goal=Goal.UP, event=Start()) for handle in new if process.wanted]
            down += [Target(handle=handle, goal=Goal.DOWN, event=Stop()) for handle in gone]
        self._records.save(stack)
        return [batch for batch in (up, down) if batch]

    def apply(self, oxfile: Oxfile, env: Mapping[str, str] | None, *, update_env: bool, prune: bool) -> Change:
        """Make the stack what its oxfile says now, touching only what changed."""
        known = self._supervisor.stacks.get(self._identify(oxfile.path))
        old = {} if known is None else {name: process.spec for name, process in known.processes.items()}
        env_before = {} if known is None else dict(known.env)
        stack, _ = self.register(oxfile, env, update_env=update_env, running_too=True)
        env_changed = known is not None and update_env and env_before != stack.env
        difference = fleet.diff(old, {spec.name: spec for spec in oxfile.processes})
        change = Change()
        change.added = list(difference.added)
        change.removed = list(difference.removed) if prune else []
        rest = [*difference.changed, *difference.unchanged]
        change.changed = [name for name in rest if env_changed or needs_restart(old[name], stack.processes[name].spec)]
        resized = [name for name in difference.changed if name not in change.changed]
        change.unchanged = [name for name in rest if name not in change.changed and name not in resized]
        gone = self._ordered_stop(stack, [Unit(stack.processes[name], None) for name in change.removed])
        up: list[Target] = []
        for name in (*change.added, *change.changed, *resized):
            up.extend(self._applied(stack.processes[name], fresh=name in change.added, whole=name not in resized))
        change.changed.extend(resized)
        for name in change.removed:
            process = stack.processes[name]
            process.wanted = False
            self._supervisor.duties.settle(process)
        self._records.save(stack)
        change.batches = [*gone, up]
        return change

    def _applied(self, process: ProcessHandle, *, fresh: bool, whole: bool) -> list[Target]:
        wanted = process.wanted or (fresh and not process.spec.disabled)
        process.wanted = wanted
        if whole:
            self.next_generation(process)
        new, gone = self.fill(process)
        self._supervisor.duties.settle(process)
        targets = [Target(handle=handle, goal=Goal.DOWN, event=Stop()) for handle in gone]
        if not wanted:
            return targets
        for handle in process.instances.values():
            if handle.retired:
                continue
            if handle in new:
                targets.append(self._start_target(handle, fresh=True))
            elif whole:
                targets.append(self._restart_target(handle))
        return targets

    # -- forgetting ---------------------------------------------------------------------------------------------

    def forget(self, stack: StackHandle, names: Iterable[str]) -> list[str]:
        """Forget those processes that are down and return their names; with its last one the stack is forgotten too.

        One that was started again while it was being stopped is not: nobody would know of its program any more.
        """
        known = [stack.processes[name] for name in names if name in stack.processes]
        down = [process for process in known if all(handle.down for handle in process.instances.values())]
        for process in down:
            del stack.processes[process.name]
            process.wanted = False
            self._supervisor.duties.settle(process)
            for handle in tuple(process.instances.values()):
                self._supervisor.drop(handle)
            self._sinks.close(process)
        if stack.processes:
            self._records.save(stack)
        else:
            self._supervisor.stacks.pop(stack.identity, None)
            self._records.forget(stack)
        return [process.name for process in down]


if TYPE_CHECKING:
    from collections.abc import Callable

    _Identify = Callable[[str], str]
