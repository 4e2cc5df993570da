"""The process that holds an address is found by the address."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys

import pytest

from oxherd.system.portholders import holder_of

LISTEN = "import socket; s = socket.socket(socket.{family}); s.bind({address!r}); s.listen(); print(s.getsockname()); input()"


@contextlib.contextmanager
def listener(family: str, address: object):
    """A program of its own that listens; gives its pid and its address."""
    program = LISTEN.format(family=family, address=address)
    with subprocess.Popen(
        [sys.executable, "-I", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        try:
            yield child.pid, child.stdout.readline()
        finally:
            child.kill()


def port_of(line: str) -> int:
    return int(line.split(",")[1].strip(" )\n"))


@pytest.mark.parametrize(
    ("family", "bound", "asked"),
    [
        ("AF_INET", "127.0.0.1", "127.0.0.1"),
        ("AF_INET", "127.0.0.1", "localhost"),
        ("AF_INET", "0.0.0.0", "127.0.0.1"),
        ("AF_INET6", "::1", "::1"),
        ("AF_INET6", "::", "127.0.0.1"),
    ],
)
def test_the_holder_of_a_port_is_named(family, bound, asked):
    with listener(family, (bound, 0)) as (pid, line):
        (holder,) = holder_of(asked, port_of(line))
        assert holder.pid == pid
        assert holder.name.startswith("python")
        assert "s.listen()" in holder.cmdline


def test_another_address_of_the_same_port_is_not_held():
    with listener("AF_INET", ("127.0.0.1", 0)) as (_, line):
        assert holder_of("127.0.0.9", port_of(line)) == []
        assert holder_of("::1", port_of(line)) == []


def test_a_free_port_has_no_holder():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        free = taken.getsockname()[1]
    assert holder_of("127.0.0.1", free) == []


def test_the_holder_of_a_unix_socket_is_named(tmp_path):
    path = str(tmp_path / "app.sock")
    with listener("AF_UNIX", path) as (pid, _):
        assert [holder.pid for holder in holder_of(path, 0)] == [pid]
        assert [holder.pid for holder in holder_of(f"unix:{path}", 0)] == [pid]
    assert holder_of(path, 0) == []


def test_a_connection_that_uses_the_port_is_told_where_nobody_listens():
    with socket.socket() as server, socket.socket() as client:
        server.bind(("127.0.0.1", 0))
        server.listen()
        client.connect(server.getsockname())
        own = client.getsockname()[1]
        assert [holder.pid for holder in holder_of("127.0.0.1", own)] == [os.getpid()]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_without_the_right_to_look_the_user_is_told():
    """Another user's supervisor sees that the port is taken, and whose process it is, but not which."""
    program = (
        "import os, sys; from oxherd.system.portholders import holder_of; import pwd\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "print(*[holder.text for holder in holder_of('127.0.0.1', int(sys.argv[1]))])"
    )
    with listener("AF_INET", ("127.0.0.1", 0)) as (_, line):
        done = subprocess.run(
            [sys.executable, "-c", program, str(port_of(line))], capture_output=True, text=True, check=True
        )
    assert done.stdout == "a process of user root\n"
