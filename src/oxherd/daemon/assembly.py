"""The parts of the supervisor put together, its signals, its beginning and its end."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from functools import cache

from oxherd.control.paths import Home, stack_id
from oxherd.daemon import foreground, prober, rereading, scheduler, watcher
from oxherd.daemon.boot import Boot
from oxherd.daemon.cards import CardWriter
from oxherd.daemon.cgrouping import Cgroups
from oxherd.daemon.children import Children
from oxherd.daemon.compressors import Compressors
from oxherd.daemon.control_server import ControlServer
from oxherd.daemon.duties import Duties
from oxherd.daemon.eventlog import EventLog
from oxherd.daemon.executor import Executor
from oxherd.daemon.gate import Gate
from oxherd.daemon.helpers import Helpers
from oxherd.daemon.hooks import Hooks
from oxherd.daemon.inheritance import Inheritance
from oxherd.daemon.journal import Journal
from oxherd.daemon.operations import Operation
from oxherd.daemon.records import StackRecords
from oxherd.daemon.sampler import Sampler
from oxherd.daemon.sinks import Sinks
from oxherd.daemon.socket_guard import SocketGuard
from oxherd.daemon.stacks import StackKeeper
from oxherd.daemon.supervisor import Supervisor
from oxherd.daemon.upgrade import Upgrade
from oxherd.daemon.verbs import Verbs
from oxherd.daemon.watchdog import Watchdog
from oxherd.system.logs.spool import Spool
from oxherd.system.loop import Loop
from oxherd.system.machine import Machine
from oxherd.system.notify import Notifier
from oxherd.system.resources import own_memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oxherd.daemon.hosting.hosting import Hosting
    from oxherd.daemon.operations import Outcome
    from oxherd.daemon.options import Options
    from oxherd.daemon.rolling.rolls import Rolls
    from oxherd.daemon.stacks import Batches
    from oxherd.errors import OxherdError
    from oxherd.system.ports import System

# Those that end a supervisor.
ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)

__all__ = ["ENDING_SIGNALS", "Assembly", "own_state"]

# Seconds in which the last helpers (a compressor at work) may end by themselves when the supervisor ends.
_PATIENCE = 5.0


class Assembly:
    """The whole supervisor.

    Args:
        home: Its directories.
        options: Background, or ``oxherd run``.
        version: For the handshake.
        system: The operating system; a fake one in component tests.
        loop: The loop; one with virtual time in component tests.
        notifier: The line to the service manager; none in most tests.
        inheritance: What this process has kept through an upgrade, or None.
    """

    def __init__(
        self,
        home: Home,
        options: Options,
        *,
        version: str,
        system: System | None = None,
        loop: Loop | None = None,
        notifier: Notifier | None = None,
        inheritance: Inheritance | None = None,
    ) -> None:
        """Put the parts together; nothing is opened but the loop's own descriptors."""
        self._home = home
        self._options = options
        self._version = version
        self._inheritance = inheritance
        self._session = os.urandom(8).hex()  # tells this version of the process from the one before an upgrade
        self.lock = -1 if inheritance is None else inheritance.lock  # makes this the only supervisor of its home
        own = own_state(home, options)
        os.makedirs(own, mode=0o700, exist_ok=True)
        self._own = own
        self._mark = stack_id(own)
        self.loop = loop or Loop(self._callback_failed)
        self.system = system or Machine.with_all_descriptors()
        self.events = EventLog(os.path.join(own, "events.jsonl"), self.system.wall, self.loop.call_last)
        self.journal = Journal(
            Home(runtime=home.runtime, state=own), lambda text: self.events.publish("state-trouble", text)
        )
        self.supervisor = Supervisor(loop=self.loop, system=self.system, journal=self.journal, events=self.events)
        self.watchdog = Watchdog(self.supervisor, notifier or Notifier({}), home.runtime)
        self._server: ControlServer | None = None
        self._guard: SocketGuard | None = None
        self._exit_code = 0
        self.ending = False
        self._signals_to_end = 0
        self.foreground = foreground.Foreground(self, options) if options.run is not None else None
        self._put_together()

    def _put_together(self) -> None:
        supervisor, loop = self.supervisor, self.loop
        # The sweeps look again whenever a child is gone; the executor exists some lines later.
        self.children = Children(
            loop,
            self.system,
            lambda: self.executor.look_again(),  # noqa: PLW0108
            lambda text: self.events.publish("process-trouble", text),
        )
        helpers = Helpers(loop, self.system, self.children)
        cgroups = Cgroups(loop, self.system, lambda text: self.events.publish("cgroup-trouble", text))
        self.compressors = Compressors(helpers, self._mark)
        self.sinks = Sinks(
            loop=loop,
            system=self.system,
            home=self._home,
            start_helper=self.compressors.start,
            report=lambda process, kind, text: supervisor.tell(kind, text, process),
            echo=self.foreground.echo if self.foreground is not None else None,
            spool=Spool(
                self._home.spool if self._options.run is None else self._home.run_spool(self._options.identity),
                lambda text: self.events.publish("log-trouble", text),
            ),
        )
        self.cards = CardWriter(loop=loop, system=self.system, home=self._home, cgroups=cgroups)
        self.executor = Executor(
            loop=loop,
            system=self.system,
            children=self.children,
            sinks=self.sinks,
            cards=self.cards,
            cgroups=cgroups,
            feed=supervisor.feed,
            warn=lambda handle, text: supervisor.announce(handle, "warning", text),
        )
        hooks = Hooks(supervisor, self.children, self.sinks)
        self.duties = self._duties(helpers, hooks)
        self.records = StackRecords(loop, self.journal)
        self.keeper = StackKeeper(
            supervisor, self.records, self.sinks, identify=stack_id, mark=self._mark, euid=os.geteuid()
        )
        supervisor.assemble(
            executor=self.executor,
            gate=Gate(supervisor, hooks),
            duties=self.duties,
            save=self.records.save,
            make_rolls=self._rolls,
            make_hosting=lambda: self._hosting(cgroups),
        )
        self.rereader = cache(lambda: self._make_rereader(helpers))
        self.boot = Boot(
            supervisor=supervisor, keeper=self.keeper, rereader=self.rereader, sinks=self.sinks, mark=self._mark
        )
        self._upgrade = Upgrade(
            supervisor,
            helpers,
            self._mark,
            arguments=self._arguments,
            inherit=self._bequeath,
            watchdog=self.watchdog,
        )
        self.verbs = Verbs(
            supervisor=supervisor,
            keeper=self.keeper,
            sinks=self.sinks,
            cards=self.cards,
            hooks=hooks,
            shutdown=self.end,
            upgrade=self._upgrade.begin,
            facts=self._facts,
        )

    def _rolls(self) -> Rolls:
        from oxherd.config.cpus import usable_cpus  # noqa: PLC0415 - see _hosting
        from oxherd.daemon.rolling.rolls import Rolls  # noqa: PLC0415 - see _hosting

        return Rolls(self.supervisor, cpus=usable_cpus())

    def _hosting(self, cgroups: Cgroups) -> Hosting:
        # Megabytes that a supervisor without hosted processes does not carry.
        from oxherd.daemon.hosting.hosting import Hosting  # noqa: PLC0415

        return Hosting(
            self.supervisor,
            self.executor,
            children=self.children,
            sinks=self.sinks,
            cgroups=cgroups,
            home=self._home,
        )

    def _duties(self, helpers: Helpers, hooks: Hooks) -> Duties:
        loop, system = self.loop, self.system
        duties = Duties(self.supervisor, hooks)
        duties.assemble(
            sampler=Sampler(loop, system.sample, system.pss, duties.weighed),
            make_prober=lambda: prober.Prober(
                loop=loop,
                helpers=helpers,
                report=duties.probed,
                trouble=lambda text: self.events.publish("probe-trouble", text),
                chance=system.chance,
            ),
            make_scheduler=lambda: scheduler.Scheduler(loop, system.wall),
            make_watcher=lambda: watcher.Watcher(
                loop=loop,
                helpers=helpers,
                on_change=duties.changed_files,
                mark=self._mark,
                trouble=lambda text: self.events.publish("watch-trouble", text),
            ),
        )
        return duties

    def _make_rereader(self, helpers: Helpers) -> rereading.Rereader:
        own = Home(runtime="", state=self._own)
        return rereading.Rereader(helpers, lambda identity: os.path.join(own.stack(identity), "stack.json"), self._mark)

    def _facts(self) -> dict[str, object]:
        return {
            "version": self._version,
            "memory_bytes": own_memory(),
            "home": self._home.state,
            "session": self._session,
            "events_error": self.events.write_error,
        }

    # -- the beginning ------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Take commands, and bring back what is wanted.

        Raises:
            OxherdError: The control socket cannot be opened.
        """
        socket_path = self._home.socket if self.foreground is None else self._home.run_socket(self._options.identity)
        self._server = ControlServer(
            self.loop,
            socket_path,
            self.verbs.dispatch,
            version=self._version,
            owner_uid=os.geteuid(),
            before_sending=self._write_down,
            inherited=-1 if self._inheritance is None else self._inheritance.control,
        )
        self._guard = SocketGuard(
            self.loop,
            self._server,
            prepare=self._home.prepare,
            tell=lambda text: self.events.publish("socket", text),
        )
        for signum in ENDING_SIGNALS:
            self.loop.on_signal(signum, self._told_to_end)
        for signum in (signal.SIGHUP, signal.SIGUSR1):
            self.loop.on_signal(signum, self._reopen)
        self.loop.on_signal(signal.SIGUSR2, lambda _signum: self._upgrade.begin(sys.executable, self._upgraded))
        if self.foreground is not None:
            self.foreground.obey()
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        # Blocked until now in PID 1 (`oxherd.cli.entry`); one that came meanwhile is there in the first turn of the loop.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)
        before = self._inheritance
        if before is None:
            self.events.publish("supervisor-started", f"supervisor {self._version} started", pid=os.getpid())
        else:
            text = f"supervisor {self._version} goes on, in place of {before.version}"
            self.events.publish("supervisor-upgraded", text, pid=os.getpid(), before=before.version)
        inherited = None if before is None else before.listeners
        if self.foreground is not None:
            self.foreground.begin(inherited)
        else:
            self.boot.begin(inherited)
            self.watchdog.ready()

    def _write_down(self) -> None:
        self.supervisor.catch_up()
        self.records.flush()

    def run(self) -> int:
        """Run the loop until the end; return the exit code."""
        self.loop.run()
        return self._exit_code

    # -- signals ------------------------------------------------------------------------------------------------

    def _told_to_end(self, signum: int) -> None:
        self._signals_to_end += 1
        if self._signals_to_end == 1:
            self.events.publish("supervisor-stopping", f"got {signal.Signals(signum).name}; stopping everything")
            if self.foreground is not None:
                self.foreground.say(f"{signal.Signals(signum).name}: stopping; once more to force")
            self.end(_nothing)
            if signum == signal.SIGQUIT:
                self._quickly()
            return
        for handle in self.supervisor.instances():
            if handle.machine.alive:
                self.executor.kill_tree(handle)

    def _quickly(self) -> None:
        """SIGQUIT: workers do not wait for their connections; other programs have their stop signal as ever."""
        for handle in self.supervisor.instances():
            if handle.worker is not None:
                self.executor.signal(handle, signal.SIGQUIT)

    def _reopen(self, signum: int) -> None:
        if self._guard is not None:
            self._guard.look()
        for stack in self.supervisor.stacks.values():
            for process in stack.processes.values():
                self.sinks.reopen(process)
        if self.foreground is not None and signum == signal.SIGUSR1:
            self.foreground.forward(signum)

    # -- an upgrade ---------------------------------------------------------------------------------------------

    def _arguments(self) -> list[str]:
        return [] if self.foreground is None else self.foreground.arguments()

    def _bequeath(self) -> Inheritance:
        """Write down what is not yet, and return what the next version is given."""
        self.loop.end_turn()  # which this version does not have; it may still change records
        self.records.flush()
        assert self._server is not None
        hosting = self.supervisor.hosting
        return Inheritance(
            version=self._version,
            lock=self.lock,
            control=self._server.fileno(),
            listeners={} if hosting is None else hosting.descriptors(),
            previous=sys.executable,
        )

    def _upgraded(self, _version: str, error: OxherdError | None) -> None:
        """SIGUSR2 has no other answer than the events; in a run they are on the screen."""
        if error is not None:
            self.events.publish("upgrade-refused", error.message)

    # -- the end ------------------------------------------------------------------------------------------------

    def end(self, down: Callable[[], None]) -> None:
        """Stop every process, keeping what is wanted for the next start, then leave the loop."""

        def alone() -> None:
            down()
            # One more turn of the loop lets the answer reach whoever asked for the end.
            self.loop.call_later(0.02, self.loop.stop)

        def over(_outcome: Outcome) -> None:
            self._when_alone(alone, self.loop.now() + _PATIENCE)

        if self.ending:
            self._when_all_down(down)
            return
        self.ending = self.supervisor.ending = True
        self.watchdog.stopping()
        self.journal.end()
        self.duties.end_all()
        self.duties.close()
        stacks = [self.keeper.stop_for_now(stack) for stack in self.supervisor.stacks.values()]
        Operation(self.supervisor, _side_by_side(stacks), progress=None, done=over)

    def _when_all_down(self, down: Callable[[], None]) -> None:
        if all(handle.down for handle in self.supervisor.instances()):
            down()
        else:
            self.loop.call_later(0.05, lambda: self._when_all_down(down))

    def _when_alone(self, then: Callable[[], None], deadline: float) -> None:
        """Go on when no helper is left either: the file watcher was killed, a compressor ends by itself."""
        self.compressors.end()  # the one that ends now must not be followed by another
        pids = tuple(self.children.pids)
        if pids and self.loop.now() < deadline:
            self.loop.call_later(0.01, lambda: self._when_alone(then, deadline))
            return
        self.system.kill_all(pids, signal.SIGKILL)
        then()

    def leave(self, exit_code: int) -> None:
        """End the loop with an exit code; everything is down already."""
        self._exit_code = exit_code
        self.ending = self.supervisor.ending = True
        self.journal.end()
        self.duties.end_all()
        self.duties.close()
        # By the loop itself: one that is told to stop before it runs would run.
        self._when_alone(lambda: self.loop.call_soon(self.loop.stop), self.loop.now() + _PATIENCE)

    def close(self) -> None:
        """Close files and sockets."""
        self.loop.end_turn()
        self.records.close()
        if self._guard is not None:
            self._guard.close()
        if self._server is not None:
            self._server.close()
        for stack in self.supervisor.stacks.values():
            for process in stack.processes.values():
                self.sinks.close(process)
        self.sinks.close_spool()
        if self.foreground is not None:
            self.foreground.close()
        self.events.publish("supervisor-stopped", "supervisor stopped")
        self.watchdog.close()
        self.journal.close()
        self.events.close()
        self.loop.close()

    def _callback_failed(self, error: BaseException) -> None:
        """A bug in one callback: say it where it is found, and go on."""
        sys.stderr.write("".join(traceback.format_exception(error)))
        sys.stderr.flush()
        self.events.publish("internal-error", f"{type(error).__name__}: {error}")


def own_state(home: Home, options: Options) -> str:
    """Return where a supervisor keeps its state.

    A run beside a background supervisor of the same home keeps its own journal and marks.
    """
    return home.state if options.run is None else os.path.join(home.state, f"run-{options.identity}")


def _side_by_side(stacks: list[Batches]) -> Batches:
    """Stop all stacks at once: first batches together, then the second ones."""
    depth = max((len(batches) for batches in stacks), default=0)
    return [
        [target for batches in stacks if level < len(batches) for target in batches[level]] for level in range(depth)
    ]


def _nothing() -> None:
    """Nobody waits for the end."""
