"""Workers that have served long enough, have lived long enough or have grown too large are replaced, one after the other."""

from __future__ import annotations

import os

from oxherd.core.instance import State
from oxherd.core.recycle import RecyclePolicy, RecycleReason, RecycleState, due, sampled
from oxherd.units import format_bytes, format_seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oxherd.config.model import HostSpec
    from oxherd.daemon.handles import InstanceHandle, ProcessHandle
    from oxherd.daemon.hosting.host import Host
    from oxherd.daemon.hosting.hosting import Hosting
    from oxherd.daemon.supervisor import Supervisor
    from oxherd.system.worker_handle import WorkerHandle

    Stamp = tuple[int, int, int]

__all__ = ["Recycling"]

# Seconds between two looks at the age and the memory of workers that have a bound for one of them.
_INTERVAL = 2.0


class _Watched:
    """One worker with a bound: what is remembered of it, and where in the spread of the lifetimes its own lies."""

    __slots__ = ("chance", "state")

    def __init__(self, chance: float) -> None:
        self.state = RecycleState()
        self.chance = chance


class Recycling:
    """Finds the workers that are due.

    Args:
        supervisor: Replaces them.
        hosting: Knows them.
    """

    def __init__(self, supervisor: Supervisor, hosting: Hosting) -> None:
        """Look at nobody yet."""
        self._supervisor = supervisor
        self._hosting = hosting
        self._watched: dict[WorkerHandle, _Watched] = {}
        self._certificates: dict[ProcessHandle, tuple[Stamp | None, ...]] = {}
        self._looking = False

    def asked(self, handle: InstanceHandle) -> None:
        """A worker says that it has answered its number of requests. It serves on until its successor does."""
        if handle.worker is not None:
            handle.worker.due = True
            self.again(handle.process)

    def again(self, process: ProcessHandle) -> None:
        """Replace those that have asked for it; a worker asks once, and may have done so while it could not be done."""
        host = process.spec.host
        count = f": {host.max_requests}" if host is not None and host.max_requests else ""
        for handle in tuple(process.instances.values()):
            if handle.worker is not None and handle.worker.due:
                self._replace(handle, RecycleReason.REQUESTS, f"{RecycleReason.REQUESTS.value}{count}")

    def expect(self, process: ProcessHandle) -> None:
        """A worker is about to be made: what it reads of certificates is what is there from now on."""
        self._certificates.setdefault(process, _certificates(process))

    def begin(self, handle: InstanceHandle) -> None:
        """A worker serves: look after it if its process has a bound for lifetime or memory."""
        host = handle.spec.host
        if host is not None and (host.max_lifetime or host.max_memory or host.ssl_certfile) and not self._looking:
            self._looking = True
            self._supervisor.loop.call_later(_INTERVAL, self._turn)

    def _turn(self) -> None:
        seen: set[WorkerHandle] = set()
        bounded = False
        for host in self._hosting.hosts():
            bounded |= self._renewed(host)
            for handle in tuple(host.process.instances.values()):
                spec, worker = handle.spec.host, handle.worker
                if spec is None or worker is None or handle.machine.state is not State.RUNNING:
                    continue
                if spec.max_lifetime or spec.max_memory:
                    seen.add(worker)
                    self._look(handle, worker, spec)
        self._watched = {worker: watched for worker, watched in self._watched.items() if worker in seen}
        self._looking = bounded = bounded or bool(seen)
        if bounded:
            self._supervisor.loop.call_later(_INTERVAL, self._turn)

    def _renewed(self, host: Host) -> bool:
        """Replace the workers of a process whose certificate is another one now; whether it has one at all."""
        spec = host.process.spec.host
        if spec is None or not spec.ssl_certfile or not host.process.wanted:
            self._certificates.pop(host.process, None)
            return False
        now = _certificates(host.process)
        before = self._certificates.setdefault(host.process, now)
        # Both files have to be there: between the two renames of a renewal they do not fit each other.
        if now != before and None not in now:
            self._certificates[host.process] = now
            for handle in tuple(host.process.instances.values()):
                self._replace(
                    handle, RecycleReason.CERTIFICATE, f"{RecycleReason.CERTIFICATE.value}: {spec.ssl_certfile}"
                )
        return True

    def _look(self, handle: InstanceHandle, worker: WorkerHandle, spec: HostSpec) -> None:
        system, machine = self._supervisor.system, handle.machine
        watched = self._watched.get(worker)
        if watched is None:
            watched = self._watched[worker] = _Watched(system.chance())
        policy = RecyclePolicy(max_lifetime=spec.max_lifetime, max_memory=spec.max_memory)
        memory = 0
        if spec.max_memory and machine.pid is not None:
            try:
                memory = system.sample(machine.pid).rss_bytes
            except OSError:
                return  # no descriptors to look: the next look is soon
            watched.state = sampled(watched.state, policy, memory)
        age = self._supervisor.loop.now() - worker.ready_at
        reason = due(watched.state, policy, age=age, chance=watched.chance)
        if reason is RecycleReason.LIFETIME:
            self._replace(handle, reason, f"{reason.value}: {format_seconds(spec.max_lifetime or 0)}")
        elif reason is not None:
            self._replace(handle, reason, f"{reason.value}: it uses {format_bytes(memory)}")

    def _replace(self, handle: InstanceHandle, reason: RecycleReason, text: str) -> None:
        if handle.pinned is None and handle.machine.state is State.RUNNING:
            self._supervisor.need_rolls().replace(handle, reason, text)


def _certificates(process: ProcessHandle) -> tuple[Stamp | None, ...]:
    spec = process.spec.host
    paths = () if spec is None else (spec.ssl_certfile, spec.ssl_keyfile)
    return tuple(_stamp(os.path.join(process.spec.working_dir, path)) for path in paths if path)


def _stamp(path: str) -> Stamp | None:
    """Return what changes when a file is replaced or written, None while it is not there."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
