"""Commands of the lifecycle, carried out on the operating system; what comes of them goes back as events.

The only place that starts, signals or kills a supervised program. A call that fails becomes an event or a report,
never an exception in the loop.
"""

from __future__ import annotations

import errno

from oxherd.core.events import Exited, Spawned, SpawnFailed, Swept, TimerFired
from oxherd.daemon.environment import child_environment, substitute
from oxherd.daemon.remains import LOOK_AGAIN
from oxherd.daemon.remembering import pipe_inodes
from oxherd.errors import ListenError, OxherdError, SpawnError
from oxherd.system.spawn import LaunchRequest
from oxherd.units import signal_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, KeysView

    from oxherd.core.events import Event
    from oxherd.core.exits import ExitStatus
    from oxherd.core.instance import Timer
    from oxherd.daemon.cards import CardWriter
    from oxherd.daemon.cgrouping import Cgroups
    from oxherd.daemon.children import Children
    from oxherd.daemon.handles import InstanceHandle, ProcessHandle
    from oxherd.daemon.hosting.hosting import Hosting
    from oxherd.daemon.sinks import Sinks
    from oxherd.system.loop import Loop
    from oxherd.system.loop import Timer as LoopTimer
    from oxherd.system.ports import System
    from oxherd.system.spawn import Launch
    from oxherd.system.tree import ProcessTable

__all__ = ["Executor"]

# Errors of a start that trying again cannot mend while nothing on the machine changes.
_PERMANENT = frozenset(
    {errno.EPERM, errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.ENOTDIR, errno.EISDIR, errno.ELOOP}
)

# Seconds between two looks at what an adopted program has left behind.
_AGAIN = 0.05

# Seconds between two looks at a report that cannot be waited for.
_PACE = 0.05


