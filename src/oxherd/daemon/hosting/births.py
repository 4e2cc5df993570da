"""How a worker comes to be: forked from its release's zygote, or exec'd; either way it is an incarnation like any other."""

from __future__ import annotations

import os
import time

from oxherd.core.instance import Desired
from oxherd.daemon.environment import child_environment
from oxherd.daemon.hosting.jobs import boot_argv, differences, job_of, title_of, worker_environment
from oxherd.errors import OxherdError, SpawnError
from oxherd.system.spawn import Launch, LaunchRequest
from oxherd.system.worker_handle import WorkerHandle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oxherd.daemon.cgrouping import Cgroups
    from oxherd.daemon.executor import Executor
    from oxherd.daemon.handles import InstanceHandle
    from oxherd.daemon.hosting.host import Host, Release
    from oxherd.daemon.hosting.zygotes import Zygotes
    from oxherd.daemon.sinks import Sinks
    from oxherd.host.wire import Message
    from oxherd.system.loop import Loop
    from oxherd.system.ports import System
    from oxherd.system.zygote_handle import ZygoteHandle

    Said = Callable[[InstanceHandle, WorkerHandle, Message], None]

__all__ = ["Births"]

_EAGAIN = 11

# Seconds a zygote may take for a fork. One that is stopped or blocked (SIGSTOP, a debugger, a frozen cgroup) takes for ever.
_FORK_TIME = 10.0
# Messages of a worker that is not born yet; it has two or three to say.
_EARLY_MOST = 16


