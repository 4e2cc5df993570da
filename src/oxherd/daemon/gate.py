"""Who may start now: dependencies and ``pre_start``.

An instance that wants to start asks here and is answered when its process's dependencies hold and the process's
``pre_start`` of this generation is through. The answer is no when that cannot happen any more.
"""

from __future__ import annotations

from oxherd.core import fleet
from oxherd.core.instance import State
from oxherd.daemon.environment import child_environment, substitute
from oxherd.errors import SpawnError
from oxherd.system.spawn import LaunchRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oxherd.config.model import Command
    from oxherd.core.exits import ExitStatus
    from oxherd.daemon.children import Children
    from oxherd.daemon.handles import InstanceHandle, ProcessHandle
    from oxherd.daemon.sinks import Sinks
    from oxherd.daemon.supervisor import Supervisor
    from oxherd.system.spawn import Launch

__all__ = ["Gate", "facts_of"]

_SIGKILL = 9

_UP = frozenset({State.STARTING, State.RUNNING})


def facts_of(process: ProcessHandle) -> fleet.ProcessFacts:
    """Return what a dependent may rely on: every instance counts."""
    machines = [handle.machine for handle in process.instances.values() if not handle.retired]
    completed = bool(machines) and all(machine.completed for machine in machines)
    return fleet.ProcessFacts(
        started=bool(machines) and all(machine.state in _UP or machine.completed for machine in machines),
        ready=bool(machines) and all(machine.state is State.RUNNING or machine.completed for machine in machines),
        completed=completed,
        failed=any(machine.state is State.CRASHED for machine in machines)
        or any(machine.state is State.EXITED and not machine.completed for machine in machines),
    )


class Gate:
    """Answers the instances that wait to start.

    Args:
        supervisor: Gets the answers.
        children: Watches ``pre_start``.
        sinks: Where the output of ``pre_start`` goes.
    """

    def __init__(self, supervisor: Supervisor, children: Children, sinks: Sinks) -> None:
        """Nobody waits yet."""
        self._supervisor = supervisor
        self._children = children
        self._sinks = sinks
        self._waiting: set[InstanceHandle] = set()
        self._told: dict[ProcessHandle, str] = {}
        self._hooks: dict[ProcessHandle, Launch] = {}

    def ask(self, handle: InstanceHandle) -> None:
        """Let an instance wait for its permission, which may come at once."""
        self._waiting.add(handle)
        self._consider(handle)

    def forget(self, handle: InstanceHandle) -> None:
        """The instance does not want to start any more; a ``pre_start`` that no other one waits for is ended."""
        self._waiting.discard(handle)
        process = handle.process
        launch = None if any(other.process is process for other in self._waiting) else self._hooks.pop(process, None)
        if launch is not None:
            process.pre_start = ""
            system = self._supervisor.system
            system.kill_all(system.tree(launch.pid), _SIGKILL)
            system.signal(launch.pid, launch.pidfd, _SIGKILL)

    def changed(self, handle: InstanceHandle) -> None:
        """Another instance has changed: whoever waits for its process is considered again."""
        if not self._waiting:
            return
        stack = handle.process.stack
        for waiting in tuple(self._waiting):
            if waiting.process.stack is stack and waiting is not handle:
                self._consider(waiting)

    def _consider(self, handle: InstanceHandle) -> None:
        process = handle.process
        if handle not in self._waiting:
            return
        depends = {process.name: process.spec.depends_on}
        others = process.stack.processes
        facts = {name: facts_of(others[name]) for name, _ in process.spec.depends_on if name in others}
        blocked = fleet.blocked_by(process.name, depends, facts)
        if blocked is not None:
            if blocked.failed:
                self._answer(handle, ok=False, detail=blocked.text)
            elif self._told.get(process) != blocked.text:
                self._told[process] = blocked.text
                self._supervisor.announce(handle, "blocked", blocked.text)
            return
        self._told.pop(process, None)
        if process.spec.pre_start is None or process.pre_start == "done":
            self._answer(handle, ok=True)
        elif process.pre_start.startswith("failed"):
            self._answer(handle, ok=False, detail=process.pre_start.removeprefix("failed: "))
        elif process.pre_start == "":
            process.pre_start = "running"
            self._begin_pre_start(process, process.spec.pre_start)

    def _answer(self, handle: InstanceHandle, *, ok: bool, detail: str = "") -> None:
        self._waiting.discard(handle)
        self._supervisor.permitted(handle, ok=ok, detail=detail)

    def _begin_pre_start(self, process: ProcessHandle, command: Command) -> None:
        launch: Launch | None = None

        def over(error: str) -> None:
            # One that was ended because nobody waited any more says nothing; another may be at work already.
            if launch is None or self._hooks.get(process) is launch:
                self._hooks.pop(process, None)
                self._pre_start_over(process, error)

        launch = self.run_hook(process, "pre_start", command, over)
        if launch is not None:
            self._hooks[process] = launch

    def _pre_start_over(self, process: ProcessHandle, error: str) -> None:
        process.pre_start = f"failed: {error}" if error else "done"
        for handle in tuple(process.instances.values()):
            self._consider(handle)

    def run_hook(
        self, process: ProcessHandle, title: str, command: Command, done: Callable[[str], None]
    ) -> Launch | None:
        """Run ``pre_start`` or ``pre_reload`` once, its output in the process's log.

        Args:
            process: Whose hook it is.
            title: The key, for texts.
            command: What to run.
            done: Called once with "" or with what went wrong; before the return where it could not be started.

        Returns:
            The running hook, or None where it could not be started.
        """
        spec = process.spec
        mark = f"{process.stack.mark}/{process.name}/{title}/{process.generation}"
        pipe = None
        try:
            sink, _ = self._sinks.of(process)
            pipe = sink.open_pipe(0)
            launch = self._supervisor.system.launch(
                LaunchRequest(
                    argv=tuple(substitute(argument, 0) for argument in command.argv),
                    cwd=spec.working_dir,
                    env=child_environment(spec, process.stack.name, process.stack.env, 0, mark),
                    stdout=pipe.child_fd,
                    stderr=pipe.child_fd,
                    user=spec.user,
                    group=spec.group,
                    umask=spec.umask,
                    no_new_privs=spec.user is not None,
                )
            )
        except (SpawnError, OSError) as error:
            if pipe is not None:
                pipe.close_child_end()
                pipe.finish()
            reason = error.message if isinstance(error, SpawnError) else error.strerror
            done(f"{title} could not start: {reason}")
            return None
        pipe.close_child_end()
        self._supervisor.tell("hook", f"{title} started", process)

        def over(status: ExitStatus) -> None:
            error = ""
            if launch.report_fd is not None:
                outcome = launch.outcome()
                if outcome is not None and outcome.error is not None:
                    error = f"{title} could not start: {outcome.error.message}"
            pipe.drain()
            left = self._supervisor.system.leftovers(mark, launch.pid, self._children.pids, ())
            self._supervisor.system.kill_all(left, _SIGKILL)
            pipe.finish()
            if not error and not status.success:
                error = f"{title} {status.text}"
            self._supervisor.tell("hook", error or f"{title} done", process)
            done(error)

        self._children.adopt(launch, over)
        return launch
