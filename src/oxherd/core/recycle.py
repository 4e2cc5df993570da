"""When a worker is due to be replaced although nothing is wrong with it, and whose turn it is.

Pure: ages, samples and chance are arguments. A worker is due when it has answered its number of requests (it says so
itself), has lived long enough, or has grown too large. It is never just ended: its replacement is ready first. That
costs an import or a fork and the memory of one worker more, so there is a `Budget`: at most one replacement at a time in
a process, and in the whole supervisor at most as many as half the CPUs.
"""

from __future__ import annotations

from enum import Enum

from oxherd.records import dataclass, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable

__all__ = ["Budget", "RecyclePolicy", "RecycleReason", "RecycleState", "Turn", "asked", "budget_for", "due", "sampled"]

# How far lifetimes are spread to both sides, so that workers that were born together do not go together.
JITTER = 0.1

# Samples in a row over the limit that make a worker due. One proves nothing: a fork doubles a process for an instant.
MEMORY_SAMPLES = 2

# Seconds a worker has to have lived before it is due for its memory. One that is over the limit as soon as it has
# imported its app would otherwise be replaced for ever; like this it costs one start a minute, and is told as often.
MEMORY_AGE = 60.0


class RecycleReason(Enum):
    """Why a worker is due, in the words of the event log."""

    REQUESTS = "it has answered max_requests requests"
    LIFETIME = "it has lived for max_lifetime"
    MEMORY = "it has grown over max_memory"
    CLOCK = "its restart by the clock is due"
    CERTIFICATE = "its certificate was renewed"
    UNHEALTHY = "it fails its health check"
    LIMIT = "it is over a limit"
    RELOAD = "a reload that was cut off is finished"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecyclePolicy:
    """When a worker is due; None or 0 is never.

    Attributes:
        max_lifetime: Seconds, spread by 10 % to both sides.
        max_memory: Bytes of the one worker.
    """

    max_lifetime: float | None = None
    max_memory: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecycleState:
    """What is remembered of one worker.

    Attributes:
        asked: Whether it asked to be replaced.
        over_memory: Samples in a row over the memory limit.
    """

    asked: bool = False
    over_memory: int = 0


def asked(state: RecycleState) -> RecycleState:
    """Return the state of a worker that has said that it has answered its number of requests."""
    return replace(state, asked=True)


def sampled(state: RecycleState, policy: RecyclePolicy, memory: int) -> RecycleState:
    """Return the state after a sample of a worker's memory, in bytes."""
    over = bool(policy.max_memory) and memory > (policy.max_memory or 0)
    return replace(state, over_memory=state.over_memory + 1 if over else 0)


def due(state: RecycleState, policy: RecyclePolicy, *, age: float, chance: float) -> RecycleReason | None:
    """Say why a worker is to be replaced, or None.

    Args:
        state: What is remembered of it.
        policy: The bounds of its process.
        age: Seconds since it started.
        chance: A number in [0, 1) that stays the same for the life of the worker: where in the spread of the lifetime
            its own lies.
    """
    if state.asked:
        return RecycleReason.REQUESTS
    if policy.max_lifetime and age >= policy.max_lifetime * (1.0 - JITTER + 2.0 * JITTER * chance):
        return RecycleReason.LIFETIME
    if state.over_memory >= MEMORY_SAMPLES and age >= MEMORY_AGE:
        return RecycleReason.MEMORY
    return None


@dataclass(frozen=True, slots=True)
class Turn:
    """One replacement that is due or under way.

    Attributes:
        process: Whose; any value that tells processes apart.
        slot: Which worker of it.
        reason: Why.
    """

    process: Hashable
    slot: int
    reason: RecycleReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Which replacements wait and which are under way, in the whole supervisor.

    Attributes:
        limit: Replacements at a time, at least 1.
        waiting: Those that are due, the longest waiting first.
        running: Those that were begun.
    """

    limit: int = 1
    waiting: tuple[Turn, ...] = ()
    running: tuple[Turn, ...] = ()

    def request(self, turn: Turn) -> Budget:
        """Add one that is due. One that waits or runs already keeps its place and its reason."""
        known = {(other.process, other.slot) for other in (*self.waiting, *self.running)}
        return self if (turn.process, turn.slot) in known else replace(self, waiting=(*self.waiting, turn))

    def ready(self, excluded: Collection[Hashable] = ()) -> tuple[Turn, ...]:
        """Return those that may be begun now, the longest waiting first; nothing is changed.

        Args:
            excluded: Processes that are being reloaded, scaled or stopped: theirs wait, and hold up nobody else's.
        """
        room = self.limit - len(self.running)
        taken = {turn.process for turn in self.running} | set(excluded)
        chosen: list[Turn] = []
        for turn in self.waiting:
            if len(chosen) >= room:
                break
            if turn.process not in taken:
                taken.add(turn.process)
                chosen.append(turn)
        return tuple(chosen)

    def begun(self, turn: Turn) -> Budget:
        """Move one from those that wait to those that run."""
        waiting = tuple(other for other in self.waiting if other != turn)
        return replace(self, waiting=waiting, running=(*self.running, turn))

    def over(self, process: Hashable, slot: int) -> Budget:
        """Forget a slot: its replacement has come to an end, or its worker is gone by itself. Unknown ones are fine."""
        return self._without(lambda turn: turn.process == process and turn.slot == slot)

    def forget(self, process: Hashable) -> Budget:
        """Forget all of a process: it was stopped, deleted or reloaded, and none of those workers is there any more."""
        return self._without(lambda turn: turn.process == process)

    def _without(self, gone: Callable[[Turn], bool]) -> Budget:
        return replace(
            self,
            waiting=tuple(turn for turn in self.waiting if not gone(turn)),
            running=tuple(turn for turn in self.running if not gone(turn)),
        )


def budget_for(cpus: int) -> Budget:
    """Return the empty budget of a machine with so many usable CPUs."""
    return Budget(limit=max(1, cpus // 2))
