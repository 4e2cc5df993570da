"""Whether anything is left: processes, zombies, sockets, fifos, temporary files.

The test process makes itself the subreaper of everything it starts, so whatever a supervisor lost, in whatever session
and with whatever environment, falls to it and is found by descent alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import stat
from typing import TYPE_CHECKING

from oxherd.system import tree
from oxherd.system.identity import read_file

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

__all__ = ["describe", "kill_descendants", "litter", "living_descendants", "reap", "subreaper", "zombies_of"]

_PR_SET_CHILD_SUBREAPER = 36


@contextlib.contextmanager
def subreaper() -> Iterator[None]:
    """Let orphans fall to this process; prctl(2)."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    assert prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    try:
        yield
    finally:
        prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def reap(beside: Container[int]) -> None:
    """Reap what has fallen to this process, as an init would, but not those that somebody waits for."""
    for pid in zombies_of(os.getpid()):
        if pid not in beside:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def living_descendants(beside: Container[int] = ()) -> list[int]:
    """Return what lives below this process, apart from those named and all below them."""
    return tree.ProcessTable.scan().descendants(os.getpid(), beside)


def zombies_of(pid: int) -> list[int]:
    """Return the dead children that a process has not reaped."""
    table = tree.ProcessTable.scan()
    return [child for child in table.children(pid) if not table.processes[child].living]


def describe(pid: int) -> str:
    """Return pid and command line for a failure."""
    command = (read_file(f"/proc/{pid}/cmdline") or b"").replace(b"\0", b" ").decode(errors="replace").strip()
    return f"{pid} ({command or 'no command line'})"


def kill_descendants(beside: Container[int]) -> None:
    """Clean up after a failure, so that one test's leftovers do not fail the next one."""
    for _ in range(20):
        left = living_descendants(beside)
        if not left:
            break
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        reap(beside)


def litter(directory: str) -> list[str]:
    """Return the sockets, fifos and half-written files below a directory."""
    found = []
    for folder, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode) or name.endswith((".new", ".tmp")):
                found.append(path)
    return found
