"""Every direct child of the supervisor, and who wants to hear of its end.

Exits arrive by pidfd, each on its own descriptor, so that the end of one process costs nothing for the others. Where
there is no pidfd (no descriptors left, no support) SIGCHLD finds the child. Children nobody registered are orphans that
a supervised program left behind: the supervisor is their subreaper, or PID 1, and reaps them.
"""

from __future__ import annotations

import os
import signal

from oxherd.core.exits import ExitStatus
from oxherd.daemon.remains import LOOK_AGAIN
from oxherd.system.reaper import decoded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, KeysView

    from oxherd.system.loop import Loop, Timer
    from oxherd.system.ports import System
    from oxherd.system.spawn import Launch

__all__ = ["Child", "Children"]

# Seconds the parent of somebody else's child gets to tell how it ended, before that counts as unknown.
_PATIENCE = 2.0

# Of one whose parent says nothing the kernel tells as soon as it is reaped (`oxherd.system.reaper`), where it tells at all.
_STRANGER_PATIENCE = 0.25
_ASK_AGAIN = 0.025


class Child:
    """A running child: its pid, its pidfd (or -1) and who is told of its end.

    ``foreign`` is the pid of the zygote whose child it is, until that dies: it reaps it and tells how it ended. 0: nobody
    tells. The parent of a ``stranger``, which an earlier supervisor had started, reaps it and tells nobody.
    """

    __slots__ = ("asked_until", "foreign", "on_exit", "pid", "pidfd", "stranger")

    def __init__(
        self,
        pid: int,
        pidfd: int,
        on_exit: Callable[[ExitStatus], None],
        *,
        foreign: int = 0,
        stranger: bool = False,
    ) -> None:
        """Made by `Children.adopt`."""
        self.pid = pid
        self.pidfd = pidfd
        self.on_exit = on_exit
        self.foreign = foreign
        self.stranger = stranger
        self.asked_until: float | None = None


class Children:
    """The registry of direct children.

    Args:
        loop: The loop that watches.
        system: The port.
        on_reaped: Called after orphans were reaped, so that sweeps look again.
        on_trouble: Takes texts for the event log: what could not be done about a child, and why.
    """

    def __init__(
        self,
        loop: Loop,
        system: System,
        on_reaped: Callable[[], None],
        on_trouble: Callable[[str], None] = lambda _text: None,
    ) -> None:
        """Watch SIGCHLD."""
        self._loop = loop
        self._system = system
        self._on_reaped = on_reaped
        self._on_trouble = on_trouble
        self._by_pid: dict[int, Child] = {}
        self._again: Timer | None = None
        self._told = ""
        loop.on_signal(signal.SIGCHLD, lambda _signum: self.look())

    @property
    def pids(self) -> KeysView[int]:
        """The pids of all registered children, whoever they are when it is read: of a thousand no copy is made."""
        return self._by_pid.keys()

    def adopt(
        self,
        launch: Launch,
        on_exit: Callable[[ExitStatus], None],
        *,
        foreign: int = 0,
        stranger: bool = False,
    ) -> Child:
        """Register a launched child; ``on_exit`` is called once, from the loop.

        Args:
            launch: The process.
            on_exit: Takes how it ended.
            foreign: The pid of its parent, where that is another process and will tell of its end, else 0; see `told`.
            stranger: Whether another process may be its parent that says nothing.
        """
        child = Child(launch.pid, launch.pidfd, on_exit, foreign=foreign, stranger=stranger)
        self._by_pid[child.pid] = child
        if child.pidfd >= 0:
            self._watch(child)
        return child

    def _watch(self, child: Child) -> None:
        try:
            self._loop.watch_read(child.pidfd, lambda: self._heard(child))
        except OSError:
            # No room in the epoll; epoll_ctl(2). SIGCHLD tells of those that are ours, until there is.
            self._loop.call_later(LOOK_AGAIN, lambda: self._rewatch(child))

    def trouble(self, text: str) -> None:
        """Tell what could not be done; the same a hundred times over is told once."""
        if text != self._told:
            self._told = text
            self._on_trouble(text)

    def look(self) -> None:
        """Take every end there is: of children whose pidfd has not been heard yet, and of orphans."""
        try:
            self._take_all()
            self._told = ""
        except OSError as error:
            self._look_later(error)
        # Also without a dead child of ours: a sweep may wait for a process whose own parent has just reaped it.
        self._on_reaped()

    def _look_later(self, error: OSError) -> None:
        """The kernel will not say who has ended; nobody signals that it would now."""
        self.trouble(f"cannot ask who has ended: {error.strerror}; asking again")
        if self._again is None:
            self._again = self._loop.call_later(LOOK_AGAIN, self._look_again)

    def _look_again(self) -> None:
        self._again = None
        self.look()

    def _take_all(self) -> None:
        for silent in [child for child in self._by_pid.values() if child.pidfd < 0]:
            self._check(silent)
        while (pid := self._system.next_dead()) is not None:
            child = self._by_pid.get(pid)
            if child is not None:
                self._check(child)
            else:
                self._system.exit_of(pid, -1)

    def _heard(self, child: Child) -> None:
        """Its pidfd can be read: it has ended."""
        try:
            self._check(child)
        except OSError as error:
            # It stays readable, and would wake the loop at once and for ever: asked for like one without a pidfd.
            self._loop.unwatch(child.pidfd)
            self._look_later(error)
            self._loop.call_later(LOOK_AGAIN, lambda: self._rewatch(child))

    def _rewatch(self, child: Child) -> None:
        if self._by_pid.get(child.pid) is child and child.pidfd >= 0:
            self._watch(child)

    def _check(self, child: Child) -> None:
        if self._by_pid.get(child.pid) is not child:
            return  # SIGCHLD and the pidfd tell of the same end; whoever comes second finds it taken
        status = self._system.exit_of(child.pid, child.pidfd)
        if status is None:
            return
        if child.foreign and status == ExitStatus():
            # Its parent knows, and is about to tell. The pidfd would wake the loop until then.
            self._loop.unwatch(child.pidfd)
            self._loop.call_later(_PATIENCE, lambda: self._give_up(child))
            return
        if child.stranger and status == ExitStatus() and self._ask_later(child):
            return
        self._over(child, status)

    def _ask_later(self, child: Child) -> bool:
        """Give the kernel time to tell how a stranger ended; False when it has had enough."""
        now = self._loop.now()
        if child.asked_until is None:
            child.asked_until = now + _STRANGER_PATIENCE
            self._loop.unwatch(child.pidfd)
        if now >= child.asked_until:
            return False
        self._loop.call_later(_ASK_AGAIN, lambda: self._check(child))
        return True

    def told(self, pid: int, wait_status: int, parent: int) -> None:
        """A foreign ``parent`` has reaped its child; ``wait_status`` is that of wait(2). Of others' it tells nothing."""
        child = self._by_pid.get(pid)
        if child is not None and child.foreign == parent != 0:
            self._over(child, decoded(wait_status))

    def _give_up(self, child: Child) -> None:
        """Nobody has told: perhaps its parent is dead and it is ours by now, or it is known to nobody any more."""
        if self._by_pid.get(child.pid) is child:
            try:
                status = self._system.exit_of(child.pid, child.pidfd)
            except OSError:
                status = None
            self._over(child, status or ExitStatus())

    def _over(self, child: Child, status: ExitStatus) -> None:
        del self._by_pid[child.pid]
        if child.pidfd >= 0:
            self._loop.unwatch(child.pidfd)
            os.close(child.pidfd)
            child.pidfd = -1
        child.on_exit(status)
