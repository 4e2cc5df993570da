"""The supervisor's view of one zygote: a process that has imported an app once and forks workers of it.

It speaks the wire and remembers what was said; when a zygote is wanted and what its death means is decided elsewhere.
`ZygoteHandle` is for a new one, `ZygoteHandle.rejoin` for one that another supervisor has started and that waits at its door.
"""

from __future__ import annotations

import os
from enum import Enum

from oxherd.system.channel import Channel, channel_pair
from oxherd.system.door import Door, forget, knock
from oxherd.system.identity import read_file, read_stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Mapping

    from oxherd.host.wire import Message
    from oxherd.system.loop import Loop

__all__ = ["ZygoteHandle", "ZygoteState", "forked_by"]

# What fdinfo says of a process that has been reaped; pidfd_open(2).
_ENDED = -1


class ZygoteState(Enum):
    """What a zygote is doing."""

    BOOTING = "booting"  # imports the app
    READY = "ready"  # forks on demand
    UNSAFE = "unsafe"  # the audit found what a fork would break
    FAILED = "failed"  # the app cannot be imported
    GONE = "gone"  # dead, or told to end


class ZygoteHandle:
    """One zygote.

    Args:
        loop: Watches the channel.
        directory: Where its door's file is; only its owner can enter it.
        name: The file's name, unique in the directory.
        on_message: Takes every message with its descriptors, after the handle has taken note of it.
        on_close: Called once when its end of the channel is closed.

    Attributes:
        state: What it is doing.
        pid, pidfd: Its process, 0 and -1 before `launched`. Rejoined: the pid as it says it, and no pidfd.
        door: Path of the door it waits at when this supervisor is gone.
        here: Whether what it knows is known here: at once for a new one, and for one that was rejoined when all that it
            says of itself has come.
        children: What it said when it was rejoined: its children that live, as pid: (incarnation, pidfd), where
            incarnation is the number of the fork message; see `take_children`.
        exits: What it said then: the wait statuses of children that have ended without a supervisor, as pid: status.
        facts: Its ``ready`` message: hazards, seconds, interface, engine and version.
        failure: Its ``failed`` message, or None.
        told_to_end: Whether its end was asked for.

    Raises:
        OSError: There are no descriptors.
        OxherdError: Its door cannot be made.
    """

    __slots__ = (
        "_door",
        "_on_message",
        "channel",
        "children",
        "door",
        "exits",
        "facts",
        "failure",
        "here",
        "pid",
        "pidfd",
        "state",
        "theirs",
        "told_to_end",
    )

    def _blank(self, on_message: Callable[[Message, list[int]], None]) -> None:
        self._on_message = on_message
        self.theirs: socket.socket | None = None
        self._door: Door | None = None
        self.door = ""
        self.state = ZygoteState.BOOTING
        self.pid, self.pidfd = 0, -1
        self.facts: Message = {}
        self.failure: Message | None = None
        self.told_to_end = self.here = False
        self.children: dict[int, tuple[int, int]] = {}
        self.exits: dict[int, int] = {}

    def __init__(
        self,
        loop: Loop,
        directory: str,
        name: str,
        on_message: Callable[[Message, list[int]], None],
        on_close: Callable[[], None],
    ) -> None:
        """Make the door and the channel."""
        self._blank(on_message)
        self._door = Door(directory, f"{name}.door")
        self.door = self._door.path
        self.here = True
        try:
            ours, self.theirs = channel_pair()
        except OSError:
            self._door.close()
            raise
        try:
            self.channel = Channel(loop, ours, self._hear, on_close)
        except OSError:
            for end in (ours, self.theirs, self._door):
                end.close()
            raise

    @classmethod
    def rejoin(
        cls,
        loop: Loop,
        door: str,
        on_message: Callable[[Message, list[int]], None],
        on_close: Callable[[], None],
    ) -> ZygoteHandle:
        """Return the handle of a zygote that another supervisor has started.

        It is `ZygoteState.BOOTING` until it says what it is, which a zygote that still imports does when it has done so.

        Args:
            loop: Watches the channel.
            door: Path of its door.
            on_message: Takes every message, after the handle has taken note of what concerns it; ``here-end`` is the
                last of those in which the zygote says what it is. The pidfds of its children are the handle's.
            on_close: Called once when the zygote's end of the channel is closed.

        Raises:
            OSError: Nobody is behind the door.
        """
        connection = knock(door)
        self = cls.__new__(cls)
        self._blank(on_message)
        self.door = door
        self.channel = Channel(loop, connection, self._hear, on_close)
        return self

    def launched(self, pid: int, pidfd: int, job: Mapping[str, object], title: str) -> None:
        """The process exists: give it its job and the title ``ps`` shows. The pidfd stays the launcher's."""
        self.pid, self.pidfd = pid, pidfd
        if self.theirs is not None:
            self.theirs.close()
            self.theirs = None
        assert self._door is not None
        self.channel.send("boot", (self._door.fileno(),), job=dict(job), title=title)
        self._door.handed_over()

    def fork(self, fds: Iterable[int], *, slot: int, incarnation: int, env: Mapping[str, str], title: str) -> bool:
        """Ask for a worker; ``forked`` or ``fork-failed`` will answer. False when it cannot hear any more."""
        return self.channel.send("fork", fds, slot=slot, incarnation=incarnation, env=dict(env), title=title)

    def end(self) -> bool:
        """Ask it to go; its workers stay. False when it cannot hear any more: it would wait at its door for ever."""
        self.told_to_end = True
        return self.state is not ZygoteState.GONE and self.channel.send("end")

    def take_children(self) -> dict[int, tuple[int, int]]:
        """Return `children`; the pidfds are the caller's from now on."""
        taken, self.children = self.children, {}
        return taken

    def close(self) -> None:
        """Give the channel and the door's file back; idempotent."""
        self.state = ZygoteState.GONE
        self.channel.close()
        if self._door is not None:
            self._door.close()
            self._door = None
        elif self.door:
            forget(self.door)
        self.door = ""
        for _, pidfd in self.take_children().values():
            os.close(pidfd)
        if self.theirs is not None:
            self.theirs.close()
            self.theirs = None

    def _hear(self, message: Message, fds: list[int]) -> None:
        match message["kind"]:
            case "ready":
                self.facts = message
                self.state = ZygoteState.READY if message.get("forkable") is True else ZygoteState.UNSAFE
            case "failed":
                self.failure = message
                self.state = ZygoteState.FAILED
            case "here":
                self.pid = _number(message, "pid")
            case "facts":
                self.facts = {**message, "kind": "ready"}
                self.state = ZygoteState.READY if message.get("forkable") is True else ZygoteState.UNSAFE
            case "child" if fds:
                self.children[_number(message, "pid")] = (_number(message, "incarnation"), fds.pop(0))
            case "ended":
                self.exits[_number(message, "pid")] = _number(message, "status")
            case "here-end":
                self.here = True
                # It may forget the exits now.
                self.channel.send("heard")
            case _:
                pass
        self._on_message(message, fds)


