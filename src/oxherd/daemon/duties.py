"""What is done for an incarnation while it lives (health checks, limits), and for a process all the time (watch, clock).

Verdicts of the pure core become events of the lifecycle here, and nowhere else.
"""

from __future__ import annotations

from oxherd.config.model import ProcessType
from oxherd.core.events import BecameReady, Condemned, Restart, Start
from oxherd.core.health import Check, Verdict
from oxherd.core.instance import Reason, State
from oxherd.core.limits import LimitVerdict
from oxherd.core.restart import RestartMode
from oxherd.daemon.environment import child_environment
from oxherd.daemon.hooks import Offer
from oxherd.daemon.operations import Goal, Operation, Target
from oxherd.daemon.probe import ProbeContext
from oxherd.programs.hosting import private_endpoint, private_readiness
from oxherd.units import format_bytes, format_seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from oxherd.daemon.handles import InstanceHandle, ProcessHandle
    from oxherd.daemon.hooks import Hook, Hooks
    from oxherd.daemon.probe import ProbeResult
    from oxherd.daemon.prober import Prober
    from oxherd.daemon.sampler import Sampler
    from oxherd.daemon.scheduler import Scheduler
    from oxherd.daemon.supervisor import Supervisor
    from oxherd.daemon.watcher import Watcher

__all__ = ["Duties"]


