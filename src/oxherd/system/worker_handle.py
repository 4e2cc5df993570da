"""The supervisor's view of one worker: its channel, its meters, its private listener and what it has said so far.

A worker is an incarnation like any other; the pid, its pipes and its end belong to the instance. This is what only a
hosted one has. It decides nothing: what a message means is up to whoever made the handle.
"""

from __future__ import annotations

import fcntl
import os

from oxherd.host.meters import SIZE, Meters
from oxherd.system.channel import Channel, channel_pair
from oxherd.system.listeners import close_private, open_private

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable

    from oxherd.host.wire import Message
    from oxherd.system.loop import Loop

__all__ = ["WorkerHandle"]

# What is read of a dump; the stacks of a hundred threads are about as long.
_DUMP_MOST = 256 * 1024


class WorkerHandle:
    """What belongs to one worker beside its process.

    Args:
        loop: Watches the channel.
        directory: Where the private listener's file is; only its owner can enter it.
        name: The file's name, unique in the directory.

    Attributes:
        private: Path of the listener its own health checks go to.
        meters: What it measures of itself; can be read when it is dead, until `close`.
        started: Whether its app has started.
        draining: Whether it has become a lame duck.
        due: Whether it has asked to be replaced.
        asked: Listeners it was asked to accept on and not asked to release since.
        accepting: Those it has said that it accepts on.
        failure: Its last words: the ``failed`` message, or None.
        facts: What it said of itself when it started.
        ready_at: Monotonic time at which it began to serve; 0 before.

    Raises:
        OSError: There are no descriptors or no memory.
        OxherdError: The private listener cannot be made.
    """

    __slots__ = (
        "_loop",
        "_private_socket",
        "accepting",
        "asked",
        "channel",
        "draining",
        "due",
        "dump_fd",
        "facts",
        "failure",
        "meters",
        "meters_fd",
        "private",
        "ready_at",
        "started",
        "theirs",
    )

    def __init__(self, loop: Loop, directory: str, name: str) -> None:
        """Make everything the worker is given; `connect` begins to listen to it."""
        self._loop = loop
        self.started = self.draining = self.due = False
        self.asked: set[str] = set()
        self.accepting: set[str] = set()
        self.failure: Message | None = None
        self.facts: Message = {}
        self.ready_at = 0.0
        self.meters_fd = self.dump_fd = -1
        self.private = ""
        self._private_socket: socket.socket | None = None
        self.theirs: socket.socket | None = None
        self.channel: Channel | socket.socket | None = None
        self.meters: Meters | None = None
        try:
            self.meters_fd = os.memfd_create("oxherd-meters", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.ftruncate(self.meters_fd, SIZE)
            # A worker that cut it short would end the supervisor: reading a mapping beyond its file is SIGBUS, mmap(2).
            fcntl.fcntl(self.meters_fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            self.meters = Meters(self.meters_fd)
            self.dump_fd = os.memfd_create("oxherd-dump", os.MFD_CLOEXEC)
            self._private_socket, self.private = open_private(directory, name)
            self.channel, self.theirs = channel_pair()
        except BaseException:
            self.close()
            raise

    def connect(self, on_message: Callable[[Message, list[int]], None], on_close: Callable[[], None]) -> None:
        """Begin to listen to the worker."""
        assert self.channel is not None
        assert not isinstance(self.channel, Channel)
        self.channel = Channel(self._loop, self.channel, on_message, on_close)

    @property
    def gifts(self) -> tuple[int, int, int]:
        """The descriptors of the private listener, the meters and the dump, in the order of the wire."""
        assert self._private_socket is not None
        return (self._private_socket.fileno(), self.meters_fd, self.dump_fd)

    def handed_over(self) -> None:
        """The worker has its own copies: close those that only it needs."""
        if self.theirs is not None:
            self.theirs.close()
            self.theirs = None

    def say(self, kind: str, fds: Iterable[int] = (), **fields: object) -> bool:
        """Send the worker a message; False when it cannot hear any more."""
        return isinstance(self.channel, Channel) and self.channel.send(kind, fds, **fields)

    @property
    def hears(self) -> bool:
        """Whether its end of the channel is open."""
        return isinstance(self.channel, Channel) and self.channel.open

    def dump(self) -> str:
        """Return the stacks that were written since the last call."""
        size = min(os.fstat(self.dump_fd).st_size, _DUMP_MOST)
        text = os.pread(self.dump_fd, size, 0).decode("utf-8", "replace")
        os.ftruncate(self.dump_fd, 0)
        return text

    def close(self) -> None:
        """Give everything back; idempotent."""
        for end in (self.channel, self.theirs):
            if end is not None:
                end.close()
        self.channel = self.theirs = None
        if self._private_socket is not None:
            close_private(self._private_socket, self.private)
            self._private_socket = None
        if self.meters is not None:
            self.meters.close()
            self.meters = None
        for fd in (self.meters_fd, self.dump_fd):
            if fd >= 0:
                os.close(fd)
        self.meters_fd = self.dump_fd = -1
