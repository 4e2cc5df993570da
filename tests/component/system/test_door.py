"""The supervisor's side of doors: made, handed over, knocked at; and handles of what another supervisor has started.

The test plays the host: it holds the listening socket and says what a worker or zygote says.
"""

from __future__ import annotations

import os
import socket

import pytest

from oxherd.host import wire
from oxherd.host.meters import SIZE, Meters
from oxherd.system.door import Door, forget, knock
from oxherd.system.loop import Loop
from oxherd.system.worker_handle import WorkerHandle
from oxherd.system.zygote_handle import ZygoteHandle, ZygoteState
from support.waiting import DEADLINE


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path)


# -- doors ------------------------------------------------------------------------------------------------------------


def test_a_door_is_open_for_as_long_as_somebody_holds_it(folder):
    door = Door(folder, "one.door")
    assert door.path == f"{folder}/one.door"
    held = os.dup(door.fileno())
    door.handed_over()
    door.handed_over()
    with knock(door.path) as visitor:
        assert not visitor.getblocking()
        assert not visitor.get_inheritable()
    os.close(held)
    with pytest.raises(ConnectionRefusedError):
        knock(door.path)
    door.close()
    door.close()
    with pytest.raises(FileNotFoundError):
        knock(door.path)
    forget(door.path)


def test_a_path_may_be_longer_than_an_address(folder):
    deep = os.path.join(folder, *["d" * 60] * 4)
    os.makedirs(deep)
    door = Door(deep, "one.door")
    knock(door.path).close()
    door.close()
    assert os.listdir(deep) == []


def test_a_queue_that_is_full_does_not_block(folder):
    door = Door(folder, "one.door")
    visitors = [knock(door.path) for _ in range(17)]  # as many as the queue takes, and one
    with pytest.raises(BlockingIOError):
        knock(door.path)
    for visitor in visitors:
        visitor.close()
    door.close()


def test_a_door_that_cannot_be_made_says_where(folder):
    with pytest.raises(Exception, match="nowhere"):
        Door(f"{folder}/nowhere", "one.door")


# -- handles ----------------------------------------------------------------------------------------------------------


class Host:
    """A worker or zygote that waits at its door, and a supervisor with its loop."""

    def __init__(self, folder):
        self.door = Door(folder, "host.door")
        self.private = f"{folder}/host"
        open(self.private, "w").close()
        self.errors, self.heard, self.closed = [], [], 0
        self.loop = Loop(self.errors.append)
        self.end = None

    def hear(self, message, fds):
        self.heard.append((message["kind"], len(fds)))
        for fd in fds:
            os.close(fd)

    def close(self):
        self.closed += 1

    def rejoin_worker(self):
        return WorkerHandle.rejoin(self.loop, self.private, self.door.path, self.hear, self.close)

    def rejoin_zygote(self):
        return ZygoteHandle.rejoin(self.loop, self.door.path, self.hear, self.close)

    def answer(self):
        listening = socket.socket(fileno=os.dup(self.door.fileno()))
        self.end, _ = listening.accept()
        self.end.settimeout(DEADLINE)
        listening.close()

    def say(self, kind, fds=(), **fields):
        socket.send_fds(self.end, [wire.encode(kind, **fields)], list(fds))

    def until(self, condition):
        expiry = self.loop.now() + DEADLINE
        while not condition():
            assert self.loop.now() < expiry, self.heard
            self.loop.run_once(0.05)
        assert self.errors == []

    def told(self):
        return wire.decode(self.end.recv(wire.LIMIT))


@pytest.fixture
def host(folder):
    made = Host(folder)
    before = len(os.listdir("/proc/self/fd"))
    yield made
    if made.end is not None:
        made.end.close()
    assert len(os.listdir("/proc/self/fd")) == before
    made.door.close()
    made.loop.close()


@pytest.fixture
def gauges():
    fds = [os.memfd_create("meters"), os.memfd_create("dump")]
    os.ftruncate(fds[0], SIZE)
    os.write(fds[1], b"Thread 0x1")
    yield fds
    for fd in fds:
        os.close(fd)


HERE = {
    "role": "worker",
    "version": 1,
    "pid": 77,
    "slot": 2,
    "incarnation": 5,
    "started": True,
    "draining": False,
    "due": True,
    "facts": {"engine": "uvicorn"},
    "keys": ["web:0", "web:1"],
    "listeners": 2,
}


def test_a_worker_is_known_when_it_has_said_all(host, gauges):
    # The fixture counts what is open: the handle gives everything back.
    handle = host.rejoin_worker()
    assert (handle.here, handle.meters, handle.dump(), handle.dump_fd) == (False, None, "", -1)
    assert handle.say("report")
    host.answer()
    assert host.told() == {"kind": "report"}
    host.say("here", gauges, **HERE)
    null = os.open(os.devnull, os.O_RDONLY)
    for key in HERE["keys"]:
        host.say("listener", [null], key=key)
    os.close(null)
    host.until(lambda: len(handle.listeners) == 2)
    assert not handle.here
    host.say("here-end")
    host.until(lambda: handle.here)
    assert host.heard == [("here", 0), ("listener", 0), ("listener", 0), ("here-end", 0)]
    assert (handle.pid, handle.incarnation, handle.facts) == (77, 5, {"kind": "started", "engine": "uvicorn"})
    assert (handle.started, handle.draining, handle.due) == (True, False, True)
    assert handle.asked == handle.accepting == {"web:0", "web:1"}
    writer = Meters(gauges[0])
    writer.tick(5.0, 0.0)
    assert handle.meters.ticked_at == 5.0
    writer.close()
    assert (handle.dump(), handle.dump()) == ("Thread 0x1", "")
    taken = handle.take_listeners()
    assert list(taken) == HERE["keys"]
    os.close(taken.pop("web:0"))
    os.close(taken.pop("web:1"))
    handle.close()
    handle.close()
    assert not os.path.exists(handle.private)
    assert not os.path.exists(handle.door)


