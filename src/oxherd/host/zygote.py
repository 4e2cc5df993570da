"""The zygote: the app imported once, ready to fork.

No thread and no event loop: whatever is there at a fork is in the child too, and of threads only their locks.
"""

from __future__ import annotations

import errno
import os
import platform
import random
import selectors
import signal
import sys
import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .audit import Hazard, audit, open_fds
from .channel import Channel
from .door import VERSION, Door
from .garbage import settle
from .leaving import flush_output
from .loading import BootFailure, Loaded, load, tell
from .title import set_title

if TYPE_CHECKING:
    from types import FrameType

    from .wire import Message

__all__ = ["Birth", "Zygote"]

BOOT_FAILED = 3
# The descriptors of a fork message: stdout, stderr, channel, private, meters, dump, door.
_FORK_FDS = 7

# Seconds a zygote without a supervisor waits for one after its last child has ended. While it has children it stays: it is
# their parent, and only it learns how they end.
_ALONE = 60.0


@dataclass(frozen=True)
class _Child:
    pid: int
    names: dict[str, Any]  # slot and incarnation


@dataclass(frozen=True)
class Birth:
    """What a child of the zygote is born to.

    Attributes:
        channel: The worker's own channel.
        message: The ``fork`` message.
        fds: private, meters, dump, door.
        loaded: The app.
    """

    channel: Channel
    message: Message
    fds: list[int]
    loaded: Loaded


