"""Hosted processes as the rest of the supervisor sees them.

The lifecycle knows nothing of listeners and workers: it says "spawn", "signal", "gone". Here these words meet what only
a hosted process has, and what workers say becomes events of the lifecycle.
"""

from __future__ import annotations

import os

from oxherd.core.events import BecameReady
from oxherd.core.instance import Desired, State
from oxherd.daemon.environment import mask_of, masked
from oxherd.daemon.hosting.births import Births
from oxherd.daemon.hosting.host import Host
from oxherd.daemon.hosting.leaving import Leaving
from oxherd.daemon.hosting.lending import Lending
from oxherd.daemon.hosting.passing import Passing, others_live
from oxherd.daemon.hosting.pulses import Pulses
from oxherd.daemon.hosting.zygotes import Zygotes
from oxherd.daemon.rolling.recycling import Recycling
from oxherd.errors import OxherdError
from oxherd.system.listener_set import ListenerSet
from oxherd.system.listeners import parse_bind, sweep_private

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from oxherd.config.model import ProcessSpec
    from oxherd.control.paths import Home
    from oxherd.daemon.cgrouping import Cgroups
    from oxherd.daemon.children import Children
    from oxherd.daemon.executor import Executor
    from oxherd.daemon.handles import InstanceHandle, Pin, ProcessHandle
    from oxherd.daemon.sinks import Sinks
    from oxherd.daemon.supervisor import Supervisor
    from oxherd.host.wire import Message
    from oxherd.system.worker_handle import WorkerHandle
    from oxherd.system.zygote_handle import ZygoteHandle

__all__ = ["Hosting"]

_SERVING = frozenset({State.STARTING, State.RUNNING})


