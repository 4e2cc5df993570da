"""What another supervisor has left running, taken hold of: the process itself, its output, its listeners.

A pid alone names nobody: the process is held by a pidfd first and compared with what was written down of it then, so it cannot
become another one in between.
"""

from __future__ import annotations

import os

from oxherd.system.identity import read_file, read_stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["hold", "listening_inodes", "output_of"]

_LISTEN = b"0A"
_UNIX_LISTENS = b"00010000"


def hold(pid: int, start_ticks: int) -> int | None:
    """Return a pidfd of a process that was started at that time, None where it is gone.

    Args:
        pid: Its number.
        start_ticks: When it was started; field 22 of ``/proc/PID/stat``.

    Raises:
        OSError: There are no descriptors, or no pidfds.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    stat = read_stat(pid)
    if stat is None or stat.start_ticks != start_ticks or not stat.living:
        os.close(pidfd)
        return None
    return pidfd


def output_of(pids: Iterable[int], inode: int) -> int:
    """Return a new descriptor that reads a pipe which some process writes to, or -1 where none of them has it.

    The child's end is open for reading too (`oxherd.system.logs.pipe.make_pipe`), so the pipe and what is in it have outlived
    its reader. To open it again by ``/proc`` takes the right to read the process (ptrace(2), PTRACE_MODE_READ), not more.

    Args:
        pids: A program's main process, and what it has started.
        inode: What the pipe is known by.
    """
    link = f"pipe:[{inode}]"
    for pid in pids:
        folder = f"/proc/{pid}/fd"
        # Nearly always it still is where it was put.
        for name in ("1", "2", *_names(folder)):
            path = f"{folder}/{name}"
            try:
                if os.readlink(path) == link:
                    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:  # closed or gone meanwhile, or somebody else's
                continue
    return -1


def listening_inodes() -> set[int]:
    """Return what the listeners of this network namespace are known by: TCP and unix."""
    found = set()
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        for fields in _lines(path):
            if len(fields) > 9 and fields[3] == _LISTEN:
                found.add(int(fields[9]))
    for fields in _lines("/proc/net/unix"):
        if len(fields) > 6 and fields[3] == _UNIX_LISTENS:
            found.add(int(fields[6]))
    return found


def _lines(path: str) -> Iterator[list[bytes]]:
    for line in (read_file(path) or b"").splitlines()[1:]:
        yield line.split()


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
