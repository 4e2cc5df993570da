"""The zygotes of all hosted processes: started when first needed, replaced when they die, ended with their release.

A zygote that dies takes nobody with it: its workers go on, and the supervisor, as their subreaper, inherits them. A
fork that was asked for and not answered is asked for again, of the next zygote.
"""

from __future__ import annotations

import os
import time

from oxherd.daemon.environment import child_environment, mask_of, masked
from oxherd.daemon.hosting.jobs import boot_argv, job_of, title_of
from oxherd.daemon.remains import end_remains
from oxherd.daemon.remembering import pipe_inodes
from oxherd.errors import OxherdError, SpawnError
from oxherd.system.spawn import Launch, LaunchRequest
from oxherd.system.zygote_handle import ZygoteHandle, ZygoteState
from oxherd.units import format_seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oxherd.core.exits import ExitStatus
    from oxherd.daemon.children import Children
    from oxherd.daemon.hosting.host import Host, Release
    from oxherd.daemon.journal import Journal
    from oxherd.daemon.sinks import Sinks
    from oxherd.system.loop import Loop
    from oxherd.system.ports import Pipe, System

    Decided = Callable[[ZygoteHandle | None], None]

__all__ = ["Zygotes"]

_SIGKILL = 9

# Seconds before a zygote that died is replaced while nobody waits for it; doubled with every death, up to the ceiling.
_REPLACE_AFTER = 0.5
_REPLACE_AT_MOST = 30.0


