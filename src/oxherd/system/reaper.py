"""Takes the exit status of children and of orphans, without blocking and without waiting for a signal."""

from __future__ import annotations

import fcntl
import os
import select
import struct

from oxherd.core.exits import ExitStatus

__all__ = ["decoded", "exit_of", "next_dead"]

# linux/pidfd.h: _IOWR(0xFF, 11, struct pidfd_info), its size, the bit of ``mask`` that says that ``exit_code`` (at
# offset 60, in the format of wait(2)) is filled in. Linux 6.15.
_PIDFD_GET_INFO = 0xC040FF0B
_PIDFD_INFO_SIZE = 64
_PIDFD_INFO_EXIT = 8
_EXIT_CODE = struct.Struct("=60xi")
_MASK = struct.Struct("=Q")


def exit_of(pid: int, pidfd: int) -> ExitStatus | None:
    """Return how a process ended, and reap it if it is a child; None as long as it runs.

    Args:
        pid: The process.
        pidfd: Its pidfd, or -1 where there is none.

    Returns:
        The status. For a process that is not a child (it was adopted) it is what the kernel still tells of it, and
        an unknown one where that is nothing.
    """
    if not hasattr(os, "waitid"):
        return _exit_without_waitid(pid)
    try:
        if pidfd >= 0:
            result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
        else:
            result = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return _exit_of_stranger(pid, pidfd)
    return None if result is None else _status(result)


def next_dead() -> int | None:
    """Return the pid of some dead child without reaping it, or None when there is none; waitid(2), WNOWAIT.

    The kernel shows the same one until it is reaped. So whoever takes every end there is reaps between two calls,
    a supervised program by whoever waits for it and an orphan by `exit_of`. Python has no waitid on macOS before 3.13;
    there the answer is None, and each child has to be asked by itself.
    """
    if not hasattr(os, "waitid"):
        return None
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if found is None else found.si_pid


def _status(result: os.waitid_result) -> ExitStatus:
    if result.si_code == os.CLD_EXITED:
        return ExitStatus(code=result.si_status)
    return ExitStatus(signal=result.si_status, core_dumped=result.si_code == os.CLD_DUMPED)


def _exit_of_stranger(pid: int, pidfd: int) -> ExitStatus | None:
    """Return the end of a process that somebody else has to reap, or None while it runs."""
    if pidfd < 0:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return ExitStatus()
        except PermissionError:
            return None
        return None
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    if not poller.poll(0):
        return None
    info = bytearray(_PIDFD_INFO_SIZE)
    _MASK.pack_into(info, 0, _PIDFD_INFO_EXIT)
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, info)
    except OSError:  # an older kernel, or no trace is left
        return ExitStatus()
    if not _MASK.unpack_from(info)[0] & _PIDFD_INFO_EXIT:
        return ExitStatus()
    return decoded(_EXIT_CODE.unpack(info)[0])


def _exit_without_waitid(pid: int) -> ExitStatus | None:
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return _exit_of_stranger(pid, -1)
    return decoded(status) if found else None


def decoded(status: int) -> ExitStatus:
    """Return an exit status in the format of wait(2) as a value."""
    if os.WIFSIGNALED(status):
        return ExitStatus(signal=os.WTERMSIG(status), core_dumped=os.WCOREDUMP(status))
    return ExitStatus(code=os.WEXITSTATUS(status))
