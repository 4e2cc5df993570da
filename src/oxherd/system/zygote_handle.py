"""The supervisor's view of one zygote: a process that has imported an app once and forks workers of it.

It speaks the wire and remembers what was said; when a zygote is wanted and what its death means is decided elsewhere.
"""

from __future__ import annotations

import os
from enum import Enum

from oxherd.system.channel import Channel, channel_pair
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
        on_message: Takes every message with its descriptors, after the handle has taken note of it.
        on_close: Called once when its end of the channel is closed.

    Attributes:
        state: What it is doing.
        pid, pidfd: Its process, 0 and -1 before `launched`.
        facts: Its ``ready`` message: hazards, seconds, interface, engine and version.
        failure: Its ``failed`` message, or None.
        told_to_end: Whether its end was asked for.

    Raises:
        OSError: There are no descriptors.
    """

    __slots__ = ("_on_message", "channel", "facts", "failure", "pid", "pidfd", "state", "theirs", "told_to_end")

    def __init__(
        self, loop: Loop, on_message: Callable[[Message, list[int]], None], on_close: Callable[[], None]
    ) -> None:
        """Make the channel."""
        ours, theirs = channel_pair()
        self.theirs: socket.socket | None = theirs
        self._on_message = on_message
        self.channel = Channel(loop, ours, self._hear, on_close)
        self.state = ZygoteState.BOOTING
        self.pid, self.pidfd = 0, -1
        self.facts: Message = {}
        self.failure: Message | None = None
        self.told_to_end = False

    def launched(self, pid: int, pidfd: int, job: Mapping[str, object], title: str) -> None:
        """The process exists: give it its job and the title ``ps`` shows. The pidfd stays the launcher's."""
        self.pid, self.pidfd = pid, pidfd
        if self.theirs is not None:
            self.theirs.close()
            self.theirs = None
        self.channel.send("boot", job=dict(job), title=title)

    def fork(self, fds: Iterable[int], *, slot: int, incarnation: int, env: Mapping[str, str], title: str) -> bool:
        """Ask for a worker; ``forked`` or ``fork-failed`` will answer. False when it cannot hear any more."""
        return self.channel.send("fork", fds, slot=slot, incarnation=incarnation, env=dict(env), title=title)

    def end(self) -> None:
        """Ask it to go; its workers stay."""
        self.told_to_end = True
        if self.state is not ZygoteState.GONE:
            self.channel.send("end")

    def close(self) -> None:
        """Give the channel back; idempotent."""
        self.state = ZygoteState.GONE
        self.channel.close()
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
            case _:
                pass
        self._on_message(message, fds)


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
