"""What tells one process from another: its pid together with the moment it was started.

A pid alone names a process only until it is reaped; then the kernel gives the number to another one. Everything here
reads ``/proc`` (proc(5)) and answers with None, 0 or "" where there is none, or where the process is gone.

A machine without descriptors or memory for the look is another matter: "nothing is there" would be believed, and what
lives on forgotten. Whoever must not take the one for the other asks with ``insist`` and gets the OSError.
"""

from __future__ import annotations

import errno
import os
import time

from oxherd.records import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "MARK_VARIABLE",
    "SCARCE",
    "Identity",
    "KeptFile",
    "ProcStat",
    "boot_id",
    "catches",
    "identity_of",
    "lock_holder",
    "mark_of",
    "pids",
    "read_file",
    "read_stat",
    "start_ticks",
]

MARK_VARIABLE = "OXHERD_MARK"
_MARK = b"\0" + MARK_VARIABLE.encode() + b"="
# What says nothing of the process that was looked at, but of the machine; open(2).
SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})

_CHUNK = 65536
_LINE = 4096
# The longest a look waits for an execve(2) that is under way; it happens once in many thousand looks.
_EXEC_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Identity:
    """One process, whatever becomes of its number.

    Attributes:
        pid: The number.
        start_ticks: When it was started, in clock ticks since boot; field 22 of ``/proc/PID/stat``.
    """

    pid: int
    start_ticks: int

    @property
    def holds(self) -> bool:
        """Whether the pid still is this process, dead but unreaped included; raises OSError as `identity_of` insists."""
        return identity_of(self.pid, insist=True) == self


class ProcStat:
    """The fields of ``/proc/PID/stat`` that Oxherd reads. Times in clock ticks, memory in pages.

    Attributes:
        pid, ppid, pgrp, session: Who it is and where it belongs.
        cpu_ticks: CPU time of itself and of the children it has waited for.
        start_ticks: When it was started.
        rss_pages: Resident memory.
        living: False for a process that has ended and waits to be reaped.
    """

    __slots__ = ("cpu_ticks", "living", "pgrp", "pid", "ppid", "rss_pages", "session", "start_ticks")

    def __init__(self, pid: int, line: bytes) -> None:
        """Parse one line; the name in it may hold spaces and brackets, so fields count from its last bracket."""
        fields = line[line.rindex(b")") + 2 :].split(b" ", 22)
        self.pid = pid
        self.ppid = int(fields[1])
        self.pgrp = int(fields[2])
        self.session = int(fields[3])
        self.cpu_ticks = int(fields[11]) + int(fields[12]) + int(fields[13]) + int(fields[14])
        self.start_ticks = int(fields[19])
        self.rss_pages = int(fields[21])
        # A zombie whose other threads go on is a living process: only its first thread has ended.
        self.living = fields[0] not in (b"Z", b"X") or int(fields[17]) > 1

    @property
    def identity(self) -> Identity:
        """The process, safe from the reuse of its pid."""
        return Identity(self.pid, self.start_ticks)


def read_file(path: str, *, insist: bool = False) -> bytes | None:
    """Return the whole of a file of ``/proc`` or ``/sys``, or None if it is not there or not ours to read.

    Raises:
        OSError: Only with ``insist``: there are no descriptors or no memory to look.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if insist and error.errno in SCARCE:
            raise
        return None
    chunks = []
    try:
        # To the end: files made of lines (net/tcp, cgroup) come a page at a time however much is asked for.
        while chunk := os.read(fd, _CHUNK):
            chunks.append(chunk)
    except OSError as error:
        if insist and error.errno in SCARCE:
            raise
        return None  # the process went while it was being read
    finally:
        os.close(fd)
    return b"".join(chunks)


class KeptFile:
    """A file of ``/proc`` or ``/sys`` that is read again and again: finding it anew would be most of the cost.

    Args:
        path: The file.
    """

    __slots__ = ("_fd", "_path")

    def __init__(self, path: str) -> None:
        """Open nothing yet."""
        self._path = path
        self._fd = -1

    def read(self, *, insist: bool = False) -> bytes | None:
        """Return what is in it now, or None if it is not there or not ours to read.

        Raises:
            OSError: As `read_file`.
        """
        try:
            if self._fd < 0:
                self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            found = b""
            while chunk := os.pread(self._fd, _LINE, len(found)):
                found += chunk
        except OSError as error:
            self.close()
            if insist and error.errno in SCARCE:
                raise
            return None
        return found

    def close(self) -> None:
        """Close it; it is opened again when it is read again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        """Whoever kept it is gone."""
        self.close()