class Hosting:
    """Owns the hosts.

    Args:
        supervisor: Gets the events.
        executor: Takes the processes.
        children: Hears of exits.
        sinks: The log files.
        cgroups: Hard limits.
        home: Where private listeners have their files.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        executor: Executor,
        *,
        children: Children,
        sinks: Sinks,
        cgroups: Cgroups,
        home: Home,
    ) -> None:
        """Hold nothing yet."""
        self._supervisor = supervisor
        self._executor = executor
        self._hosts: dict[ProcessHandle, Host] = {}
        directory = os.path.join(home.runtime, "workers")
        sweep_private(directory)
        self.zygotes = Zygotes(
            loop=supervisor.loop,
            system=supervisor.system,
            children=children,
            sinks=sinks,
            directory=directory,
            tell=lambda host, kind, text: supervisor.tell(kind, text, host.process),
            journal=supervisor.journal,
        )
        self.births = Births(
            loop=supervisor.loop,
            system=supervisor.system,
            sinks=sinks,
            cgroups=cgroups,
            executor=executor,
            zygotes=self.zygotes,
            directory=directory,
            said=self._said,
            remember=supervisor.remember,
        )
        self.lending = Lending(self.serves, supervisor.announce)
        self.pulses = Pulses(supervisor, self)
        self.passing = Passing(supervisor, self, os.path.join(home.runtime, "workers"))
        self.leaving = Leaving(supervisor)
        self._observers: list[Callable[[InstanceHandle], None]] = []
        self.reuniting = False  # workers of an earlier supervisor are being taken over: nobody is moved meanwhile
        self.failures: dict[ProcessHandle, dict[str, object] | None] = {}
        self._recycling = Recycling(supervisor, self)
        supervisor.need_rolls().when_free(self._recycling.again)

    def observe(self, callback: Callable[[InstanceHandle], None]) -> Callable[[], None]:
        """Call back when a worker begins or ends to accept; the returned function ends it."""
        self._observers.append(callback)
        return lambda: self._observers.remove(callback)

    # -- what there is ------------------------------------------------------------------------------------------

    def hosts(self) -> Iterator[Host]:
        """Every host that holds something."""
        return iter(tuple(self._hosts.values()))

    def host(self, process: ProcessHandle) -> Host:
        """Return the host of a process, made here if it is new."""
        host = self._hosts.get(process)
        if host is None:
            host = self._hosts[process] = Host(process)
        return host

    def serves(self, host: Host, handle: InstanceHandle) -> bool:
        """Whether a worker can take connections: it has started, its code is proven, and nothing speaks against it."""
        worker, machine = handle.worker, handle.machine
        if worker is None or not worker.started or worker.draining or not worker.hears:
            return False
        if machine.state not in _SERVING or machine.desired is Desired.DOWN or handle.unready:
            return False
        release = host.releases.get(machine.generation)
        proven = machine.state is State.RUNNING or (release is not None and release.proven and handle.pinned is None)
        return proven and not self.pulses.stalled(handle)

    def accepting(self, host: Host, handle: InstanceHandle) -> bool:
        """Whether a worker has said of everything it was given that it accepts there."""
        worker = handle.worker
        return (
            self.serves(host, handle) and worker is not None and bool(worker.asked) and worker.asked <= worker.accepting
        )

    def facts(self, process: ProcessHandle) -> dict[str, object]:
        """Return what is known of the running generation of a process; empty where none runs."""
        host = self._hosts.get(process)
        release = None if host is None else host.releases.get(process.generation)
        if release is None:
            return {}
        keys = ("interface", "engine", "engine_version", "python", "seconds", "hazards")
        return {
            "process": process.name,
            "generation": release.generation,
            "preloaded": release.forks,
            **{key: release.facts[key] for key in keys if key in release.facts},
        }

    def descriptors(self) -> dict[str, dict[str, int]]:
        """Return every listener by its process (``STACK MARK/NAME``) and key: what an upgrade hands over."""
        return {
            f"{process.stack.mark}/{process.name}": host.listeners.descriptors()
            for process, host in self._hosts.items()
            if host.listeners is not None
        }

    # -- listeners ----------------------------------------------------------------------------------------------

    def open_listeners(self, host: Host, handle: InstanceHandle) -> None:
        """Make sure that the listeners of the process are there, those of this slot included.

        Raises:
            OxherdError: An address cannot be had; says why, and who has it.
        """
        assert handle.spec.host is not None
        if host.listeners is not None and host.listeners.shared is not (handle.spec.host.balance == "shared"):
            # Another way to serve, which nobody else of the process does in the old way any more.
            self._give_up(host, handle)
        self._open(host, handle.spec, max(handle.slot + 1, host.process.wanted_instances))

    def make_way(self, handle: InstanceHandle) -> None:
        """A program is about to be started that opens its own listeners: those of an earlier generation are in its way."""
        host = self._hosts.get(handle.process)
        if host is not None:
            self._give_up(host, handle)

    def _give_up(self, host: Host, handle: InstanceHandle) -> None:
        """Close the listeners, unless others of the process still serve from them."""
        if host.listeners is not None and not others_live(handle):
            host.listeners.close()
            host.listeners = None

    def _open(self, host: Host, spec: ProcessSpec, slots: int) -> None:
        assert spec.host is not None
        addresses = [parse_bind(text) for text in spec.host.bind]
        if host.listeners is None:
            host.listeners = ListenerSet(addresses, balance=spec.host.balance, backlog=spec.host.backlog)
        host.listeners.add(addresses)
        host.listeners.ensure(slots)

    # -- what the lifecycle asks --------------------------------------------------------------------------------

    def spawn(self, handle: InstanceHandle, number: int) -> None:
        """Begin an incarnation."""
        host = self.host(handle.process)
        try:
            self.open_listeners(host, handle)
        except (OxherdError, OSError) as error:
            told = error if isinstance(error, OxherdError) else OxherdError(f"opening its listeners: {error.strerror}")
            self._executor.could_not(handle, number, told)
            return
        self._recycling.expect(handle.process)
        self.births.begin(host, handle, number)

    def changed(self, handle: InstanceHandle) -> None:
        """An instance of any kind has changed."""
        self.leaving.changed(handle)
        host = self._hosts.get(handle.process)
        if host is None:
            return
        self.passing.changed(host, handle)
        machine = handle.machine
        if machine.state is State.SPAWNING and machine.desired is Desired.DOWN:
            self.births.cancel(handle)
        if machine.state is State.RUNNING and handle.worker is not None:
            release = host.releases.get(machine.generation)
            if release is not None:
                release.proven = True
            if not handle.worker.ready_at:
                handle.worker.ready_at = self._supervisor.loop.now()
                self.pulses.begin()
                self._recycling.begin(handle)
        self.settle(host)

    def settle(self, host: Host) -> None:
        """Look again who accepts where, and let go of releases nobody needs."""
        if self.reuniting:
            return
        if host.process.wanted and not self._supervisor.ending:
            # Among workers that are all on their way out there is nobody to lend to.
            self.lending.settle(host)
        for release in host.unused():
            self.zygotes.end(release)
            del host.releases[release.generation]

    def gone(self, handle: InstanceHandle) -> None:
        """The main process of an incarnation is gone; its meters can be read until the sweep is over."""
        worker = handle.worker
        if worker is not None:
            self.host(handle.process).bury(worker, self._supervisor.loop.now())
            worker.started = False
            worker.accepting.clear()
            worker.asked.clear()

    def rest(self, process: ProcessHandle) -> None:
        """All instances of a process are down: what is not wanted any more gives everything back."""
        host = self._hosts.get(process)
        if host is None or any(not handle.down for handle in process.everyone()):
            return
        if process.reloading or any(release.kept for release in host.releases.values()):
            return  # a reload is about to bring workers
        if process.wanted and any(handle.machine.desired is Desired.UP for handle in process.instances.values()):
            crashed = all(handle.machine.state in {State.CRASHED, State.EXITED} for handle in process.everyone())
            if not crashed:
                return
        self.close(host)

    def close(self, host: Host) -> None:
        """Let the zygotes go and close the listeners."""
        for release in tuple(host.releases.values()):
            self.zygotes.end(release)
        host.releases.clear()
        if host.listeners is not None:
            host.listeners.close()
            host.listeners = None
        self._hosts.pop(host.process, None)

    def prepare(self, process: ProcessHandle, pin: Pin, then: Callable[[str], None]) -> None:
        """Make a generation ready to be started: its listeners, and its zygote where it has one.

        Args:
            process: Whose.
            pin: The generation.
            then: Called once, with "" or with what is wrong.
        """
        host = self.host(process)
        for known in host.releases.values():
            known.kept = True
        try:
            # A program that brought its own listener holds the address until it is stopped.
            if process.spec.hosted or process.spec.passed:
                self._open(host, pin.spec, max(pin.spec.instances, len(process.instances)))
        except (OxherdError, OSError) as error:
            then(error.message if isinstance(error, OxherdError) else f"opening its listeners: {error.strerror}")
            return
        if not pin.spec.hosted:
            then("")
            return
        release = host.release(pin.generation, pin.spec, pin.env)
        release.kept = True

        def decided(zygote: ZygoteHandle | None) -> None:
            failure = None if zygote is None else zygote.failure
            self.failures[process] = failure
            then("" if failure is None else str(failure.get("text")) or "its app cannot be imported")

        try:
            self.zygotes.when_decided(host, release, decided)
        except (OxherdError, OSError) as error:
            self.zygotes.forget(release, decided)
            told = error.message if isinstance(error, OxherdError) else error.strerror
            then(f"making the channel of its zygote: {told}")

    def let_go(self, process: ProcessHandle) -> None:
        """A reload is over, however it ended: generations nobody runs are not needed any more; idempotent."""
        host = self._hosts.get(process)
        if host is None:
            return
        for release in host.releases.values():
            release.kept = False
        if host.listeners is not None and process.spec.host is not None:
            wanted = [parse_bind(text) for text in process.spec.host.bind]
            host.listeners.drop([address for address in host.listeners.addresses if address not in wanted])
        self.settle(host)

    # -- what workers say ---------------------------------------------------------------------------------------

    def _said(self, handle: InstanceHandle, worker: WorkerHandle, message: Message) -> None:
        host = self.host(handle.process)
        key = str(message.get("key", ""))
        match message["kind"]:
            case "started":
                worker.started = True
                worker.facts = message
                self._started(handle)
            case "accepting":
                if key in worker.asked:
                    worker.accepting.add(key)
                self.settle(host)
                for observer in tuple(self._observers):
                    observer(handle)
            case "released":
                worker.accepting.discard(key)
            case "refused":
                worker.asked.discard(key)
                text = mask_of(handle.spec, handle.env).text(f"{key}: {message.get('text', '')}")
                self._supervisor.announce(handle, "refused", text)
            case "draining":
                worker.draining = True
                worker.accepting.clear()
                self.settle(host)
            case "drained":
                closed = int(str(message.get("closed", 0)))
                if closed:
                    self._supervisor.announce(handle, "drain-cut", f"{closed} connections were still open at the end")
            case "failed":
                worker.failure = handle.failure = masked(message, mask_of(handle.spec, handle.env))
            case "recycle":
                self._recycling.asked(handle)
            case "here-end" if not self.reuniting:
                self._late(host, handle, worker)
            case _:
                pass

    def due(self, handle: InstanceHandle) -> None:
        """A worker that was taken over had asked to be replaced."""
        self._recycling.asked(handle)

    def _late(self, host: Host, handle: InstanceHandle, worker: WorkerHandle) -> None:
        """A worker that was blocked when it was taken over has come by its door at last."""
        listeners = worker.take_listeners()
        refused = listeners if host.listeners is None else host.listeners.adopt(listeners)
        for key in refused:
            os.close(listeners[key])
        self._supervisor.announce(handle, "back", "it has answered at its door")
        if worker.started and handle.machine.state in _SERVING:
            self._started(handle)
            if handle.machine.state is State.RUNNING and handle.spec.health is not None:
                self._supervisor.duties.probe(handle)
        self.settle(host)

    def _started(self, handle: InstanceHandle) -> None:
        supervisor = self._supervisor
        if handle.machine.state is not State.STARTING:
            return
        if handle.spec.health is None:
            supervisor.feed(handle, BecameReady(handle.machine.incarnation))
        else:
            supervisor.duties.probe(handle)
        self.settle(self.host(handle.process))
