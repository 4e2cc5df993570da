"""How a program with passed listeners leaves while others of its process stay: a lame duck, made one from outside.

It shares its listeners with those that stay, and at its stop signal it closes what is idle and what has not spoken yet. So
it is first kept from accepting (`oxherd.system.outside`), and goes on with the connections it has. Its stop signal comes
when it has none any more, or when it has had its time (`HostSpec.linger`). What is still open then, it closes at a moment
of its own choosing, without a word before: the price of a server that knows no lame duck.

A program that cannot be kept from accepting gets its stop signal at once: every connection it takes meanwhile would be one
more to lose.
"""

from __future__ import annotations

import os

from oxherd.core.events import Restart, Stop
from oxherd.core.instance import Desired, State
from oxherd.daemon.hosting.passing import family
from oxherd.system.listeners import parse_bind
from oxherd.units import format_seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oxherd.daemon.handles import InstanceHandle, ProcessHandle
    from oxherd.daemon.supervisor import Supervisor
    from oxherd.system.passed_handle import PassedHandle

__all__ = ["Leaving"]

# Seconds between two looks at a program that leaves.
_PACE = 0.1
# Looks in a row that have to find no connection: a wake-up that was under way may accept one more.
_QUIET = 2


class _Leave:
    """One program on its way out."""

    __slots__ = ("began", "passed", "quiet")

    def __init__(self, passed: PassedHandle, began: float) -> None:
        self.passed = passed
        self.began = began
        self.quiet = 0


class Leaving:
    """Defers stop signals.

    Args:
        supervisor: Gets the events.

    Attributes:
        notes: Of processes whose instances could not be kept from accepting: why.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        """Nobody leaves."""
        self._supervisor = supervisor
        self._leaves: dict[InstanceHandle, _Leave] = {}
        self.notes: dict[ProcessHandle, str] = {}

    def begin(self, handle: InstanceHandle) -> None:
        """Let an instance go: its stop signal comes now or later. It can be told to stop at once at any time."""
        supervisor, passed = self._supervisor, handle.passed
        if handle in self._leaves:
            return
        ready = passed is not None and handle.machine.state is State.RUNNING
        if not ready or passed is None or supervisor.ending or not handle.process.wanted:
            supervisor.feed(handle, Stop())
            return
        why_not = self._quieten(handle, passed, everything=True)
        if why_not:
            self.notes[handle.process] = why_not
            supervisor.announce(
                handle, "draining", f"it cannot be kept from accepting, so it is told to stop at once: {why_not}"
            )
            supervisor.feed(handle, Stop())
            return
        handle.leaving = True
        leave = self._leaves[handle] = _Leave(passed, supervisor.loop.now())
        open_now = self._open(handle)
        supervisor.announce(
            handle,
            "draining",
            f"it takes no new connections and serves the {_connections(open_now)} it has, "
            f"for {format_seconds(self._linger(handle))} at the longest",
        )
        self._look(handle, leave)

    def changed(self, handle: InstanceHandle) -> None:
        """An instance has changed: one that leaves may have been told to stop, or have ended by itself."""
        if handle.machine.state is State.RUNNING:
            return
        handle.leaving = False
        leave = self._leaves.pop(handle, None)
        if leave is not None and handle.retired and handle.machine.desired is Desired.UP:
            # It crashed, or was found unhealthy: it does not come back.
            self._supervisor.feed(handle, Stop())

    def _look(self, handle: InstanceHandle, leave: _Leave) -> None:
        if self._leaves.get(handle) is not leave:
            return
        waited = self._supervisor.loop.now() - leave.began
        # A worker that was forked meanwhile accepts again.
        why_not = self._quieten(handle, leave.passed, everything=False)
        count = self._open(handle)
        leave.quiet = 0 if count else leave.quiet + 1
        if leave.quiet >= _QUIET:
            self._end(handle, f"it has no connection any more, after {waited:.1f} s")
        elif why_not:
            self._end(handle, f"it accepts again, with {_connections(count)}: {why_not}")
        elif waited >= self._linger(handle):
            self._end(
                handle,
                f"it still has {_connections(count)} after {format_seconds(self._linger(handle))}; it finishes what is "
                "in flight and closes the others",
            )
        else:
            self._supervisor.loop.call_later(_PACE, lambda: self._look(handle, leave))

    def _end(self, handle: InstanceHandle, text: str) -> None:
        del self._leaves[handle]
        self._supervisor.announce(handle, "drained", text)
        # Wanted again meanwhile: what was taken from its epoll is not put back, but its successor accepts.
        self._supervisor.feed(handle, Stop() if handle.retired else Restart())

    # -- looking from outside -----------------------------------------------------------------------------------

    def _quieten(self, handle: InstanceHandle, passed: PassedHandle, *, everything: bool) -> str:
        """Keep it from accepting; return why that cannot be done, or ""."""
        system, pids = self._supervisor.system, family(self._supervisor, handle)
        for sock in passed.sockets:
            inode = os.fstat(sock.fileno()).st_ino
            if everything or system.accepting(pids, inode):
                stopped = system.stop_accepting(pids, inode)
                if stopped.reason:
                    return stopped.reason
        return ""

    def _open(self, handle: InstanceHandle) -> int:
        assert handle.spec.host is not None
        addresses = [parse_bind(text) for text in handle.spec.host.bind]
        return self._supervisor.system.established(family(self._supervisor, handle), addresses)

    @staticmethod
    def _linger(handle: InstanceHandle) -> float:
        assert handle.spec.host is not None
        return handle.spec.host.linger


def _connections(count: int) -> str:
    return f"{count} connection{'' if count == 1 else 's'}"