def pids(*, insist: bool = False) -> Iterator[int]:
    """Return the pid of every process that can be seen.

    Raises:
        OSError: As `read_file`.
    """
    try:
        names = os.listdir("/proc")
    except OSError as error:
        if insist and error.errno in SCARCE:
            raise
        return iter(())
    return (int(name) for name in names if name[0].isdigit() and name.isdigit())


def read_stat(pid: int, *, insist: bool = False) -> ProcStat | None:
    """Return what the kernel says of a process, or None if it is gone.

    Raises:
        OSError: As `read_file`.
    """
    # One read gets it whole, and there may be thousands of processes to read.
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if insist and error.errno in SCARCE:
            raise
        return None
    try:
        return ProcStat(pid, os.read(fd, _LINE))
    except OSError as error:
        if insist and error.errno in SCARCE:
            raise
        return None  # the process went while it was being read
    except (ValueError, IndexError):
        return None
    finally:
        os.close(fd)


def start_ticks(pid: int) -> int:
    """Return when a process was started, in clock ticks since boot, or 0 if it is gone."""
    stat = read_stat(pid)
    return stat.start_ticks if stat is not None else 0


def identity_of(pid: int, *, insist: bool = False) -> Identity | None:
    """Return the process that has this pid now, or None if there is none.

    Raises:
        OSError: As `read_file`.
    """
    stat = read_stat(pid, insist=insist)
    return stat.identity if stat is not None else None


def boot_id() -> str:
    """Return what tells this boot of the machine from every other, "" where the kernel does not say.

    Start ticks count from boot: a recorded `Identity` means nothing after a reboot.
    """
    data = read_file("/proc/sys/kernel/random/boot_id")
    return data.decode().strip() if data else ""


def mark_of(pid: int, *, insist: bool = False) -> str | None:
    """Return the OXHERD_MARK a process was started with, None if it has none or keeps its environment to itself.

    Raises:
        OSError: As `read_file`.
    """
    _, present, rest = (b"\0" + _environ(pid, insist=insist)).partition(_MARK)
    return rest.split(b"\0", 1)[0].decode(errors="replace") if present else None


def _environ(pid: int, *, insist: bool) -> bytes:
    deadline = 0.0
    while True:
        environ = read_file(f"/proc/{pid}/environ", insist=insist)
        # In the middle of execve(2) a process has neither environment nor command line: for microseconds, or as long
        # as its program is read from the disk. Taken for one that has no mark, an escapee would be forgotten.
        if environ is None or environ or read_file(f"/proc/{pid}/cmdline", insist=insist):
            return environ or b""
        # The dead and the kernel's own threads have no memory, hence no environment, for good; statm is all zeros.
        now = time.monotonic()
        deadline = deadline or now + _EXEC_SECONDS
        if now > deadline or (read_file(f"/proc/{pid}/statm", insist=insist) or b"0").startswith(b"0"):
            return b""
        os.sched_yield()


def lock_holder(fd: int) -> int:
    """Return the pid that holds the flock(2) of an open file, 0 where the kernel does not say; proc(5), ``locks``."""
    status = os.fstat(fd)
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}".encode()
    for line in (read_file("/proc/locks") or b"").splitlines():
        # 1: FLOCK  ADVISORY  WRITE 2412 fd:00:1705 0 EOF; who waits for a lock has an arrow before that.
        words = line.split()
        if len(words) > 5 and words[1] == b"FLOCK" and words[5] == place:
            return int(words[4])
    return 0


def catches(pid: int, signum: int) -> bool:
    """Return whether a process has a handler for a signal; the ``SigCgt`` line of ``/proc/PID/status``."""
    status = read_file(f"/proc/{pid}/status") or b""
    for line in status.splitlines():
        if line.startswith(b"SigCgt:"):
            return bool(int(line.split()[1], 16) >> (signum - 1) & 1)
    return False
