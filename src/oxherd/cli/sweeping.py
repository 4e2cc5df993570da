"""Ending what a supervisor left running when it died, where no other one is to adopt it.

Survivors are found by the mark in their environment. The lock of the home is held meanwhile: no supervisor can begin in
the middle of it and take for its own what is about to be killed.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import time

from oxherd.control.paths import stack_id
from oxherd.errors import OperationError
from oxherd.system import identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from oxherd.control.paths import Home

__all__ = ["PATIENCE", "end_survivors", "hold_home", "should_sweep"]

# Seconds a survivor gets after SIGTERM where a person sweeps, and after SIGKILL before it is called unkillable.
PATIENCE = 10.0
_KILLED = 5.0
# A survivor may start another one just before it dies; so it is looked for again, and not only when one has ended.
_LOOK_AGAIN = 0.2


def should_sweep(environ: Mapping[str, str], *, ending: bool) -> bool:
    """Return whether the supervisor whose end systemd has just seen was meant to end, with everything it ran.

    Args:
        environ: What systemd gives ExecStopPost=: ``SERVICE_RESULT``, systemd.exec(5).
        ending: Whether it died while it was stopping everything.

    Returns:
        True for a clean end, and for a stop that took too long; the unit gives a start no limit of time. False for a
        crash, a watchdog that heard nothing, a supervisor that could not start: the next one adopts what runs.
    """
    return ending or environ.get("SERVICE_RESULT") in {"success", "timeout"}


def hold_home(home: Home) -> int | None:
    """Take the lock of a home.

    Returns:
        The locked descriptor, or None if nothing has ever run there.

    Raises:
        OperationError: A supervisor runs.
    """
    try:
        fd = os.open(home.lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise OperationError(
            "the supervisor runs, so nothing was left behind",
            hint="`oxherd daemon stop` stops everything it runs",
            code="OX436",
        ) from None
    return fd


def end_survivors(home: Home, *, patience: float) -> tuple[list[str], list[int]]:
    """End every process with a mark of this home's background supervisor.

    Args:
        home: The home.
        patience: Seconds between SIGTERM and SIGKILL; 0 kills at once.

    Returns:
        Which instances they were of, as ``web:0``; and the pids that not even SIGKILL ended.
    """
    prefix = f"{stack_id(home.state)}:"
    names: set[str] = set()
    told: set[int] = set()
    kill_at = time.monotonic() + patience
    give_up_at = kill_at + _KILLED
    while found := _marked(prefix):
        names.update(":".join(mark.split("/")[1:3]) for mark in found.values())
        now = time.monotonic()
        if now >= give_up_at:
            break
        for pid in found:
            if now >= kill_at:
                _send(pid, signal.SIGKILL)
            elif pid not in told:
                told.add(pid)
                _send(pid, signal.SIGTERM)
        limit = (kill_at if now < kill_at else give_up_at) - now
        _wait_for_one(found, min(_LOOK_AGAIN, limit))
    return sorted(names), sorted(found)


def _marked(prefix: str) -> dict[int, str]:
    own = os.getpid()
    return {
        pid: mark
        for pid in identity.pids()
        if pid != own and (mark := identity.mark_of(pid)) is not None and mark.startswith(prefix)
    }


def _send(pid: int, signum: int) -> None:
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        return


def _wait_for_one(pids: Mapping[int, str], seconds: float) -> None:
    """Return when one of the processes has ended, or after some time. They are not our children; pidfd_open(2)."""
    poller = select.poll()
    fds = []
    try:
        for pid in pids:
            try:
                fd = os.pidfd_open(pid)
            except ProcessLookupError:
                return
            fds.append(fd)
            poller.register(fd, select.POLLIN)
        poller.poll(seconds * 1000)
    finally:
        for fd in fds:
            os.close(fd)
