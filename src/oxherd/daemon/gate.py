"""Who may start now: dependencies and ``pre_start``.

An instance that wants to start asks here and is answered when its process's dependencies hold and the process's
``pre_start`` of this generation is through. The answer is no when that cannot happen any more.
"""

from __future__ import annotations

from oxherd.core import fleet
from oxherd.core.instance import State
from oxherd.daemon.hooks import Hook

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oxherd.config.model import Command
    from oxherd.daemon.handles import InstanceHandle, ProcessHandle
    from oxherd.daemon.hooks import Hooks
    from oxherd.daemon.supervisor import Supervisor
    from oxherd.system.spawn import Launch

__all__ = ["Gate", "facts_of"]

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
        hooks: Runs ``pre_start``.
    """

    def __init__(self, supervisor: Supervisor, hooks: Hooks) -> None:
        """Nobody waits yet."""
        self._supervisor = supervisor
        self._hooks = hooks
        self._waiting: set[InstanceHandle] = set()
        self._told: dict[ProcessHandle, str] = {}
        self._launches: dict[ProcessHandle, Launch] = {}

    def ask(self, handle: InstanceHandle) -> None:
        """Let an instance wait for its permission, which may come at once."""
        self._waiting.add(handle)
        self._consider(handle)

    def forget(self, handle: InstanceHandle) -> None:
        """The instance does not want to start any more; a ``pre_start`` that no other one waits for is ended."""
        self._waiting.discard(handle)
        process = handle.process
        launch = None if any(other.process is process for other in self._waiting) else self._launches.pop(process, None)
        if launch is not None:
            process.pre_start = ""
            self._hooks.kill(launch)

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
            if launch is None or self._launches.get(process) is launch:
                self._launches.pop(process, None)
                self._pre_start_over(process, error)

        stack = process.stack
        hook = Hook(
            process=process,
            title="pre_start",
            command=command,
            spec=process.spec,
            stack_name=stack.name,
            env=stack.env,
        )
        launch = self._hooks.launch(hook, over)
        if launch is not None:
            self._launches[process] = launch

    def _pre_start_over(self, process: ProcessHandle, error: str) -> None:
        process.pre_start = f"failed: {error}" if error else "done"
        for handle in tuple(process.instances.values()):
            self._consider(handle)
