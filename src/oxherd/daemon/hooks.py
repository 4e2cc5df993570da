"""The commands of a person's own that run before a new generation: ``pre_reload`` and ``pre_start``.

A generation that replaces one that serves has its hooks run first, while the old one serves, and with the settings that
are to come. Those settings are taken only when the hooks have succeeded: until then a crash restarts what was accepted
last. Every restart goes this way, whether a person, an apply or a changed file asks for it. What is down has nothing to
lose; its ``pre_start`` is run by the gate, when it starts.
"""

from __future__ import annotations

import collections

from oxherd.daemon.environment import child_environment, keep, substitute
from oxherd.daemon.remains import end_remains, kill_branch
from oxherd.errors import SpawnError
from oxherd.records import dataclass, replace
from oxherd.system.spawn import LaunchRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from oxherd.config.model import Command, Oxfile, ProcessSpec
    from oxherd.core.exits import ExitStatus
    from oxherd.daemon.children import Children
    from oxherd.daemon.handles import ProcessHandle, StackHandle
    from oxherd.daemon.sinks import Sinks
    from oxherd.daemon.supervisor import Supervisor
    from oxherd.system.spawn import Launch

__all__ = ["Hook", "Hooks", "Offer", "needs_restart"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """One run of a hook.

    Attributes:
        process: Whose hook it is, and whose log gets its output.
        title: The key, for texts.
        command: What to run.
        spec: The settings it runs under.
        stack_name: What it is told its stack is called.
        env: The caller's environment, below that of ``spec``.
    """

    process: ProcessHandle
    title: str
    command: Command
    spec: ProcessSpec
    stack_name: str
    env: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a known stack would be after a request, while nothing of it has been taken yet.

    Attributes:
        name: The stack's name.
        env: The environment its processes would get of the caller.
        specs: The settings by process; of what is not in it the present ones stay.
    """

    name: str
    env: Mapping[str, str]
    specs: Mapping[str, ProcessSpec]

    @classmethod
    def of(cls, stack: StackHandle, oxfile: Oxfile | None, env: Mapping[str, str] | None, *, update_env: bool) -> Offer:
        """Return what a request offers; ``oxfile`` None offers the stack as it is."""
        if oxfile is None:
            return cls(name=stack.name, env=stack.env, specs={})
        return cls(
            name=oxfile.name,
            env=keep(env) if update_env and env is not None else stack.env,
            specs={spec.name: spec for spec in oxfile.processes},
        )

    def pre_reload(self, process: ProcessHandle) -> list[Hook]:
        """Return the hook that runs before a reload of a process, if it has one."""
        return self._hook(process, "pre_reload", self._spec(process).pre_reload)

    def pre_start(self, process: ProcessHandle) -> list[Hook]:
        """Return the hook that runs before a generation that replaces a living one; none where nothing lives."""
        if not any(handle.machine.alive for handle in process.instances.values()):
            return []
        return self._hook(process, "pre_start", self._spec(process).pre_start)

    def restarts(self, process: ProcessHandle) -> bool:
        """Whether an apply of it gives a process of the stack another generation."""
        if not process.wanted or process.name not in self.specs:
            return False
        return self.env != process.stack.env or needs_restart(process.spec, self.specs[process.name])

    def _spec(self, process: ProcessHandle) -> ProcessSpec:
        return self.specs.get(process.name, process.spec)

    def _hook(self, process: ProcessHandle, title: str, command: Command | None) -> list[Hook]:
        if command is None:
            return []
        spec = self._spec(process)
        return [
            Hook(process=process, title=title, command=command, spec=spec, stack_name=self.name, env=self.env),
        ]


def needs_restart(old: ProcessSpec, new: ProcessSpec) -> bool:
    """Whether anything but the number of instances differs.

    The number of an app's workers stands in its settings as well, as it was written.
    """
    app = replace(old.app, workers=new.app.workers) if old.app is not None and new.app is not None else old.app
    return replace(old, app=app, instances=new.instances, set_keys=new.set_keys) != new


class _Turn:
    """A hook that runs or waits for those of its process before it."""

    __slots__ = ("hook", "launch", "over", "stopped")

    def __init__(self, hook: Hook, over: Callable[[str], None]) -> None:
        self.hook = hook
        self.over = over
        self.launch: Launch | None = None
        self.stopped = False


class Hooks:
    """Runs hooks; of those before a replacement never two of a process at a time.

    Args:
        supervisor: Told of them.
        children: Watches them.
        sinks: Where their output goes.
    """

    def __init__(self, supervisor: Supervisor, children: Children, sinks: Sinks) -> None:
        """Nothing runs yet."""
        self._supervisor = supervisor
        self._children = children
        self._sinks = sinks
        self._turns: dict[ProcessHandle, collections.deque[_Turn]] = {}

    # -- before a replacement -----------------------------------------------------------------------------------

    def run(self, hooks: Sequence[Hook], done: Callable[[Hook | None, str], None]) -> None:
        """Run hooks one after the other, up to the first that fails.

        Args:
            hooks: What to run.
            done: Called once, perhaps before the return, with the hook that failed and why, or with None and "".
        """
        if not hooks:
            done(None, "")
            return
        hook, *rest = hooks

        def over(error: str) -> None:
            if error:
                done(hook, error)
            else:
                self.run(rest, done)

        turns = self._turns.setdefault(hook.process, collections.deque())
        turns.append(_Turn(hook, over))
        if len(turns) == 1:
            self._begin(hook.process)

    def mark(self, hooks: Sequence[Hook]) -> None:
        """Let the gate know which of the generations that have just begun had their ``pre_start`` already."""
        for hook in hooks:
            if hook.title == "pre_start" and hook.process.pre_start == "":
                hook.process.pre_start = "done"

    def end(self, process: ProcessHandle) -> None:
        """The process is not wanted any more: end the hook that runs for it, and run none that waits."""
        for turn in self._turns.get(process, ()):
            turn.stopped = True
            if turn.launch is not None:
                self.kill(turn.launch)

    def _begin(self, process: ProcessHandle) -> None:
        turns = self._turns[process]
        turn = turns[0]

        def over(error: str) -> None:
            try:
                turn.over(f"it was stopped while {turn.hook.title} ran" if turn.stopped else error)
            finally:
                # Only now: what the end of this one brings about must not find the way free.
                turns.popleft()
                if turns:
                    self._begin(process)
                else:
                    del self._turns[process]

        if turn.stopped:
            over("")
        else:
            turn.launch = self.launch(turn.hook, over)

    # -- any hook -----------------------------------------------------------------------------------------------

    def kill(self, launch: Launch) -> None:
        """Kill a hook with everything below it; that it ended is told as ever."""
        kill_branch(self._supervisor.system, self._children, launch.pid, launch.pidfd)

    def launch(self, hook: Hook, done: Callable[[str], None]) -> Launch | None:
        """Run a hook now, its output in the process's log.

        Args:
            hook: What to run.
            done: Called once with "" or with what went wrong; before the return where it could not be started.

        Returns:
            The running hook, or None where it could not be started.
        """
        process, title, spec = hook.process, hook.title, hook.spec
        mark = f"{process.stack.mark}/{process.name}/{title}/{process.generation}"
        pipe = None
        try:
            sink, _ = self._sinks.of(process)
            pipe = sink.open_pipe(0)
            launch = self._supervisor.system.launch(
                LaunchRequest(
                    argv=tuple(substitute(argument, 0) for argument in hook.command.argv),
                    cwd=spec.working_dir,
                    env=child_environment(spec, hook.stack_name, hook.env, 0, mark),
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
            end_remains(self._supervisor.loop, self._supervisor.system, self._children, mark=mark, main_pid=launch.pid)
            pipe.finish()
            if not error and not status.success:
                error = f"{title} {status.text}"
            self._supervisor.tell("hook", error or f"{title} done", process)
            done(error)

        self._children.adopt(launch, over)
        return launch
