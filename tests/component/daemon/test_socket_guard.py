"""A control socket that somebody removes comes back: on a real loop and real sockets, told by the kernel's own signal."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time

import pytest

from oxherd.control.paths import Home
from oxherd.daemon.control_server import ControlServer
from oxherd.daemon.socket_guard import SocketGuard
from oxherd.errors import SystemFault
from oxherd.system.loop import Loop
from support.fake_loop import FakeLoop


class Guarded:
    """A server with a guard."""

    def __init__(self, loop, directory) -> None:
        self.home = Home(runtime=str(directory / "run"), state=str(directory / "state"))
        self.home.prepare()
        self.loop = loop
        self.told = []
        self.server = ControlServer(
            loop, self.home.socket, lambda request, reply: reply.result({}), version="0.1.0", owner_uid=os.geteuid()
        )
        self.guard = SocketGuard(loop, self.server, prepare=self.home.prepare, tell=self.told.append)

    def pump(self, predicate):
        deadline = time.monotonic() + 20
        while not predicate():
            assert time.monotonic() < deadline, "it did not come to pass"
            self.loop.run_once(0.01)

    def connects(self):
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(self.home.socket)
            except OSError:
                return False
            return True

    def close(self):
        self.guard.close()
        self.server.close()
        self.loop.close()


@pytest.fixture
def guarded(tmp_path):
    errors = []
    made = Guarded(Loop(errors.append), tmp_path)
    yield made
    made.close()
    assert errors == []


@pytest.fixture
def by_hand(tmp_path):
    """Without the kernel: the test says when the signal comes, and what time it is."""
    made = Guarded(FakeLoop(), tmp_path)
    yield made
    made.close()


def test_a_removed_socket_is_back_at_once(guarded):
    """The kernel tells of it: nobody has to ask for it, and whoever is connected stays so."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(guarded.home.socket)
        guarded.pump(lambda: guarded.server.clients == 1)
        os.unlink(guarded.home.socket)
        guarded.pump(lambda: guarded.told)
        assert guarded.told == ["the control socket was removed; it is back"]
        assert guarded.server.clients == 1
        assert os.stat(guarded.home.socket).st_mode & 0o777 == 0o600
        assert guarded.connects()
        guarded.pump(lambda: guarded.server.clients == 1)


def test_a_removed_directory_is_back_too(guarded):
    """`rm -r` of the runtime directory, twice: the second one is of another inode, and watched as well."""
    for count in (1, 2):
        shutil.rmtree(guarded.home.runtime)
        guarded.pump(lambda count=count: len(guarded.told) == count)
        assert os.stat(guarded.home.runtime).st_mode & 0o777 == 0o700
        assert guarded.connects()


def test_what_is_not_the_socket_may_go(guarded):
    """Another file of the directory goes: nothing is said and nothing is made anew."""
    inode = os.stat(guarded.home.socket).st_ino
    path = os.path.join(guarded.home.runtime, "other")
    with open(path, "w"):
        pass
    seen = []
    guarded.loop.on_signal(signal.SIGIO, lambda signum: (guarded.guard.look(), seen.append(signum)))
    os.unlink(path)
    guarded.pump(lambda: seen)
    assert guarded.told == []
    assert os.stat(guarded.home.socket).st_ino == inode


def test_a_socket_that_cannot_be_made_is_tried_again(by_hand, monkeypatch):
    """It is said once, and when the fault is over the socket is back without another signal."""
    os.unlink(by_hand.home.socket)

    def fails():
        raise SystemFault("no room")

    monkeypatch.setattr(by_hand.guard, "_prepare", fails)
    by_hand.loop.deliver(signal.SIGIO)
    by_hand.loop.advance(5)
    assert by_hand.told == ["the control socket was removed and cannot be put back yet: no room"]
    assert not by_hand.connects()
    monkeypatch.undo()
    by_hand.loop.advance(1)
    assert by_hand.told[1:] == ["the control socket was removed; it is back"]
    assert by_hand.connects()
    assert by_hand.loop.next_timer_in() is None


def test_a_closed_guard_lets_the_socket_go(by_hand):
    """At the end the server removes it itself."""
    by_hand.guard.close()
    by_hand.server.close()
    by_hand.loop.deliver(signal.SIGIO)
    assert by_hand.told == []
    assert not os.path.exists(by_hand.home.socket)


@pytest.mark.parametrize("fault", [OSError(22, "Invalid argument"), AttributeError("F_NOTIFY")])
def test_without_dnotify_sighup_is_left(by_hand, monkeypatch, fault):
    """A kernel without it, a system other than Linux: no descriptor is kept, and `look` still helps."""

    def refuses(*_):
        raise fault

    monkeypatch.setattr("oxherd.daemon.socket_guard.signal.getsignal", lambda _: None)
    monkeypatch.setattr("oxherd.daemon.socket_guard.fcntl.fcntl", refuses)
    os.unlink(by_hand.home.socket)
    by_hand.guard.look()
    assert by_hand.told == ["the control socket was removed; it is back"]
    assert by_hand.guard._fd == -1
