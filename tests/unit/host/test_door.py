"""The host's side of a door: who is let in, and how a connection becomes the channel."""

from __future__ import annotations

import errno
import os
import socket
import threading

import pytest

from oxherd.host import door as doors
from oxherd.host.channel import Channel, user_of
from oxherd.host.door import Door
from oxherd.host.wire import decode, encode
from support.waiting import DEADLINE


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "door")


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel = Channel(theirs.detach())
    yield ours, channel
    ours.close()
    channel.close()


@pytest.fixture
def door(path, pair):
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listening.bind(path)
    listening.listen()
    made = Door(listening.detach(), pair[1])
    yield made
    made.close()


def knock(path: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made.settimeout(DEADLINE)
    made.connect(path)
    return made


def test_a_connection_takes_the_place_and_the_number_of_the_one_before(door, path, pair):
    before, channel = pair
    number = channel.fileno()
    before.close()
    assert channel.receive() is None
    assert not channel.send("lost")
    assert not door.is_knocked_at()
    with knock(path) as supervisor:
        assert door.is_knocked_at()
        supervisor.send(encode("early"))
        channel.replace(door.wait())
        assert channel.fileno() == number
        assert not os.get_inheritable(number)
        received = channel.receive()
        assert received == ({"kind": "early"}, [])
        assert channel.send("here", wait=True)
        assert decode(supervisor.recv(1000)) == {"kind": "here"}
        channel.hang_up()
        assert supervisor.recv(1000) == b""
    assert channel.receive() is None
    channel.hang_up()


def test_who_sends_while_the_connection_changes_never_fails(door, path, pair):
    """A thread that sends all the time reaches the old one or the new one, or is told that nobody is there."""
    before, channel = pair
    over, told = threading.Event(), []

    def chatter() -> None:
        while not over.is_set():
            try:
                channel.send("tick")
            except OSError as error:
                told.append(error)

    thread = threading.Thread(target=chatter)
    thread.start()
    before.close()
    for _ in range(50):
        with knock(path) as supervisor:
            channel.replace(door.wait())
            assert decode(supervisor.recv(1000)) == {"kind": "tick"}
    over.set()
    thread.join(DEADLINE)
    assert told == []


def test_it_is_not_inherited_and_blocks(door):
    assert not os.get_inheritable(door.fileno())
    assert os.get_blocking(door.fileno())


@pytest.mark.parametrize(("user", "comes_in"), [(0, True), ("first", True), (12345, False)])
def test_root_and_the_first_supervisors_user_come_in(door, path, monkeypatch, user, comes_in):
    monkeypatch.setattr(doors, "user_of", lambda _fd: os.geteuid() if user == "first" else user)
    with knock(path) as visitor:
        fd = door.answer()
        assert (fd is not None) is comes_in
        if fd is None:
            assert visitor.recv(1000) == b""
        else:
            os.close(fd)


def test_who_is_turned_away_does_not_keep_the_next_one_out(door, path, monkeypatch):
    users = iter([12345, 12345, os.geteuid()])
    monkeypatch.setattr(doors, "user_of", lambda _fd: next(users))
    with knock(path) as first, knock(path) as second, knock(path) as third:
        fd = door.wait()
        assert first.recv(1000) == second.recv(1000) == b""
        third.send(b"x")
        assert os.read(fd, 10) == b"x"
        os.close(fd)


def test_the_kernel_says_who_it_is(pair):
    ours, channel = pair
    assert user_of(channel.fileno()) == user_of(ours.fileno()) == os.geteuid()


def test_without_room_for_a_descriptor_it_waits_a_moment(door, path, monkeypatch):
    """accept(2) would say the same again at once; the connection stays in the queue."""
    pauses = []
    monkeypatch.setattr(doors, "_sleep", pauses.append)

    class Full:
        def _accept(self):
            raise OSError(errno.EMFILE, "no room")

    with knock(path):
        real, door._socket = door._socket, Full()
        assert door.answer() is None
        door._socket = real
        fd = door.answer()
        assert fd is not None
        os.close(fd)
    assert len(pauses) == 1


def test_a_door_that_an_app_has_closed_is_an_error(door):
    door.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        door.wait()
