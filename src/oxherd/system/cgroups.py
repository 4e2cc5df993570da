"""Hard limits: a cgroup for one incarnation, in version 2 where it is delegated, in version 1 where that is mounted.

cgroups(7). A limit on memory, CPU or pids needs its controller in a hierarchy this process may write to. Which one that
is differs by machine: one v2 tree under systemd, a tree for each controller on older systems, both side by side. So
each controller is looked for by itself, and where one is missing the reason is exact enough to act on.
"""

from __future__ import annotations

import errno
import os

from oxherd.errors import SystemFault
from oxherd.records import dataclass
from oxherd.system.identity import SCARCE
from oxherd.system.placement import CgroupKind, Home, Placement, oom_counter, oom_kills_in
from oxherd.system.tree import ProcessTable, exterminate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oxherd.config.model import LimitSpec

__all__ = ["SUPERVISOR_LEAF", "CgroupHandle", "CgroupKind", "oom_counter", "prepare", "why_not"]

# Where the supervisor itself goes, so that the cgroup it was given may have children with limits: in version 2 only a
# cgroup without processes may. A unit file can put it there from the start: DelegateSubgroup=supervisor.
SUPERVISOR_LEAF = "supervisor"

_PERIOD = 100_000  # microseconds; the kernel's default
_PREFIX = "oxherd-"
_MOVE_ROUNDS = 5  # what is forked meanwhile is moved in the next
_HINT = "run the supervisor under systemd with Delegate=yes (`oxherd service install`), or set limits.hard = false"


@dataclass(frozen=True, slots=True)
class CgroupHandle:
    """The cgroup of one incarnation: one directory in version 2, one for each controller in version 1.

    Attributes:
        name: What it is called below the supervisor's own cgroup.
        kinds: The version of each directory.
        folders: The directories.
    """

    name: str
    kinds: tuple[CgroupKind, ...]
    folders: tuple[str, ...]

    @property
    def join_paths(self) -> tuple[str, ...]:
        """The files a process writes "0" to, to become a member."""
        return tuple(f"{folder}/cgroup.procs" for folder in self.folders)

    def oom_kills(self) -> int | None:
        """Return how often the kernel has killed a member for want of memory, None without a memory limit."""
        counts = (oom_kills_in(kind, folder) for kind, folder in zip(self.kinds, self.folders, strict=True))
        return next((count for count in counts if count is not None), None)

    def procs(self) -> list[int]:
        """Return the members, dead but unreaped ones included; raises OSError where there is no descriptor to look."""
        found: set[int] = set()
        for path in self.join_paths:
            try:
                with open(path, "rb") as file:
                    found.update(map(int, file.read().split()))
            except OSError as error:
                if error.errno in SCARCE:
                    raise
                continue  # removed already
        return sorted(found)

    def add(self, pid: int) -> None:
        """Move a process in, with all its threads.

        Raises:
            OSError: It is gone, or the kernel refuses.
        """
        for path in self.join_paths:
            with open(path, "w", encoding="ascii") as file:
                file.write(str(pid))

    def kill(self) -> None:
        """SIGKILL every member, also those that are forking at this moment."""
        for kind, folder in zip(self.kinds, self.folders, strict=True):
            if kind is CgroupKind.V2 and _try_write(f"{folder}/cgroup.kill", "1"):
                return
            # Version 1, and version 2 before Linux 5.14: nobody can be born any more, then the living are killed.
            _try_write(f"{folder}/pids.max", "0")
        exterminate(self.procs)

    def remove(self) -> None:
        """Remove the directories.

        Raises:
            OSError: There are members left (EBUSY); again later.
        """
        for folder in self.folders:
            try:
                os.rmdir(folder)
            except FileNotFoundError:
                continue

    def __str__(self) -> str:
        """Return the directories for messages."""
        return ", ".join(self.folders)


def why_not(limits: LimitSpec, *, proc: str = "/proc") -> str:
    """Return why hard limits cannot be kept here, "" if they can. Changes nothing."""
    try:
        _homes(limits, Placement(0, proc))
    except SystemFault as fault:
        return fault.message
    return ""


def prepare(name: str, limits: LimitSpec, *, proc: str = "/proc") -> CgroupHandle:
    """Make a cgroup with the limits, empty, below the supervisor's own.

    Args:
        name: Of the incarnation; characters a path cannot hold are replaced.
        limits: ``memory`` bytes with swap, ``cpu_percent`` of one core, ``pids``; what is None is not limited.
        proc: Where procfs is mounted.

    Raises:
        SystemFault: It cannot be done on this machine; says why and what to do.
    """
    homes = _homes(limits, Placement(0, proc))
    made: dict[str, CgroupKind] = {}
    safe = _PREFIX + name.replace("/", "-").replace("\0", "-")
    try:
        for controller, home in homes.items():
            parent = home.folder
            if home.kind is CgroupKind.V2:
                parent = _parent_for_children(home)
                _enable(parent, controller)
            folder = os.path.join(parent, safe)
            if folder not in made:
                _make_anew(folder)
                made[folder] = home.kind
            _limit(folder, home.kind, controller, limits)
    except (OSError, SystemFault) as error:
        for folder in made:
            os.rmdir(folder)
        if isinstance(error, SystemFault):
            raise
        raise _fault(error) from None
    return CgroupHandle(safe, tuple(made.values()), tuple(made))


def _fault(error: OSError) -> SystemFault:
    if error.errno == errno.EBUSY:
        return SystemFault(f"the cgroup {error.filename} holds processes of an earlier run", hint="kill them first")
    return SystemFault(f"making the cgroup {error.filename}: {error.strerror}", hint=_HINT)


