"""How a program with passed listeners leaves while others of its process stay: a lame duck, made one from outside.

It shares its listeners with those that stay, and at its stop signal it closes what is idle and what has not spoken yet. So
it is first kept from accepting (`oxherd.system.outside`), and goes on with the connections it has. Its stop signal comes
when it has none any more, or when it has had its time (`HostSpec.linger`). What is still open then, it closes at a moment
of its own choosing, without a word before: the price of a server that knows no lame duck.

To its lifecycle it is stopping all the while; only the signal comes later, and with it the stop timeout begins anew. Where
nobody else takes connections there is nothing to gain: then it comes at once, and so it does as soon as the whole process is
to be stopped. Nor is it kept back for a program that cannot be kept from accepting: every connection it takes meanwhile
would be one more to lose.
"""

from __future__ import annotations

import os

from oxherd.core.instance import State, Timer
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

    __slots__ = ("began", "linger", "passed", "quiet", "signum")

    def __init__(self, passed: PassedHandle, signum: int, began: float, linger: float) -> None:
        self.passed = passed
        self.signum = signum
        self.began = began
        self.linger = linger
        self.quiet = 0


class Leaving:
    """Keeps stop signals back.

    Args:
        supervisor: Sends them.

    Attributes:
        notes: Of processes whose instances could not be kept from accepting: why.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        """Nobody leaves."""
        self._supervisor = supervisor
        self._leaves: dict[InstanceHandle, _Leave] = {}
        self.notes: dict[ProcessHandle, str] = {}

    def defer(self, handle: InstanceHandle, signum: int) -> bool:
        """Keep the stop signal of an instance back, if that spares its connections.

        Returns:
            False where it is to be sent at once.
        """
        passed, supervisor = handle.passed, self._supervisor
        if passed is None or self._hurried(handle) or not _has_sibling(handle):
            return False
        why_not = self._quieten(handle, passed, everything=True)
        if why_not:
            if passed.sized:  # it did accept, or so it was believed
                self.notes[handle.process] = why_not
                supervisor.announce(handle, "draining", f"it is told to stop at once: {why_not}")
            return False
        assert handle.spec.host is not None
        linger = min(handle.spec.host.linger, handle.machine.policy.stop_timeout)
        leave = self._leaves[handle] = _Leave(passed, signum, supervisor.loop.now(), linger)
        supervisor.announce(
            handle,
            "draining",
            f"it takes no new connections and serves {_those(self._open(handle))} it has, "
            f"for {format_seconds(linger)} at the longest",
        )
        supervisor.loop.call_soon(lambda: self._begin(handle, leave))
        return True

    def changed(self, handle: InstanceHandle) -> None:
        """An instance has changed: one that leaves may have ended by itself, or there is no time any more."""
        leave = self._leaves.get(handle)
        if leave is None:
            return
        if handle.machine.state is not State.STOPPING or handle.machine.killed:
            del self._leaves[handle]
        elif self._hurried(handle):
            self._send(handle, leave)

    def _hurried(self, handle: InstanceHandle) -> bool:
        """Whether all of its process is to stop, so that its connections have nobody to go to."""
        return self._supervisor.ending or not handle.process.wanted

    def _begin(self, handle: InstanceHandle, leave: _Leave) -> None:
        if self._leaves.get(handle) is leave:
            self._allow(handle, leave.linger + handle.machine.policy.stop_timeout)
            self._look(handle, leave)

    def _look(self, handle: InstanceHandle, leave: _Leave) -> None:
        if self._leaves.get(handle) is not leave:
            return
        waited = self._supervisor.loop.now() - leave.began
        # A worker that was forked meanwhile accepts again.
        why_not = self._quieten(handle, leave.passed, everything=False)
        count = self._open(handle)
        leave.quiet = leave.quiet + 1 if count == 0 else 0
        if leave.quiet >= _QUIET:
            text = f"it has no connection any more, after {waited:.1f} s"
        elif why_not:
            text = f"it accepts again, with {_connections(count)}: {why_not}"
        elif waited >= leave.linger:
            over = format_seconds(leave.linger)
            text = f"it still has {_connections(count)} after {over}, and closes them when it has answered"
        else:
            self._supervisor.loop.call_later(_PACE, lambda: self._look(handle, leave))
            return
        self._supervisor.announce(handle, "drained", text)
        self._send(handle, leave)

    def _send(self, handle: InstanceHandle, leave: _Leave) -> None:
        del self._leaves[handle]
        self._allow(handle, handle.machine.policy.stop_timeout)
        self._supervisor.executor.signal(handle, leave.signum)

    def _allow(self, handle: InstanceHandle, seconds: float) -> None:
        """Let the stop timeout run out so many seconds from now."""
        if Timer.STOP in handle.machine.timers:
            self._supervisor.executor.arm(handle, Timer.STOP, seconds)

    # -- looking from outside -----------------------------------------------------------------------------------

    def _quieten(self, handle: InstanceHandle, passed: PassedHandle, *, everything: bool) -> str:
        """Keep it from accepting; return why that cannot be done, or ""."""
        system = self._supervisor.system
        try:
            pids = family(self._supervisor, handle)
            for sock in passed.sockets:
                inode = os.fstat(sock.fileno()).st_ino
                if everything or system.accepting(pids, inode):
                    stopped = system.stop_accepting(pids, inode)
                    if stopped.reason:
                        return stopped.reason
        except OSError as error:
            return f"it cannot be looked into: {error.strerror}"
        return ""

    def _open(self, handle: InstanceHandle) -> int | None:
        """Return how many connections it has, or None while the machine does not let us look."""
        assert handle.spec.host is not None
        addresses = [parse_bind(text) for text in handle.spec.host.bind]
        try:
            return self._supervisor.system.established(family(self._supervisor, handle), addresses)
        except OSError:
            return None


def _has_sibling(handle: InstanceHandle) -> bool:
    """Whether another instance of its process takes the connections that it does not."""
    others = (other for other in handle.process.everyone() if other is not handle and other.passed is not None)
    return any(other.machine.state is State.RUNNING for other in others)


def _those(count: int | None) -> str:
    return "what" if count is None else f"the {_connections(count)}"


def _connections(count: int | None) -> str:
    if count is None:
        return "connections nobody could count"
    return f"{count} connection{'' if count == 1 else 's'}"