class Births:
    """Makes workers.

    Args:
        loop: For their channels.
        system: Starts those that are exec'd.
        sinks: Where their output goes.
        cgroups: Hard limits.
        executor: Takes the process, or why there is none.
        zygotes: Fork the others.
        directory: Where private listeners and doors have their files.
        said: Takes what a worker says.
        remember: Writes an instance down: its files are known before its process is there.
    """

    def __init__(
        self,
        *,
        loop: Loop,
        system: System,
        sinks: Sinks,
        cgroups: Cgroups,
        executor: Executor,
        zygotes: Zygotes,
        directory: str,
        said: Said,
        remember: Callable[[InstanceHandle], None],
    ) -> None:
        """Keep the parts."""
        self._remember = remember
        self._loop = loop
        self._system = system
        self._sinks = sinks
        self._cgroups = cgroups
        self._executor = executor
        self._zygotes = zygotes
        self._directory = directory
        self._said = said
        # A supervisor that has replaced itself has its predecessor's pid, and beside its own the files of that one's workers.
        self._prefix = f"{os.getpid():x}-{time.monotonic_ns():x}"
        self._token = 0
        self._waiting: dict[InstanceHandle, tuple[Release, Callable[[ZygoteHandle | None], None]]] = {}
        # What workers say whose zygote has not told of their birth yet: on a busy machine a child may be up before its parent
        # comes to speak.
        self._early: dict[WorkerHandle, list[Message]] = {}

    def begin(self, host: Host, handle: InstanceHandle, number: int) -> None:
        """Begin to make the worker of an incarnation; `Executor.born` or `Executor.could_not` is called, perhaps later."""
        release = host.release(handle.machine.generation, handle.spec, handle.env)

        def decided(zygote: ZygoteHandle | None) -> None:
            self._waiting.pop(handle, None)
            if handle.machine.incarnation == number:
                self._make(host, release, handle, number, zygote)

        self._waiting[handle] = (release, decided)
        try:
            self._zygotes.when_decided(host, release, decided)
        except (OxherdError, OSError) as error:
            self._waiting.pop(handle, None)
            self._zygotes.forget(release, decided)
            if isinstance(error, OSError):
                error = OxherdError(f"making its channel: {error.strerror}")
            self._executor.could_not(handle, number, error)

    def cancel(self, handle: InstanceHandle) -> None:
        """The incarnation is not wanted any more: end its waiting, if it waits for an import."""
        waiting = self._waiting.pop(handle, None)
        if waiting is not None:
            release, decided = waiting
            self._zygotes.forget(release, decided)
            self._executor.could_not(handle, handle.machine.incarnation, OxherdError("stopped before it was started"))

    def _make(
        self, host: Host, release: Release, handle: InstanceHandle, number: int, zygote: ZygoteHandle | None
    ) -> None:
        failure = None if zygote is None else zygote.failure
        if failure is not None:
            self._executor.could_not(handle, number, _import_error(failure), failure=failure)
            return
        try:
            self._prepare(handle)
            if zygote is None:
                self._exec(handle, number, release)
            else:
                self._fork(host, release, handle, zygote)
        except OxherdError as error:
            self._executor.could_not(handle, number, error)
        except OSError as error:
            # No descriptors, no memory for its meters: the machine's trouble, which may pass.
            self._executor.could_not(handle, number, OxherdError(f"making its pipes: {error.strerror}"))

    def rejoin(self, handle: InstanceHandle, private: str, door: str) -> None:
        """Take over the worker of an instance that an earlier supervisor had; what it says is heard as ever.

        Args:
            handle: The instance.
            private: Path of its private listener.
            door: Path of its door.

        Raises:
            OSError: Nobody is behind the door.
        """
        worker: WorkerHandle = WorkerHandle.rejoin(
            self._loop, private, door, lambda message, fds: self._heard(handle, worker, message, fds), lambda: None
        )
        handle.worker = worker

    def _prepare(self, handle: InstanceHandle) -> None:
        sink, error_sink = self._sinks.of(handle.process)
        self._token += 1
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        worker = WorkerHandle(self._loop, self._directory, f"{self._prefix}-{self._token:x}")
        handle.worker = worker
        worker.connect(lambda message, fds: self._heard(handle, worker, message, fds), lambda: None)
        handle.pipes = [sink.open_pipe(handle.slot)]
        if error_sink is not None:
            handle.pipes.append(error_sink.open_pipe(handle.slot))
        # A supervisor that dies before the fork is answered leaves a stray, which is killed and removes no files.
        self._remember(handle)

    def _heard(self, handle: InstanceHandle, worker: WorkerHandle, message: Message, fds: list[int]) -> None:
        for fd in fds:
            os.close(fd)  # a worker has nothing to give; what it sends all the same must not pile up
        if handle.worker is not worker:
            return
        early = self._early.get(worker)
        if early is None:
            self._said(handle, worker, message)
        elif len(early) < _EARLY_MOST:
            early.append(message)

    def _listen(self, handle: InstanceHandle, worker: WorkerHandle) -> None:
        """The worker is born: hear what it has said before, and from now on what it says."""
        for message in self._early.pop(worker, ()):
            if handle.worker is worker:
                self._said(handle, worker, message)

    # -- exec ---------------------------------------------------------------------------------------------------

    def _exec(self, handle: InstanceHandle, number: int, release: Release) -> None:
        spec, worker = handle.spec, handle.worker
        assert worker is not None
        assert worker.theirs is not None
        channel_fd = worker.theirs.fileno()
        launch = self._system.launch(
            LaunchRequest(
                argv=boot_argv(spec, "worker", channel_fd),
                cwd=spec.working_dir,
                env=worker_environment(handle),
                stdout=handle.pipes[0].child_fd,
                stderr=handle.pipes[-1].child_fd,
                pass_fds=(channel_fd,),
                user=spec.user,
                group=spec.group,
                umask=spec.umask,
                nice=spec.nice,
                nofile=spec.limits.nofile,
                cgroups=self._cgroups.join(handle),
                no_new_privs=spec.user is not None,
            )
        )
        stack = handle.process.stack.name
        worker.say(
            "boot",
            worker.gifts,
            job=job_of(spec, stack, release.generation),
            slot=handle.slot,
            incarnation=number,
            title=title_of(handle, spec, stack, release.generation),
        )
        self._born(handle, number, launch, forked=0)

    # -- fork ---------------------------------------------------------------------------------------------------

    def _fork(self, host: Host, release: Release, handle: InstanceHandle, zygote: ZygoteHandle) -> None:
        spec, worker = handle.spec, handle.worker
        stack = host.process.stack
        assert worker is not None
        assert worker.theirs is not None
        self._cgroups.join(handle)
        self._token += 1
        token = self._token
        base = child_environment(spec, stack.name, release.env, 0, self._zygotes.mark(host, release))
        sent = zygote.fork(
            (handle.pipes[0].child_fd, handle.pipes[-1].child_fd, worker.theirs.fileno(), *worker.gifts),
            slot=handle.slot,
            incarnation=token,
            env=differences(base, worker_environment(handle)),
            title=title_of(handle, spec, stack.name, release.generation),
        )
        if not sent:
            raise SpawnError("asking its zygote for a fork", _EAGAIN, spec.name, "it does not listen")
        self._early[worker] = []
        self._await(host, release, handle, token, zygote.pid)

    def _await(self, host: Host, release: Release, handle: InstanceHandle, token: int, zygote: int) -> None:
        """Wait for the answer to a fork, but not for ever: a zygote does nothing else, and forks in milliseconds."""
        number = handle.machine.incarnation
        late = self._loop.call_later(_FORK_TIME, lambda: self._zygotes.stuck(host, release, token, _FORK_TIME))

        worker = handle.worker
        assert worker is not None

        def answered(answer: dict[str, object], fds: list[int]) -> None:
            late.cancel()
            self._answered(host, handle, number, zygote, answer, fds)
            # When the birth has come through the queue of the supervisor; where it failed, nobody is there to be heard.
            self._loop.call_soon(lambda: self._listen(handle, worker))

        release.awaiting[token] = answered

    def _answered(  # noqa: PLR0917 - the last two are what a zygote says
        self, host: Host, handle: InstanceHandle, number: int, zygote: int, answer: dict[str, object], fds: list[int]
    ) -> None:
        if answer["kind"] == "forked" and not self._is_its(answer, fds, zygote):
            for fd in fds:
                os.close(fd)
            answer, fds = (
                {"kind": "fork-failed", "text": f"it named pid {answer.get('pid')!r:.20}, which is not its child"},
                [],
            )
        if handle.machine.incarnation != number:
            # Cannot be: an incarnation ends with the answer to its fork. A stray process would be worse than a kill.
            if "pid" in answer:
                self._system.kill_all([int(str(answer["pid"]))], 9)
            for fd in fds:
                os.close(fd)
            return
        match answer["kind"]:
            case "forked":
                pid = int(str(answer["pid"]))
                self._join(handle, pid)
                self._born(handle, number, Launch(pid, fds[0] if fds else -1), forked=zygote)
            case "lost" if handle.machine.desired is Desired.DOWN:
                self._executor.could_not(handle, number, OxherdError("stopped before it was started"))
            case "lost":
                # Its zygote has died with the question: ask the next one.
                self._drop(handle)
                self.begin(host, handle, number)
            case _:
                text = str(answer.get("text", "no reason"))
                error = SpawnError(
                    "forking it from its zygote", int(str(answer.get("errno", 0))), handle.spec.name, text
                )
                self._executor.could_not(handle, number, error)

    def _join(self, handle: InstanceHandle, pid: int) -> None:
        """Put a forked worker under its hard limits; one that cannot be runs without them, and that is said."""
        if handle.cgroup is None:
            return
        try:
            handle.cgroup.add(pid)
        except OSError as error:
            self._executor.warn(handle, f"it runs without its hard limits: {error.strerror}")

    def _is_its(self, answer: dict[str, object], fds: list[int], zygote: int) -> bool:
        """Whether a zygote's word about what it forked can be taken."""
        pid = answer.get("pid")
        known = isinstance(pid, int) and pid in self._executor.pids
        return isinstance(pid, int) and not known and self._system.forked_by(pid, fds[0] if fds else -1, zygote)

    def _drop(self, handle: InstanceHandle) -> None:
        for pipe in handle.pipes:
            pipe.close_child_end()
            pipe.finish()
        handle.pipes = []
        if handle.worker is not None:
            handle.worker.close()
            handle.worker = None

    def _born(self, handle: InstanceHandle, number: int, launch: Launch, *, forked: int) -> None:
        for pipe in handle.pipes:
            pipe.close_child_end()
        if handle.worker is not None:
            handle.worker.handed_over()
        handle.oom_before = self._cgroups.oom_kills(handle)
        self._executor.born(handle, number, launch, forked=forked)


def _import_error(failure: dict[str, object]) -> OxherdError:
    text = str(failure.get("text", "")) or "its app cannot be imported"
    return OxherdError(text)