# -- what there is ----------------------------------------------------------------------------------------------------


def _wanted(limits: LimitSpec) -> list[str]:
    wishes = (("memory", limits.memory), ("cpu", limits.cpu_percent), ("pids", limits.pids))
    return [controller for controller, wish in wishes if wish is not None]


def _homes(limits: LimitSpec, placement: Placement) -> dict[str, Home]:
    """Return where each limit is to be kept.

    Raises:
        SystemFault: One cannot be.
    """
    homes = {}
    for controller in _wanted(limits):
        home = placement.of(controller)
        if home is None:
            raise SystemFault(_missing(controller, placement), hint=_HINT)
        folder = _above_leaf(home) if home.kind is CgroupKind.V2 else home.folder
        for path in (folder, f"{folder}/cgroup.procs"):
            if not os.access(path, os.W_OK):
                raise SystemFault(
                    f"cgroup {home.kind.value} is mounted at {home.mount} but {path} is not writable", hint=_HINT
                )
        homes[controller] = home
    return homes


def _missing(controller: str, placement: Placement) -> str:
    if placement.unified is None:
        return f"no cgroup hierarchy with the {controller} controller is mounted"
    has = ", ".join(sorted(placement.unified_controllers())) or "none"
    where = placement.unified
    return (
        f"cgroup v2 is mounted at {where.mount} but {controller} is not among the controllers of {where.folder} "
        f"(it has: {has})"
    )


# -- version 2 --------------------------------------------------------------------------------------------------------


def _above_leaf(home: Home) -> str:
    """Return the cgroup whose children get the limits: the supervisor's, or the one above it if it sits in its leaf."""
    inside = os.path.basename(home.folder) == SUPERVISOR_LEAF and home.folder != home.mount
    return os.path.dirname(home.folder) if inside else home.folder


def _parent_for_children(home: Home) -> str:
    """Return the cgroup to make children in, without processes of its own.

    Raises:
        SystemFault: Processes live there that are not the supervisor's to move.
    """
    parent = _above_leaf(home)
    # The root of the whole machine (alone without cgroup.type) may have processes and children; cgroups(7).
    if parent != home.folder or not os.path.exists(f"{parent}/cgroup.type"):
        return parent
    for _ in range(_MOVE_ROUNDS):
        members = _members(parent)
        if not members:
            return parent
        _move(members, parent, os.path.join(parent, SUPERVISOR_LEAF))
    raise SystemFault(
        f"cgroup v2: the processes of {parent} cannot be moved to {SUPERVISOR_LEAF}/ below it", hint=_HINT
    )


def _move(members: list[int], parent: str, leaf: str) -> None:
    table = ProcessTable.scan()
    own = {os.getpid(), *table.descendants(os.getpid())}
    for pid in members:
        # Without a parent it came from outside of this container, by `docker exec`, and may be moved as well.
        if pid not in own and pid in table.processes and table.processes[pid].ppid:
            raise SystemFault(f"cgroup v2: {parent} also holds processes that are not Oxherd's (pid {pid})", hint=_HINT)
    _make(leaf)
    for pid in members:
        _try_write(f"{leaf}/cgroup.procs", str(pid))


def _members(folder: str) -> list[int]:
    with open(f"{folder}/cgroup.procs", "rb") as file:
        return [int(pid) for pid in file.read().split()]


def _make(folder: str) -> None:
    try:
        os.mkdir(folder, 0o755)
    except FileExistsError:
        return


def _make_anew(folder: str) -> None:
    try:
        os.mkdir(folder, 0o755)
    except FileExistsError:
        # A supervisor that was killed removed nothing. Busy means that its programs live on.
        os.rmdir(folder)
        os.mkdir(folder, 0o755)


def _enable(parent: str, controller: str) -> None:
    with open(f"{parent}/cgroup.subtree_control", "rb") as file:
        enabled = file.read().decode().split()
    if controller not in enabled:
        _write(f"{parent}/cgroup.subtree_control", f"+{controller}")


# -- knobs ------------------------------------------------------------------------------------------------------------


def _limit(folder: str, kind: CgroupKind, controller: str, limits: LimitSpec) -> None:
    quota = int((limits.cpu_percent or 0.0) * _PERIOD / 100)
    match kind, controller:
        case CgroupKind.V2, "memory":
            _write(f"{folder}/memory.max", str(limits.memory))
            # A limit that swap goes around is none. Kernels without swap accounting have no such file.
            _try_write(f"{folder}/memory.swap.max", "0")
        case CgroupKind.V1, "memory":
            _write(f"{folder}/memory.limit_in_bytes", str(limits.memory))
            _try_write(f"{folder}/memory.memsw.limit_in_bytes", str(limits.memory))
        case CgroupKind.V2, "cpu":
            _write(f"{folder}/cpu.max", f"{quota} {_PERIOD}")
        case CgroupKind.V1, "cpu":
            _write(f"{folder}/cpu.cfs_period_us", str(_PERIOD))
            _write(f"{folder}/cpu.cfs_quota_us", str(quota))
        case _, _:
            _write(f"{folder}/pids.max", str(limits.pids))


def _write(path: str, text: str) -> None:
    # Never made anew: a knob that is not there is an error, not a file.
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError as error:
        error.filename = path
        raise
    try:
        os.write(fd, text.encode())
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(fd)


def _try_write(path: str, text: str) -> bool:
    try:
        _write(path, text)
    except OSError:
        return False
    return True
