"""Every direct child of the supervisor, and who wants to hear of its end.

Exits arrive by pidfd, each on its own descriptor, so that the end of one process costs nothing for the others. Where
there is no pidfd (no descriptors left, no support) SIGCHLD finds the child. Children nobody registered are orphans that
a supervised program left behind: the supervisor is their subreaper, or PID 1, and reaps them.
"""

from __future__ import annotations

import os
import signal

from oxherd.core.exits import ExitStatus
from oxherd.system.reaper import decoded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oxherd.system.loop import Loop
    from oxherd.system.ports import System
    from oxherd.system.spawn import Launch

__all__ = ["Child", "Children"]

# Seconds the parent of somebody else's child gets to tell how it ended, before that counts as unknown.
_PATIENCE = 2.0


class Child:
    """A running child: its pid, its pidfd (or -1) and who is told of its end.

    ``foreign`` is the pid of the zygote whose child it is, until that dies: it reaps it and tells how it ended. 0: ours.
    """

    __slots__ = ("foreign", "on_exit", "pid", "pidfd")

    def __init__(self, pid: int, pidfd: int, on_exit: Callable[[ExitStatus], None], *, foreign: int = 0) -> None:
        """Made by `Children.adopt`."""
        self.pid = pid
        self.pidfd = pidfd
        self.on_exit = on_exit
        self.foreign = foreign


class Children:
    """The registry of direct children.

    Args:
        loop: The loop that watches.
        system: The port.
        on_reaped: Called after orphans were reaped, so that sweeps look again.
    """

    def __init__(self, loop: Loop, system: System, on_reaped: Callable[[], None]) -> None:
        """Watch SIGCHLD."""
        self._loop = loop
        self._system = system
        self._on_reaped = on_reaped
        self._by_pid: dict[int, Child] = {}
        loop.on_signal(signal.SIGCHLD, lambda _signum: self.look())

    @property
    def pids(self) -> frozenset[int]:
        """The pids of all registered children."""
        return frozenset(self._by_pid)

    def adopt(self, launch: Launch, on_exit: Callable[[ExitStatus], None], *, foreign: int = 0) -> Child:
        """Register a launched child; ``on_exit`` is called once, from the loop.

        Args:
            launch: The process.
            on_exit: Takes how it ended.
            foreign: The pid of its parent, where that is another process and will tell of its end, else 0; see `told`.
        """
        child = Child(launch.pid, launch.pidfd, on_exit, foreign=foreign)
        self._by_pid[child.pid] = child
        if child.pidfd >= 0:
            self._loop.watch_read(child.pidfd, lambda: self._check(child))
        return child

    def look(self) -> None:
        """Take every end there is: of children whose pidfd has not been heard yet, and of orphans."""
        for silent in [child for child in self._by_pid.values() if child.pidfd < 0]:
            self._check(silent)
        while (pid := self._system.next_dead()) is not None:
            child = self._by_pid.get(pid)
            if child is not None:
                self._check(child)
            else:
                self._system.exit_of(pid, -1)
        # Also without a dead child of ours: a sweep may wait for a process whose own parent has just reaped it.
        self._on_reaped()

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
        self._over(child, status)

    def told(self, pid: int, wait_status: int, parent: int) -> None:
        """A foreign ``parent`` has reaped its child; ``wait_status`` is that of wait(2). Of others' it tells nothing."""
        child = self._by_pid.get(pid)
        if child is not None and child.foreign == parent != 0:
            self._over(child, decoded(wait_status))

    def _give_up(self, child: Child) -> None:
        """Nobody has told: perhaps its parent is dead and it is ours by now, or it is known to nobody any more."""
        if self._by_pid.get(child.pid) is child:
            self._over(child, self._system.exit_of(child.pid, child.pidfd) or ExitStatus())

    def _over(self, child: Child, status: ExitStatus) -> None:
        del self._by_pid[child.pid]
        if child.pidfd >= 0:
            self._loop.unwatch(child.pidfd)
            os.close(child.pidfd)
            child.pidfd = -1
        child.on_exit(status)