def _number(message: Message, name: str) -> int:
    value = message.get(name)
    return value if isinstance(value, int) else 0


def forked_by(pid: int, pidfd: int, zygote: int) -> bool:
    """Return whether a process that a zygote tells of is its child, as the kernel has it.

    A zygote runs an app's code, perhaps as a user who may signal nobody else. Were it believed, it could name any process
    of the machine, and a supervisor that is root would kill that one in the end.

    Args:
        pid: What it says the child's pid is.
        pidfd: The descriptor it sent with it, -1 for none.
        zygote: Its own pid.
    """
    if pidfd >= 0 and _process_of(pidfd) not in {pid, _ENDED}:
        return False
    stat = read_stat(pid)
    if stat is None:
        # It has ended and its parent has reaped it: there is nobody to be taken for it.
        return pidfd >= 0 and _process_of(pidfd) == _ENDED
    if stat.ppid == zygote:
        return True
    # A zygote that has died since left its children to the supervisor.
    left = read_stat(zygote)
    return stat.ppid == os.getpid() and (left is None or not left.living)


def _process_of(pidfd: int) -> int | None:
    """Return the pid behind a pidfd, `_ENDED`, or None where the descriptor is something else."""
    for line in (read_file(f"/proc/self/fdinfo/{pidfd}") or b"").splitlines():
        name, _, number = line.partition(b":")
        if name == b"Pid":
            return int(number)
    return None
