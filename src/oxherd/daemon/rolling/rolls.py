"""Which processes are being rolled: a reload and a replacement never meet in one process, and a stop ends either."""

from __future__ import annotations

from oxherd.core.phases import Kind, Phase, Plan
from oxherd.core.recycle import RecycleReason, Turn, budget_for
from oxherd.core.rollout_messages import Cancel
from oxherd.daemon.handles import Pin
from oxherd.daemon.rolling.reload import READY_TIMEOUT, Member, Reload, overlaps
from oxherd.daemon.rolling.running import Running
from oxherd.errors import OperationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from oxherd.core.rollout_messages import Announce
    from oxherd.daemon.handles import InstanceHandle, ProcessHandle
    from oxherd.daemon.supervisor import Supervisor

__all__ = ["Rolls"]


class Rolls:
    """Keeps every reload and replacement that is under way.

    Args:
        supervisor: Carries them out.
        cpus: Usable CPUs, which bound the replacements at a time.
    """

    def __init__(self, supervisor: Supervisor, *, cpus: int) -> None:
        """Nothing is rolled."""
        self._supervisor = supervisor
        self._reloads: dict[ProcessHandle, Reload] = {}
        self._replacing: dict[ProcessHandle, Running] = {}
        self._budget = budget_for(cpus)
        self._free: Callable[[ProcessHandle], None] | None = None
        self._after: dict[tuple[ProcessHandle, int], Callable[[str], None]] = {}

    def when_free(self, callback: Callable[[ProcessHandle], None]) -> None:
        """Call back whenever nothing rolls a process any more: what had to wait can be asked for again."""
        self._free = callback

    @property
    def reloading(self) -> list[str]:
        """Names of the processes that are being reloaded."""
        return [process.name for process in self._reloads]

    def refuse(self, processes: Sequence[ProcessHandle], verb: str) -> None:
        """Refuse what must not meet a reload.

        Raises:
            OperationError: One of them is being reloaded.
        """
        for process in processes:
            if process in self._reloads:
                raise OperationError(
                    f"{process.name} is being reloaded; {verb} it when that is over",
                    hint="oxherd events -f shows how far it is; oxherd stop ends it at once",
                    code="OX421",
                )

    # -- reloads ------------------------------------------------------------------------------------------------

    def reload(
        self,
        members: Sequence[Member],
        *,
        show: Callable[[dict[str, object]], None],
        done: Callable[[Reload], None],
    ) -> None:
        """Begin a reload of several processes as one.

        Raises:
            OperationError: One of them is being reloaded already.
        """
        processes = [member.process for member in members]
        self.refuse(processes, "reload")
        for process in processes:
            self._end_replacement(process, "a reload began")

        def over(reload: Reload) -> None:
            for process in processes:
                if self._reloads.get(process) is reload:
                    del self._reloads[process]
            done(reload)
            for process in processes:
                self._ask_again(process)
            self._turn()

        reload = Reload(self._supervisor, members, show=show, done=over)
        for process in processes:
            self._reloads[process] = reload
        reload.begin()

    def cancel(self, process: ProcessHandle, detail: str) -> None:
        """A process is being stopped: whatever rolls it ends at once, and what is reloaded with it is taken back."""
        reload = self._reloads.get(process)
        if reload is not None:
            reload.cancel(process, detail)
        self._end_replacement(process, detail)
        self._budget = self._budget.forget(process)

    # -- replacements -------------------------------------------------------------------------------------------

    def replace(
        self, handle: InstanceHandle, reason: RecycleReason, text: str, failed: Callable[[str], None] | None = None
    ) -> bool:
        """Replace one worker, its successor ready first; now, or as soon as it is its turn.

        Args:
            handle: The worker.
            reason: Why it is due.
            text: The same, for people, with figures.
            failed: Called with what went wrong if the replacement does not come about.

        Returns:
            False where its sockets do not allow two at a time.
        """
        process = handle.process
        pin = Pin.of(process)
        current = process.instances.get(handle.slot) is handle and not handle.retired
        if not current or not overlaps(process, pin) or self._supervisor.ending:
            return False
        turn = Turn(process, handle.slot, reason)
        known = self._budget
        self._budget = known.request(turn)
        if self._budget is not known:
            self._supervisor.announce(handle, "recycle", text)
            if failed is not None:
                self._after[process, handle.slot] = failed
        self._supervisor.loop.call_soon(self._turn)
        return True

    def _turn(self) -> None:
        """Begin the replacements whose turn it is."""
        for turn in self._budget.ready(tuple(self._reloads)):
            process = turn.process
            assert not isinstance(process, str)
            self._budget = self._budget.begun(turn)
            self._begin(process, turn.slot)  # type: ignore[arg-type]

    def _begin(self, process: ProcessHandle, slot: int) -> None:
        pin = Pin.of(process)
        if slot not in process.instances or process in self._replacing or not process.wanted:
            self._over(process, slot, "")
            return
        own_bound = process.spec.hosted or process.spec.ready_timeout is not None
        plan = Plan(order=(slot,), kind=Kind.REPLACE, settle=0.0, ready_timeout=None if own_bound else READY_TIMEOUT)
        running = Running(
            self._supervisor,
            process,
            plan,
            pin=pin,
            prepare=lambda then: then(""),
            told=_unheard,
            moved=lambda running: self._moved(process, slot, running),
        )
        self._replacing[process] = running
        running.begin()

    def _moved(self, process: ProcessHandle, slot: int, running: Running) -> None:
        value = running.value
        if value.phase.over:
            self._replacing.pop(process, None)
            self._over(process, slot, "" if value.phase in {Phase.DONE, Phase.CANCELLED} else value.cause)

    def _over(self, process: ProcessHandle, slot: int, error: str) -> None:
        self._budget = self._budget.over(process, slot)
        failed = self._after.pop((process, slot), None)
        if error:
            self._supervisor.tell("recycle-failed", f"worker {slot} could not be replaced: {error}", process)
            if failed is not None:
                failed(error)
        self._supervisor.loop.call_soon(lambda: self._ask_again(process))
        self._supervisor.loop.call_soon(self._turn)

    def _ask_again(self, process: ProcessHandle) -> None:
        if self._free is not None:
            self._free(process)

    def _end_replacement(self, process: ProcessHandle, detail: str) -> None:
        running = self._replacing.get(process)
        if running is not None:
            running.feed(Cancel(detail))


def _unheard(_announce: Announce) -> None:
    """Nobody waits for the phases of a replacement; its events tell of it."""
