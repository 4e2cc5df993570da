"""A zygote between two supervisors: how long it stays, without a process of its own."""

from __future__ import annotations

import socket

import pytest

from oxherd.host import zygote as zygotes
from oxherd.host.channel import Channel
from oxherd.host.wire import decode
from oxherd.host.zygote import Zygote
from support.waiting import DEADLINE


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel = Channel(theirs.detach())
    yield ours, channel
    ours.close()
    channel.close()


@pytest.fixture
def door(tmp_path):
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listening.bind(str(tmp_path / "door"))
    listening.listen()
    return listening


@pytest.fixture
def serve():
    """Return a function that lets a zygote serve until it is over; what the end of its process closes is closed."""

    def run(zygote):
        try:
            return zygote._loop(None)
        finally:
            zygote._selector.close()
            if zygote._door is not None:
                zygote._door.close()

    return run


def test_without_a_door_it_ends_with_its_supervisor(ends, serve):
    ours, channel = ends
    zygote = Zygote(channel, {}, [])
    ours.close()
    assert serve(zygote) == 0


def test_it_leaves_when_nobody_came_and_it_has_no_children(ends, door, serve, monkeypatch):
    ours, channel = ends
    monkeypatch.setattr(zygotes, "_ALONE", 0.0)
    zygote = Zygote(channel, {}, [door.detach()])
    ours.close()
    assert serve(zygote) == 0


def test_a_supervisor_that_has_come_is_served_until_it_says_end(ends, door, serve, monkeypatch):
    """However long that takes: with a supervisor it is not alone."""
    ours, channel = ends
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as supervisor:
        supervisor.connect(door.getsockname())
        supervisor.settimeout(DEADLINE)
        zygote = Zygote(channel, {}, [door.detach()])
        zygote._facts = {"forkable": True}
        zygote._exits = [(12, 9)]
        ours.close()
        supervisor.send(b'{"kind":"heard"}')
        supervisor.send(b'{"kind":"end"}')
        assert serve(zygote) == 0
        said = [decode(supervisor.recv(10_000)) for _ in range(4)]
    assert [message["kind"] for message in said] == ["here", "facts", "ended", "here-end"]
    assert (said[0]["exits"], said[2]["pid"], said[2]["status"]) == (1, 12, 9)
    assert zygote._exits == []
