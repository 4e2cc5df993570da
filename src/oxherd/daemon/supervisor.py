"""The heart of the supervisor: events go in, `step` decides, commands go out.

One queue, one drain: an event that comes up while another is handled waits its turn, so no decision is ever taken on
half-changed state. A change is written to the journal before anybody hears of it, and before anything is started or
signalled for it.
"""

from __future__ import annotations

import collections

from oxherd.core import commands as c
from oxherd.core.events import Permitted, Restart, Start
from oxherd.core.instance import Instance, State
from oxherd.core.lifecycle import step
from oxherd.core.restart import RestartMode
from oxherd.daemon.handles import InstanceHandle, ProcessHandle, StackHandle, life_policy
from oxherd.daemon.remembering import record_of
from oxherd.records import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from oxherd.core.events import Event
    from oxherd.daemon.duties import Duties
    from oxherd.daemon.eventlog import EventLog
    from oxherd.daemon.executor import Executor
    from oxherd.daemon.gate import Gate
    from oxherd.daemon.hosting.hosting import Hosting
    from oxherd.daemon.journal import Journal
    from oxherd.daemon.rolling.rolls import Rolls
    from oxherd.system.loop import Loop
    from oxherd.system.ports import System

__all__ = ["Supervisor"]

# Events worth a line in the process's own log file, so that its reader sees why the output stops or begins.
_NOTED = frozenset(
    {"spawn-failed", "ended", "killed", "unhealthy", "over-memory", "over-cpu", "timed-out", "blocked", "crashed"}
)


