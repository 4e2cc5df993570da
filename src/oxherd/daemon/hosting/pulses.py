"""The pulse of every worker: whether its event loop comes by, read from the memory it shares with the supervisor.

One timer for all workers, and none where there are none. A loop that stands still for some tenths of a second has its
listeners lent; one that stands still for the process's ``timeout`` has its stacks and the requests it is at saved and is
killed and replaced.
"""

from __future__ import annotations

import signal

from oxherd.core.events import Condemned
from oxherd.core.instance import Reason, State
from oxherd.core.pulse import PulsePolicy, PulseState, PulseVerdict, judge
from oxherd.daemon.environment import mask_of
from oxherd.units import format_seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oxherd.daemon.handles import InstanceHandle
    from oxherd.daemon.hosting.hosting import Hosting
    from oxherd.daemon.supervisor import Supervisor
    from oxherd.system.worker_handle import WorkerHandle

__all__ = ["DUMP_SIGNAL", "Pulses"]

# Which signal makes a worker write its stacks; real-time signals have no other meaning to any program.
DUMP_SIGNAL = signal.SIGRTMIN + 5

_INTERVAL = 0.1

# Seconds a blocked worker has to write its stacks: the C library's signal handler does it, whatever Python is at.
_DUMP_TIME = 0.25

_SHOWN = 5


class Pulses:
    """Feels them.

    Args:
        supervisor: Gets the verdicts.
        hosting: Knows the workers.
    """

    def __init__(self, supervisor: Supervisor, hosting: Hosting) -> None:
        """Begin with the first worker."""
        self._supervisor = supervisor
        self._hosting = hosting
        self._states: dict[WorkerHandle, PulseState] = {}
        self._dying: set[WorkerHandle] = set()
        self._running = False

    def stalled(self, handle: InstanceHandle) -> bool:
        """Whether a worker's loop stands still, or has only just begun to move again."""
        state = self._states.get(handle.worker) if handle.worker is not None else None
        return state is not None and state.stalled

    def begin(self) -> None:
        """There is a worker: feel its pulse."""
        if not self._running:
            self._running = True
            self._supervisor.loop.call_later(_INTERVAL, self._turn)

    def _turn(self) -> None:
        now = self._supervisor.loop.now()
        seen: set[WorkerHandle] = set()
        for host in self._hosting.hosts():
            changed = False
            for handle in host.workers():
                worker = handle.worker
                if worker is not None and worker.meters is not None and handle.machine.pid is not None:
                    seen.add(worker)
                    changed |= self._feel(handle, worker, now)
            if changed:
                self._hosting.settle(host)
        self._states = {worker: state for worker, state in self._states.items() if worker in seen}
        self._dying &= seen
        self._running = bool(seen)
        if seen:
            self._supervisor.loop.call_later(_INTERVAL, self._turn)

    def _feel(self, handle: InstanceHandle, worker: WorkerHandle, now: float) -> bool:
        """Judge one worker; whether it has to be looked again who accepts where."""
        host, state = handle.spec.host, self._states.get(worker) or PulseState()
        assert host is not None
        assert worker.meters is not None
        policy = PulsePolicy(interval=_INTERVAL, block_timeout=host.block_timeout)
        booting = not worker.started or handle.machine.state is not State.RUNNING
        state, verdict = judge(
            state,
            policy,
            ticked_at=worker.meters.ticked_at,
            now=now,
            booting=booting,
            draining=worker.draining or handle.machine.state is State.STOPPING,
        )
        self._states[worker] = state
        supervisor = self._supervisor
        match verdict:
            case PulseVerdict.STALLED | PulseVerdict.RECOVERED:
                return True
            case PulseVerdict.SLOW:
                text = f"its event loop stands still: {self._doing(worker, now)}"
                supervisor.announce(handle, "slow", mask_of(handle.spec, handle.env).text(text))
            case PulseVerdict.BLOCKED if worker not in self._dying:
                self._dying.add(worker)
                self._save(handle, worker)
            case _:
                pass
        return False

    def _doing(self, worker: WorkerHandle, now: float) -> str:
        flights = worker.meters.in_flight(now) if worker.meters is not None else []
        shown = ", ".join(f"{flight.text} for {format_seconds(flight.seconds)}" for flight in flights[:_SHOWN])
        more = f" and {len(flights) - _SHOWN} more" if len(flights) > _SHOWN else ""
        return f"{shown}{more}" if flights else "no request is in flight"

    def _save(self, handle: InstanceHandle, worker: WorkerHandle) -> None:
        number = handle.machine.incarnation
        self._supervisor.executor.signal(handle, DUMP_SIGNAL)
        self._supervisor.loop.call_later(_DUMP_TIME, lambda: self._condemn(handle, worker, number))

    def _condemn(self, handle: InstanceHandle, worker: WorkerHandle, number: int) -> None:
        if handle.worker is not worker or handle.spec.host is None:
            return
        now = self._supervisor.loop.now()
        stood = format_seconds(handle.spec.host.block_timeout)
        mask = mask_of(handle.spec, handle.env)
        detail = mask.text(f"its event loop stood still for {stood}: {self._doing(worker, now)}")
        handle.failure = {"kind": "blocked", "text": detail, "traceback": mask.text(worker.dump())}
        self._supervisor.feed(handle, Condemned(number, Reason.BLOCKED, detail))
