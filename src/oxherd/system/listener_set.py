"""The listeners of one process: one a slot and address, or one an address for all slots.

A listener is never closed while its process is wanted: closing one of several that share an address resets the
connections in its queue. A slot that is scaled away keeps its listeners here, and the daemon lends them to a sibling.
"""

from __future__ import annotations

import os
import socket

from oxherd.core.endpoint import Address
from oxherd.records import dataclass
from oxherd.system.listener_errors import listen_error
from oxherd.system.listeners import BACKLOG, claim, open_listener, queue_length, same_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["SHARED", "ListenerSet", "Rebinding", "plan"]

# What stands for the slot in the key of a listener that all slots share.
SHARED = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebinding:
    """What a changed ``bind`` asks for.

    Attributes:
        kept: Addresses in both, in the new order.
        opened: Addresses that are new.
        closed: Addresses that are not wanted any more.
    """

    kept: tuple[Address, ...]
    opened: tuple[Address, ...]
    closed: tuple[Address, ...]


def plan(old: Iterable[Address], new: Iterable[Address]) -> Rebinding:
    """Compare two lists of addresses."""
    before, after = tuple(dict.fromkeys(old)), tuple(dict.fromkeys(new))
    return Rebinding(
        kept=tuple(address for address in after if address in before),
        opened=tuple(address for address in after if address not in before),
        closed=tuple(address for address in before if address not in after),
    )


class _Listener:
    """One socket, and of a unix socket which file it made."""

    __slots__ = ("address", "file", "sock")

    def __init__(self, address: Address, sock: socket.socket) -> None:
        self.address = address
        self.sock = sock
        self.file = _file(address.path) if address.path else None

    @property
    def listening(self) -> bool:
        return bool(self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))

    def listen(self, backlog: int) -> None:
        try:
            self.sock.listen(backlog)
        except OSError as error:
            raise listen_error(self.address, error) from None

    def close(self) -> None:
        self.sock.close()
        # Somebody may have put a socket of his own in its place.
        if self.file is not None and _file(self.address.path) == self.file:
            os.unlink(self.address.path)


