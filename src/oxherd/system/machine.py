"""The real operating system behind the `oxherd.system.ports.System` protocol."""

from __future__ import annotations

import os
import resource
import time

from oxherd.system import cgroups, identity, reaper, resources, spawn, tree
from oxherd.system.logs.sink import LogSink
from oxherd.system.logs.surroundings import Surroundings
from oxherd.system.placement import OomCounter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from oxherd.config.model import LimitSpec, LogSpec
    from oxherd.core.endpoint import Address
    from oxherd.core.exits import ExitStatus
    from oxherd.system.logs.echo import Echo
    from oxherd.system.logs.spool import Spool
    from oxherd.system.loop import Loop
    from oxherd.system.outside import Stopped
    from oxherd.system.tree import ProcessTable

__all__ = ["Machine"]

_SIGKILL = 9


class Machine:
    """Linux, and as much of it as other systems have. See the protocol for what each call does.

    Args:
        file_limits: Soft and hard limit of open files that programs get, or None: that of this process.
    """

    def __init__(self, file_limits: tuple[int, int] | None = None) -> None:
        """Change nothing."""
        self._file_limits = file_limits
        self._oom_counter = OomCounter()
        self._surroundings: Surroundings | None = None
        self._own_children = tree.OwnChildren()

    @classmethod
    def with_all_descriptors(cls) -> Machine:
        """Take as many descriptors as this process may have; its programs start with what it was given.

        A process costs the supervisor four of them, and the usual 1024 would be used up by 250. Programs that use
        select(2) break where they are given more, so they are not.
        """
        machine = cls(_raised_file_limit())
        # What is kept open is open from the beginning: a machine that runs out of descriptors later has it.
        machine._oom_counter.count()
        machine._own_children.open()
        return machine

    def close(self) -> None:
        """Give back the descriptors it keeps."""
        self._oom_counter.close()
        self._own_children.close()

    def wall(self) -> float:
        """Return unix time."""
        return time.time()

    def chance(self) -> float:
        """Return a random number in [0, 1)."""
        # The random module would cost a third of a megabyte for a number now and then.
        return int.from_bytes(os.urandom(6)) / (1 << 48)

    def launch(self, request: spawn.LaunchRequest) -> spawn.Launch:
        """Start a program, with the limit of open files that this process was started with."""
        launch = spawn.launch(request)
        if self._file_limits is not None and request.nofile is None:
            try:
                resource.prlimit(launch.pid, resource.RLIMIT_NOFILE, self._file_limits)
            except OSError:
                # It has ended already, or runs as somebody else: then it keeps a limit that is higher than asked for.
                return launch
        return launch

    def exit_of(self, pid: int, pidfd: int) -> ExitStatus | None:
        """Return how a child ended, and reap it."""
        return reaper.exit_of(pid, pidfd)

    def next_dead(self) -> int | None:
        """Return the pid of some dead child without reaping it; waitid(2), WNOWAIT."""
        return reaper.next_dead()

    def signal(self, pid: int, pidfd: int, signum: int) -> bool:
        """Send a signal to one process."""
        return tree.send(pid, pidfd, signum)

    def tree(self, pid: int) -> list[int]:
        """Return the living descendants of a process."""
        return tree.descendants(pid)

    def survey(self, known: Collection[int]) -> ProcessTable:
        """Read what there is, if an orphan has fallen to this process."""
        # The roots of everything that is left are our children. Mostly there are none: one read, not a whole scan.
        strangers = any(pid not in known for pid in self._own_children.pids())
        return tree.ProcessTable.scan() if strangers else tree.ProcessTable({})

    def leftovers(
        self,
        mark: str,
        main_pid: int,
        known: Collection[int],
        pipes: Collection[int],
        table: ProcessTable | None = None,
        *,
        anywhere: bool = False,
    ) -> list[int]:
        """Return what an incarnation left to its subreaper, or to anybody."""
        own = os.getpid()
        if anywhere:
            # An empty table says that nobody has fallen to this process, and of others nothing.
            return tree.strays_of(mark, main_pid, known, pipes, table=table if table and table.processes else None)
        table = self.survey(known) if table is None else table
        found = tree.orphans_of(mark, main_pid, own, known, pipes, table=table)
        # A look that meets a dead orphan proves nothing: it may have forked after the pids were listed. Whoever looks
        # does so again when the orphan is reaped. One that lived when it was listed may have died before its mark was
        # read, and a dead process has none: so they are asked again, now.
        return found or [pid for pid in table.children(own) if pid not in known and _has_ended(pid)]

    def kill_all(self, pids: Iterable[int], signum: int) -> OSError | None:
        """Send a signal to many processes; return why some could not be reached."""
        try:
            # Of a group between two forks, too: what forks faster than /proc can be read does not escape that.
            tree.kill_all(pids, signum, groups=signum == _SIGKILL)
        except OSError as error:
            return error
        return None

    def start_ticks(self, pid: int) -> int:
        """Return the kernel's start time of a process."""
        return identity.start_ticks(pid) or 0

    def forked_by(self, pid: int, pidfd: int, zygote: int) -> bool:
        """Whether a process is a zygote's child."""
        from oxherd.system import parentage  # noqa: PLC0415 - only where something is hosted

        return parentage.forked_by(pid, pidfd, zygote)

    def hold(self, pid: int, start_ticks: int) -> int | None:
        """Return a pidfd of the process that was started then."""
        from oxherd.system import adopt  # noqa: PLC0415 - only where an earlier supervisor has left something

        return adopt.hold(pid, start_ticks)

    def output_of(self, pids: Iterable[int], inode: int) -> int:
        """Return a new descriptor that reads a pipe some process writes to."""
        from oxherd.system import adopt  # noqa: PLC0415

        return adopt.output_of(pids, inode)

    def borrow(self, pid: int, pidfd: int, inodes: Collection[int]) -> dict[int, int]:
        """Return copies of a process's sockets."""
        from oxherd.system import borrow  # noqa: PLC0415 - only where a supervisor takes over what passed its listeners

        return borrow.borrow_sockets(pid, pidfd, inodes)

    def sample(self, pid: int) -> resources.TreeSample:
        """Return memory and CPU of a tree."""
        return resources.sample(pid)

    def pss(self, pid: int) -> int:
        """Return the proportional memory of a tree."""
        return resources.pss_bytes(pid)

    def oom_kills(self) -> int | None:
        """Return how often the kernel has killed for memory around here."""
        return self._oom_counter.count()

    def make_cgroup(self, name: str, limits: LimitSpec) -> cgroups.CgroupHandle:
        """Make a cgroup with hard limits."""
        return cgroups.prepare(name, limits)

    def catches(self, pid: int, signum: int) -> bool:
        """Whether a process has a handler for a signal."""
        return identity.catches(pid, signum)

    def accepting(self, pids: Iterable[int], inode: int) -> bool | None:
        """Whether some processes accept from a listener."""
        from oxherd.system import outside  # noqa: PLC0415 - only where listeners are passed to a program

        return outside.accepting(pids, inode)

    def stop_accepting(self, pids: Iterable[int], inode: int) -> Stopped:
        """Make some processes stop accepting from a listener."""
        from oxherd.system import outside  # noqa: PLC0415

        return outside.stop_accepting(pids, inode)

    def established(self, pids: Iterable[int], addresses: Iterable[Address]) -> int:
        """Return how many connections to some addresses some processes have."""
        from oxherd.system import outside  # noqa: PLC0415

        return outside.established(pids, addresses)

    def open_sink(
        self,
        *,
        loop: Loop,
        path: str,
        index_path: str,
        process: str,
        spec: LogSpec,
        stream: str,
        start_helper: Callable[[list[str]], None],
        on_trouble: Callable[[str], None],
        on_recovered: Callable[[str], None],
        echo: Echo | None,
        owner: tuple[int, int] | None,
        spool: Spool | None,
    ) -> LogSink:
        """Open a log file."""
        if self._surroundings is None:
            self._surroundings = Surroundings(loop.call_last)
        return LogSink(
            loop=loop,
            path=path,
            index_path=index_path,
            process=process,
            spec=spec,
            stream=stream,
            start_helper=start_helper,
            on_trouble=on_trouble,
            on_recovered=on_recovered,
            echo=echo,
            owner=owner,
            spool=spool,
            surroundings=self._surroundings,
        )


def _raised_file_limit() -> tuple[int, int] | None:
    """Raise the limit of open files as far as it may be; return what it was, None if that changed nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard or not hasattr(resource, "prlimit"):
        return None
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):  # macOS calls a limit unlimited that it does not grant
        return None
    return soft, hard


def _has_ended(pid: int) -> bool:
    """Whether a process waits to be reaped."""
    stat = identity.read_stat(pid)
    return stat is not None and not stat.living
