"""Every direct child of the supervisor, and who wants to hear of its end.

Exits arrive by pidfd, each on its own descriptor, so that the end of one process costs nothing for the others. Where
there is no pidfd (no descriptors left, no support) SIGCHLD finds the child. Children nobody registered are orphans that
a supervised program left behind: the supervisor is their subreaper, or PID 1, and reaps them.
"""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oxherd.core.exits import ExitStatus
    from oxherd.system.loop import Loop
    from oxherd.system.ports import System
    from oxherd.system.spawn import Launch

__all__ = ["Child", "Children"]


class Child:
    """A running child: its pid, its pidfd (or -1) and who is told of its end."""

    __slots__ = ("on_exit", "pid", "pidfd")

    def __init__(self, pid: int, pidfd: int, on_exit: Callable[[ExitStatus], None]) -> None:
        """Made by `Children.adopt`."""
        self.pid = pid
        self.pidfd = pidfd
        self.on_exit = on_exit


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

    def adopt(self, launch: Launch, on_exit: Callable[[ExitStatus], None]) -> Child:
        """Register a launched child; ``on_exit`` is called once, from the loop."""
        child = Child(launch.pid, launch.pidfd, on_exit)
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
        del self._by_pid[child.pid]
        if child.pidfd >= 0:
            self._loop.unwatch(child.pidfd)
            os.close(child.pidfd)
            child.pidfd = -1
        child.on_exit(status)
