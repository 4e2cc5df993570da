"""Where a process lives in the cgroup hierarchies of the machine, and what is counted and limited there.

A cgroup is named by two files: ``/proc/PID/cgroup`` says which one it is, ``/proc/self/mountinfo`` where its tree is
mounted. In a container the mounted tree may begin at the container's own cgroup; the path in the first file then has to
be read from there. cgroups(7), cgroup_namespaces(7).
"""

from __future__ import annotations

import os
from enum import Enum

from oxherd.records import dataclass
from oxherd.system.identity import KeptFile, read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "CgroupKind",
    "Home",
    "OomCounter",
    "Placement",
    "cpu_quota",
    "memory_limit",
    "oom_counter",
    "oom_kills_in",
]

# A v1 memory limit that is not set reads as the largest number of pages; no machine comes near a quarter of it.
_NO_LIMIT = 1 << 60


class CgroupKind(Enum):
    """The two versions of the interface."""

    V1 = "v1"
    V2 = "v2"


@dataclass(frozen=True, slots=True)
class Home:
    """The cgroup of a process in one hierarchy.

    Attributes:
        kind: Version.
        mount: Where the hierarchy is mounted.
        folder: The directory of the cgroup, at or below ``mount``.
    """

    kind: CgroupKind
    mount: str
    folder: str

    def upwards(self) -> Iterator[str]:
        """Return the directories whose limits apply: its own and those above it, as far as they can be seen."""
        folder = self.folder
        while True:
            yield folder
            if len(folder) <= len(self.mount):
                return
            folder = os.path.dirname(folder)


class Placement:
    """The cgroups of one process.

    Args:
        pid: The process; 0 is this one.
        proc: Where procfs is mounted.
    """

    __slots__ = ("_by_controller", "unified")

    def __init__(self, pid: int = 0, proc: str = "/proc", cgroup: bytes | None = None) -> None:
        """Read both files; ``cgroup`` is the first of them where it has been read."""
        if cgroup is None:
            cgroup = _cgroup_of(pid, proc)
        paths = dict(_paths(cgroup))
        self.unified: Home | None = None
        self._by_controller: dict[str, Home] = {}
        for kind, root, mount, controllers in _mounts(read_file(f"{proc}/self/mountinfo") or b""):
            for controller in controllers:
                home = _home(kind, root, mount, paths.get(controller))
                if home is None:
                    continue
                if kind is CgroupKind.V2:
                    self.unified = home
                else:
                    self._by_controller[controller] = home

    def of(self, controller: str) -> Home | None:
        """Return where a controller keeps this process, or None if no mounted hierarchy has that controller.

        A controller belongs to one version at a time: a v1 mount of it takes it out of the v2 tree.
        """
        home = self._by_controller.get(controller)
        if home is None and self.unified is not None and controller in self.unified_controllers():
            return self.unified
        return home

    def unified_controllers(self) -> frozenset[str]:
        """Return what children of the v2 cgroup can be limited by."""
        if self.unified is None:
            return frozenset()
        listed = read_file(f"{self.unified.folder}/cgroup.controllers") or b""
        return frozenset(listed.decode().split())


def _cgroup_of(pid: int, proc: str) -> bytes:
    return read_file(f"{proc}/{pid or 'self'}/cgroup") or b""


def _paths(text: bytes) -> Iterator[tuple[str, str]]:
    """Yield controller and path of every line ``4:cpu,cpuacct:/path``; the controller of version 2 is ""."""
    for line in text.decode(errors="surrogateescape").splitlines():
        _number, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            yield controller, path