class Executor:
    """Starts, signals, kills and sweeps.

    Args:
        loop: For descriptors and timers.
        system: The port.
        children: Who hears of exits.
        sinks: The log files.
        cards: Writes the crash card of an exit.
        cgroups: Hard limits.
        feed: Takes the events that come of it.
        warn: Takes warnings about one instance for the event log.
    """

    def __init__(
        self,
        *,
        loop: Loop,
        system: System,
        children: Children,
        sinks: Sinks,
        cards: CardWriter,
        cgroups: Cgroups,
        feed: Callable[[InstanceHandle, Event], None],
        warn: Callable[[InstanceHandle, str], None],
    ) -> None:
        """Keep the parts."""
        self._loop = loop
        self._system = system
        self._children = children
        self._sinks = sinks
        self._cards = cards
        self._cgroups = cgroups
        self._feed = feed
        self.warn = warn
        self._sweeping: set[InstanceHandle] = set()
        self._look_due = False
        # What was said of an incarnation that cannot be ended yet: with every attempt it would be said again.
        self._told: dict[InstanceHandle, str] = {}
        self._look_later: LoopTimer | None = None
        self.need_hosting: Callable[[], Hosting]  # set when the supervisor is put together

    @property
    def pids(self) -> KeysView[int]:
        """The pids of all that is watched already."""
        return self._children.pids

    # -- start --------------------------------------------------------------------------------------------------

    def spawn(self, handle: InstanceHandle) -> None:
        """Exec the program of the current incarnation."""
        number = handle.machine.incarnation
        if handle.spec.hosted:
            self.need_hosting().spawn(handle, number)
            return
        try:
            launch = self._launch(handle)
        except (SpawnError, ListenError) as error:
            self.could_not(handle, number, error)
            return
        except (OSError, OxherdError) as error:
            # No descriptors for the pipes, no room for a cgroup: the machine's trouble, which may pass.
            what = error.message if isinstance(error, OxherdError) else f"making its pipes: {error.strerror}"
            self.could_not(handle, number, OxherdError(what))
            return
        self.born(handle, number, launch, forked=0)

    def born(self, handle: InstanceHandle, number: int, launch: Launch, *, forked: int) -> None:
        """The process of an incarnation exists: see to it until its end.

        Args:
            handle: The instance.
            number: The incarnation.
            launch: Its process.
            forked: The pid of the zygote that is its parent and tells how it ended; 0 for a child of our own.
        """
        handle.launch = launch
        handle.adopted = False
        handle.main_pid = launch.pid
        handle.start_ticks = self._system.start_ticks(handle.main_pid)
        handle.child = self._children.adopt(
            launch, lambda status: self._main_exited(handle, number, status), foreign=forked
        )
        if launch.report_fd is None:
            self._feed(handle, Spawned(number, launch.pid))
        else:
            self._await_report(handle, number, launch.report_fd)

    def _await_report(self, handle: InstanceHandle, number: int, report_fd: int) -> None:
        try:
            self._loop.watch_read(report_fd, lambda: self._launcher_reported(handle, number))
        except OSError:
            # No room in the epoll; epoll_ctl(2). What the launcher has to say stands in its pipe until somebody looks.
            self._loop.call_later(_PACE, lambda: self._look_for_report(handle, number))

    def _look_for_report(self, handle: InstanceHandle, number: int) -> None:
        launch = handle.launch
        if handle.machine.incarnation != number or launch is None or launch.report_fd is None:
            return
        self._launcher_reported(handle, number)
        if launch.report_fd is not None:
            self._await_report(handle, number, launch.report_fd)

    def adopt(self, handle: InstanceHandle, launch: Launch, *, foreign: int) -> None:
        """See to a process that an earlier supervisor had started, until its end.

        Args:
            handle: The instance.
            launch: Its process.
            foreign: The pid of the zygote that is its parent and tells how it ended, 0 where none is.
        """
        number = handle.machine.incarnation
        handle.launch = launch
        handle.oom_before = self._cgroups.oom_kills(handle)
        handle.child = self._children.adopt(
            launch, lambda status: self._main_exited(handle, number, status), foreign=foreign, stranger=not foreign
        )

    def told(self, pid: int, wait_status: int, parent: int) -> None:
        """The zygote ``parent`` says how a child of its ended, in the format of wait(2)."""
        self._children.told(pid, wait_status, parent)

    def ended_before(self, handle: InstanceHandle, status: ExitStatus) -> None:
        """A process ended while no supervisor watched; how is known only where its zygote has kept it."""
        self._main_exited(handle, handle.machine.incarnation, status)

    def _launch(self, handle: InstanceHandle) -> Launch:
        spec, slot = handle.spec, handle.slot
        stack = handle.process.stack
        if spec.command is None:
            raise SpawnError("reading the oxfile", 0, spec.name, "it has no command")
        sink, error_sink = self._sinks.of(handle.process)
        handle.pipes = [sink.open_pipe(slot)]
        if error_sink is not None:
            handle.pipes.append(error_sink.open_pipe(slot))
        request = LaunchRequest(
            argv=tuple(substitute(argument, slot) for argument in spec.command.argv),
            cwd=spec.working_dir,
            env=child_environment(spec, stack.name, handle.env, slot, handle.mark),
            stdout=handle.pipes[0].child_fd,
            stderr=handle.pipes[-1].child_fd,
            user=spec.user,
            group=spec.group,
            umask=spec.umask,
            nice=spec.nice,
            nofile=spec.limits.nofile,
            cgroups=self._cgroups.join(handle),
            no_new_privs=spec.user is not None,
        )
        if spec.passed:
            # Their addresses are the supervisor's, their descriptors the program's.
            request = self.need_hosting().passing.outfit(handle, request)
        launch = self._system.launch(request)
        for pipe in handle.pipes:
            pipe.close_child_end()
        handle.oom_before = self._cgroups.oom_kills(handle)
        return launch

    def _launcher_reported(self, handle: InstanceHandle, number: int) -> None:
        """The launcher has exec'd the program, or says why it could not."""
        launch = handle.launch
        if launch is None or launch.report_fd is None or handle.machine.incarnation != number:
            return
        report_fd = launch.report_fd
        outcome = launch.outcome()
        if outcome is None:
            return
        self._loop.unwatch(report_fd)
        for warning in outcome.warnings:
            self.warn(handle, warning)
        if outcome.error is None:
            self._feed(handle, Spawned(number, launch.pid))
            return
        # The launcher itself exits now; its exit is nobody's business but the reaper's.
        if handle.child is not None:
            handle.child.on_exit = _nobody
        handle.child = handle.launch = None
        self.could_not(handle, number, outcome.error)

    def could_not(
        self, handle: InstanceHandle, number: int, error: OxherdError, *, failure: dict[str, object] | None = None
    ) -> None:
        """Give back what the start had taken, keep why it failed, and say so.

        Args:
            handle: The instance.
            number: The incarnation that did not come to be.
            error: Why.
            failure: What the app's own interpreter said of it, or None.
        """
        handle.failure = failure
        self._close_pipes(handle)
        self._cgroups.release(handle)
        cause = f"could not start: {error.message}"
        self._cards.spawn_failed(handle, "\n".join(part for part in (cause, error.hint) if part))
        # A program that ran before and is gone now may be in the middle of a deploy: that passes.
        first = handle.machine.failures == 0
        permanent = first and isinstance(error, SpawnError) and error.errno in _PERMANENT
        self._feed(handle, SpawnFailed(number, cause, permanent))

    # -- signals ------------------------------------------------------------------------------------------------

    def signal(self, handle: InstanceHandle, signum: int) -> bool:
        """Send a signal to the main pid; False when there is none, or when it may not be sent, which is told."""
        child = handle.child
        try:
            return child is not None and self._system.signal(child.pid, child.pidfd, signum)
        except OSError as error:
            self._trouble(handle, f"{signal_name(signum)} cannot be sent to it: {error.strerror}")
            return False

    def kill_tree(self, handle: InstanceHandle) -> None:
        """SIGKILL everything the incarnation ever started; forks that race with it are found by the sweep."""
        handle.sweep_gentle = False
        try:
            pids = self._leftovers(handle)
            if handle.child is not None:
                pids = [*self._system.tree(handle.child.pid), *pids]
            trouble = self._system.kill_all(pids, 9)
        except OSError as error:
            # The sweep that follows the end of the main process looks until it can, and so does the next stop timeout.
            trouble = error
        if trouble is not None:
            self._trouble(handle, f"what it started cannot be killed yet: {trouble.strerror}")
        self.signal(handle, 9)
        try:
            self._cgroups.kill(handle)
        except OSError as error:
            self._trouble(handle, f"its cgroup cannot be killed yet: {error.strerror}")

    def _trouble(self, handle: InstanceHandle, text: str) -> None:
        """Say what stands in the way of an end; the same once, however often it is tried."""
        if self._told.get(handle) != text:
            self._told[handle] = text
            self.warn(handle, text)

    # -- the end ------------------------------------------------------------------------------------------------

    def _main_exited(self, handle: InstanceHandle, number: int, status: ExitStatus) -> None:
        launch = handle.launch
        if launch is not None and launch.report_fd is not None and handle.machine.incarnation == number:
            # The end can be seen before the launcher's report is read; the report comes first.
            self._launcher_reported(handle, number)
            if handle.launch is None:
                return
        handle.child = handle.launch = None
        for pipe in handle.pipes:
            pipe.drain()
        detail = self._cards.ended(handle, status)
        if handle.worker is not None:
            self.need_hosting().gone(handle)
        self._feed(handle, Exited(number, status, detail))

    def sweep(self, handle: InstanceHandle, *, gentle: bool) -> None:
        """Get rid of what the dead main pid left behind; feeds `Swept` when nothing is left."""
        handle.sweep_gentle = gentle
        handle.leftovers_told = False
        self._sweeping.add(handle)
        self.look_again()

    def look_again(self) -> None:
        """A child has gone: perhaps a sweep is over now. One look serves all that ended in this turn of the loop."""
        if self._sweeping and not self._look_due:
            self._look_due = True
            self._loop.call_soon(self._look_at_all)

    def _look_at_all(self) -> None:
        self._look_due = False
        try:
            table = self._system.survey(self._children.pids)
        except OSError as error:
            for handle in self._sweeping:
                self._cannot_sweep(handle, error)
            return
        for handle in tuple(self._sweeping):
            try:
                trouble = self._look(handle, table)
            except OSError as error:
                trouble = error
            if trouble is not None:
                self._cannot_sweep(handle, trouble)

    def _cannot_sweep(self, handle: InstanceHandle, error: OSError) -> None:
        """Look again later: whoever took this for "nothing is left" would forget an escapee, and start its successor."""
        self._trouble(handle, f"what it left behind cannot be ended yet: {error.strerror}")
        if self._look_later is None:
            self._look_later = self._loop.call_later(LOOK_AGAIN, self._look_now)

    def _look_now(self) -> None:
        self._look_later = None
        self.look_again()

    def _look(self, handle: InstanceHandle, table: ProcessTable | None) -> OSError | None:
        """Look for what is left of one and end it; return why some of it could not be reached."""
        left = self._leftovers(handle, table)
        if not left:
            self._sweeping.discard(handle)
            self._told.pop(handle, None)
            self._close_pipes(handle)
            self._cgroups.release(handle)
            self._feed(handle, Swept(handle.machine.incarnation))
            return None
        if handle.adopted:
            # They are not this supervisor's to reap, so nothing tells of their end; this lasts as long as they do.
            self._loop.call_later(_AGAIN, self.look_again)
        if not handle.sweep_gentle:
            return self._system.kill_all(left, 9)
        if handle.leftovers_told:
            return None
        handle.leftovers_told = True
        return self._system.kill_all(left, handle.spec.stop.signal)

    def _leftovers(self, handle: InstanceHandle, table: ProcessTable | None = None) -> list[int]:
        inodes = pipe_inodes(handle.pipes)
        left = self._system.leftovers(
            handle.mark, handle.main_pid, self._children.pids, inodes, table, anywhere=handle.adopted
        )
        # Nothing gets out of a cgroup, whatever it does to its session, environment and descriptors.
        return list({*left, *self._cgroups.members(handle)})

    def _close_pipes(self, handle: InstanceHandle) -> None:
        if handle.worker is not None:
            handle.worker.close()
            handle.worker = None
        if handle.passed is not None:
            handle.passed.close()
            handle.passed = None
        for pipe in handle.pipes:
            pipe.close_child_end()
            pipe.finish()
        handle.pipes = []
        self._sinks.settle()

    def rest(self, process: ProcessHandle) -> None:
        """Nothing of a process runs any more: give its log files back."""
        self._sinks.rest(process)

    # -- timers -------------------------------------------------------------------------------------------------

    def arm(self, handle: InstanceHandle, timer: Timer, seconds: float) -> None:
        """Start a timer of the instance, anew if it runs."""
        self.disarm(handle, timer)

        def fire() -> None:
            handle.timers.pop(timer, None)
            self._feed(handle, TimerFired(timer))

        handle.timers[timer] = self._loop.call_later(seconds, fire)

    def disarm(self, handle: InstanceHandle, timer: Timer) -> None:
        """Stop a timer of the instance."""
        armed = handle.timers.pop(timer, None)
        if armed is not None:
            armed.cancel()


def _nobody(_status: ExitStatus) -> None:
    """Hear of an exit that means nothing: the launcher's own, after it said what went wrong."""
