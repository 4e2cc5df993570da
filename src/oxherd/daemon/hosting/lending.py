"""Who accepts on which listener of a process, carried out: what `oxherd.core.slots` decides becomes messages.

A listener is given to its new worker before it is taken from the old one, and taken only when the new one has said that
it accepts. A worker that cannot serve (dead, not ready, blocked, leaving) has its listener lent to a sibling at once and
gets it back when it can.
"""

from __future__ import annotations

from oxherd.core.slots import assign
from oxherd.system.listeners import parse_bind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oxherd.daemon.handles import InstanceHandle
    from oxherd.daemon.hosting.host import Host
    from oxherd.system.listener_set import ListenerSet
    from oxherd.system.worker_handle import WorkerHandle

__all__ = ["Lending", "slot_of"]


def slot_of(key: str) -> int | None:
    """Return the slot a listener's key belongs to, None for one that all workers share."""
    slot = key.partition("/")[0]
    return int(slot) if slot.isdigit() else None


def _queues(listeners: ListenerSet, slot: int) -> bool:
    return any(listeners.listening(key) for key, _ in listeners.of(slot) if slot_of(key) == slot)


class Lending:
    """Gives and takes listeners.

    Args:
        serves: Whether a worker can take connections now.
        tell: Takes (handle, event kind, text).
    """

    def __init__(
        self, serves: Callable[[Host, InstanceHandle], bool], tell: Callable[[InstanceHandle, str, str], None]
    ) -> None:
        """Nothing is lent."""
        self._serves = serves
        self._tell = tell

    def settle(self, host: Host) -> None:
        """Make the listeners be where they belong now; called after everything that may have changed that."""
        listeners = host.listeners
        if listeners is None:
            return
        current = {slot: handle for slot, handle in host.process.instances.items() if handle.worker is not None}
        serving = {slot: self._serves(host, handle) for slot, handle in current.items()}
        held = {
            slot: frozenset(number for key in handle.worker.asked if (number := slot_of(key)) is not None)
            for slot, handle in current.items()
            if handle.worker is not None
        }
        # What nobody has listened on yet waits for its own worker: connections go to the others until then.
        queues = [number for number in range(listeners.slots) if serving.get(number) or _queues(listeners, number)]
        wanted = assign(queues, serving, held=held)
        for slot, handle in current.items():
            if serving[slot]:
                # Its own number is always among them, for the listeners that all share.
                mine = {slot} | {number for number, owner in wanted.items() if owner == slot}
                self._give(host, handle, mine)
        for handle in tuple(host.workers()):
            self._take(host, handle, wanted, current)

    def _give(self, host: Host, handle: InstanceHandle, mine: set[int]) -> None:
        listeners, worker = host.listeners, handle.worker
        assert listeners is not None
        assert worker is not None
        spec = handle.spec.host
        assert spec is not None
        # A generation accepts on the addresses of its own oxfile.
        addresses = [parse_bind(text) for text in spec.bind]
        for number in sorted(mine):
            for key, sock in listeners.of(number, addresses):
                if key in worker.asked:
                    continue
                listeners.listen(number)
                if worker.say("accept", (sock.fileno(),), key=key):
                    worker.asked.add(key)
                    if slot_of(key) not in {None, handle.slot}:
                        self._tell(handle, "lent", f"takes the connections of slot {number} as well")

    def _take(
        self, host: Host, handle: InstanceHandle, wanted: dict[int, int], current: dict[int, InstanceHandle]
    ) -> None:
        worker = handle.worker
        if worker is None or worker.draining:
            return  # a lame duck has let go of everything by itself
        serves = self._serves(host, handle)
        for key in sorted(worker.asked):
            number = slot_of(key)
            if number is None:
                if not serves and self._accepted_elsewhere(host, worker, key):
                    self._release(worker, key)
                continue
            owner = current.get(wanted[number]) if number in wanted else None
            if owner is handle or owner is None or owner.worker is None:
                continue
            if key in owner.worker.accepting:
                self._release(worker, key)

    def _accepted_elsewhere(self, host: Host, worker: WorkerHandle, key: str) -> bool:
        return any(
            other.worker is not None and other.worker is not worker and key in other.worker.accepting
            for other in host.workers()
        )

    @staticmethod
    def _release(worker: WorkerHandle, key: str) -> None:
        worker.say("release", key=key)
        worker.asked.discard(key)
        worker.accepting.discard(key)