def test_listeners_that_nobody_took_are_closed_with_the_handle(host):
    handle = host.rejoin_worker()
    host.answer()
    null = os.open(os.devnull, os.O_RDONLY)
    for _ in range(2):  # the second in place of the first
        host.say("listener", [null], key="web:0")
    os.close(null)
    host.say("listener", key="web:1")  # its descriptor was lost on the way
    host.until(lambda: len(host.heard) == 3)
    assert list(handle.listeners) == ["web:0"]
    handle.close()


def test_what_happens_while_it_is_said_is_not_undone(host):
    """A worker that became a lame duck at that moment says so before or after; the keys it had are not its any more."""
    handle = host.rejoin_worker()
    host.answer()
    handle.draining = True  # of whoever took the message
    host.say("here", **HERE)
    host.until(lambda: host.heard)
    assert (handle.draining, handle.accepting) == (True, set())
    handle.close()


@pytest.mark.parametrize("what", ["none", "short", "pipe"])
def test_gauges_that_are_none_are_not_taken(host, what):
    handle = host.rejoin_worker()
    host.answer()
    made = {
        "none": list,
        "short": lambda: [os.memfd_create("meters"), os.memfd_create("dump")],
        "pipe": lambda: list(os.pipe()),
    }[what]()
    host.say("here", made, **HERE)
    for fd in made:
        os.close(fd)
    host.until(lambda: host.heard)
    assert (handle.meters, handle.dump(), handle.started) == (None, "", True)
    assert host.heard == [("here", len(made))]
    handle.close()


def test_a_worker_that_dies_at_the_door_is_told(host):
    handle = host.rejoin_worker()
    host.answer()
    host.end.close()
    host.until(lambda: host.closed)
    assert (host.closed, handle.hears, handle.say("report")) == (1, False, False)
    handle.close()


def test_a_failed_worker_says_why(host):
    handle = host.rejoin_worker()
    host.answer()
    host.say("failed", stage="import", text="no database", traceback="")
    host.until(lambda: host.heard)
    assert handle.failure["text"] == "no database"
    handle.close()


def test_a_zygote_hands_back_its_children_and_their_ends(host):
    handle = host.rejoin_zygote()
    assert (handle.here, handle.state, handle.door) == (False, ZygoteState.BOOTING, host.door.path)
    host.answer()
    null = os.open(os.devnull, os.O_RDONLY)
    host.say("here", role="zygote", version=1, pid=7, children=2, exits=1)
    host.say("facts", forkable=True, engine="uvicorn")
    host.say("child", [null], pid=8, slot=0, incarnation=3)
    host.say("child", [null], pid=9, slot=1, incarnation=4)
    os.close(null)
    host.say("ended", pid=6, status=9)
    host.say("here-end")
    host.until(lambda: handle.here)
    assert host.told() == {"kind": "heard"}
    assert (handle.pid, handle.pidfd, handle.state) == (7, -1, ZygoteState.READY)
    assert handle.facts == {"kind": "ready", "forkable": True, "engine": "uvicorn"}
    assert handle.exits == {6: 9}
    assert {pid: number for pid, (number, _) in handle.children.items()} == {8: 3, 9: 4}
    taken = handle.take_children()
    os.close(taken[8][1])
    os.close(taken[9][1])
    assert handle.end()
    assert host.told() == {"kind": "end"}
    handle.close()
    handle.close()
    assert not os.path.exists(host.door.path)
    assert not handle.end()


def test_children_that_nobody_took_are_let_go_with_the_handle(host):
    handle = host.rejoin_zygote()
    host.answer()
    null = os.open(os.devnull, os.O_RDONLY)
    host.say("child", [null], pid=8, slot=0, incarnation=3)
    os.close(null)
    host.say("facts", forkable=False)
    host.until(lambda: len(host.heard) == 2)
    assert handle.state is ZygoteState.UNSAFE
    handle.close()


def test_a_new_handle_has_a_door_and_hands_it_over(folder):
    loop = Loop(lambda error: None)
    worker = WorkerHandle(loop, folder, "w")
    zygote = ZygoteHandle(loop, folder, "z", lambda message, fds: None, lambda: None)
    assert (worker.here, zygote.here) == (True, True)
    assert sorted(os.listdir(folder)) == ["w", "w.door", "z.door"]
    assert len(worker.gifts) == 4
    theirs = os.dup(worker.gifts[3])
    worker.handed_over()
    knock(worker.door).close()
    os.close(theirs)
    zygote.launched(1, -1, {}, "title")
    worker.close()
    zygote.close()
    assert os.listdir(folder) == []
    loop.close()
