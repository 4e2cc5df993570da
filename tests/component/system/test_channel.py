"""The channel to hosts: messages whole and in order, descriptors beside them, garbage and a full buffer survived."""

from __future__ import annotations

import array
import errno
import os
import socket

import pytest

from oxherd.host import wire
from oxherd.system.channel import Channel, channel_pair
from oxherd.system.loop import Loop
from support.waiting import DEADLINE


class End:
    """The supervisor's end, and what came out of it; the test plays the host."""

    def __init__(self):
        self.errors = []
        self.loop = Loop(self.errors.append)
        ours, self.theirs = channel_pair()
        self.heard, self.closed = [], 0
        self.channel = Channel(self.loop, ours, lambda message, fds: self.heard.append((message, fds)), self._close)

    def _close(self):
        self.closed += 1

    def until(self, condition):
        end = self.loop.now() + DEADLINE
        while not condition():
            assert self.loop.now() < end
            self.loop.run_once(0.05)
        assert self.errors == []


@pytest.fixture
def end():
    made = End()
    yield made
    made.channel.close()
    made.theirs.close()
    made.loop.close()


def received(sock):
    packet, rights, _, _ = sock.recvmsg(wire.LIMIT + 1, socket.CMSG_SPACE(4 * wire.FDS))
    fds = array.array("i")
    for _, _, data in rights:
        fds.frombytes(data)
    return wire.decode(packet), list(fds)


def test_messages_come_whole_and_in_order_with_their_descriptors(end):
    read, write = os.pipe()
    assert end.channel.send("accept", (read,), key="0/127.0.0.1:80")
    assert end.channel.send("report")
    os.close(read)
    first, fds = received(end.theirs)
    assert first == {"kind": "accept", "key": "0/127.0.0.1:80"}
    assert received(end.theirs) == ({"kind": "report"}, [])
    os.write(write, b"x")
    assert os.read(fds[0], 1) == b"x"
    os.close(write)
    os.close(fds[0])


def test_descriptors_that_come_in_are_not_inherited(end):
    read, write = os.pipe()
    socket.send_fds(end.theirs, [wire.encode("forked", pid=1)], [read])
    end.until(lambda: end.heard)
    ((message, (fd,)),) = end.heard
    assert message["pid"] == 1
    assert not os.get_inheritable(fd)
    for one in (read, write, fd):
        os.close(one)


def test_what_does_not_fit_waits_and_nothing_is_lost(end):
    count = 200
    read, write = os.pipe()
    for number in range(count):
        assert end.channel.send("fill", (read,) if number == count - 1 else (), number=number, text="x" * 5000)
    os.close(read)
    numbers, fds = [], []
    end.theirs.settimeout(DEADLINE)
    while len(numbers) < count:
        end.loop.run_once(0)
        message, some = received(end.theirs)
        numbers.append(message["number"])
        fds += some
    assert numbers == list(range(count))
    os.write(write, b"y")
    assert os.read(fds[0], 1) == b"y"
    os.close(write)
    os.close(fds[0])


def test_who_never_listens_is_given_up_on(end):
    sent = 0
    while end.channel.send("fill", text="x" * 50_000):
        sent += 1
        assert sent < 1000
    assert end.channel.open


def test_garbage_is_told_and_the_channel_goes_on(end):
    end.theirs.send(b"\xff\x00 not json")
    end.theirs.send(b"[1]")
    end.theirs.send(wire.encode("started"))
    end.until(lambda: len(end.heard) == 3)
    assert [message["kind"] for message, _ in end.heard] == ["garbage", "garbage", "started"]


def test_the_other_end_is_gone_once(end):
    end.theirs.send(wire.encode("last"))
    end.theirs.close()
    end.until(lambda: end.closed)
    assert [message["kind"] for message, _ in end.heard] == ["last"]
    assert not end.channel.send("report")
    assert not end.channel.open
    assert end.closed == 1


def test_a_close_of_ours_calls_nobody(end):
    end.channel.close()
    end.channel.close()
    assert end.closed == 0
    assert end.loop.watched == frozenset()


class _Starved:
    """A socket whose sendmsg and recvmsg have no memory for a while."""

    def __init__(self, sock, number):
        self._sock, self._error, self.starved = sock, OSError(number, os.strerror(number)), True

    def __getattr__(self, name):
        return getattr(self._sock, name)

    def sendmsg(self, *args):
        if self.starved:
            raise self._error
        return self._sock.sendmsg(*args)

    def recvmsg(self, *args):
        if self.starved:
            raise self._error
        return self._sock.recvmsg(*args)


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.ENOBUFS, errno.ETOOMANYREFS])
def test_a_machine_without_memory_for_a_packet_is_not_the_death_of_the_other_side(end, number):
    """It waits, without spinning on a socket that is ready all the while, and is sent when there is memory again."""
    read, write = os.pipe()
    starved = end.channel._socket = _Starved(end.channel._socket, number)
    assert end.channel.send("accept", (read,), key="0/127.0.0.1:80")
    end.theirs.send(wire.encode("started"))
    assert end.channel.open
    assert end.loop.watched == frozenset()
    starved.starved = False
    end.until(lambda: end.heard)
    message, fds = received(end.theirs)
    assert message["kind"] == "accept"
    assert end.closed == 0
    for fd in (read, write, *fds):
        os.close(fd)


def test_descriptors_that_cannot_be_kept_leave_none_behind(end, monkeypatch):
    """What waits needs copies of what goes with it: all of them, or none."""
    starved = end.channel._socket = _Starved(end.channel._socket, errno.ENOBUFS)
    read, write = os.pipe()
    before = set(os.listdir("/proc/self/fd"))
    copies = iter([os.dup])

    def dup(fd):
        found = next(copies, None)
        if found is None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return found(fd)

    monkeypatch.setattr("oxherd.system.channel.os.dup", dup)
    with pytest.raises(OSError, match="Too many open files"):
        end.channel.send("accept", (read, write), key="0/127.0.0.1:80")
    assert set(os.listdir("/proc/self/fd")) == before
    starved.starved = False
    os.close(read)
    os.close(write)
