"""Real servers that know nothing of it are seen to accept, made to stop, and go on with the connections they have."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from oxherd.system import borrow, outside, tree
from oxherd.system.listeners import Address, open_listener, parse_bind, queue_length
from oxherd.system.outside import Look, Stopped, accepting, established, listener_inode, look, stop_accepting
from support.servers import free_port
from support.waiting import wait_until

from .conftest import open_fds

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
BIN = Path(sys.executable).parent

ASGI = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
"""
WSGI = """
def app(environ, start_response):
    start_response("200 OK", [("content-length", "2")])
    return [b"ok"]
"""
# Servers of a few lines: what a program in any language does. They answer every read with an answer.
BY_EPOLL = """
import os, select, socket, sys
listener = socket.socket(fileno=int(sys.argv[1]))
listener.setblocking(False)
epoll = select.epoll()
epoll.register(listener, select.EPOLLIN | select.EPOLLET * int(sys.argv[2]))
connections = {}
while True:
    for fd, _ in epoll.poll():
        if fd == listener.fileno():
            try:
                while True:
                    connection, _ = listener.accept()
                    connections[connection.fileno()] = connection
                    epoll.register(connection, select.EPOLLIN)
            except BlockingIOError:
                continue
        elif connections[fd].recv(65536):
            connections[fd].sendall(b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\nok")
        else:
            epoll.unregister(fd)
            connections.pop(fd).close()
"""
BY_POLL = """
import select, socket, sys
listener = socket.socket(fileno=int(sys.argv[1]))
poll = select.poll()
poll.register(listener, select.POLLIN)
kept = []
while True:
    poll.poll()
    connection, _ = listener.accept()
    kept.append(connection)
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\nok")
"""
# The epoll is made before the fork and belongs to both.
SHARED_EPOLL = """
import os, select, socket, sys
listener = socket.socket(fileno=int(sys.argv[1]))
epoll = select.epoll()
os.set_inheritable(epoll.fileno(), True)
epoll.register(listener, select.EPOLLIN)
os.fork()
sys.stdin.read()
"""
# The listener is registered under a number the test chooses.
ELSEWHERE = """
import os, select, socket, sys
number = os.dup2(int(sys.argv[1]), int(sys.argv[2]))
epoll = select.epoll()
epoll.register(number, select.EPOLLIN)
sys.stdin.read()
"""
# The listener has moved to another number since it was registered, and the old number is something else.
MOVED = """
import os, select, socket, sys
number = int(sys.argv[1])
copy = os.dup(number)
epoll = select.epoll()
epoll.register(number, select.EPOLLIN)
os.dup2(os.open("/dev/null", os.O_RDONLY), number)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _nothing_is_left():
    before = open_fds()
    yield
    assert open_fds() == before, "a descriptor was lost"


def ask(client: socket.socket, patience: float = 20) -> bytes:
    """Send a request and return the answer, b"" if the connection is closed; TimeoutError if none comes."""
    client.settimeout(patience)
    client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answer = b""
    while not answer.endswith(b"\r\n\r\nok"):
        data = client.recv(65536)
        if not data:
            break
        answer += data
    return answer


@dataclass
class Service:
    """A program with a listener of ours."""

    address: Address
    listener: socket.socket
    child: subprocess.Popen[bytes]
    clients: list[socket.socket] = field(default_factory=list)

    @property
    def pids(self) -> list[int]:
        return [self.child.pid, *tree.descendants(self.child.pid)]

    @property
    def inode(self) -> int:
        return listener_inode(self.listener)

    def accepting(self, count: int = 1) -> None:
        wait_until(lambda: len(look(self.pids, self.inode).watching) >= count, "a program that accepts")

    def connect(self) -> socket.socket:
        client = socket.create_connection((self.address.host, self.address.port))
        self.clients.append(client)
        return client


@pytest.fixture
def serve(tmp_path):
    """Start programs on a listener each; %d in a command stands for its number."""
    (tmp_path / "asgi.py").write_text(ASGI)
    (tmp_path / "wsgi.py").write_text(WSGI)
    services: list[Service] = []

    def start(*argv: str, listen: bool = True) -> Service:
        address = parse_bind(f"127.0.0.1:{free_port()}")
        listener = open_listener(address, reuse_port=True)
        if listen:
            listener.listen(100)
        child = subprocess.Popen(
            [argument.replace("%d", str(listener.fileno())) for argument in argv],
            pass_fds=[listener.fileno()],
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
        )
        services.append(Service(address, listener, child))
        return services[-1]

    yield start
    for service in services:
        for client in service.clients:
            client.close()
        for pid in reversed(service.pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        service.child.wait()
        service.child.stdin.close()
        service.listener.close()


def python(program: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", "-c", program, "%d", *arguments)


PROGRAMS = [
    pytest.param(python(BY_EPOLL, "0"), 1, id="epoll"),
    pytest.param(python(BY_EPOLL, "1"), 1, id="epoll, edge triggered"),
    pytest.param((f"{BIN}/uvicorn", "asgi:app", "--fd", "%d", "--loop", "asyncio"), 1, id="uvicorn, asyncio"),
    pytest.param((f"{BIN}/uvicorn", "asgi:app", "--fd", "%d", "--loop", "uvloop"), 1, id="uvicorn, uvloop"),
    pytest.param((f"{BIN}/uvicorn", "asgi:app", "--fd", "%d", "--workers", "2"), 2, id="uvicorn, two workers"),
    pytest.param((f"{BIN}/hypercorn", "-b", "fd://%d", "asgi:app"), 1, id="hypercorn"),
    pytest.param((f"{BIN}/hypercorn", "-w", "2", "-b", "fd://%d", "asgi:app"), 2, id="hypercorn, two workers"),
    pytest.param((f"{BIN}/daphne", "--fd", "%d", "asgi:app"), 1, id="daphne"),
    pytest.param(
        (f"{BIN}/gunicorn", "-b", "fd://%d", "-w", "2", "-k", "gthread", "--threads", "4", "wsgi:app"),
        2,
        id="gunicorn, gthread",
    ),
]


# -- stopping ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("argv", "processes"), PROGRAMS)
def test_a_program_stops_accepting_and_goes_on_serving(serve, argv, processes):
    service = serve("/bin/sh", "-c", 'read go && exec "$@"', "sh", *argv)
    assert not accepting(service.pids, service.inode)
    service.child.stdin.write(b"go\n")
    service.child.stdin.flush()
    service.accepting(processes)
    assert accepting(service.pids, service.inode) is True
    clients = [service.connect() for _ in range(6)]
    for client in clients:
        assert ask(client).startswith(b"HTTP/1.1 200")
    assert established(service.pids, [service.address]) == 6

    stopped = stop_accepting(service.pids, service.inode)
    assert stopped == Stopped(count=processes)
    assert accepting(service.pids, service.inode) is False

    # One connection may be accepted of a wake-up that was under way; nothing is under way here.
    late = [service.connect() for _ in range(3)]
    for client in late:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    for client in clients:
        assert ask(client).startswith(b"HTTP/1.1 200"), "a kept connection is served no more"
    assert queue_length(service.listener) == 3
    assert established(service.pids, [service.address]) == 6
    assert stop_accepting(service.pids, service.inode).count == 0

    # Nothing in the queue is lost: whoever gets the listener next answers.
    for client in clients:
        client.close()
    wait_until(lambda: established(service.pids, [service.address]) == 0, "the end of the drain")
    service.listener.setblocking(True)
    for _ in late:
        connection, _ = service.listener.accept()
        with connection:
            assert connection.recv(4096).startswith(b"GET / ")


def test_a_program_with_a_listener_of_its_own_stops_too(serve, tmp_path):
    """granian takes no descriptor and waits in Rust; its listener is found by the address."""
    port = free_port()
    service = serve(f"{BIN}/granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", str(port), "asgi:app")
    service.address = parse_bind(f"127.0.0.1:{port}")
    wanted = b"0100007F:%04X" % port

    def inode() -> int:
        for line in Path("/proc/net/tcp").read_bytes().splitlines():
            fields = line.split()
            if fields[1] == wanted and fields[3] == b"0A":
                return int(fields[9])
        return 0

    number = wait_until(inode, "granian to listen")
    wait_until(lambda: accepting(service.pids, number), "granian to accept")
    client = service.connect()
    assert ask(client).startswith(b"HTTP/1.1 200")
    assert stop_accepting(service.pids, number).reason == ""
    late = service.connect()
    late.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    for _ in range(3):
        assert ask(client).startswith(b"HTTP/1.1 200")
    assert established(service.pids, [service.address]) == 1


def test_another_process_goes_on_accepting_from_the_same_listener(serve):
    """What is taken out is one registration, not the listener."""
    service = serve(*python(BY_EPOLL, "0"))
    service.accepting()
    other = subprocess.Popen(
        [*python(BY_EPOLL)[:-1], str(service.listener.fileno()), "0"], pass_fds=[service.listener.fileno()]
    )
    try:
        wait_until(lambda: accepting([other.pid], service.inode), "the other one")
        assert stop_accepting(service.pids, service.inode) == Stopped(count=1)
        assert accepting([other.pid], service.inode) is True
        for _ in range(10):
            assert ask(service.connect()).startswith(b"HTTP/1.1 200")
        assert established(service.pids, [service.address]) == 0
        assert established([other.pid], [service.address]) == 10
    finally:
        other.kill()
        other.wait()


def test_an_epoll_that_two_processes_share_is_emptied_once(serve):
    service = serve(*python(SHARED_EPOLL))
    service.accepting(2)
    assert stop_accepting(service.pids, service.inode) == Stopped(count=1)


def test_a_listener_that_has_moved_to_another_number_is_found(serve):
    service = serve(*python(MOVED))
    service.accepting()
    assert stop_accepting(service.pids, service.inode) == Stopped(count=1)


def test_what_this_process_has_under_the_programs_number_is_left_alone(serve):
    """The listener goes where the program has it; in this process that is a pipe that goes on working."""
    read_fd, write_fd = os.pipe()
    service = serve(*python(ELSEWHERE, str(read_fd)))
    service.accepting()
    ((_, _, number),) = look(service.pids, service.inode).watching
    assert number == read_fd
    identities = {fd: os.fstat(fd)[:3] for fd in open_fds()}
    assert stop_accepting(service.pids, service.inode) == Stopped(count=1)
    assert {fd: os.fstat(fd)[:3] for fd in open_fds()} == identities
    os.write(write_fd, b"x")
    assert os.read(read_fd, 1) == b"x"
    os.close(read_fd)
    os.close(write_fd)


def test_signals_and_the_collector_are_as_before(serve):
    service = serve(*python(BY_EPOLL, "0"))
    service.accepting()
    threads = set(threading.enumerate())
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    try:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        stop_accepting(service.pids, service.inode)
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    assert gc.isenabled()
    assert set(threading.enumerate()) <= threads


# -- what cannot be done ----------------------------------------------------------------------------------------------


def test_a_program_that_waits_with_poll_cannot_be_stopped_and_it_is_said(serve):
    service = serve(*python(BY_POLL))
    assert ask(service.connect()).startswith(b"HTTP/1.1 200")
    assert accepting(service.pids, service.inode) is None
    assert stop_accepting(service.pids, service.inode) == Stopped(
        count=0, reason="it does not wait with epoll (but with select or poll), or has not begun to accept"
    )


def test_a_program_that_does_not_accept_from_this_listener_is_told_apart(serve):
    service = serve(*python(BY_EPOLL, "0"))
    service.accepting()
    assert accepting(service.pids, service.inode + (1 << 33)) is False
    assert stop_accepting(service.pids, service.inode + (1 << 33)) == Stopped(
        count=0, reason="no epoll of it watches this listener: it waits with select or poll, or does not accept from it"
    )


@needs_root
def test_a_program_of_another_user_cannot_be_looked_into_and_it_is_said(serve):
    service = serve(*python(BY_EPOLL, "0"))
    service.accepting()
    pids = service.pids
    os.seteuid(65534)
    try:
        assert look(pids, service.inode) == Look(denied=True)
        assert accepting(pids, service.inode) is None
        assert stop_accepting(pids, service.inode) == Stopped(
            count=0, reason="its processes may not be looked into: they run as another user"
        )
        assert established(pids, [service.address]) == 0
    finally:
        os.seteuid(0)


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (
            errno.EPERM,
            (
                "its descriptors may not be borrowed: ptrace is not permitted (another user, Yama, a container without "
                "CAP_SYS_PTRACE)"
            ),
        ),
        (errno.ENOSYS, "this kernel has no pidfd_getfd (Linux 5.6)"),
        (errno.EMFILE, "its descriptors could not be borrowed: Too many open files"),
    ],
)
@pytest.mark.parametrize("call", ["getfd", "unshare"])
def test_what_the_kernel_refuses_is_said(serve, monkeypatch, number, reason, call):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    service = serve(*python(BY_EPOLL, "0"))
    service.accepting()
    monkeypatch.setattr(borrow.Libc, call, refuse)
    assert stop_accepting(service.pids, service.inode) == Stopped(count=0, reason=reason)
    assert accepting(service.pids, service.inode) is True
    assert ask(service.connect()).startswith(b"HTTP/1.1 200")


def test_a_program_that_begins_again_at_once_is_said_to(serve, monkeypatch):
    service = serve(*python(BY_EPOLL, "0"))
    service.accepting()
    monkeypatch.setattr(outside, "_unregister", lambda *_: 1)
    assert stop_accepting(service.pids, service.inode) == Stopped(count=1, reason="it watches the listener again")


def test_a_refusal_for_one_process_does_not_matter_when_nobody_watches_any_more(serve, monkeypatch):
    """The epoll is shared and emptied by way of the other process."""
    real, refused = outside._unregister, []

    def once(libc, pid, *rest):
        if not refused:
            refused.append(pid)
            raise PermissionError(errno.EPERM, "no")
        return real(libc, pid, *rest)

    service = serve(*python(SHARED_EPOLL))
    service.accepting(2)
    monkeypatch.setattr(outside, "_unregister", once)
    assert stop_accepting(service.pids, service.inode) == Stopped(count=1)
    assert len(refused) == 1


def test_no_room_for_a_thread_is_said(serve, monkeypatch):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    service = serve(*python(BY_EPOLL, "0"))
    service.accepting()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert stop_accepting(service.pids, service.inode) == Stopped(
        count=0, reason="its descriptors could not be borrowed: Resource temporarily unavailable"
    )
    assert gc.isenabled()


def test_processes_that_are_gone_count_for_nothing(serve):
    service = serve(*python(BY_EPOLL, "0"))
    service.accepting()
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert stop_accepting([gone.pid, *service.pids], service.inode) == Stopped(count=1)
    assert accepting([gone.pid], service.inode) is None
    assert established([gone.pid], [service.address]) == 0


# -- draining ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def held(tmp_path):
    """Connections of this process to an address, as (client, server)."""
    opened: list[socket.socket] = []

    def connect(text: str, target: str) -> tuple[Address, socket.socket, socket.socket]:
        address = parse_bind(text)
        listener = open_listener(address, reuse_port=False)
        listener.listen()
        listener.setblocking(True)
        client = socket.socket(listener.family)
        client.connect(address.path or (target, address.port))
        server, _ = listener.accept()
        opened.extend((listener, client, server))
        return address, client, server

    yield connect
    for sock in opened:
        sock.close()


@pytest.mark.parametrize(
    ("host", "target"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.3"), ("[::1]", "::1"), ("[::]", "::1"), ("unix", "")],
)
def test_connections_are_counted_until_the_client_is_gone(held, tmp_path, host, target):
    text = f"unix:{tmp_path}/app.sock" if host == "unix" else f"{host}:{free_port()}"
    address, client, server = held(text, target)
    mine = [os.getpid()]
    other = parse_bind(f"127.0.0.1:{free_port()}")
    # Of the two ends only the one with the listener's address counts.
    assert established(mine, [address]) == 1
    assert established(mine, [address, other, address]) == 1
    assert established(mine, [other]) == 0
    assert established([os.getppid()], [address]) == 0
    assert established(mine, []) == 0
    client.close()
    if host == "unix":
        server.close()  # the kernel tells nothing of what the other end of a unix socket does
    assert established(mine, [address]) == 0
