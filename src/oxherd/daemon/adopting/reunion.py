"""Hosted processes find together again: workers and zygotes at their doors, listeners that only they still have.

A worker that outlived its supervisor waits at its door and serves on meanwhile (`oxherd.host.door`). All doors are knocked at
together; each answers within a millisecond or so, and who does not within a second is blocked: it is asked no more, its
listeners are borrowed, and what it says later is taken then. Programs that were passed their listeners have no door; what they
hold is borrowed (`oxherd.system.borrow`), where the machine lets that be done.
"""

from __future__ import annotations

import os

from oxherd.core.events import BecameReady, Restart
from oxherd.core.instance import State
from oxherd.daemon.adopting.survivors import zygotes_of
from oxherd.system.door import forget
from oxherd.system.identity import read_stat
from oxherd.system.listener_set import ListenerSet
from oxherd.system.listeners import parse_bind
from oxherd.system.passed_handle import PassedHandle
from oxherd.system.reaper import decoded
from oxherd.system.spawn import Launch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from oxherd.core.exits import ExitStatus
    from oxherd.daemon.adopting.survivors import Survivor, ZygoteRecord
    from oxherd.daemon.handles import InstanceHandle, ProcessHandle
    from oxherd.daemon.hosting.host import Host
    from oxherd.daemon.hosting.hosting import Hosting
    from oxherd.daemon.sinks import Sinks
    from oxherd.daemon.supervisor import Supervisor
    from oxherd.system.zygote_handle import ZygoteHandle

__all__ = ["Reunion"]

# Seconds all doors together get.
_PATIENCE = 1.0
_SIGKILL = 9
_UP = frozenset({State.STARTING, State.RUNNING})


