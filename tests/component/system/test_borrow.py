"""Sockets of a real child, borrowed from it."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from oxherd.system import borrow

from . import programs
from .conftest import readable

# Opens two listeners and one that is bound only, says their inodes and ports, and keeps them.
SERVER = """
import os, signal, socket
first, second, third = socket.socket(), socket.socket(), socket.socket()
for sock in (first, second, third):
    sock.bind(("127.0.0.1", 0))
first.listen(); second.listen()
twice = first.dup()
for sock in (first, second, third):
    os.write(1, b"%d %d\\n" % (os.fstat(sock.fileno()).st_ino, sock.getsockname()[1]))
os.write(1, b"ready\\n")
signal.pause()
"""


@pytest.fixture
def server(shop):
    launch = shop.launch(*programs.PYTHON, SERVER)
    lines = shop.read_until(b"ready\n").split()
    return launch, dict(zip(map(int, lines[::2]), map(int, lines[1::2]), strict=True))


def test_the_sockets_that_are_asked_for_are_the_childs_own(server):
    """Whoever connects to the child is accepted here: it is one socket, not another one of the same address."""
    launch, ports = server
    inode, port = next(iter(ports.items()))
    found = borrow.borrow_sockets(launch.pid, launch.pidfd, {inode, 1})
    assert set(found) == {inode}
    assert not os.get_inheritable(found[inode])
    with socket.socket(fileno=found[inode]) as listener, socket.create_connection(("127.0.0.1", port), 10) as client:
        assert os.fstat(listener.fileno()).st_ino == inode
        accepted, peer = listener.accept()
        accepted.close()
        assert peer == client.getsockname()


def test_several_are_borrowed_once_each(server):
    launch, ports = server
    found = borrow.borrow_sockets(launch.pid, launch.pidfd, ports)
    try:
        assert set(found) == set(ports)
        assert len(set(found.values())) == 3
    finally:
        for fd in found.values():
            os.close(fd)


def test_none_is_borrowed_where_none_is_asked_for(server):
    launch, _ = server
    assert borrow.borrow_sockets(launch.pid, launch.pidfd, ()) == {}


def test_a_copy_outlives_the_child(server, shop):
    """So its queue is never reset."""
    launch, ports = server
    inode, port = next(iter(ports.items()))
    found = borrow.borrow_sockets(launch.pid, launch.pidfd, {inode})
    with socket.socket(fileno=found[inode]):
        os.kill(launch.pid, signal.SIGKILL)
        shop.ended(launch)
        socket.create_connection(("127.0.0.1", port), 10).close()


def test_what_fails_in_the_middle_leaves_nothing_open(server, monkeypatch):
    """The descriptors of the test are compared at its end."""
    launch, ports = server
    getfd, calls = borrow.Libc.getfd, []

    def refuses(self, pidfd, number):
        calls.append(number)
        if len(calls) == 2:
            raise PermissionError(1, "Operation not permitted")
        return getfd(self, pidfd, number)

    monkeypatch.setattr(borrow.Libc, "getfd", refuses)
    with pytest.raises(PermissionError):
        borrow.borrow_sockets(launch.pid, launch.pidfd, ports)


def test_a_dead_one_has_nothing_to_lend(server):
    launch, ports = server
    os.kill(launch.pid, signal.SIGKILL)
    readable(launch.pidfd)
    try:
        assert borrow.borrow_sockets(launch.pid, launch.pidfd, ports) == {}
    except OSError:
        assert True  # the kernel may refuse to list what a zombie had


def test_one_socket_is_found_wherever_the_child_has_moved_it(server):
    launch, ports = server
    for inode in ports:
        fd = borrow.borrow(borrow.Libc(), launch.pid, launch.pidfd, 999, inode)
        assert os.fstat(fd).st_ino == inode
        os.close(fd)
    with pytest.raises(OSError, match="closed there"):
        borrow.borrow(borrow.Libc(), launch.pid, launch.pidfd, 0, 1)
