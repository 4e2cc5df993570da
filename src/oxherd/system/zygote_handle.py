"""The supervisor's view of one zygote: a process that has imported an app once and forks workers of it.

It speaks the wire and remembers what was said; when a zygote is wanted and what its death means is decided elsewhere.
"""

from __future__ import annotations

from enum import Enum

from oxherd.system.channel import Channel, channel_pair

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Mapping

    from oxherd.host.wire import Message
    from oxherd.system.loop import Loop

__all__ = ["ZygoteHandle", "ZygoteState"]


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
        try:
            self.channel = Channel(loop, ours, self._hear, on_close)
        except OSError:
            ours.close()
            theirs.close()
            raise
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
