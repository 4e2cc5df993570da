"""A client, however slow, greedy or broken, delays nobody else."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys

import pytest

from oxherd import __version__
from oxherd.control.protocol import request_line
from support.harness import program
from support.waiting import DEADLINE, wait_until


def connect(ox) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(ox.home.socket)
    return connection


def test_ten_first_starts_at_once(ox):
    """Ten commands that all find no supervisor: one supervisor, one process, ten successes."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper")}"\n')
    commands = [ox.popen("start") for _ in range(10)]
    outputs = [command.communicate()[0] for command in commands]
    assert [command.returncode for command in commands] == [0] * 10, outputs
    assert list(ox.marked()) == [ox.pid("web")]
    ox.wait("ready", name="web")
    assert len(ox.events.matching("supervisor-started")) == 1
    assert len(ox.events.matching("started", name="web")) == 1


def test_one_that_never_reads_and_one_that_never_writes(ox):
    """A follower that reads nothing and half a request that never ends: other clients are served."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper")}"\n')
    ox.ok("start")
    deaf, mute = connect(ox), connect(ox)
    deaf.sendall(request_line(identity=1, version=__version__, verb="events", args={"follow": True, "last": 1000}))
    mute.sendall(b'{"oxherd": 1, "id": 1, "verb": "stat')
    for _ in range(5):
        ox.ok("restart")
    assert ox.row("web")["status"] == "running"
    deaf.close()
    mute.close()


@pytest.mark.parametrize(
    "data",
    [b"\n", b"{}\n", b"\xff\xfe\x00\n", b"[" * 100_000 + b"\n", b'{"oxherd": 99, "id": 1, "verb": "ping"}\n'],
    ids=["empty", "object", "bytes", "nested", "version"],
)
def test_what_is_no_request_is_answered_with_an_error(ox, data):
    """Nonsense gets an error and, where nothing more can be understood, the end of the connection."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper")}"\n')
    ox.ok("start")
    with connect(ox) as connection:
        connection.sendall(data)
        connection.settimeout(30)
        assert b'"error"' in connection.recv(65536)
    assert ox.row("web")["status"] == "running"


def test_a_line_without_an_end_is_cut_off(ox):
    """A client that sends 100 MB without a newline is told and hung up on; the supervisor neither grows nor waits."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper")}"\n')
    ox.ok("start")
    before = ox.fds()
    piece = b"x" * (1 << 20)
    with connect(ox) as connection:
        connection.settimeout(DEADLINE)

        def pour() -> None:
            for _ in range(100):
                connection.sendall(piece)
                assert ox.row("web")["status"] == "running"

        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            pour()
    assert ox.request("ping")["memory_bytes"] < 64 << 20
    ox.wait_fds(before)


def test_a_hundred_connections_at_once(ox):
    """A hundred clients that connect and wait are all answered, and their descriptors given back."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper")}"\n')
    ox.ok("start")
    before = ox.fds()
    clients = [ox.client() for _ in range(100)]
    for client in clients:
        assert client.request("ping", timeout=30)["stacks"] == 1
    for client in clients:
        client.close()
    ox.wait_fds(before)


def test_a_client_that_goes_away_ends_nothing_it_began(ox):
    """A restart whose client is killed goes on to its end."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("ignores_term")}"\nstop_timeout_ms = 800\n')
    ox.ok("start")
    ox.wait_log("web", b"ready")
    restart = ox.popen("restart")
    ox.wait("stopping", name="web")
    restart.kill()
    restart.communicate()
    ox.wait("ready", name="web", incarnation=2)


def test_only_the_owner_gets_in(ox):
    """Directories 0700, socket 0600; another user is refused although the path is known."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper")}"\n')
    ox.ok("start")
    assert stat.S_IMODE(os.stat(ox.home.socket).st_mode) == 0o600
    for directory in (ox.home.runtime, ox.home.state):
        assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700
    for folder, _, names in os.walk(ox.home.state):
        for name in names:
            path = os.path.join(folder, name)
            assert stat.S_IMODE(os.stat(path).st_mode) & 0o027 == 0, path


@pytest.mark.needs_root
def test_another_user_is_refused_by_the_kernels_word(ox):
    """SO_PEERCRED: a uid that is neither the owner's nor root's is told so and hung up on, whatever the file modes."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper")}"\n')
    ox.ok("start")
    os.chmod(ox.base, 0o755)
    os.chmod(ox.base / "ox", 0o755)
    os.chmod(ox.home.runtime, 0o755)
    os.chmod(ox.home.socket, 0o666)
    code = "import socket; c = socket.socket(socket.AF_UNIX); c.connect(%r); print(c.recv(65536))"
    done = subprocess.run(
        ["/usr/bin/python3", "-I", "-S", "-c", code % ox.home.socket]
        if os.path.exists("/usr/bin/python3")
        else [sys.executable, "-I", "-S", "-c", code % ox.home.socket],
        user=65534,
        group=65534,
        extra_groups=[],
        capture_output=True,
        text=True,
        cwd="/",
        check=False,
    )
    assert "OX510" in done.stdout, done
    assert "this supervisor belongs to root (uid 0)" in done.stdout
    os.chmod(ox.home.runtime, 0o700)
    assert ox.row("web")["status"] == "running"


def test_a_supervisor_that_is_stuck_is_said_to_be(ox):
    """A supervisor under SIGSTOP: `status` gives up after its patience with an error instead of waiting for ever."""
    import signal

    ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper")}"\n')
    ox.ok("start")
    pid = ox.supervisor
    os.kill(pid, signal.SIGSTOP)
    try:
        result = ox.cli("status")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert result.code == 1
    assert "10 s" in result.err
    wait_until(lambda: ox.row("web")["status"] == "running")