class ListenerSet:
    """Every listener of one process, by key: ``SLOT/ADDRESS``, or ``-/ADDRESS`` for one that all slots share.

    Unix sockets are always shared: they know no SO_REUSEPORT.

    Args:
        addresses: Where the process is reached; of `oxherd.system.listeners.parse_bind`.
        balance: "slots" or "shared".
        backlog: Queue of each listener.
    """

    def __init__(self, addresses: Iterable[Address], *, balance: str = "slots", backlog: int = BACKLOG) -> None:
        """Open nothing yet."""
        self._addresses = list(dict.fromkeys(addresses))
        self._shared = balance == "shared"
        self._backlog = backlog
        self._slots = 0
        self._listeners: dict[str, _Listener] = {}

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where the process is reached."""
        return tuple(self._addresses)

    @property
    def slots(self) -> int:
        """How many slots have listeners; scaling down does not lower it."""
        return self._slots

    @property
    def shared(self) -> bool:
        """Whether there is one listener an address for all slots."""
        return self._shared

    # -- opening and closing ------------------------------------------------------------------------------------

    def ensure(self, slots: int) -> tuple[str, ...]:
        """Open what slots 0 to ``slots - 1`` need and do not have; nothing is ever closed by it.

        Returns:
            The keys of the listeners that are new, bound and not listening.

        Raises:
            ListenError: One cannot be made; then none was.
        """
        opened = self._open(self._addresses, max(slots, self._slots))
        self._slots = max(slots, self._slots)
        return opened

    def add(self, addresses: Iterable[Address]) -> tuple[str, ...]:
        """Take on more addresses, for every slot there is; as `ensure`."""
        new = [address for address in dict.fromkeys(addresses) if address not in self._addresses]
        opened = self._open(new, self._slots)
        self._addresses += new
        return opened

    def drop(self, addresses: Iterable[Address]) -> tuple[str, ...]:
        """Give addresses up. Connections in their queues that nobody accepted are reset.

        Returns:
            The keys of the listeners that were closed.
        """
        gone = set(addresses)
        self._addresses = [address for address in self._addresses if address not in gone]
        closed = tuple(key for key, listener in self._listeners.items() if listener.address in gone)
        self._close(closed)
        return closed

    def trim(self, slots: int) -> tuple[str, ...]:
        """Give up the listeners of slots from ``slots`` on, which nobody can be asked to accept from any more.

        Connections in their queues are reset. For programs that were passed a listener each; workers lend theirs.

        Returns:
            The keys of the listeners that were closed.
        """
        numbers = {key: key.partition("/")[0] for key in self._listeners}
        closed = tuple(key for key, slot in numbers.items() if slot != SHARED and int(slot) >= slots)
        self._close(closed)
        self._slots = min(self._slots, slots)
        return closed

    def close(self) -> None:
        """Close everything; the process is over."""
        self._close(tuple(self._listeners))
        self._slots = 0

    def adopt(self, descriptors: Mapping[str, int]) -> tuple[str, ...]:
        """Take listeners over from an earlier supervisor, before `ensure` opens what is missing.

        Args:
            descriptors: By key. What is taken belongs to this set from then on.

        Returns:
            The keys that were not taken: of an address or a balance that is not wanted, or no listener of it. Their
            descriptors are still the caller's.
        """
        refused = []
        for key, fd in descriptors.items():
            slot, _, text = key.partition("/")
            address = next((one for one in self._addresses if one.text == text), None)
            if address is None or key in self._listeners or not self._has_slot(address, slot) or not _is(fd, address):
                refused.append(key)
                continue
            sock = socket.socket(fileno=fd)
            sock.setblocking(False)
            os.set_inheritable(fd, False)
            self._listeners[key] = _Listener(address, sock)
            self._slots = max(self._slots, 1 if slot == SHARED else int(slot) + 1)
        return tuple(refused)

    def key_of(self, fd: int, slot: int) -> str | None:
        """Return the key that a listener of a slot has, by its address; None where it is none of this set's.

        Args:
            fd: The listener; it stays the caller's.
            slot: Whose it is, unless all slots share it.
        """
        address = next((one for one in self._addresses if _is(fd, one)), None)
        return None if address is None else self._key(address, slot)

    # -- using --------------------------------------------------------------------------------------------------

    def of(self, slot: int, addresses: Iterable[Address] | None = None) -> list[tuple[str, socket.socket]]:
        """Return the listeners of a slot, the shared ones included, in the order of the addresses.

        Args:
            slot: The slot.
            addresses: Only these; all by default. A generation gets the addresses of its own oxfile.
        """
        wanted = self._addresses if addresses is None else list(dict.fromkeys(addresses))
        keys = [self._key(address, slot) for address in wanted]
        return [(key, self._listeners[key].sock) for key in keys if key in self._listeners]

    def listen(self, slot: int) -> None:
        """Begin to queue connections on the listeners of a slot, the shared ones included.

        For a worker that is ready to accept, or before a program that takes only sockets that listen already. It stays
        so for good: a slot whose worker is gone keeps its queue.

        Raises:
            ListenError: Somebody else listens there since `ensure`.
        """
        for key, _ in self.of(slot):
            listener = self._listeners[key]
            if not listener.listening:
                listener.listen(self._backlog)

    def resize(self, backlog: int) -> None:
        """Change the length of every queue; whatever an engine set is set back. listen(2) may be called again."""
        self._backlog = backlog
        for listener in self._listeners.values():
            if listener.listening:
                listener.listen(backlog)

    def socket(self, key: str) -> socket.socket | None:
        """Return the listener of a key, or None."""
        listener = self._listeners.get(key)
        return None if listener is None else listener.sock

    def descriptors(self) -> dict[str, int]:
        """Return the descriptor of each listener, by key; they stay this set's."""
        return {key: listener.sock.fileno() for key, listener in self._listeners.items()}

    def keys(self) -> tuple[str, ...]:
        """Return every key there is."""
        return tuple(self._listeners)

    def listening(self, key: str) -> bool:
        """Whether the listener of a key queues connections."""
        listener = self._listeners.get(key)
        return listener is not None and listener.listening

    def queued(self) -> dict[str, int]:
        """Return how many connections wait in each queue, by key; without those the kernel does not tell of."""
        lengths = {key: queue_length(listener.sock) for key, listener in self._listeners.items()}
        return {key: length for key, length in lengths.items() if length is not None}

    # -- inside -------------------------------------------------------------------------------------------------

    def _shares(self, address: Address) -> bool:
        return self._shared or bool(address.path)

    def _key(self, address: Address, slot: int) -> str:
        return f"{SHARED if self._shares(address) else slot}/{address.text}"

    def _has_slot(self, address: Address, slot: str) -> bool:
        return slot == SHARED if self._shares(address) else slot.isascii() and slot.isdigit()

    def _open(self, addresses: Iterable[Address], slots: int) -> tuple[str, ...]:
        opened: list[str] = []
        try:
            for address in addresses:
                # Where one of ours is bound, nobody else can be unless he shares the port with us on purpose.
                if slots and not any(listener.address == address for listener in self._listeners.values()):
                    claim(address)
                for slot in range(slots):
                    key = self._key(address, slot)
                    if key not in self._listeners:
                        sock = open_listener(address, reuse_port=not self._shares(address))
                        self._listeners[key] = _Listener(address, sock)
                        opened.append(key)
        except Exception:
            self._close(opened)
            raise
        return tuple(opened)

    def _close(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._listeners.pop(key).close()


def _file(path: str) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is(fd: int, address: Address) -> bool:
    """Whether a descriptor is a stream socket bound to an address; the descriptor stays as it is."""
    try:
        sock = socket.socket(fileno=fd)
    except OSError:
        return False
    try:
        return sock.type == socket.SOCK_STREAM and same_address(sock, address)
    finally:
        sock.detach()
