"""The supervisor's view of one worker: its channel, its meters, its private listener and what it has said so far.

A worker is an incarnation like any other; the pid, its pipes and its end belong to the instance. This is what only a
hosted one has. It decides nothing: what a message means is up to whoever made the handle.

There are two ways to one: `WorkerHandle` makes what a new worker is given, and `WorkerHandle.rejoin` goes through the
door of a worker that another supervisor has started, which says what it is and hands back what that supervisor had.
"""

from __future__ import annotations

import fcntl
import os
import stat

from oxherd.host.meters import SIZE, Meters
from oxherd.system.channel import Channel, channel_pair
from oxherd.system.door import Door, forget, knock
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
        door: Path of the door it waits at when this supervisor is gone.
        here: Whether what it knows is known here: at once for a new one; for one that was rejoined when all that it says
            of itself has come. Until then everything below is what a worker is that has said nothing yet.
        pid, incarnation: As it says them when it is rejoined, 0 before; incarnation is the number of the message that
            made it. It is the app's process: compare them with what is known of it.
        meters: What it measures of itself; can be read when it is dead, until `close`. None while it has not come.
        listeners: Descriptors of the listeners that came back with it, by their keys; see `take_listeners`.
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
        "_door",
        "_loop",
        "_on_message",
        "_private_socket",
        "accepting",
        "asked",
        "channel",
        "door",
        "draining",
        "due",
        "dump_fd",
        "facts",
        "failure",
        "here",
        "incarnation",
        "listeners",
        "meters",
        "meters_fd",
        "pid",
        "private",
        "ready_at",
        "started",
        "theirs",
    )

    def _blank(self, loop: Loop) -> None:
        self._loop = loop
        self.here = self.started = self.draining = self.due = False
        self.pid = self.incarnation = 0
        self.asked: set[str] = set()
        self.accepting: set[str] = set()
        self.listeners: dict[str, int] = {}
        self.failure: Message | None = None
        self.facts: Message = {}
        self.ready_at = 0.0
        self.meters_fd = self.dump_fd = -1
        self.private = self.door = ""
        self._private_socket: socket.socket | None = None
        self._door: Door | None = None
        self._on_message: Callable[[Message, list[int]], None] | None = None
        self.theirs: socket.socket | None = None
        self.channel: Channel | socket.socket | None = None
        self.meters: Meters | None = None

    def __init__(self, loop: Loop, directory: str, name: str) -> None:
        """Make everything the worker is given; `connect` begins to listen to it."""
        self._blank(loop)
        self.here = True
        try:
            self.meters_fd = os.memfd_create("oxherd-meters", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.ftruncate(self.meters_fd, SIZE)
            # A worker that cut it short would end the supervisor: reading a mapping beyond its file is SIGBUS, mmap(2).
            fcntl.fcntl(self.meters_fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            self.meters = Meters(self.meters_fd)
            self.dump_fd = os.memfd_create("oxherd-dump", os.MFD_CLOEXEC)
            self._private_socket, self.private = open_private(directory, name)
            self._door = Door(directory, f"{name}.door")
            self.door = self._door.path
            self.channel, self.theirs = channel_pair()
        except BaseException:
            self.close()
            raise

    @classmethod
    def rejoin(
        cls,
        loop: Loop,
        private: str,
        door: str,
        on_message: Callable[[Message, list[int]], None],
        on_close: Callable[[], None],
    ) -> WorkerHandle:
        """Return the handle of a worker that another supervisor has started.

        The handle can be used at once: what is said to the worker waits until it comes to the door. Do not ask it to
        release anything before it is `here`, because what it says then is from before it was asked.

        Args:
            loop: Watches the channel.
            private: Path of its private listener.
            door: Path of its door.
            on_message: Takes every message, after the handle has taken note of what concerns it; ``here-end`` is the
                last of those in which the worker says what it is, however late it does. Of these (``here``,
                ``listener``) the handle keeps the descriptors.
            on_close: Called once when the worker's end of the channel is closed, or when it dies without a word.

        Raises:
            OSError: Nobody is behind the door.
        """
        connection = knock(door)
        self = cls.__new__(cls)
        self._blank(loop)
        self.private, self.door = private, door
        self._on_message = on_message
        self.channel = Channel(loop, connection, self._hear, on_close)
        return self

    def connect(self, on_message: Callable[[Message, list[int]], None], on_close: Callable[[], None]) -> None:
        """Begin to listen to the worker."""
        assert self.channel is not None
        assert not isinstance(self.channel, Channel)
        self.channel = Channel(self._loop, self.channel, on_message, on_close)

    @property
    def gifts(self) -> tuple[int, int, int, int]:
        """The descriptors of the private listener, the meters, the dump and the door, in the order of the wire."""
        assert self._private_socket is not None
        assert self._door is not None
        return (self._private_socket.fileno(), self.meters_fd, self.dump_fd, self._door.fileno())

    def handed_over(self) -> None:
        """The worker has its own copies: close those that only it needs."""
        if self.theirs is not None:
            self.theirs.close()
            self.theirs = None
        if self._door is not None:
            self._door.handed_over()

    def take_listeners(self) -> dict[str, int]:
        """Return the listeners that came back, by their keys; the descriptors are the caller's from now on."""
        taken, self.listeners = self.listeners, {}
        return taken

    def say(self, kind: str, fds: Iterable[int] = (), **fields: object) -> bool:
        """Send the worker a message; False when it cannot hear any more, or there are no descriptors to keep for it."""
        try:
            return isinstance(self.channel, Channel) and self.channel.send(kind, fds, **fields)
        except OSError:
            return False

    @property
    def hears(self) -> bool:
        """Whether its end of the channel is open."""
        return isinstance(self.channel, Channel) and self.channel.open

    def dump(self) -> str:
        """Return the stacks that were written since the last call."""
        if self.dump_fd < 0:
            return ""
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
        if self._door is not None:
            self._door.close()
            self._door = None
        if self._on_message is not None:
            # The files of another supervisor's making are this one's since it has the worker.
            self._on_message = None
            forget(self.private)
            forget(self.door)
        for fd in self.take_listeners().values():
            os.close(fd)
        if self.meters is not None:
            self.meters.close()
            self.meters = None
        for fd in (self.meters_fd, self.dump_fd):
            if fd >= 0:
                os.close(fd)
        self.meters_fd = self.dump_fd = -1

    # -- at the door --------------------------------------------------------------------------------------------

    def _hear(self, message: Message, fds: list[int]) -> None:
        match message["kind"]:
            case "here":
                self._take_note(message)
                fds = self._take_gauges(fds)
            case "listener" if fds:
                key = str(message.get("key"))
                if key in self.listeners:
                    os.close(self.listeners[key])
                self.listeners[key] = fds.pop(0)
            case "failed":
                self.failure = message
            case "here-end":
                self.here = True
            case _:
                pass
        assert self._on_message is not None
        self._on_message(message, fds)

    def _take_note(self, message: Message) -> None:
        self.pid, self.incarnation = _number(message.get("pid")), _number(message.get("incarnation"))
        # What has happened while this was being said may have come before it, and is not undone by it.
        self.started = self.started or message.get("started") is True
        self.draining = self.draining or message.get("draining") is True
        self.due = self.due or message.get("due") is True
        facts, keys = message.get("facts"), message.get("keys")
        if isinstance(facts, dict) and facts:
            self.facts = {"kind": "started", **facts}
        if isinstance(keys, list) and not self.draining:
            self.asked.update(map(str, keys))
            self.accepting.update(map(str, keys))

    def _take_gauges(self, fds: list[int]) -> list[int]:
        """Take over the meters and the dump; return the descriptors that are left over."""
        if len(fds) < 2 or self.meters is not None:  # lost on the way: there was no room for them here
            return fds
        meters_fd, dump_fd, *rest = fds
        if not all(stat.S_ISREG(os.fstat(fd).st_mode) for fd in (meters_fd, dump_fd)):
            return fds
        try:
            self.meters = Meters(meters_fd)
        except (OSError, ValueError):  # too short to be what it should be
            return fds
        self.meters_fd, self.dump_fd = meters_fd, dump_fd
        return rest


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
