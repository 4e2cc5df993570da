"""Who descends from whom, what a program left behind, and signals that never hit a stranger.

A program's processes are found in two ways. As long as its main process lives they are its descendants. What outlives
a parent becomes a child of the supervisor (`oxherd.system.subreaper`) and is known by the mark in its environment, by
the session or group it was born into, or by the log pipe it holds; one of them survives a double fork, a setsid and an
``env -i``.

Nothing here takes "I could not look" for "there is nobody": where the machine has no descriptors or no memory for a look
it is an OSError, and whoever wanted to know looks again.
"""

from __future__ import annotations

import os
import signal

from oxherd.system.identity import (
    SCARCE,
    Identity,
    KeptFile,
    ProcStat,
    identity_of,
    mark_of,
    pids,
    read_file,
    read_stat,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterable

__all__ = [
    "OwnChildren",
    "ProcessTable",
    "children",
    "descendants",
    "exterminate",
    "kill_all",
    "orphans_of",
    "send",
    "strays_of",
]


class ProcessTable:
    """What ``/proc`` said of many processes, read once.

    A table is true for the moment it was read. One table can serve every question of one turn of the loop.

    Args:
        processes: What was read, by pid.
    """

    __slots__ = ("_children", "_marks", "processes")

    def __init__(self, processes: dict[int, ProcStat]) -> None:
        """Index the processes by parent."""
        self.processes = processes
        self._children: dict[int, list[int]] = {}
        self._marks: dict[int, str | None] = {}
        for pid, stat in processes.items():
            self._children.setdefault(stat.ppid, []).append(pid)

    @classmethod
    def scan(cls) -> ProcessTable:
        """Read every process of the machine. Complete, and what has to be right (killing) is built on it.

        Raises:
            OSError: There are no descriptors or no memory to look.
        """
        stats = (read_stat(pid, insist=True) for pid in pids(insist=True))
        return cls({stat.pid: stat for stat in stats if stat is not None})

    @classmethod
    def around(cls, roots: Iterable[int]) -> ProcessTable:
        """Read some processes and their descendants only, where the kernel lists children (CONFIG_PROC_CHILDREN).

        Costs as much as the trees are large, not the machine. A child that begins or ends meanwhile can be missed;
        proc(5). Without that list the whole machine is read.

        Raises:
            OSError: There are no descriptors or no memory to look.
        """
        found: dict[int, ProcStat] = {}
        queue = list(roots)
        for pid in queue:
            stat = None if pid in found else read_stat(pid, insist=True)
            if stat is not None:
                found[pid] = stat
                below = _listed_children(pid)
                if below is None:
                    return cls.scan()
                queue += below
        return cls(found)

    def children(self, pid: int) -> list[int]:
        """Return the direct children, dead but unreaped ones included."""
        return list(self._children.get(pid, ()))

    def mark(self, pid: int) -> str | None:
        """Return the mark of a process, read when it is first asked for."""
        if pid not in self._marks:
            self._marks[pid] = mark_of(pid, insist=True)
        return self._marks[pid]

    def descendants(self, pid: int, beside: Container[int] = ()) -> list[int]:
        """Return every living process below one, parents first.

        Args:
            pid: The ancestor, which is not part of the answer.
            beside: Processes to leave out, with all that is below them.
        """
        found = [child for child in self.children(pid) if child not in beside]
        for ancestor in found:
            found += [child for child in self.children(ancestor) if child not in beside]
        return [pid for pid in found if self.processes[pid].living]

    def members(self, pid: int) -> list[ProcStat]:
        """Return a process and everything below it, as far as it lives."""
        stat = self.processes.get(pid)
        own = [stat] if stat is not None and stat.living else []
        return own + [self.processes[member] for member in self.descendants(pid)]


def children(pid: int) -> list[int]:
    """Return the direct children of a process, dead but unreaped ones included."""
    listed = _listed_children(pid)
    return ProcessTable.scan().children(pid) if listed is None else listed


class OwnChildren:
    """The direct children of this process: whatever falls to a subreaper is among them."""

    __slots__ = ("_file", "_pid")

    def __init__(self) -> None:
        """Look at nothing yet."""
        self._pid = os.getpid()
        # Orphans fall to the first thread, which is also the one that starts programs; prctl(2), PR_SET_CHILD_SUBREAPER.
        self._file = KeptFile(f"/proc/{self._pid}/task/{self._pid}/children")

    def open(self) -> None:
        """Take the descriptor now."""
        self._file.read()

    def close(self) -> None:
        """Give the descriptor back, until somebody looks again."""
        self._file.close()

    def pids(self) -> list[int]:
        """Return them, dead but unreaped ones included.

        None is missed, although proc(5) promises that only of children that are stopped: the kernel loses its place in the
        list when the child it was at is reaped, which nobody but this process does, and what begins meanwhile comes at the
        end.

        Raises:
            OSError: There are no descriptors or no memory to look.
        """
        listed = self._file.read(insist=True)
        return children(self._pid) if listed is None else [int(child) for child in listed.split()]


def descendants(pid: int) -> list[int]:
    """Return every living descendant of a process, parents first."""
    return ProcessTable.scan().descendants(pid)


def orphans_of(
    mark: str,
    main_pid: int,
    own_pid: int,
    known: Container[int],
    pipes: Collection[int] = (),
    *,
    table: ProcessTable | None = None,
) -> list[int]:
    """Return what an incarnation left behind: processes that lost their parent and became children of the supervisor.

    Args:
        mark: The OXHERD_MARK of the incarnation.
        main_pid: The pid its main process has, or had; 0 if it never had one.
        own_pid: The supervisor's pid, to which orphans fall.
        known: Pids of the supervisor's own children, which are never leftovers.
        pipes: Inode numbers of the log pipes of the incarnation.
        table: What was read in this turn of the loop, after the main process was seen dead; read anew without it.

    Returns:
        The orphans and everything below them, without dead ones.
    """
    table = ProcessTable.scan() if table is None else table
    # The number of a dead main process can be another main process by now; then sessions of that number are not ours.
    session = 0 if main_pid in known and mark_of(main_pid, insist=True) not in (mark, None) else main_pid
    return _left(table, table.children(own_pid), known, mark, session, pipes)


def strays_of(
    mark: str,
    main_pid: int,
    known: Container[int],
    pipes: Collection[int] = (),
    *,
    table: ProcessTable | None = None,
) -> list[int]:
    """Return what an incarnation left behind whose orphans have not fallen to this process, as an earlier one had started it.

    Args:
        mark: The OXHERD_MARK of the incarnation.
        main_pid: The pid its main process has, or had; 0 if it never had one.
        known: Pids of the supervisor's own children, which are never leftovers.
        pipes: Inode numbers of the log pipes of the incarnation.
        table: What was read in this turn of the loop, after the main process was seen dead; read anew without it.

    Returns:
        Whoever carries the mark or belongs to it, with everything below, without dead ones.
    """
    table = ProcessTable.scan() if table is None else table
    holder = table.processes.get(main_pid)
    # A stranger may have the number of a dead main process by now, and nobody here is a child of ours: then its session is no
    # sign. While the main process itself lives and has no mark any more, what it started is found as its descendants.
    taken = holder is not None and holder.living and table.mark(main_pid) != mark
    session = 0 if taken else main_pid
    candidates = [pid for pid in table.processes if pid != os.getpid()]
    return _left(table, candidates, known, mark, session, pipes)


def _left(  # noqa: PLR0917 - what both ways to look have in common
    table: ProcessTable,
    candidates: Iterable[int],
    known: Container[int],
    mark: str,
    session: int,
    pipes: Collection[int],
) -> list[int]:
    """Return those of the candidates that belong to an incarnation, with everything below them."""
    links = {f"pipe:[{inode}]" for inode in pipes}
    found: dict[int, None] = {}
    for pid in candidates:
        stat = table.processes[pid]
        # A dead one has no children any more: they have become the supervisor's, or whoever's.
        if stat.living and pid not in known and _belongs(stat, table.mark(pid), mark, session, links):
            found.update(dict.fromkeys((pid, *table.descendants(pid, known))))
    return list(found)


def _belongs(stat: ProcStat, found: str | None, mark: str, session: int, links: set[str]) -> bool:
    if found is not None:
        return found == mark
    # No mark: started with an empty environment, or it wrote its title over it (setproctitle does).
    if session and session in (stat.session, stat.pgrp):
        return True
    return bool(links) and _holds_any(stat.pid, links)


def _holds_any(pid: int, links: set[str]) -> bool:
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)
    except OSError as error:
        if error.errno in SCARCE:
            raise
        return False
    return any(_link(f"{folder}/{name}") in links for name in names)


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _listed_children(pid: int) -> list[int] | None:
    """Return the children by ``/proc/PID/task/*/children``, None where the kernel has no such file."""
    folder = f"/proc/{pid}/task"
    try:
        threads = os.listdir(folder)
    except OSError as error:
        if error.errno in SCARCE:
            raise
        return [] if os.path.isdir("/proc/self") else None
    found: list[int] = []
    for thread in threads:
        listed = read_file(f"{folder}/{thread}/children", insist=True)
        if listed is not None:
            found += map(int, listed.split())
        elif os.path.isdir(f"{folder}/{thread}"):
            return None
    return found


