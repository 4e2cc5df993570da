"""Memory and CPU of what runs: sampled regularly where there are limits, on demand for ``status``.

Without limits nothing is sampled. With them every instance is looked at every two seconds, a few at a time, so that no
turn of the loop reads the whole of /proc.
"""

from __future__ import annotations

import math

from oxherd.core.limits import LimitPolicy, LimitState, LimitVerdict, weigh
from oxherd.records import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from oxherd.config.model import LimitSpec
    from oxherd.system.loop import Loop, Timer
    from oxherd.system.resources import TreeSample

    Report = Callable[[Hashable, LimitVerdict, int, float], None]

__all__ = ["Sampler", "Usage"]

# Seconds in which every watched instance is sampled once.
_ROUND = 2.0
# Seconds between turns at least.
_TURN = 0.1

# After the proportional memory has cleared an instance it is read again when its RSS has grown by this share of the
# limit, or after this many seconds: the kernel walks every page of the tree for it.
_CLEARED_GROWTH = 0.02
_CLEARED_FOR = 30.0

# CPU percent is that of the time since the last look if that was this long ago, else that since the start.
_SHORTEST_LOOK = 0.2
_LONGEST_LOOK = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a process tree uses: percent of one core, bytes, number of processes."""

    cpu_percent: float
    memory: int
    processes: int


_NOTHING = Usage(cpu_percent=0.0, memory=0, processes=0)


@dataclass(frozen=True, slots=True)
class _Look:
    """The last look at an instance for ``status``."""

    pid: int
    at: float
    cpu_seconds: float
    usage: Usage


class _Watched:
    """One instance with limits."""

    __slots__ = ("cleared_at", "cleared_rss", "key", "pid", "policy", "state")

    def __init__(self, key: Hashable, pid: int, policy: LimitPolicy) -> None:
        self.key = key
        self.pid = pid
        self.policy = policy
        self.state = LimitState()
        self.cleared_at = 0.0
        self.cleared_rss: int | None = None


class Sampler:
    """Samples process trees.

    Args:
        loop: The loop.
        sample: Returns memory and CPU of the tree under a pid.
        pss: Returns the proportional memory of the tree in bytes: RSS counts a page that ten forked workers share ten
            times, so a verdict on a tree of several processes is confirmed by it.
        report: Called with (key, verdict, memory in bytes, CPU percent over the window) for every sample of an
            instance with limits; the percentage is 0 while the window is not full.
    """

    def __init__(
        self, loop: Loop, sample: Callable[[int], TreeSample], pss: Callable[[int], int], report: Report
    ) -> None:
        """Sample nothing yet."""
        self._loop = loop
        self._sample = sample
        self._pss = pss
        self._report = report
        self._watched: dict[Hashable, _Watched] = {}
        self._round: list[_Watched] = []
        self._looks: dict[Hashable, _Look] = {}
        self._timer: Timer | None = None

    def watch(self, key: Hashable, pid: int, limits: LimitSpec) -> None:
        """Hold an instance to its limits of memory and CPU until `forget`; without one nothing is done."""
        self._watched.pop(key, None)
        if limits.memory is None and limits.cpu_percent is None:
            return
        policy = LimitPolicy(memory=limits.memory, cpu_percent=limits.cpu_percent, cpu_window=limits.cpu_window)
        self._watched[key] = _Watched(key, pid, policy)
        if self._timer is None:
            self._arm()

    def forget(self, key: Hashable) -> None:
        """Drop an instance and what is remembered of it; unknown keys are ignored."""
        self._watched.pop(key, None)
        self._looks.pop(key, None)
        if not self._watched and self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._round.clear()

    def close(self) -> None:
        """Drop everything."""
        for key in (*self._watched, *self._looks):
            self.forget(key)

    def usage(self, key: Hashable, pid: int, started: float) -> Usage:
        """Return what an instance uses now; nothing when it is gone.

        Args:
            key: The incarnation.
            pid: Its main pid.
            started: Monotonic time of its exec.
        """
        now = self._loop.now()
        last = self._looks.get(key)
        if last is not None and (last.pid != pid or now - last.at > _LONGEST_LOOK):
            last = None
        if last is not None and now - last.at < _SHORTEST_LOOK:
            return last.usage
        try:
            tree = self._sample(pid)
        except OSError:
            return _NOTHING
        if not tree.processes:
            return _NOTHING
        if last is not None:
            used, span = tree.cpu_seconds - last.cpu_seconds, now - last.at
        else:
            used, span = tree.cpu_seconds, max(now - started, _SHORTEST_LOOK)
        # A member of the tree that ended takes its CPU time with it.
        percent = max(0.0, used) / span * 100.0
        usage = Usage(cpu_percent=percent, memory=tree.rss_bytes, processes=tree.processes)
        self._remember(key, _Look(pid, now, tree.cpu_seconds, usage))
        return usage

    def _remember(self, key: Hashable, look: _Look) -> None:
        """Keep a look, the newest last, and drop those that are too old to be of use."""
        self._looks.pop(key, None)
        self._looks[key] = look
        while look.at - next(iter(self._looks.values())).at > _LONGEST_LOOK:
            del self._looks[next(iter(self._looks))]

    # -- limits -------------------------------------------------------------------------------------------------

    def _share(self) -> int:
        """Return how many are sampled in one turn, so that a round keeps its length however many there are."""
        return max(1, math.ceil(len(self._watched) * _TURN / _ROUND))

    def _arm(self) -> None:
        count = len(self._watched)
        turns = math.ceil(count / self._share())
        self._timer = self._loop.call_later(_ROUND / turns, self._turn) if count else None

    def _turn(self) -> None:
        if not self._round:
            self._round = list(self._watched.values())
        share = self._share()
        batch, self._round = self._round[:share], self._round[share:]
        for watched in batch:
            if self._watched.get(watched.key) is watched:
                self._weigh(watched)
        self._arm()

    def _weigh(self, watched: _Watched) -> None:
        try:
            tree = self._sample(watched.pid)
        except OSError:
            # Gone, or unreadable for want of descriptors: no sample, no verdict.
            return
        if not tree.processes:
            return
        watched.state, verdict = weigh(
            watched.state,
            watched.policy,
            rss=tree.rss_bytes,
            cpu_seconds=tree.cpu_seconds,
            now=self._loop.now(),
        )
        memory = tree.rss_bytes
        if verdict is LimitVerdict.MEMORY:
            proportional = self._proportional(watched, tree)
            if proportional is None:
                verdict = LimitVerdict.NONE
            else:
                memory = proportional
        self._report(watched.key, verdict, memory, watched.state.average or 0.0)

    def _proportional(self, watched: _Watched, tree: TreeSample) -> int | None:
        """Return the memory of a tree whose RSS is over the limit, or None if it is not over it after all."""
        limit = watched.policy.memory
        assert limit is not None
        if tree.processes == 1:
            return tree.rss_bytes
        cleared = watched.cleared_rss
        if (
            cleared is not None
            and self._loop.now() - watched.cleared_at < _CLEARED_FOR
            and tree.rss_bytes - cleared < limit * _CLEARED_GROWTH
        ):
            return None
        try:
            size = self._pss(watched.pid)
        except OSError:
            # Not ours to read: how much it shares stays unknown, and the limit is a limit.
            return tree.rss_bytes
        if size > limit:
            return size
        watched.cleared_at, watched.cleared_rss = self._loop.now(), tree.rss_bytes
        return None
