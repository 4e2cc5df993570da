"""Who is left of what a dead supervisor had started: read from its journal, and looked for on the machine."""

from __future__ import annotations

from oxherd.core.adoption import LIVE
from oxherd.core.instance import State
from oxherd.daemon.remembering import read_record
from oxherd.records import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from oxherd.core.exits import ExitStatus
    from oxherd.daemon.handles import InstanceHandle, ProcessHandle, StackHandle
    from oxherd.daemon.remembering import InstanceRecord
    from oxherd.system.ports import System

__all__ = ["Place", "Survivor", "ZygoteRecord", "place_of", "survivors_of", "zygotes_of"]

_ZYGOTE = "zygote"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a key of the journal belongs.

    Attributes:
        process: Name of the process.
        slot: The slot, or the generation of a zygote.
        serial: Which instance of the slot.
        zygote: Whether it is a zygote.
    """

    process: str
    slot: int
    serial: int = 0
    zygote: bool = False


def place_of(stack_mark: str, key: str) -> Place | None:
    """Return where a key belongs in a stack, None where it is none of it.

    Args:
        stack_mark: `StackHandle.mark`.
        key: `InstanceHandle.key`, or the mark of a zygote.
    """
    head, _, rest = key.partition("/")
    name, _, tail = rest.partition("/")
    if head != stack_mark or not name:
        return None
    word, _, number = tail.partition("/")
    if word == _ZYGOTE and number.isdigit():
        return Place(name, int(number), zygote=True)
    slot, _, serial = tail.partition("~")
    if not slot.isdigit() or (serial and not serial.isdigit()):
        return None
    return Place(name, int(slot), int(serial or 0))


@dataclass(slots=True, kw_only=True)
class Survivor:
    """One instance of before.

    Attributes:
        key: What it is called in the journal.
        place: Where it belongs.
        record: What was written down of it.
        pidfd: Holds its main process; -1 where that is gone.
        handle: The instance it has become.
        status: How its process ended, where its zygote has kept that.
        chosen: Whether it has the place of its slot; the others are on their way out.
        notes: What could not be saved.
    """

    key: str
    place: Place
    record: InstanceRecord
    pidfd: int = -1
    handle: InstanceHandle | None = None
    status: ExitStatus | None = None
    chosen: bool = True
    notes: list[str] = field(default_factory=list)

    @property
    def alive(self) -> bool:
        """Whether its main process runs."""
        return self.pidfd >= 0

    @property
    def pid(self) -> int:
        """Its main pid, 0 where it had none."""
        return self.record.remembered.pid or 0

    @property
    def lost(self) -> bool:
        """Whether it ran when its supervisor died, and does not any more."""
        return not self.alive and self.record.remembered.state in LIVE and self.record.remembered.pid is not None

    @property
    def sweeping(self) -> bool:
        """Whether its main process was gone before, and what that left behind was being ended."""
        return self.record.remembered.state is State.SWEEPING


def survivors_of(
    process: ProcessHandle, entries: Mapping[str, Mapping[str, object]], system: System, *, own: bool
) -> Iterator[Survivor]:
    """Return every instance of a process that was written down, and hold those that live.

    Args:
        process: The process.
        entries: The journal.
        system: Holds them.
        own: Whether they are this process's own children, which it has kept through an upgrade.

    Raises:
        OSError: There are no descriptors.
    """
    for key, entry in entries.items():
        place = place_of(process.stack.mark, key)
        if place is None or place.process != process.name or place.zygote:
            continue
        try:
            record = read_record(entry)
        except ValueError:
            continue  # what runs of it is a stray
        found = Survivor(key=key, place=place, record=record)
        if record.remembered.pid is not None:
            pidfd = system.hold(record.remembered.pid, record.start_ticks)
            found.pidfd = -1 if pidfd is None else pidfd
            if pidfd is None and own:
                found.status = system.exit_of(record.remembered.pid, -1)
        yield found


@dataclass(frozen=True, slots=True, kw_only=True)
class ZygoteRecord:
    """A zygote of before: its mark, its generation, its process, its door, the pipes of its output."""

    mark: str
    generation: int
    pid: int
    ticks: int
    door: str
    pipes: tuple[int, ...]


def zygotes_of(stack: StackHandle, name: str, entries: Mapping[str, Mapping[str, object]]) -> Iterator[ZygoteRecord]:
    """Return the zygotes of a process that were written down."""
    for key, entry in entries.items():
        place = place_of(stack.mark, key)
        if place is None or place.process != name or not place.zygote:
            continue
        pid, ticks, pipes = entry.get("pid"), entry.get("ticks"), entry.get("pipes")
        if isinstance(pid, int) and isinstance(ticks, int) and isinstance(pipes, list):
            inodes = tuple(inode for inode in pipes if isinstance(inode, int))
            door = str(entry.get("door", ""))
            yield ZygoteRecord(mark=key, generation=place.slot, pid=pid, ticks=ticks, door=door, pipes=inodes)