# -- signals ----------------------------------------------------------------------------------------------------------


def send(pid: int, pidfd: int, signum: int) -> bool:
    """Send a signal to one process, by its pidfd where there is one.

    Returns:
        False if the process is gone.

    Raises:
        PermissionError: It runs as somebody else, whom this process may not signal; kill(2).
    """
    try:
        if pidfd >= 0:
            signal.pidfd_send_signal(pidfd, signum)
        else:
            os.kill(pid, signum)
    except ProcessLookupError:
        return False
    return True


def kill_all(targets: Iterable[int | Identity], signum: int, *, groups: bool = False) -> int:
    """Send a signal to many processes and to nothing else.

    Each process is held by a pidfd while it is compared with what was meant, so a number that was given to another
    process meanwhile is never hit.

    Args:
        targets: Pids, or identities where the look that found them lies some time back.
        signum: The signal.
        groups: Whether their process groups get the signal as well. The kernel delivers it to a whole group between
            two forks, which a program that forks faster than ``/proc`` can be read does not escape. The supervisor's
            own group never gets it.

    Returns:
        How many of the targets got it.

    Raises:
        OSError: Some could not be reached: they may not be signalled, or there is no descriptor to make sure who they
            are. The others have got it.
    """
    reached = 0
    trouble: OSError | None = None
    spared = {0, os.getpgrp()}
    for target in targets:
        pid = target if isinstance(target, int) else target.pid
        pidfd = -1
        try:
            expected = identity_of(target, insist=True) if isinstance(target, int) else target
            pidfd = _open_pidfd(pid)
            if expected is None and os.path.isdir("/proc/self"):
                continue
            if expected is not None and not expected.holds:
                continue
            if groups:
                _signal_group(pid, signum, spared)
            reached += send(pid, pidfd, signum)
        except OSError as error:
            trouble = error
        finally:
            if pidfd >= 0:
                os.close(pidfd)
    if trouble is not None:
        raise trouble
    return reached


def exterminate(find: Callable[[], Iterable[int]], *, rounds: int = 10) -> list[int]:
    """Send SIGKILL to what is found, and look again, until a look finds nobody new.

    Processes that fork while they are being killed leave children the first look could not see.

    Args:
        find: Looks for the processes that shall go.
        rounds: Looks at most, since nothing in the loop may take for ever.

    Returns:
        What the last look found: dying, or newly born.
    """
    killed: set[Identity] = set()
    found: list[int] = []
    for _ in range(rounds):
        found = list(find())
        fresh = {one for one in map(identity_of, found) if one is not None} - killed
        if not fresh:
            break
        kill_all(fresh, signal.SIGKILL, groups=True)
        killed |= fresh
    return found


def _open_pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return -1


def _signal_group(pid: int, signum: int, spared: set[int]) -> None:
    try:
        group = os.getpgid(pid)
        if group not in spared:
            spared.add(group)
            os.killpg(group, signum)
    except (ProcessLookupError, PermissionError):
        return