def _mounts(text: bytes) -> Iterator[tuple[CgroupKind, str, str, list[str]]]:
    """Yield version, root, mount point and controllers of every cgroup mount; proc(5), mountinfo."""
    for line in text.decode(errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        fields, types = before.split(" "), after.split(" ")
        if types[0] == "cgroup2":
            yield CgroupKind.V2, _unescaped(fields[3]), _unescaped(fields[4]), [""]
        elif types[0] == "cgroup":
            yield CgroupKind.V1, _unescaped(fields[3]), _unescaped(fields[4]), types[2].split(",")


def _unescaped(path: str) -> str:
    return path.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")


def _home(kind: CgroupKind, root: str, mount: str, path: str | None) -> Home | None:
    if path is None or path.startswith("/.."):  # outside of what this namespace can see
        return None
    if root != "/":
        if path != root and not path.startswith(root + "/"):
            return None
        path = path[len(root) :]
    return Home(kind, mount, (mount + path).rstrip("/"))


# -- what is counted and limited --------------------------------------------------------------------------------------


def oom_counter(pid: int = 0, *, proc: str = "/proc") -> int | None:
    """Return how often the kernel has killed for want of memory where a process lives.

    A number that has grown between the start and the SIGKILL of a program says who sent it. The counter of the cgroup
    is taken where there is one, also for kills because the whole machine is full; else that of the machine.

    Args:
        pid: The process; 0 is this one.
        proc: Where procfs is mounted.

    Returns:
        The count, or None where nobody counts or the process is gone.
    """
    if pid and not os.path.isdir(f"{proc}/{pid}"):
        return None
    home = Placement(pid, proc).of("memory")
    own = None if home is None else oom_kills_in(home.kind, home.folder)
    return _count(f"{proc}/vmstat", "oom_kill") if own is None else own


class OomCounter:
    """`oom_counter` of this process, for who asks at every start and every SIGKILL.

    Which file counts is looked up anew only when this process has been moved to another cgroup: the list of mounts is long
    where there are containers.
    """

    __slots__ = ("_cgroup", "_counter", "_membership")

    def __init__(self) -> None:
        """Look at nothing yet."""
        self._membership = KeptFile("/proc/self/cgroup")
        self._cgroup: bytes | None = None
        self._counter: KeptFile | None = None

    def close(self) -> None:
        """Give the descriptors back, until somebody counts again."""
        self._membership.close()
        if self._counter is not None:
            self._counter.close()

    def count(self) -> int | None:
        """Return how often the kernel has killed for want of memory where this process lives, None where nobody counts."""
        cgroup = self._membership.read() or b""
        if cgroup != self._cgroup:
            home = Placement(cgroup=cgroup).of("memory")
            self._counter = None if home is None else KeptFile(_oom_file(home.kind, home.folder))
            self._cgroup = cgroup
        own = None if self._counter is None else _number(self._counter.read(), "oom_kill")
        return _count("/proc/vmstat", "oom_kill") if own is None else own


def oom_kills_in(kind: CgroupKind, folder: str) -> int | None:
    """Return how often the kernel has killed for want of memory in one cgroup, None where that is not counted."""
    return _count(_oom_file(kind, folder), "oom_kill")


def _oom_file(kind: CgroupKind, folder: str) -> str:
    return f"{folder}/{'memory.events' if kind is CgroupKind.V2 else 'memory.oom_control'}"


def _count(path: str, key: str) -> int | None:
    """Return the number behind a key of a file of ``key number`` lines, None if there is no such file or key."""
    return _number(read_file(path), key)


def _number(text: bytes | None, key: str) -> int | None:
    for line in (text or b"").decode(errors="replace").splitlines():
        name, _, number = line.partition(" ")
        if name == key:
            return int(number)
    return None


def cpu_quota(*, proc: str = "/proc") -> float | None:
    """Return how many CPUs' worth of time the cgroups of this process leave it, or None without a quota."""
    home = Placement(0, proc).of("cpu") or Placement(0, proc).unified
    quotas = [] if home is None else [_quota(home.kind, folder) for folder in home.upwards()]
    return min((quota for quota in quotas if quota is not None), default=None)


def _quota(kind: CgroupKind, folder: str) -> float | None:
    if kind is CgroupKind.V2:
        words = (read_file(f"{folder}/cpu.max") or b"").split()
    else:
        words = (read_file(f"{folder}/cpu.cfs_quota_us") or b"").split()
        words += (read_file(f"{folder}/cpu.cfs_period_us") or b"").split()
    # "max" in version 2 and -1 in version 1 are no quota.
    if len(words) != 2 or not words[0].isdigit() or not int(words[1]):
        return None
    return int(words[0]) / int(words[1])


def memory_limit(*, proc: str = "/proc") -> int | None:
    """Return the smallest memory limit of the cgroups of this process in bytes, or None without one."""
    home = Placement(0, proc).of("memory") or Placement(0, proc).unified
    if home is None:
        return None
    name = "memory.max" if home.kind is CgroupKind.V2 else "memory.limit_in_bytes"
    texts = [(read_file(f"{folder}/{name}") or b"").strip() for folder in home.upwards()]
    return min((int(text) for text in texts if text.isdigit() and int(text) < _NO_LIMIT), default=None)