class Duties:
    """Probes, weighs, watches and follows the clock.

    Args:
        supervisor: Gets the events.
        hooks: Runs ``pre_start`` before a restart for changed files.
    """

    def __init__(self, supervisor: Supervisor, hooks: Hooks) -> None:
        """Complete with `assemble`."""
        self._supervisor = supervisor
        self._hooks = hooks
        # Made for the first process that needs one; most stacks need not all of them.
        self._prober: Prober | None = None
        self._scheduler: Scheduler | None = None
        self._watcher: Watcher | None = None
        self._sampler: Sampler
        # Processes whose hook runs for changed files, and whether files have changed again since.
        self._on_watch: dict[ProcessHandle, bool] = {}
        self._by_clock: set[tuple[ProcessHandle, str]] = set()
        self._rolling: set[ProcessHandle] = set()

    def assemble(
        self,
        *,
        sampler: Sampler,
        make_prober: Callable[[], Prober],
        make_scheduler: Callable[[], Scheduler],
        make_watcher: Callable[[], Watcher],
    ) -> None:
        """Take the parts, which call back into this object."""
        self._sampler = sampler
        self._make_prober, self._make_scheduler, self._make_watcher = make_prober, make_scheduler, make_watcher

    # -- an incarnation -----------------------------------------------------------------------------------------

    def begin(self, handle: InstanceHandle) -> None:
        """A program was exec'd: probe it and weigh it until `end`."""
        spec, machine = handle.spec, handle.machine
        if not spec.hosted:
            # A worker says itself when its app has started; until then there is nothing to ask.
            self.probe(handle)
        if spec.passed and self._supervisor.hosting is not None:
            self._supervisor.hosting.passing.watch(handle)
        if machine.pid is not None and (spec.limits.memory is not None or spec.limits.cpu_percent is not None):
            self._sampler.watch(handle, machine.pid, spec.limits)

    def probe(self, handle: InstanceHandle) -> None:
        """Begin the health checks of an incarnation, where it has any."""
        spec = handle.spec
        stack = handle.process.stack
        if spec.health is not None:
            context = ProbeContext(
                instance=handle.slot,
                env=child_environment(spec, stack.name, handle.env, handle.slot, f"{handle.key}/health"),
                cwd=spec.working_dir,
                user=spec.user,
                group=spec.group,
                umask=spec.umask,
            )
            worker, passed = handle.worker, handle.passed
            own = private_endpoint(spec) or private_readiness(spec)
            path = worker.private if worker is not None else passed.private if passed is not None else ""
            self._need_prober().watch(
                handle,
                spec.health,
                context,
                self._supervisor.loop.now(),
                private=path if path and own else None,
                lifelong=worker is not None,
            )

    def _need_prober(self) -> Prober:
        if self._prober is None:
            self._prober = self._make_prober()
        return self._prober

    def end(self, handle: InstanceHandle) -> None:
        """The program is going or gone."""
        if self._prober is not None:
            self._prober.forget(handle)
        self._sampler.forget(handle)
        handle.health = None

    def probed(self, key: Hashable, verdict: Verdict, result: ProbeResult) -> None:
        """Take the result of a probe."""
        handle = _handle(key)
        assert self._prober is not None
        before, handle.health = handle.health, self._prober.word(handle)
        handle.last_failure = "" if result.ok else result.detail
        if handle.health == "failing" and before != "failing" and handle.machine.state is State.RUNNING:
            self._supervisor.announce(handle, "health-failing", result.detail)
        match verdict:
            case Verdict.READY | Verdict.RECOVERED:
                if result.check is Check.READINESS and handle.unready:
                    self._traffic(handle, "")
                self.ready(handle)
            case Verdict.UNHEALTHY:
                self._condemn(handle, Reason.UNHEALTHY, result.detail)
            case Verdict.NOT_READY:
                self._traffic(handle, result.detail)
            case Verdict.NONE:
                pass

    def ready(self, handle: InstanceHandle) -> None:
        """Something speaks for an incarnation: it is ready if all that is asked of it does."""
        accepts = handle.passed is None or handle.passed.accepts
        if accepts and (self._prober is None or self._prober.ready(handle)):
            self._supervisor.feed(handle, BecameReady(handle.machine.incarnation))

    def _traffic(self, handle: InstanceHandle, why_not: str) -> None:
        """A worker is to get no connections, or is to get them again; its app decides, and it is not restarted for it."""
        handle.unready = why_not
        self._supervisor.announce(handle, "not-ready" if why_not else "ready-again", why_not)
        if self._supervisor.hosting is not None:
            self._supervisor.hosting.changed(handle)

    def _condemn(self, handle: InstanceHandle, reason: Reason, detail: str) -> None:
        """A verdict: it has to go. Where its sockets allow, what replaces it is ready first."""

        def condemn(_error: str = "") -> None:
            self._supervisor.feed(handle, Condemned(handle.machine.incarnation, reason, detail))

        wanted = handle.spec.restart.mode is not RestartMode.NEVER
        several = handle.worker is not None or handle.passed is not None
        if wanted and several and handle.machine.state is State.RUNNING and handle.pinned is None:
            text = f"{reason.value}: {detail}; its replacement comes first"
            from oxherd.core.recycle import RecycleReason  # noqa: PLC0415 - only hosted processes need it

            kind = RecycleReason.UNHEALTHY if reason is Reason.UNHEALTHY else RecycleReason.LIMIT
            if self._supervisor.need_rolls().replace(handle, kind, text, condemn):
                return
        condemn()

    def weighed(self, key: Hashable, verdict: LimitVerdict, memory: int, cpu_percent: float) -> None:
        """Take a sample and what it means."""
        handle = _handle(key)
        handle.memory_peak = max(handle.memory_peak, memory)
        limits = handle.spec.limits
        if verdict is LimitVerdict.MEMORY and limits.memory is not None:
            detail = f"it uses {format_bytes(memory)}, its limit is {format_bytes(limits.memory)}"
            self._condemn(handle, Reason.MEMORY, detail)
        elif verdict is LimitVerdict.CPU and limits.cpu_percent is not None:
            window = format_seconds(limits.cpu_window)
            detail = f"it used {cpu_percent:.0f}% CPU for {window}, its limit is {limits.cpu_percent:.0f}%"
            self._condemn(handle, Reason.CPU, detail)

    def usage(self, handle: InstanceHandle) -> tuple[float, int]:
        """Return CPU percent and memory in bytes of an incarnation's tree, for the status table."""
        machine = handle.machine
        if machine.pid is None or machine.started_at is None:
            return 0.0, 0
        usage = self._sampler.usage((handle, machine.incarnation), machine.pid, machine.started_at)
        return usage.cpu_percent, usage.memory

    # -- a process ----------------------------------------------------------------------------------------------

    def settle(self, process: ProcessHandle) -> None:
        """Watch files and follow the clock for a process exactly while it is wanted."""
        if process.wanted and process.spec.health is not None:
            # Now, not after the first spawn: there may be no descriptor left then to load it with.
            self._need_prober()
        self._settle_watch(process)
        if not process.wanted:
            self._hooks.end(process)
        schedule = process.spec.schedule if process.wanted else None
        by_clock = process.spec.type is ProcessType.SCHEDULED
        job = schedule.cron if schedule is not None and by_clock else None
        self._settle_cron(process, "job", job, catch_up=schedule is not None and schedule.catch_up)
        self._settle_cron(process, "restart", schedule.restart_cron if schedule is not None else None, catch_up=False)

    def _settle_watch(self, process: ProcessHandle) -> None:
        if self._watcher is not None:
            self._watcher.forget(process)
        if process.wanted and process.spec.watch is not None:
            if self._watcher is None:
                self._watcher = self._make_watcher()
            self._watcher.watch(process, process.spec.watch, process.spec.working_dir)

    def _settle_cron(self, process: ProcessHandle, kind: str, cron: str | None, *, catch_up: bool) -> None:
        key = (process, kind)
        if cron is None:
            if key in self._by_clock:
                assert self._scheduler is not None
                self._by_clock.discard(key)
                self._scheduler.forget(key)
            return
        assert process.spec.schedule is not None
        self._by_clock.add(key)
        if self._scheduler is None:
            self._scheduler = self._make_scheduler()
        self._scheduler.set(
            key,
            cron,
            process.spec.schedule.timezone,
            lambda: self._due(process, kind),
            last_run=process.last_run if kind == "job" else None,
            catch_up=catch_up,
        )

    def next_run(self, process: ProcessHandle) -> float | None:
        """Return the unix time of the next scheduled run or restart, or None."""
        if self._scheduler is None:
            return None
        times = [self._scheduler.next_run((process, kind)) for kind in ("job", "restart")]
        return min((time for time in times if time is not None), default=None)

    def _due(self, process: ProcessHandle, kind: str) -> None:
        supervisor = self._supervisor
        if kind == "restart":
            self._roll(process)
            return
        process.last_run = supervisor.system.wall()
        supervisor.save(process.stack)
        for handle in process.instances.values():
            if handle.down:
                supervisor.announce(handle, "due")
                supervisor.feed(handle, Start())
            else:
                supervisor.announce(handle, "skipped", "the run before it is not over")

    def changed(self, handle: InstanceHandle) -> None:
        """An instance has changed its state: a job that failed is an alert where the oxfile wants one."""
        machine, schedule = handle.machine, handle.spec.schedule
        if schedule is None or schedule.on_failure != "alert" or not handle.process.scheduled:
            return
        if machine.state is State.CRASHED or (machine.state is State.EXITED and not machine.completed):
            self._supervisor.announce(handle, "alert", f"the scheduled run failed: {machine.detail}")

    def _roll(self, process: ProcessHandle) -> None:
        """Restart the instances one after the other; two of these at once would take two instances away."""
        if process in self._rolling:
            self._supervisor.tell("skipped", "the restart by the clock before it is not over", process)
            return
        if process.spec.hosted and self._replace_by_the_clock(process):
            return
        self._supervisor.tell("cron-restart", "restarting by the clock, one instance after the other", process)
        self._rolling.add(process)
        batches = [
            [Target(handle=handle, goal=Goal.UP, event=Restart(), after=handle.machine.incarnation)]
            for _, handle in sorted(process.instances.items())
        ]
        Operation(
            self._supervisor,
            batches,
            progress=None,
            done=lambda _outcome: self._rolling.discard(process),
            abort_on_failure=True,
        )

    def _replace_by_the_clock(self, process: ProcessHandle) -> bool:
        """Replace the workers of a hosted process, successors first; False where that cannot be."""
        from oxherd.core.recycle import RecycleReason  # noqa: PLC0415 - only hosted processes need it

        rolls, why = self._supervisor.need_rolls(), RecycleReason.CLOCK
        up = [handle for _, handle in sorted(process.instances.items()) if handle.machine.state is State.RUNNING]
        return all(rolls.replace(handle, why, why.value) for handle in up)

    def changed_files(self, key: Hashable, paths: list[str]) -> None:
        """Files of a watched process have changed: restart it, once its ``pre_start`` has succeeded."""
        assert not isinstance(key, str)
        process: ProcessHandle = key  # type: ignore[assignment]
        shown = ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
        self._supervisor.tell("watch", f"{shown} changed; restarting", process)
        if process in self._on_watch:
            self._on_watch[process] = True
        else:
            self._restart_for_files(process)

    def _restart_for_files(self, process: ProcessHandle) -> None:
        hooks = Offer.of(process.stack, None, None, update_env=False).pre_start(process)
        self._on_watch[process] = False

        def over(_failed: Hook | None, error: str) -> None:
            again = self._on_watch.pop(process)
            if not process.wanted:
                return
            if error:
                self._supervisor.tell("watch", f"not restarted, what ran runs on: {error}", process)
            else:
                self._begin_generation(process, ran=bool(hooks))
            if again:
                self._restart_for_files(process)

        self._hooks.run(hooks, over)

    def _begin_generation(self, process: ProcessHandle, *, ran: bool) -> None:
        process.generation = process.new_generation()
        if process.pre_start != "running":  # at the gate: nothing of it is up, and what starts is new anyway
            process.pre_start = "done" if ran else ""
        for handle in tuple(process.instances.values()):
            if not handle.retired:
                self._supervisor.feed(handle, Restart())

    def end_all(self) -> None:
        """The supervisor ends: nothing is started by clock or file any more."""
        for stack in self._supervisor.stacks.values():
            for process in stack.processes.values():
                if self._watcher is not None:
                    self._watcher.forget(process)
                self._hooks.end(process)
                for kind in ("job", "restart"):
                    self._settle_cron(process, kind, None, catch_up=False)

    def close(self) -> None:
        """Give back what the parts hold."""
        if self._prober is not None:
            self._prober.close()
        if self._watcher is not None:
            self._watcher.close()


def _handle(key: Hashable) -> InstanceHandle:
    """The keys of prober and sampler are the handles themselves."""
    return key  # type: ignore[return-value]