class Supervisor:
    """Owns every stack and every instance.

    Args:
        loop: Time and the wait.
        system: The operating system.
        journal: What survives.
        events: What is told.
    """

    def __init__(self, *, loop: Loop, system: System, journal: Journal, events: EventLog) -> None:
        """Know no stack yet; `assemble` completes the parts that need each other."""
        self.loop = loop
        self.system = system
        self.journal = journal
        self.events = events
        self.stacks: dict[str, StackHandle] = {}
        self.started = loop.now()
        self._queue: collections.deque[tuple[InstanceHandle, Event]] = collections.deque()
        self._draining = False
        self._unwritten: dict[InstanceHandle, None] = {}  # what is put off by `_remember_soon`
        self.ending = False  # everything is being stopped, and nothing is started any more
        self._observers: list[Callable[[InstanceHandle], None]] = []
        self.save: Callable[[StackHandle], None]
        self.executor: Executor
        self.gate: Gate
        self.duties: Duties
        self.rolls: Rolls | None = None
        self._make_rolls: Callable[[], Rolls] | None = None
        self.hosting: Hosting | None = None
        self._make_hosting: Callable[[], Hosting] | None = None

    def assemble(
        self,
        *,
        executor: Executor,
        gate: Gate,
        duties: Duties,
        save: Callable[[StackHandle], None],
        make_rolls: Callable[[], Rolls] | None = None,
        make_hosting: Callable[[], Hosting] | None = None,
    ) -> None:
        """Complete the supervisor with the parts that call back into it.

        Args:
            executor: Carries commands out.
            gate: Knows who may start.
            duties: Probes, weighs, watches.
            save: Writes a stack's record.
            make_rolls: Makes what reloads and replacements need, with the first of them.
            make_hosting: Makes what hosted processes need, when the first of them is started: a supervisor without any
                does not carry it.
        """
        executor.need_hosting = self.need_hosting
        self._make_rolls = make_rolls
        self._make_hosting = make_hosting
        self.save = save
        self.executor = executor
        self.gate = gate
        self.duties = duties

    def need_rolls(self) -> Rolls:
        """Return what reloads and replacements need, made with the first of them."""
        if self.rolls is None:
            assert self._make_rolls is not None
            self.rolls = self._make_rolls()
        return self.rolls

    def need_hosting(self) -> Hosting:
        """Return what hosted processes need, made with the first of them."""
        if self.hosting is None:
            assert self._make_hosting is not None
            self.hosting = self._make_hosting()
        return self.hosting

    # -- what there is ------------------------------------------------------------------------------------------

    def instances(self) -> Iterator[InstanceHandle]:
        """Every instance of every stack."""
        for stack in self.stacks.values():
            yield from stack.instances()

    def observe(self, callback: Callable[[InstanceHandle], None]) -> Callable[[], None]:
        """Call back after every change of an instance; the returned function ends it."""
        self._observers.append(callback)

        def end() -> None:
            if callback in self._observers:
                self._observers.remove(callback)

        return end

    # -- events -------------------------------------------------------------------------------------------------

    def feed(self, handle: InstanceHandle, event: Event) -> None:
        """Take an event; it is handled now, or after the one that is being handled."""
        if self.ending and isinstance(event, (Start, Restart)):
            # Whoever sends it (an operation that goes on, the clock) began before the end did.
            return
        self._queue.append((handle, event))
        if self._draining:
            return
        self._draining = True
        try:
            while self._queue:
                try:
                    self._handle(*self._queue.popleft())
                except Exception as error:  # noqa: BLE001 - a bug in one event must not lose those behind it
                    self.loop.failed(error)
        finally:
            self._draining = False

    def _handle(self, handle: InstanceHandle, event: Event) -> None:
        before = handle.machine
        after, commands = step(before, event, self.loop.now(), self.system.chance())
        if after is before and not commands:
            return
        handle.machine = after
        if _kept(before) != _kept(after):
            if after.state is State.SWEEPING and handle.worker is None and handle.passed is None:
                self._remember_soon(handle)
            else:
                self.remember(handle)
        for command in commands:
            self._execute(handle, command)
        if handle.down and handle.retired:
            self.drop(handle)
        if handle.down and all(other.down for other in handle.process.everyone()):
            self.executor.rest(handle.process)
            if self.hosting is not None:
                self.hosting.rest(handle.process)
        if self.hosting is not None:
            self.hosting.changed(handle)
        for observer in tuple(self._observers):
            observer(handle)
        if after.state is not before.state:
            self.gate.changed(handle)
            self.duties.changed(handle)

    def _execute(self, handle: InstanceHandle, command: c.Command) -> None:
        match command:
            case c.Permit():
                self.gate.ask(handle)
            case c.Unspawn():
                self.gate.forget(handle)
            case c.Spawn():
                self._take_new_settings(handle)
                if self.hosting is not None and not handle.spec.hosted and not handle.spec.passed:
                    self.hosting.make_way(handle)
                self.executor.spawn(handle)
            case c.Signal(signum):
                if self.hosting is None or not self.hosting.leaving.defer(handle, signum):
                    self.executor.signal(handle, signum)
            case c.KillTree():
                self.executor.kill_tree(handle)
            case c.Sweep(gentle):
                self.executor.sweep(handle, gentle=gentle)
            case c.Arm(timer, seconds):
                self.executor.arm(handle, timer, seconds)
            case c.Disarm(timer):
                self.executor.disarm(handle, timer)
            case c.Probe(on):
                if on:
                    self.duties.begin(handle)
                else:
                    self.duties.end(handle)
            case c.Announce(kind, detail):
                self.announce(handle, kind, detail)
            case c.Ignored(detail):
                self.announce(handle, "ignored", detail)

    def _take_new_settings(self, handle: InstanceHandle) -> None:
        """A new incarnation runs under the settings that were accepted last, or under those of its reload."""
        process = handle.process
        pin = handle.pinned
        handle.spec = process.spec if pin is None else pin.spec
        handle.env = process.stack.env if pin is None else pin.env
        generation = process.generation if pin is None else pin.generation
        handle.health = None
        handle.unready = handle.last_failure = ""
        handle.failure = None
        handle.memory_peak = 0
        machine = handle.machine
        policy = life_policy(handle.spec)
        if pin is not None:
            # What a reload brings in gets one try; the reload decides what its failure means.
            policy = replace(policy, restart=replace(policy.restart, mode=RestartMode.NEVER))
        if machine.policy != policy or machine.generation != generation:
            handle.machine = replace(machine, policy=policy, generation=generation)

    # -- telling ------------------------------------------------------------------------------------------------

    def announce(self, handle: InstanceHandle, kind: str, detail: str = "", **fields: object) -> None:
        """Tell what happened to an instance: in the events, and in its log where its reader wants to know."""
        process = handle.process
        text = f"{handle.name}: {kind}" + (f": {detail}" if detail else "")
        self.events.publish(
            kind,
            text,
            stack=process.stack.name,
            stack_path=process.stack.path,
            name=process.name,
            instance=handle.slot,
            incarnation=handle.machine.incarnation,
            pid=handle.machine.pid,
            detail=detail,
            **fields,
        )
        if kind in _NOTED:
            for sink in tuple(process.sinks.values())[:1]:
                sink.note(handle.slot, f"{handle.name}: {detail or kind}")

    def tell(self, kind: str, text: str, process: ProcessHandle | None = None, **fields: object) -> None:
        """Tell what happened to a process as a whole, or to the supervisor itself."""
        if process is not None:
            fields = {
                "stack": process.stack.name,
                "stack_path": process.stack.path,
                "name": process.name,
                **fields,
            }
            text = f"{process.name}: {text}"
        self.events.publish(kind, text, **fields)

    # -- keeping ------------------------------------------------------------------------------------------------

    def remember(self, handle: InstanceHandle) -> None:
        """Write down what the next supervisor has to know of an instance; before anybody is told of it."""
        self._unwritten.pop(handle, None)
        self.journal.save_instance(handle.key, record_of(handle))
        if handle.spec is not handle.process.spec:
            self.save(handle.process.stack)

    def _remember_soon(self, handle: InstanceHandle) -> None:
        """Write down at the end of this turn, or before anybody outside hears of it, that a program has ended.

        Mostly there is nothing to sweep, and what is written then is that its successor is being started. A supervisor that is
        killed before finds a journal in which the program runs and a pid that is gone: as if it had been killed before the end.
        """
        self._unwritten[handle] = None
        self.loop.call_last(self.catch_up)

    def catch_up(self) -> None:
        """Write down what was put off; must come before an answer or an event leaves the supervisor."""
        unwritten, self._unwritten = self._unwritten, {}
        for handle in unwritten:
            self.remember(handle)

    def resume(self, handle: InstanceHandle, machine: Instance, commands: tuple[c.Command, ...]) -> None:
        """Go on with an instance that an earlier supervisor had, in the state that was found out.

        What was written down of it stays as it is until everything that belongs to it is together again: whoever takes over
        when this supervisor dies in the middle of taking over finds what it has found.
        """
        handle.machine = machine
        for command in commands:
            self._execute(handle, command)
        if self.hosting is not None:
            self.hosting.changed(handle)

    def drop(self, handle: InstanceHandle) -> None:
        """Forget an instance that is down; its process closes its files with the last one."""
        process = handle.process
        self.duties.end(handle)
        if process.instances.get(handle.slot) is handle:
            del process.instances[handle.slot]
        elif handle in process.others:
            process.others.remove(handle)
        self._unwritten.pop(handle, None)
        self.journal.forget_instance(handle.key)

    def permitted(self, handle: InstanceHandle, *, ok: bool, detail: str = "") -> None:
        """Pass on what the gate decided."""
        self.feed(handle, Permitted(ok, detail))


def _kept(machine: Instance) -> tuple[object, ...]:
    """Return what of an instance has to be written down when it changes."""
    return (
        machine.state,
        machine.desired,
        machine.pid,
        machine.incarnation,
        machine.generation,
        machine.failures,
        machine.restart_pending,
        machine.killed,
        machine.unhealthy,
        machine.completed,
    )
