"""Taking hold of processes that somebody else has started: real ones, their pipes, their listeners."""

from __future__ import annotations

import os
import select
import signal
import socket

import pytest

from oxherd.system import adopt
from oxherd.system.identity import read_stat, start_ticks

from . import programs
from .conftest import readable

SAYS = "import os, signal; os.write(1, b'ready\\n'); signal.pause()"


def started(shop, program=SAYS, **wishes):
    launch = shop.launch(*programs.PYTHON, program, **wishes)
    shop.read_until(b"ready\n")
    return launch


# -- the process ------------------------------------------------------------------------------------------------------


def test_a_process_is_held_and_its_end_is_seen(shop):
    launch = started(shop)
    pidfd = adopt.hold(launch.pid, start_ticks(launch.pid))
    try:
        assert not os.get_inheritable(pidfd)
        assert select.select([pidfd], [], [], 0)[0] == []
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        readable(pidfd)
    finally:
        os.close(pidfd)


def test_another_process_with_the_number_is_let_go(shop):
    launch = started(shop)
    ticks = start_ticks(launch.pid)
    assert adopt.hold(launch.pid, ticks + 1) is None
    assert adopt.hold(launch.pid, ticks - 1) is None
    assert adopt.hold(launch.pid, 0) is None


def test_a_number_that_is_given_away_between_the_two_looks_is_noticed(shop, monkeypatch):
    """What is compared is what is held: it was held first."""
    old, new = started(shop), started(shop)
    ticks = start_ticks(old.pid)
    monkeypatch.setattr(adopt, "read_stat", lambda pid: read_stat(new.pid))
    assert adopt.hold(old.pid, ticks) is (None if start_ticks(new.pid) != ticks else pytest.skip("the same tick"))


def test_the_dead_are_not_held(shop):
    launch = started(shop)
    ticks = start_ticks(launch.pid)
    os.kill(launch.pid, signal.SIGKILL)
    readable(launch.pidfd)
    assert adopt.hold(launch.pid, ticks) is None, "it is a zombie"
    shop.ended(launch)
    assert adopt.hold(launch.pid, ticks) is None


def test_without_descriptors_it_says_so(shop, monkeypatch):
    def full(_pid):
        raise OSError(24, "Too many open files")

    launch = started(shop)
    monkeypatch.setattr(adopt.os, "pidfd_open", full)
    with pytest.raises(OSError, match="Too many open files"):
        adopt.hold(launch.pid, start_ticks(launch.pid))


# -- its output -------------------------------------------------------------------------------------------------------


@pytest.fixture
def pipe():
    """A pipe as a supervisor makes it: the child's end reads, too, so that it outlives its reader."""
    read_fd, write_fd = os.pipe()
    both = os.open(f"/proc/self/fd/{write_fd}", os.O_RDWR)
    os.close(write_fd)
    fds = {"read": read_fd, "child": both}
    yield fds
    for fd in fds.values():
        os.close(fd)


def reader(fd):
    """Return all that is in a pipe."""
    readable(fd)
    assert not os.get_blocking(fd)
    assert not os.get_inheritable(fd)
    data = os.read(fd, 65536)
    os.close(fd)
    return data


def test_what_was_written_while_nobody_read_is_there(shop, pipe):
    inode = os.fstat(pipe["read"]).st_ino
    program = f"import os, signal; os.write(2, b'kept\\n'); {SAYS}"
    launch = started(shop, program, stderr=pipe["child"])
    os.close(pipe.pop("read"))
    os.close(pipe.pop("child"))
    fd = adopt.output_of([launch.pid], inode)
    assert reader(fd) == b"kept\n"


def test_a_pipe_is_found_under_any_number_and_in_any_of_several_processes(shop, pipe):
    inode = os.fstat(pipe["read"]).st_ino
    program = f"import os, signal; os.dup2(2, 77); os.write(77, b'x'); null = os.open('/dev/null', 2); os.dup2(null, 2); {SAYS}"
    other, launch = started(shop), started(shop, program, stderr=pipe["child"])
    assert reader(adopt.output_of([other.pid, launch.pid], inode)) == b"x"


def test_a_pipe_that_nobody_has_any_more_is_none(shop, pipe):
    launch = started(shop)
    assert adopt.output_of([launch.pid], os.fstat(pipe["read"]).st_ino) == -1
    assert adopt.output_of([], os.fstat(pipe["read"]).st_ino) == -1


def test_who_has_ended_has_no_pipes(shop, pipe):
    inode = os.fstat(pipe["read"]).st_ino
    launch = started(shop, stderr=pipe["child"])
    os.kill(launch.pid, signal.SIGKILL)
    readable(launch.pidfd)
    assert adopt.output_of([launch.pid], inode) == -1
    shop.ended(launch)
    assert adopt.output_of([launch.pid], inode) == -1


# -- listeners --------------------------------------------------------------------------------------------------------


def inode_of(sock):
    return os.fstat(sock.fileno()).st_ino


def test_listeners_of_every_kind_are_known_and_nothing_else_is(tmp_path):
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as local, socket.socket() as bound:
        tcp.bind(("127.0.0.1", 0))
        local.bind(str(tmp_path / "sock"))
        bound.bind(("127.0.0.1", 0))
        for sock in (tcp, local):
            sock.listen()
        with socket.create_connection(tcp.getsockname()) as client:
            found = adopt.listening_inodes()
            assert {inode_of(tcp), inode_of(local)} <= found
            assert not {inode_of(bound), inode_of(client)} & found


@pytest.mark.parametrize("missing", ["/proc/net/tcp6", "/proc/net/unix"])
def test_a_kernel_without_a_protocol_has_no_listeners_of_it(monkeypatch, missing):
    lines = adopt._lines
    monkeypatch.setattr(adopt, "_lines", lambda path: lines("/nowhere" if path == missing else path))
    with socket.socket() as tcp:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        assert inode_of(tcp) in adopt.listening_inodes()
