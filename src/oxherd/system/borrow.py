"""Descriptors of another process, borrowed with pidfd_getfd(2).

The kernel asks for the right to trace the other process: the same user, or CAP_SYS_PTRACE, and where Yama guards ptrace the
other one has to be a descendant (ptrace(2), "Ptrace access mode checking"). Half a megabyte of ctypes is loaded with the first
call; nobody imports this module who does not need one.
"""

from __future__ import annotations

import contextlib
import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["Libc", "borrow", "borrow_sockets"]

# linux/sched.h; and the number of pidfd_getfd(2), which every architecture but Alpha shares.
_CLONE_FILES = 0x400
_PIDFD_GETFD = 438


class Libc:
    """The two calls that Python 3.11 does not have."""

    __slots__ = ("_ctypes", "_libc")

    def __init__(self) -> None:
        """Load ctypes."""
        import ctypes  # noqa: PLC0415 - half a megabyte, only where something is borrowed

        self._ctypes = ctypes
        self._libc = ctypes.CDLL(None, use_errno=True)

    def unshare(self) -> None:
        """Give the calling thread a copy of the table of descriptors.

        Raises:
            OSError: It may not.
        """
        if self._libc.unshare(_CLONE_FILES) != 0:
            self._fail()

    def getfd(self, pidfd: int, number: int) -> int:
        """Return a copy of a descriptor of another process, not inheritable.

        Raises:
            OSError: There is no such descriptor or process, or it may not be borrowed.
        """
        to_long = self._ctypes.c_long
        call = self._libc.syscall
        call.restype = to_long
        copy = int(call(to_long(_PIDFD_GETFD), to_long(pidfd), to_long(number), to_long(0)))
        if copy < 0:
            self._fail()
        return copy

    def _fail(self) -> None:
        number = self._ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def borrow(libc: Libc, pid: int, pidfd: int, number: int, inode: int) -> int:
    """Return a descriptor of a socket: the program's own, whatever number it has there by now.

    Args:
        libc: The calls.
        pid: The program.
        pidfd: Its pidfd.
        number: The number the socket probably has there.
        inode: What it is known by.

    Raises:
        OSError: It may not be borrowed, or the program has it no more.
    """
    link = f"socket:[{inode}]"
    folder = f"/proc/{pid}/fd"
    for name in (str(number), *os.listdir(folder)):
        try:
            if os.readlink(f"{folder}/{name}") == link:
                return libc.getfd(pidfd, int(name))
        except FileNotFoundError:
            continue
    raise OSError(errno.EBADF, "the socket is closed there")


def borrow_sockets(pid: int, pidfd: int, inodes: Collection[int]) -> dict[int, int]:
    """Return copies of sockets of another process, by inode.

    Args:
        pid: The process.
        pidfd: Its pidfd.
        inodes: Which of its sockets; those it has not are not in the answer.

    Raises:
        OSError: They may not be borrowed; nothing is left open.
    """
    links = {f"socket:[{inode}]": inode for inode in inodes}
    folder = f"/proc/{pid}/fd"
    libc = Libc()
    found: dict[int, int] = {}
    try:
        for name in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                inode = links.get(os.readlink(f"{folder}/{name}"))
                if inode is not None and inode not in found:
                    found[inode] = libc.getfd(pidfd, int(name))
    except OSError:
        for fd in found.values():
            os.close(fd)
        raise
    return found
