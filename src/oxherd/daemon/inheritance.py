"""What a supervisor keeps through an upgrade of itself: descriptors, handed over in a nameless file.

An upgrade is an exec: the process stays, with its pid and its children, and the descriptors that are inheritable. Everything
else is found again as after a crash (`oxherd.daemon.adopting`), so that both ways are one.
"""

from __future__ import annotations

import contextlib
import os

from oxherd import jsons as json
from oxherd.errors import OxherdError
from oxherd.records import dataclass, field
from oxherd.system.nameless import nameless

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Inheritance", "hand_over", "take_back", "take_over"]

INHERITANCE_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Inheritance:
    """What is kept.

    Attributes:
        version: The version that hands over.
        lock: The locked file that makes this the only supervisor of its home.
        control: The control socket, which queues whoever connects meanwhile.
        listeners: Those of hosted processes, by process (``STACK MARK/NAME``) and key.
        previous: Interpreter of the version that hands over, which goes on if the new one cannot.
    """

    version: str = ""
    lock: int
    control: int
    listeners: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    previous: str = ""

    def descriptors(self) -> Iterator[int]:
        """Every descriptor."""
        yield self.lock
        yield self.control
        for keys in self.listeners.values():
            yield from keys.values()


def hand_over(inheritance: Inheritance) -> int:
    """Make everything inheritable, and return the descriptor to find it by, which is inheritable too.

    Raises:
        OSError: There are no descriptors or no memory.
    """
    record = {
        "inheritance": INHERITANCE_VERSION,
        "version": inheritance.version,
        "lock": inheritance.lock,
        "control": inheritance.control,
        "listeners": inheritance.listeners,
        "previous": inheritance.previous,
    }
    fd = nameless(json.dumps(record).encode(), inheritable=True)
    try:
        for one in inheritance.descriptors():
            os.set_inheritable(one, True)
    except OSError:
        take_back(inheritance, fd)
        raise
    return fd


def take_back(inheritance: Inheritance, fd: int) -> None:
    """The exec did not come about: nothing is inheritable any more."""
    os.close(fd)
    for one in inheritance.descriptors():
        with contextlib.suppress(OSError):  # it is not open: then nobody inherits it
            os.set_inheritable(one, False)


def take_over(fd: int) -> Inheritance:
    """Return what was handed over; its descriptors are not inheritable any more. The descriptor is closed.

    Raises:
        OxherdError: It cannot be read.
    """
    try:
        with os.fdopen(fd, "rb") as file:
            record = json.loads(file.read())
        listeners = {
            str(process): {str(key): int(number) for key, number in keys.items()}
            for process, keys in record.get("listeners", {}).items()
        }
        found = Inheritance(
            version=str(record.get("version", "")),
            lock=int(record["lock"]),
            control=int(record["control"]),
            listeners=listeners,
            previous=str(record.get("previous", "")),
        )
        for one in found.descriptors():
            os.set_inheritable(one, False)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise OxherdError(f"what the supervisor before has handed over cannot be read: {error!r:.200}") from error
    return found
