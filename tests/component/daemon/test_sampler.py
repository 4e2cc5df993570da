"""The sampler with process trees that are made up."""

from __future__ import annotations

import collections
from dataclasses import dataclass

import pytest

from oxherd.config.model import LimitSpec
from oxherd.core.limits import LimitVerdict
from oxherd.daemon.sampler import Sampler
from support.fake_loop import FakeLoop

MB = 1 << 20


@dataclass
class Tree:
    """What the fake machine says of a pid."""

    processes: int = 1
    rss_bytes: int = 0
    cpu_seconds: float = 0.0
    pss_bytes: int = 0


class Bench:
    """A sampler and the machine it looks at."""

    def __init__(self) -> None:
        self.loop = FakeLoop()
        self.trees: dict[int, Tree] = collections.defaultdict(Tree)
        self.sampled: list[tuple[float, int]] = []
        self.weighed: list[int] = []
        self.reports: list[tuple[object, LimitVerdict, int, float]] = []
        self.sampler = Sampler(self.loop, self.sample, self.pss, lambda *report: self.reports.append(report))

    def sample(self, pid: int) -> Tree:
        self.sampled.append((self.loop.now(), pid))
        tree = self.trees[pid]
        if tree.processes < 0:
            raise ProcessLookupError(pid)
        return tree

    def pss(self, pid: int) -> int:
        self.weighed.append(pid)
        if self.trees[pid].pss_bytes < 0:
            raise PermissionError(pid)
        return self.trees[pid].pss_bytes

    def verdicts(self) -> list[tuple[object, LimitVerdict, int]]:
        return [report[:3] for report in self.reports if report[1] is not LimitVerdict.NONE]


@pytest.fixture
def bench():
    bench = Bench()
    yield bench
    bench.sampler.close()
    assert bench.loop.timers == 0
    bench.loop.close()


MEMORY = LimitSpec(memory=100 * MB)


def test_without_limits_nothing_is_sampled(bench):
    bench.sampler.watch("web", 1, LimitSpec(nofile=100))
    assert bench.loop.timers == 0
    bench.loop.advance(60.0)
    assert bench.sampled == []


def test_memory_over_the_limit_twice_is_a_verdict(bench):
    bench.trees[1] = Tree(rss_bytes=101 * MB)
    bench.sampler.watch("web", 1, MEMORY)
    bench.loop.advance(2.0)
    assert bench.verdicts() == []
    bench.loop.advance(2.0)
    assert bench.verdicts() == [("web", LimitVerdict.MEMORY, 101 * MB)]


def test_every_sample_is_reported_with_what_was_seen(bench):
    bench.trees[1] = Tree(rss_bytes=50 * MB)
    bench.sampler.watch("web", 1, MEMORY)
    bench.loop.advance(4.0)
    assert bench.reports == [("web", LimitVerdict.NONE, 50 * MB, 0.0)] * 2


def test_cpu_over_the_window_is_a_verdict_with_the_average(bench):
    bench.sampler.watch("web", 1, LimitSpec(cpu_percent=50.0, cpu_window=10.0))
    for second in range(14):
        bench.trees[1].cpu_seconds = second * 0.8
        bench.loop.advance(1.0)
    (report,) = [report for report in bench.reports if report[1] is LimitVerdict.CPU]
    assert report[3] == pytest.approx(80.0, rel=0.05)


def test_pages_that_are_shared_are_not_counted_many_times(bench):
    bench.trees[1] = Tree(processes=5, rss_bytes=400 * MB, pss_bytes=90 * MB)
    bench.sampler.watch("web", 1, MEMORY)
    bench.loop.advance(20.0)
    assert bench.verdicts() == []
    # The kernel walks every page for it: cleared once is cleared for a while.
    assert bench.weighed == [1]
    bench.loop.advance(20.0)
    assert bench.weighed == [1, 1]


def test_a_tree_that_grows_after_it_was_cleared_is_looked_at_again(bench):
    bench.trees[1] = Tree(processes=5, rss_bytes=400 * MB, pss_bytes=90 * MB)
    bench.sampler.watch("web", 1, MEMORY)
    bench.loop.advance(4.0)
    bench.trees[1] = Tree(processes=5, rss_bytes=450 * MB, pss_bytes=140 * MB)
    bench.loop.advance(4.0)
    assert bench.verdicts() == [("web", LimitVerdict.MEMORY, 140 * MB)]


def test_a_single_process_needs_no_second_opinion(bench):
    bench.trees[1] = Tree(rss_bytes=101 * MB, pss_bytes=1)
    bench.sampler.watch("web", 1, MEMORY)
    bench.loop.advance(4.0)
    assert bench.verdicts() == [("web", LimitVerdict.MEMORY, 101 * MB)]
    assert bench.weighed == []


def test_where_the_second_opinion_is_refused_the_first_counts(bench):
    bench.trees[1] = Tree(processes=2, rss_bytes=101 * MB, pss_bytes=-1)
    bench.sampler.watch("web", 1, MEMORY)
    bench.loop.advance(4.0)
    assert bench.verdicts() == [("web", LimitVerdict.MEMORY, 101 * MB)]