class Zygotes:
    """Starts, watches and ends zygotes.

    Args:
        loop: For deadlines.
        system: Starts them.
        children: Hears of their end, and of the end of what they forked.
        sinks: Where their output goes.
        directory: Where their doors have their files.
        tell: Takes (host, event kind, text) for the event log.
        journal: Knows them when this supervisor is gone.
    """

    def __init__(
        self,
        *,
        loop: Loop,
        system: System,
        children: Children,
        sinks: Sinks,
        directory: str,
        tell: Callable[[Host, str, str], None],
        journal: Journal,
    ) -> None:
        """Start nothing yet."""
        self._loop = loop
        self._system = system
        self._children = children
        self._sinks = sinks
        self._directory = directory
        self._tell = tell
        self._journal = journal
        self._prefix = f"z{os.getpid():x}-{time.monotonic_ns():x}"
        self._token = 0

    # -- the way of a worker ------------------------------------------------------------------------------------

    def when_decided(self, host: Host, release: Release, then: Decided) -> None:
        """Call back when it is known how workers of a release are made: at once, or when its zygote has spoken.

        The call back gets the zygote that forks, or one with a `ZygoteHandle.failure`, or None where workers are exec'd.
        By then the release may have another one already: whoever was told of a failure may have asked again. It is lost
        with `forget`.
        """
        zygote = release.zygote
        if release.exec_only:
            then(None)
            return
        if zygote is not None and zygote.state is ZygoteState.READY:
            then(zygote)
            return
        release.queue.append(then)
        if zygote is None or zygote.state in {ZygoteState.FAILED, ZygoteState.GONE}:
            release.cancel_timer()
            self.start(host, release)

    def forget(self, release: Release, then: Decided) -> None:
        """Whoever waited does not want a worker any more; an import nobody waits for is ended."""
        if then in release.queue:
            release.queue.remove(then)
        zygote = release.zygote
        if not release.queue and zygote is not None and zygote.state is ZygoteState.BOOTING and not release.kept:
            self.end(release)

    # -- one zygote ---------------------------------------------------------------------------------------------

    def start(self, host: Host, release: Release) -> None:
        """Exec the zygote of a release; what comes of it decides the queue.

        Raises:
            OSError: There are no descriptors for its channel.
            OxherdError: There is no place for its door.
        """
        pipes: list[Pipe] = []
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        self._token += 1
        zygote = ZygoteHandle(
            self._loop,
            self._directory,
            f"{self._prefix}-{self._token:x}",
            lambda message, fds: self._said(host, release, zygote, message, fds),
            lambda: self._closed(host, release, zygote),
        )
        if release.zygote is not None:
            # It has failed or was told to end, and may not have ended yet: its end finds another here and closes nothing.
            release.zygote.close()
        release.zygote = zygote
        try:
            launch = self._launch(host, release, zygote, pipes)
        except (OxherdError, OSError) as error:
            text = error.message if isinstance(error, OxherdError) else f"making its pipes: {error.strerror}"
            for pipe in pipes:
                pipe.close_child_end()
                pipe.finish()
            zygote.close()
            zygote.failure = {"kind": "failed", "stage": "start", "text": text, "traceback": ""}
            zygote.state = ZygoteState.FAILED
            self._decided(release, zygote)
            return
        stack = host.process.stack.name
        self._watch(host, release, zygote, launch, pipes)
        job = job_of(release.spec, stack, release.generation)
        zygote.launched(launch.pid, launch.pidfd, job, title_of(None, release.spec, stack, release.generation))
        release.timer = self._loop.call_later(release.host.boot_timeout, lambda: self._too_slow(release, launch))

    def _watch(
        self,
        host: Host,
        release: Release,
        zygote: ZygoteHandle,
        launch: Launch,
        pipes: list[Pipe],
        *,
        old: bool = False,
    ) -> None:
        """See to its process until its end, and write down that it is there."""

        def ended(status: ExitStatus) -> None:
            self._journal.forget_instance(self.mark(host, release))
            self._ended(host, release, launch, pipes, status)
            zygote.close()  # its successor may be there already, and then nobody else knows this one

        self._journal.save_instance(
            self.mark(host, release),
            {
                "pid": launch.pid,
                "ticks": self._system.start_ticks(launch.pid),
                "door": zygote.door,
                "pipes": pipe_inodes(pipes),
            },
        )
        self._children.adopt(launch, ended, stranger=old)

    def rejoin(self, host: Host, release: Release, launch: Launch, door: str, pipes: list[Pipe]) -> ZygoteHandle | None:
        """Take over the zygote of a release that an earlier supervisor had; None, and it is ended, where it is deaf.

        Args:
            host: Whose.
            release: Of which generation.
            launch: Its process.
            door: Where its door is.
            pipes: Its output.
        """
        try:
            zygote: ZygoteHandle = ZygoteHandle.rejoin(
                self._loop,
                door,
                lambda message, fds: self._said(host, release, zygote, message, fds),
                lambda: self._closed(host, release, zygote),
            )
        except OSError as error:
            self._tell(host, "zygote-died", f"a zygote does not answer at its door ({error.strerror}); it is ended")
            self._kill(launch.pid, launch.pidfd)
            for pipe in pipes:
                pipe.finish()
            launch.close()
            return None
        zygote.pid, zygote.pidfd = launch.pid, launch.pidfd
        release.zygote = zygote
        self._watch(host, release, zygote, launch, pipes, old=True)
        return zygote

    def abandon(self, zygote: ZygoteHandle) -> None:
        """One that was taken over says nothing: it is ended, and its end is what tells the rest."""
        self._kill(zygote.pid, zygote.pidfd)

    def _launch(self, host: Host, release: Release, zygote: ZygoteHandle, pipes: list[Pipe]) -> Launch:
        spec, stack = release.spec, host.process.stack
        sink, error_sink = self._sinks.of(host.process)
        pipes.append(sink.open_pipe(0))
        if error_sink is not None:
            pipes.append(error_sink.open_pipe(0))
        assert zygote.theirs is not None
        channel_fd = zygote.theirs.fileno()
        launch = self._system.launch(
            LaunchRequest(
                argv=boot_argv(spec, "zygote", channel_fd),
                cwd=spec.working_dir,
                env=child_environment(spec, stack.name, release.env, 0, self.mark(host, release)),
                stdout=pipes[0].child_fd,
                stderr=pipes[-1].child_fd,
                pass_fds=(channel_fd,),
                user=spec.user,
                group=spec.group,
                umask=spec.umask,
                nice=spec.nice,
                nofile=spec.limits.nofile,
                no_new_privs=spec.user is not None,
            )
        )
        for pipe in pipes:
            pipe.close_child_end()
        return launch

    def mark(self, host: Host, release: Release) -> str:
        """Return the mark of a release's zygote."""
        return f"{host.process.stack.mark}/{host.process.name}/zygote/{release.generation}"

    def _said(
        self, host: Host, release: Release, zygote: ZygoteHandle, message: dict[str, object], fds: list[int]
    ) -> None:
        match message["kind"]:
            case "here-end":
                release.facts = zygote.facts
                if zygote.state is ZygoteState.UNSAFE and release.host.preload == "true":
                    zygote.state = ZygoteState.READY
            case "ready":
                release.cancel_timer()
                release.deaths = 0
                self._judged(host, release, zygote, message)
            case "failed":
                release.cancel_timer()
                zygote.failure = masked(message, mask_of(release.spec, release.env))
                self._decided(release, zygote)
            case "forked" | "fork-failed":
                release.deaths = 0
                answer = release.awaiting.pop(int(str(message.get("incarnation", -1))), None)
                if answer is not None:
                    answer(message, fds)
                    return
            case "exited":
                self._children.told(int(str(message["pid"])), int(str(message["status"])), zygote.pid)
            case _:
                pass
        for fd in fds:
            os.close(fd)

    def _judged(self, host: Host, release: Release, zygote: ZygoteHandle, message: dict[str, object]) -> None:
        release.facts = message
        hazards = message.get("hazards")
        found = hazards if isinstance(hazards, list) else []
        if message.get("forkable") is not True:
            release.exec_only = release.host.preload != "true"
            why = "; ".join(str(hazard.get("what")) for hazard in found if isinstance(hazard, dict)) or "it says no"
            why = mask_of(release.spec, release.env).text(why)
            self._tell(host, "not-preloaded", f"its workers import the app themselves: {why}")
            if release.exec_only:
                self.end(release)
            else:
                # preload = true: whoever wrote it knows better than the audit.
                zygote.state = ZygoteState.READY
        else:
            self._tell(host, "preloaded", f"imported once in {float(str(message.get('seconds', 0))):.2f} s")
        self._decided(release, None if release.exec_only else zygote)

    def _decided(self, release: Release, zygote: ZygoteHandle | None) -> None:
        queue, release.queue = release.queue, []
        for then in queue:
            then(zygote)

    def _too_slow(self, release: Release, launch: Launch) -> None:
        release.timer = None
        zygote = release.zygote
        if zygote is None or zygote.pid != launch.pid:
            return
        text = f"the app was not imported within {format_seconds(release.host.boot_timeout)}"
        zygote.failure = {"kind": "failed", "stage": "import", "text": text, "traceback": ""}
        self._kill(launch.pid, launch.pidfd)

    # -- its end ------------------------------------------------------------------------------------------------

    def end(self, release: Release) -> None:
        """Let a zygote go; its workers stay."""
        release.cancel_timer()
        zygote = release.zygote
        if zygote is not None and zygote.state is not ZygoteState.GONE:
            booting = zygote.state is ZygoteState.BOOTING
            told = zygote.end()
            zygote.state = ZygoteState.GONE
            if (booting or not told) and zygote.pid:
                # An import hears nothing until it is over.
                self._kill(zygote.pid, -1)

    def _closed(self, host: Host, release: Release, zygote: ZygoteHandle) -> None:
        """Its channel is closed: it is ending, or has lost its mind; its end comes by its pidfd."""
        if release.zygote is zygote and zygote.state not in {ZygoteState.GONE, ZygoteState.FAILED}:
            zygote.state = ZygoteState.GONE
            trouble = self._system.kill_all([zygote.pid], _SIGKILL)
            if trouble is not None:
                self._children.trouble(f"cannot kill the zygote {zygote.pid}: {trouble.strerror}")
            self._lost_forks(host, release)

    def stuck(self, host: Host, release: Release, token: int, seconds: float) -> None:
        """A fork was not answered in time: end the zygote, so that the next one is asked for it."""
        zygote = release.zygote
        if token not in release.awaiting or zygote is None or not zygote.pid:
            return
        what = f"the zygote of generation {release.generation}"
        self._tell(host, "zygote-stuck", f"{what} has not forked within {format_seconds(seconds)}; it is replaced")
        self._kill(zygote.pid, -1)

    def _kill(self, pid: int, pidfd: int) -> None:
        """Kill a zygote alone: what it has forked lives on."""
        try:
            self._system.signal(pid, pidfd, _SIGKILL)
        except OSError as error:
            self._children.trouble(f"cannot kill the zygote {pid}: {error.strerror}")

    def _ended(self, host: Host, release: Release, launch: Launch, pipes: list[Pipe], status: ExitStatus) -> None:
        for pipe in pipes:
            pipe.drain()
            pipe.finish()
        zygote = release.zygote
        if zygote is None or zygote.pid != launch.pid:
            return
        failure = (
            zygote.failure or _launch_failure(launch) or {"kind": "failed", "stage": "import", "text": status.text}
        )
        was_up = bool(zygote.facts)
        zygote.close()
        if not was_up:
            zygote.failure = failure
            zygote.state = ZygoteState.FAILED
            release.cancel_timer()
            self._decided(release, zygote)
            return
        self._lost_forks(host, release)
        if not zygote.told_to_end:
            self._tell(
                host, "zygote-died", f"the zygote of generation {release.generation} {status.text}; replacing it"
            )
        # Whoever asked again for a lost fork has started the next one already; two would be one that nobody knows.
        replaced = release.zygote is not zygote
        if host.releases.get(release.generation) is release and not release.exec_only and not replaced:
            self._replace(host, release)

    def _replace(self, host: Host, release: Release) -> None:
        release.cancel_timer()
        if release.queue:
            self._start_again(host, release)
        else:
            self._later(host, release)

    def _later(self, host: Host, release: Release) -> None:
        wait = min(_REPLACE_AFTER * 2**release.deaths, _REPLACE_AT_MOST)
        release.deaths += 1
        release.timer = self._loop.call_later(wait, lambda: self._start_again(host, release))

    def _start_again(self, host: Host, release: Release) -> None:
        release.timer = None
        try:
            self.start(host, release)
        except (OSError, OxherdError) as error:
            text = error.message if isinstance(error, OxherdError) else f"making its channel: {error.strerror}"
            what = f"the zygote of generation {release.generation}"
            self._tell(host, "zygote-trouble", f"cannot replace {what} yet: {text}")
            self._later(host, release)

    def _lost_forks(self, host: Host, release: Release) -> None:
        """Ask again for what a dead zygote was asked for; what it had forked without a word about it is ended first."""
        lost, release.awaiting = release.awaiting, {}
        if lost:
            zygote = release.zygote
            pid = zygote.pid if zygote is not None else 0
            end_remains(self._loop, self._system, self._children, mark=self.mark(host, release), main_pid=pid)
        for answer in lost.values():
            answer({"kind": "lost"}, [])


def _launch_failure(launch: Launch) -> dict[str, object] | None:
    """Return why the interpreter itself could not be exec'd, where the launcher has said so."""
    outcome = launch.outcome() if launch.report_fd is not None else None
    if outcome is None or not isinstance(outcome.error, SpawnError):
        return None
    return {"kind": "failed", "stage": "start", "text": outcome.error.message, "traceback": ""}
