"""Who accepts where, as messages: given before it is taken, taken only when the other one has said that it accepts."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from oxherd.config.model import HostSpec
from oxherd.core.instance import State
from oxherd.daemon.hosting.lending import Lending, slot_of

ADDRESS = "127.0.0.1:8000"


class Worker:
    """A worker's channel: what it was told, and the ears that hear it."""

    def __init__(self):
        self.said, self.asked, self.accepting = [], set(), set()
        self.draining = False

    def say(self, kind, fds=(), *, key):
        self.said.append((kind, key))
        return True

    def answer(self):
        """Accept wherever it was asked to."""
        self.accepting |= self.asked


class Listeners:
    """One listener a slot, or one for all."""

    def __init__(self, slots, *, shared=False):
        self.slots, self.shared, self.open = slots, shared, set()

    def _key(self, slot):
        return f"-/{ADDRESS}" if self.shared else f"{slot}/{ADDRESS}"

    def of(self, slot, _addresses=None):
        return [(self._key(slot), SimpleNamespace(fileno=lambda: 7))]

    def listen(self, slot):
        self.open.add(self._key(slot))

    def listening(self, key):
        return key in self.open


class Bench:
    """Some workers of a process, and which of them can serve."""

    def __init__(self, slots, *, shared=False):
        self.serving, self.told = [], []
        self.instances = {}
        process = SimpleNamespace(instances=self.instances)
        self.host = SimpleNamespace(
            listeners=Listeners(slots, shared=shared), process=process, workers=lambda: list(self.everyone)
        )
        self.everyone = [self.make(slot) for slot in range(slots)]
        self.instances.update(enumerate(self.everyone))
        self.lending = Lending(lambda _, handle: handle in self.serving, lambda *told: self.told.append(told))

    def make(self, slot):
        spec = SimpleNamespace(host=HostSpec(bind=(ADDRESS,)))
        return SimpleNamespace(slot=slot, worker=Worker(), spec=spec, machine=SimpleNamespace(state=State.RUNNING))

    def settle(self, *serving):
        """Let these serve, and settle; return what was said, by worker."""
        if serving:
            self.serving = list(serving)
        for handle in self.everyone:
            handle.worker.said.clear()
        self.lending.settle(self.host)
        return [list(handle.worker.said) for handle in self.everyone]

    def answer(self):
        for handle in self.everyone:
            handle.worker.answer()


@pytest.fixture
def bench():
    made = Bench(3)
    made.settle(*made.everyone)
    made.answer()
    return made


def key(slot):
    return f"{slot}/{ADDRESS}"


def test_each_serves_its_own_slot():
    bench = Bench(2)
    assert bench.settle(*bench.everyone) == [[("accept", key(0))], [("accept", key(1))]]
    bench.answer()
    assert bench.settle() == [[], []]
    assert bench.told == []


def test_a_slot_nobody_has_served_yet_waits_for_its_own_worker():
    """Connections go to the others: the kernel does not know of a socket that does not listen."""
    bench = Bench(3)
    assert bench.settle(bench.everyone[1]) == [[], [("accept", key(1))], []]


def test_what_cannot_serve_has_its_listener_lent_and_gets_it_back(bench):
    zero, one, two = bench.everyone
    assert bench.settle(one, two) == [[], [("accept", key(0))], []]
    # It is asked to let go only when the other one has said that it accepts.
    bench.answer()
    assert bench.settle() == [[("release", key(0))], [], []]
    assert [told[1] for told in bench.told] == ["lent"]
    assert bench.settle(zero, one, two) == [[("accept", key(0))], [], []]
    bench.answer()
    assert bench.settle() == [[], [("release", key(0))], []]


def test_what_nobody_can_serve_stays_where_it_is(bench):
    bench.serving = []
    assert bench.settle() == [[], [], []]
    assert bench.everyone[0].worker.asked == {key(0)}


def test_what_is_lent_is_spread(bench):
    said = bench.settle(bench.everyone[2])
    assert said == [[], [], [("accept", key(0)), ("accept", key(1))]]


def test_a_lame_duck_is_told_nothing(bench):
    """It has let go of everything by itself."""
    bench.everyone[0].worker.draining = True
    said = bench.settle(*bench.everyone[1:])
    bench.answer()
    assert bench.settle()[0] == said[0] == []


def test_a_successor_takes_the_slot_and_what_its_predecessor_had_borrowed(bench):
    zero, one, two = bench.everyone
    bench.settle(one, two)
    bench.answer()
    bench.settle()
    successor = bench.make(1)
    bench.everyone.append(successor)
    bench.instances[1] = successor
    said = bench.settle(two, successor)
    assert set(said[3]) >= {("accept", key(1))}
    assert {slot_of(told) for handle in (two, successor) for told in handle.worker.asked} == {0, 1, 2}
    assert zero.worker.asked == set()


def test_a_shared_listener_is_accepted_on_by_all_that_serve():
    bench = Bench(2, shared=True)
    shared = f"-/{ADDRESS}"
    assert bench.settle(*bench.everyone) == [[("accept", shared)], [("accept", shared)]]
    bench.answer()
    zero, one = bench.everyone
    assert bench.settle(one) == [[("release", shared)], []]
    # The last one keeps it: its queue would have nobody.
    bench.serving = []
    assert bench.settle() == [[], []]
    assert one.worker.asked == {shared}
    assert zero.worker.asked == set()