@pytest.mark.parametrize("processes", [0, -1])
def test_a_process_that_is_gone_gives_no_sample(bench, processes):
    bench.trees[1] = Tree(processes=processes, rss_bytes=500 * MB)
    bench.sampler.watch("web", 1, MEMORY)
    bench.loop.advance(10.0)
    assert bench.reports == []
    assert bench.sampler.usage("web", 1, 0.0).memory == 0


@pytest.mark.parametrize("count", [1, 3, 20, 21, 200])
def test_each_is_sampled_once_a_round_and_no_turn_samples_many(bench, count):
    for pid in range(count):
        bench.sampler.watch(pid, pid, MEMORY)
    bench.loop.advance(20.0)
    samples = collections.Counter(pid for _, pid in bench.sampled)
    assert set(samples) == set(range(count))
    assert min(samples.values()) >= 9
    assert max(samples.values()) <= 11
    turns = collections.Counter(round(when, 6) for when, _ in bench.sampled)
    assert max(turns.values()) <= max(1, count // 20 + 1)


def test_a_forgotten_instance_is_sampled_no_more(bench):
    bench.sampler.watch("a", 1, MEMORY)
    bench.sampler.watch("b", 2, MEMORY)
    bench.loop.advance(2.0)
    bench.sampler.forget("a")
    bench.sampler.forget("a")
    bench.sampled.clear()
    bench.loop.advance(10.0)
    assert {pid for _, pid in bench.sampled} == {2}
    bench.sampler.forget("b")
    assert bench.loop.timers == 0


def test_a_new_incarnation_under_the_same_key_starts_with_a_clean_record(bench):
    bench.trees[1] = Tree(rss_bytes=101 * MB)
    bench.trees[2] = Tree(rss_bytes=101 * MB)
    bench.sampler.watch("web", 1, MEMORY)
    bench.loop.advance(2.0)
    bench.sampler.watch("web", 2, MEMORY)
    bench.loop.advance(2.0)
    assert bench.verdicts() == []


def test_a_report_may_forget_the_instance_it_is_about(bench):
    bench.trees[1] = Tree(rss_bytes=101 * MB)
    bench.sampler._report = lambda key, *_rest: bench.sampler.forget(key)
    bench.sampler.watch("web", 1, MEMORY)
    bench.loop.advance(10.0)
    assert len(bench.sampled) == 1
    assert bench.loop.timers == 0


# -- for the status table -------------------------------------------------------------------------------------------------


def test_the_first_look_is_the_average_since_the_start(bench):
    bench.trees[1] = Tree(processes=3, rss_bytes=7 * MB, cpu_seconds=5.0)
    usage = bench.sampler.usage("web", 1, bench.loop.now() - 10.0)
    assert (usage.cpu_percent, usage.memory, usage.processes) == (50.0, 7 * MB, 3)


def test_the_next_look_is_what_was_used_since(bench):
    started = bench.loop.now() - 10.0
    bench.trees[1].cpu_seconds = 5.0
    bench.sampler.usage("web", 1, started)
    bench.loop.advance(2.0)
    bench.trees[1].cpu_seconds = 9.0
    assert bench.sampler.usage("web", 1, started).cpu_percent == pytest.approx(200.0)


def test_looks_in_quick_succession_are_one(bench):
    started = bench.loop.now() - 10.0
    first = bench.sampler.usage("web", 1, started)
    bench.loop.advance(0.1)
    bench.trees[1].cpu_seconds = 5.0
    assert bench.sampler.usage("web", 1, started) is first
    assert len(bench.sampled) == 1


@pytest.mark.parametrize("pid", [1, 2])
def test_a_look_long_ago_or_at_another_process_says_nothing(bench, pid):
    started = bench.loop.now() - 100.0
    bench.trees[1].cpu_seconds = 90.0
    bench.sampler.usage("web", 1, started)
    bench.loop.advance(300.0 if pid == 2 else 300.1)
    bench.trees[pid].cpu_seconds = 100.0
    assert bench.sampler.usage("web", pid, started).cpu_percent == pytest.approx(25.0, rel=0.01)


def test_cpu_time_that_left_with_a_member_of_the_tree_is_not_negative(bench):
    bench.trees[1].cpu_seconds = 50.0
    bench.sampler.usage("web", 1, 0.0)
    bench.loop.advance(1.0)
    bench.trees[1].cpu_seconds = 10.0
    assert bench.sampler.usage("web", 1, 0.0).cpu_percent == 0.0


def test_a_program_that_was_just_started_does_not_use_millions_of_percent(bench):
    bench.trees[1].cpu_seconds = 0.1
    assert bench.sampler.usage("web", 1, bench.loop.now()).cpu_percent == pytest.approx(50.0)


def test_looks_that_are_too_old_to_be_of_use_are_dropped(bench):
    for number in range(1000):
        bench.sampler.usage(("web", number), number, 0.0)
        bench.loop.advance(10.0)
    assert len(bench.sampler._looks) <= 31