class Reunion:
    """Brings hosted and passed processes back together with what belongs to them.

    Args:
        supervisor: Whose they are.
        sinks: Where the output of zygotes goes.
        entries: The journal.
        inherited: Listeners this very process has kept through an upgrade, by process (``STACK MARK/NAME``) and key.

    Attributes:
        pids: Zygotes that were taken over.
        statuses: How children of zygotes ended while nobody listened, by pid.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        sinks: Sinks,
        entries: Mapping[str, Mapping[str, object]],
        inherited: Mapping[str, Mapping[str, int]],
    ) -> None:
        """Knock at no door yet."""
        self._supervisor = supervisor
        self._sinks = sinks
        self._entries = entries
        self._inherited = {process: dict(listeners) for process, listeners in inherited.items()}
        self._served: list[Survivor] = []
        self._zygotes: dict[int, ZygoteHandle] = {}
        self._forkers: dict[tuple[ProcessHandle, int], int] = {}
        self._abandoned: set[ZygoteHandle] = set()
        self._notes: dict[str, list[str]] = {}
        self.pids: set[int] = set()
        self.statuses: dict[int, ExitStatus] = {}

    # -- knocking -----------------------------------------------------------------------------------------------

    def call(self, survivors: Sequence[Survivor]) -> None:
        """Knock at the doors of everybody who is served for, and of their zygotes; nobody is waited for."""
        self._served = [
            one
            for one in survivors
            if one.handle is not None and (one.handle.spec.hosted or one.handle.spec.passed) and (one.alive or one.lost)
        ]
        if not self._served:
            return
        hosting = self._supervisor.need_hosting()
        hosting.reuniting = True
        for survivor in self._served:
            if survivor.alive and survivor.handle is not None and survivor.handle.spec.hosted:
                self._knock(hosting, survivor, survivor.handle)
        for process in {one.handle.process for one in self._served if one.handle is not None}:
            for record in zygotes_of(process.stack, process.name, self._entries):
                self._rejoin(hosting, process, record)

    def _knock(self, hosting: Hosting, survivor: Survivor, handle: InstanceHandle) -> None:
        record = survivor.record
        host = hosting.host(handle.process)
        host.release(record.remembered.generation, handle.spec, handle.env)
        try:
            hosting.births.rejoin(handle, record.private, record.door)
        except OSError as error:
            self._note(survivor, f"it does not answer at its door ({error.strerror}) and is replaced")
            # No handle of it removes them when it ends.
            forget(record.private)
            forget(record.door)

    def _rejoin(self, hosting: Hosting, process: ProcessHandle, record: ZygoteRecord) -> None:
        host = hosting.host(process)
        release = host.releases.get(record.generation)
        if release is None and record.generation == process.generation and process.spec.hosted:
            release = host.release(record.generation, process.spec, process.stack.env)
        pidfd = self._supervisor.system.hold(record.pid, record.ticks) if release is not None else None
        if release is None or pidfd is None:
            # Of a generation that is taken back, or dead. If it lives it is a stray; it has no use for its door.
            self._supervisor.journal.forget_instance(record.mark)
            forget(record.door)
            return
        system = self._supervisor.system
        pipes, _ = self._sinks.attach(process, 0, record.pipes, lambda inode: system.output_of([record.pid], inode))
        zygote = hosting.zygotes.rejoin(host, release, Launch(record.pid, pidfd), record.door, pipes)
        if zygote is not None:
            self._zygotes[record.pid] = zygote
            self._forkers[process, record.generation] = record.pid
            self.pids.add(record.pid)

    def forked(self, survivor: Survivor) -> int:
        """Return the pid of the zygote that is the parent of an instance, and so tells how it ends; 0 where none is."""
        handle = survivor.handle
        zygote = 0
        if handle is not None:
            zygote = self._forkers.get((handle.process, survivor.record.remembered.generation), 0)
        stat = read_stat(survivor.pid) if zygote and survivor.alive else None
        return zygote if stat is None or stat.ppid == zygote else 0

    # -- what they say ------------------------------------------------------------------------------------------

    def complete(self) -> None:
        """Wait until everybody has answered, or has had the time; then put everything in its place."""
        hosting = self._supervisor.hosting
        if hosting is None or not self._served:
            return
        self._wait()
        for pid, zygote in self._zygotes.items():
            self._take_over(hosting, pid, zygote)
        for process in {one.handle.process for one in self._served if one.handle is not None}:
            self._listen(hosting.host(process), process)
        hosting.reuniting = False
        for survivor in self._served:
            handle = survivor.handle
            if handle is not None and survivor.alive and handle.worker is not None:
                self._go_on(hosting, survivor, handle)
            elif handle is not None and survivor.alive and handle.spec.hosted and handle.machine.state in _UP:
                # It serves, but nobody can tell it anything but to go.
                self._supervisor.feed(handle, Restart())
        for host in hosting.hosts():
            hosting.settle(host)
        # Not now: whoever is there when strays are looked for, and was not adopted, is one.
        self._supervisor.loop.call_soon(lambda: self._replace_zygotes(hosting))

    def _replace_zygotes(self, hosting: Hosting) -> None:
        """Make the zygotes that are not there: dead, waiting to be replaced, or of an import that was cut off.

        Also where workers were exec'd because of what the audit had found: nobody remembers that, and it is found again.
        """
        for host in tuple(hosting.hosts()):
            release = host.releases.get(host.process.generation)
            if release is None or release.exec_only or not host.process.wanted:
                continue
            if release.zygote is None or release.zygote in self._abandoned:
                hosting.zygotes.start(host, release)

    def _wait(self) -> None:
        loop = self._supervisor.loop
        deadline = loop.now() + _PATIENCE
        while (left := deadline - loop.now()) > 0:
            workers = (one.handle.worker for one in self._served if one.handle is not None)
            silent = any(worker is not None and worker.hears and not worker.here for worker in workers)
            booting = any(not zygote.here and zygote.channel.open for zygote in self._zygotes.values())
            if not silent and not booting:
                return
            loop.run_once(left)

    def _take_over(self, hosting: Hosting, own: int, zygote: ZygoteHandle) -> None:
        """What a zygote knows of its children: how some ended, and who of them nobody has written down.

        It runs an app's code: what it says is taken only of what is, or was written down as, its own.
        """
        system = self._supervisor.system
        if not zygote.here:
            # It still imports, or has lost its mind. Nobody waits for this import any more; its workers live on.
            hosting.zygotes.abandon(zygote)
            self._abandoned.add(zygote)
            return
        its = {one.pid for one in self._served if self.forked(one) == own}
        for pid, status in zygote.exits.items():
            if pid in its:
                self.statuses[pid] = decoded(status)
                self._supervisor.executor.told(pid, status, own)
        known = {one.pid for one in self._served if one.alive}
        for pid, (_, pidfd) in zygote.take_children().items():
            if pid not in known and system.forked_by(pid, pidfd, own):
                # It was forked, and its supervisor died before it could write that down.
                system.kill_all([pid], _SIGKILL)
            if pidfd >= 0:
                os.close(pidfd)

    # -- listeners ----------------------------------------------------------------------------------------------

    def _listen(self, host: Host, process: ProcessHandle) -> None:
        """Give a process back the listeners that its instances hold, and open those that nobody has any more."""
        spec = process.spec.host
        members = [one for one in self._served if one.handle is not None and one.handle.process is process]
        specs = [one.handle.spec.host for one in members if one.handle is not None]
        binds = [text for each in (spec, *specs) if each is not None for text in each.bind]
        if spec is None or not binds:
            return
        addresses = [parse_bind(text) for text in dict.fromkeys(binds)]
        listeners = ListenerSet(addresses, balance=spec.balance, backlog=spec.backlog)
        self._adopt(listeners, self._inherited.pop(f"{process.stack.mark}/{process.name}", {}))
        for survivor in members:
            handle = survivor.handle
            if handle is None or not survivor.alive:
                continue
            if handle.worker is not None and handle.worker.here:
                self._adopt(listeners, handle.worker.take_listeners())
            elif handle.spec.hosted:
                self._adopt(listeners, self._borrowed(survivor, None, handle))
        for survivor in members:
            handle = survivor.handle
            if handle is not None and survivor.alive and handle.spec.passed:
                self._pass_back(listeners, survivor, handle)
        host.listeners = listeners
        if process.wanted and (process.spec.hosted or all(one.handle and one.handle.passed for one in members)):
            self._open_the_rest(listeners, process)

    def _open_the_rest(self, listeners: ListenerSet, process: ProcessHandle) -> None:
        from oxherd.errors import OxherdError  # noqa: PLC0415 - rare

        try:
            listeners.ensure(max(process.wanted_instances, listeners.slots))
        except OxherdError as error:
            # Whoever is started next meets the same, and then it is the reason of a start that fails.
            self._supervisor.tell("adoption-trouble", f"a listener could not be opened: {error.message}", process)

    def _adopt(self, listeners: ListenerSet, descriptors: Mapping[str, int]) -> None:
        for key in listeners.adopt(descriptors):
            os.close(descriptors[key])

    def _borrowed(self, survivor: Survivor, inodes: Sequence[int] | None, handle: InstanceHandle) -> dict[str, int]:
        """Return the listeners of a process that cannot hand them over itself, by key."""
        from oxherd.system.adopt import listening_inodes  # noqa: PLC0415 - rare

        wanted = listening_inodes() if inodes is None else set(inodes)
        try:
            found = self._supervisor.system.borrow(survivor.pid, survivor.pidfd, wanted)
        except OSError as error:
            text = f"its listeners could not be got back ({error.strerror}): a reload has to stop it first"
            self._note(survivor, text)
            return {}
        keys: dict[str, int] = {}
        assert handle.spec.host is not None
        addresses = [parse_bind(text) for text in handle.spec.host.bind]
        probe = ListenerSet(addresses, balance=handle.spec.host.balance)
        for fd in found.values():
            key = probe.key_of(fd, handle.slot)
            if key is None or key in keys:
                os.close(fd)
            else:
                keys[key] = fd
        return keys

    def _pass_back(self, listeners: ListenerSet, survivor: Survivor, handle: InstanceHandle) -> None:
        assert handle.spec.host is not None
        addresses = [parse_bind(text) for text in handle.spec.host.bind]
        if len(listeners.of(handle.slot, addresses)) < len(addresses):
            self._adopt(listeners, self._borrowed(survivor, survivor.record.sockets, handle))
        sockets = [sock for _, sock in listeners.of(handle.slot, addresses)]
        if len(sockets) == len(addresses):
            handle.passed = PassedHandle.again(sockets, survivor.record.private)
            self._supervisor.remember(handle)
        if handle.machine.state is State.STARTING:
            self._see(handle)

    def _see(self, handle: InstanceHandle) -> None:
        """A program that was starting may accept by now, or not yet."""
        if handle.passed is not None:
            handle.passed.accepts = handle.passed.sized = False
            self._supervisor.need_hosting().passing.watch(handle)
        elif handle.spec.health is None:
            # Its listeners could not be got back, so nothing can be seen of it. It lives.
            self._supervisor.feed(handle, BecameReady(handle.machine.incarnation))

    # -- going on -----------------------------------------------------------------------------------------------

    def _go_on(self, hosting: Hosting, survivor: Survivor, handle: InstanceHandle) -> None:
        """A worker is one of this supervisor's from now on."""
        supervisor, worker, machine = self._supervisor, handle.worker, handle.machine
        assert worker is not None
        if not worker.here:
            if worker.hears:
                self._note(survivor, "it does not answer yet")
            return
        if survivor.record.remembered.state is State.RUNNING and machine.started_at is not None:
            worker.ready_at = machine.since
        if machine.state is State.STOPPING and not worker.draining and not machine.killed:
            supervisor.executor.signal(handle, machine.policy.stop_signal)
        elif worker.started and machine.state in {State.STARTING, State.RUNNING}:
            if handle.spec.health is not None:
                supervisor.duties.probe(handle)
            elif machine.state is State.STARTING:
                supervisor.feed(handle, BecameReady(machine.incarnation))
        if worker.due:
            hosting.due(handle)

    # -- telling ------------------------------------------------------------------------------------------------

    def _note(self, survivor: Survivor, text: str) -> None:
        self._notes.setdefault(survivor.key, []).append(text)

    def notes_of(self, survivor: Survivor) -> list[str]:
        """Return what could not be saved of an instance."""
        return self._notes.get(survivor.key, [])