class Zygote:
    """Imports, then forks what it is asked for.

    Args:
        channel: To the supervisor.
        boot: The ``boot`` message.
        fds: Its descriptors: the door. Without (they were lost: there was no room for them) it ends with its supervisor.
    """

    def __init__(self, channel: Channel, boot: Message, fds: list[int]) -> None:
        """Nothing happens yet."""
        self._channel = channel
        self._boot = boot
        self._door = Door(fds[0], channel) if fds else None
        self._facts: dict[str, Any] = {}
        self._failure: BootFailure | None = None
        self._children: dict[int, _Child] = {}  # by pidfd
        # Exits that no supervisor has confirmed to have heard of: (pid, status).
        self._exits: list[tuple[int, int]] = []
        self._is_heard = True
        self._alone_until = 0.0
        self._selector: selectors.BaseSelector | None = None
        self._handlers: dict[int, Any] = {}

    def serve(self) -> int | Birth:
        """Serve the supervisor.

        Returns:
            The exit code when it is over; in a forked child, at once, what it is born to.
        """
        set_title(str(self._boot.get("title") or ""))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _end)
        before = open_fds()
        try:
            loaded = load(self._boot.get("job") or {})
        except BootFailure as failure:
            self._failure = failure
            if not tell(failure, self._channel) and self._door is not None and self._door.is_knocked_at():
                # The next supervisor is there already.
                self._channel.replace(self._door.wait())
                self._introduce()
            return BOOT_FAILED
        hazards = audit(before)
        if reason := getattr(loaded.job, "unforkable", ""):
            hazards.append(Hazard(what=reason, where=loaded.job.engine, advice="each worker imports the app itself"))
        # What the import left as garbage would be freed, page by page, in every worker; what is frozen no worker's
        # collector touches, so its pages stay shared.
        settle()
        for number in (signal.SIGTERM, signal.SIGINT):
            # The app may have set its own while it was imported; a worker gets that back.
            self._handlers[number] = signal.signal(number, _end)
        self._facts = {
            "hazards": [hazard.fields() for hazard in hazards],
            "forkable": not any(hazard.fatal for hazard in hazards),
            "seconds": round(loaded.seconds, 3),
            "interface": loaded.app.interface,
            "engine": loaded.job.engine,
            "engine_version": _version(loaded.job.engine),
            "python": platform.python_version(),
        }
        self._channel.send("ready", wait=True, **self._facts)
        return self._loop(loaded)

    def _loop(self, loaded: Loaded) -> int | Birth:
        self._selector = selector = selectors.DefaultSelector()
        selector.register(self._channel, selectors.EVENT_READ)
        while not self._is_forgotten():
            for key, _ in selector.select(self._patience()):
                if key.fd in self._children:
                    self._reap(key.fd)
                elif key.fileobj is self._door:
                    self._answer()
                elif (received := self._channel.receive()) is not None:
                    over = self._obey(*received, loaded)
                    if over is not None:
                        return over
                elif not self._wait_for_the_next():
                    return 0
        return 0

    def _obey(self, message: Message, fds: list[int], loaded: Loaded) -> int | Birth | None:
        """Do what the supervisor says; anything but None ends the loop."""
        match message["kind"]:
            case "fork" if len(fds) != _FORK_FDS:
                self._refuse(message, OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
            case "fork":
                birth = self._fork(message, fds, loaded)
                if birth is not None:
                    return birth
            case "heard":
                self._exits.clear()
            case "end":
                return 0
        for fd in fds:
            os.close(fd)
        return None

    # -- between two supervisors --------------------------------------------------------------------------------

    def _wait_for_the_next(self) -> bool:
        """The supervisor is gone; the workers live on, and so does this process, their parent. False without a door."""
        assert self._selector is not None
        if self._door is None:
            return False
        self._is_heard = False
        self._alone_until = time.monotonic() + _ALONE
        self._selector.unregister(self._channel)
        self._selector.register(self._door, selectors.EVENT_READ)
        return True

    def _answer(self) -> None:
        """Somebody is at the door: if it is a supervisor, it has this process from now on."""
        assert self._door is not None
        assert self._selector is not None
        fd = self._door.answer()
        if fd is None:
            return
        self._selector.unregister(self._door)
        self._channel.replace(fd)
        self._selector.register(self._channel, selectors.EVENT_READ)
        self._is_heard = True
        self._introduce()

    def _introduce(self) -> None:
        """Tell a new supervisor what the one before it knew, and what has happened since.

        The exits are kept until it has confirmed them, with ``heard``: it may die before it has read them.
        """
        self._channel.send(
            "here",
            wait=True,
            role="zygote",
            version=VERSION,
            pid=os.getpid(),
            children=len(self._children),
            exits=len(self._exits),
        )
        if self._facts:
            self._channel.send("facts", wait=True, **self._facts)
        for pidfd, child in self._children.items():
            self._channel.send("child", fds=[pidfd], wait=True, pid=child.pid, **child.names)
        for pid, status in self._exits:
            self._channel.send("ended", wait=True, pid=pid, status=status)
        if self._failure is not None:
            self._channel.send("failed", wait=True, **self._failure.fields())
        self._channel.send("here-end", wait=True)

    def _is_forgotten(self) -> bool:
        return not self._is_heard and not self._children and time.monotonic() >= self._alone_until

    def _patience(self) -> float | None:
        if self._is_heard or self._children:
            return None
        return max(0.0, self._alone_until - time.monotonic())

    # -- children -----------------------------------------------------------------------------------------------

    def _fork(self, message: Message, fds: list[int], loaded: Loaded) -> Birth | None:
        # What lies in a buffer now would be written once by each child.
        flush_output()
        try:
            with warnings.catch_warnings():
                # Python 3.12 warns of any second thread; what threads there are the audit has judged.
                warnings.simplefilter("ignore")
                pid = os.fork()
        except OSError as error:
            self._refuse(message, error)
            return None
        if pid == 0:
            return self._born(message, fds, loaded)
        try:
            # The child is not reaped before, so the number is its own.
            pidfd = os.pidfd_open(pid)
        except OSError as error:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self._refuse(message, error)
            return None
        assert self._selector is not None
        self._children[pidfd] = _Child(pid, _names(message))
        self._selector.register(pidfd, selectors.EVENT_READ)
        self._channel.send("forked", wait=True, fds=[pidfd], pid=pid, **_names(message))
        return None

    def _refuse(self, message: Message, error: OSError) -> None:
        self._channel.send("fork-failed", wait=True, errno=error.errno, text=error.strerror, **_names(message))

    def _reap(self, pidfd: int) -> None:
        assert self._selector is not None
        child = self._children.pop(pidfd)
        self._selector.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(child.pid, 0)
        if not self._channel.send("exited", wait=True, pid=child.pid, status=status):
            self._exits.append((child.pid, status))
            self._alone_until = time.monotonic() + _ALONE

    def _born(self, message: Message, fds: list[int], loaded: Loaded) -> Birth:
        """Become a worker: nothing of the zygote may be seen in it."""
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number, handler in self._handlers.items():
            signal.signal(number, signal.SIG_DFL if handler in {None, _end} else handler)
        if self._selector is not None:
            self._selector.close()
        self._channel.close()
        if self._door is not None:
            self._door.close()
        for pidfd in self._children:
            os.close(pidfd)
        out, err, channel, *rest = fds
        null = os.open(os.devnull, os.O_RDONLY)
        for fd, number in ((null, 0), (out, 1), (err, 2)):
            os.dup2(fd, number, inheritable=True)
        for fd in {null, out, err} - {0, 1, 2}:
            os.close(fd)
        for name, value in (message.get("env") or {}).items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = str(value)
        _reseed()
        return Birth(channel=Channel(channel), message=message, fds=rest, loaded=loaded)


def _names(message: Message) -> dict[str, Any]:
    return {"slot": message.get("slot"), "incarnation": message.get("incarnation")}


def _reseed() -> None:
    """Give this process random numbers of its own: two workers must not draw the same."""
    random.seed()
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def _end(_signal: int, _frame: FrameType | None) -> None:
    # At once, without what the app registered for its exit: that is the workers', who live on.
    os._exit(0)


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - once

    try:
        return version(package)
    except PackageNotFoundError:
        return ""
