"""Clients that send anything, anyhow, and never read: the supervisor neither grows nor waits, and the others are served."""

from __future__ import annotations

import json
import os
import random
import select
import socket

import pytest

from oxherd import __version__
from oxherd.control.protocol import request_line
from support.harness import program
from support.waiting import wait_until

# What a supervisor with one process may use at the most, in bytes: some 12 MB, and the bounds of one bad client.
MOST = 64 << 20


@pytest.fixture
def stack(ox):
    """A supervisor with one process."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper")}"\n')
    ox.ok("start")
    return ox


def connect(ox) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(ox.home.socket)
    return connection


def line(verb, **args) -> bytes:
    return request_line(identity=1, version=__version__, verb=verb, args=args)


def pour(client: socket.socket, data: bytes, pieces: int) -> int:
    """Write a piece again and again without ever reading, until that is not taken any more; return how many went."""
    client.setblocking(False)
    for number in range(pieces):
        view = memoryview(data)
        while view:
            try:
                view = view[client.send(view) :]
            except BlockingIOError:
                # Full: either it is read soon, or nobody reads it any more.
                if not select.select([], [client], [], 1.0)[1]:
                    return number
            except OSError:
                return number
    return pieces


def test_random_bytes_are_answered_with_errors(stack):
    """A thousand lines of noise over ten connections, whole and cut anywhere: no traceback, no event of a bug."""
    before = stack.fds()
    rng = random.Random(7)
    request = line("status", stack=None)
    for _ in range(10):
        client = connect(stack)
        noise = b""
        for _ in range(100):
            kind = rng.randrange(4)
            if kind == 0:
                noise += rng.randbytes(rng.randrange(200)) + b"\n"
            elif kind == 1:
                noise += request[: rng.randrange(len(request))] + b"\n"
            elif kind == 2:
                broken = bytearray(request)
                broken[rng.randrange(len(broken) - 1)] = rng.randrange(256)
                noise += broken
            else:
                noise += (
                    json.dumps({"oxherd": 1, "id": rng.choice([None, -1, 1e9, [], "x"]), "verb": 3}).encode() + b"\n"
                )
        pour(client, noise, 1)
        assert stack.row("web")["status"] == "running"
        client.close()
    stack.wait_fds(before)
    assert b"Traceback" not in (stack.base / "ox/state/supervisor.log").read_bytes()


VERBS = (
    "ping",
    "stacks",
    "environment",
    "status",
    "events",
    "why",
    "start",
    "stop",
    "restart",
    "reload",
    "scale",
    "apply",
)


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_with_nonsense_for_arguments_is_refused_or_done(stack, verb):
    """Wrong types, missing and unknown arguments: an answer, never a bug, and the process runs on."""
    pid = stack.pid("web")
    odd = (None, 5, "x", [], {}, [[]], -1, True)
    client = connect(stack)
    client.settimeout(30)
    stream = client.makefile("rb")
    for names in odd:
        for other in ({}, {"stack": "/nowhere"}, {"stack": 5}, {"oxfile": [], "env": 3, "stack": "/nowhere"}):
            client.sendall(line(verb, **{"names": names, "instances": names, "last": names, **other}))
            answer = json.loads(stream.readline())
            while "progress" in answer or "event" in answer:
                answer = json.loads(stream.readline())
            assert "this is a bug" not in json.dumps(answer), answer
    stream.close()
    client.close()
    assert stack.pid("web") == pid


def test_a_client_that_never_reads_its_answers_is_hung_up_on(stack):
    """It asks for all events again and again: what is kept for it is bounded, and others are answered meanwhile."""
    before = stack.fds()
    clients = [connect(stack) for _ in range(4)]
    for client in clients:
        pour(client, line("events", last=1000) * 100 + line("status", stack=None) * 400, 20)
        assert stack.row("web")["status"] == "running"
    assert stack.request("ping")["memory_bytes"] < MOST
    for client in clients:
        client.close()
    stack.wait_fds(before)


def test_half_messages_of_many_clients_are_bounded(stack):
    """Sixteen clients that begin a line of megabytes and never end it; the memory is given back with them."""
    before = stack.fds()
    clients = [connect(stack) for _ in range(16)]
    for client in clients:
        assert pour(client, b'{"oxherd": 1, "id": 1, "verb": "' + b"x" * (1 << 20), 1) == 1
    assert stack.row("web")["status"] == "running"
    for client in clients:
        client.close()
    stack.wait_fds(before)
    assert stack.request("ping")["memory_bytes"] < MOST


def test_bytes_that_come_one_by_one_are_a_request_like_any_other(stack):
    with connect(stack) as client:
        client.settimeout(30)
        for byte in line("ping"):
            client.sendall(bytes([byte]))
        assert b'"result"' in client.recv(65536)


def test_who_hangs_up_at_any_byte_leaves_nothing(stack):
    before = stack.fds()
    request = line("status", stack=None)
    for cut in range(0, len(request) + 1, 3):
        with connect(stack) as client:
            client.sendall(request[:cut])
    stack.wait_fds(before)


def test_more_connections_than_descriptors_keep_nobody_from_stopping_it(ox):
    """Idle clients take what there is: the one that has been silent longest has to make room for one that asks."""
    import resource

    limits = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48))  # noqa: E731
    ox.popen("daemon", "run", preexec_fn=limits)
    ox.wait_for_supervisor()
    ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper")}"\n')
    ox.ok("start")
    ox.hang_up()
    clients = [connect(ox) for _ in range(60)]
    supervisor = ox.pid_by_lock
    wait_until(lambda: len(os.listdir(f"/proc/{supervisor}/fd")) >= 48, "all descriptors to be taken")
    # All sixty of them stay, and wait or are served.
    assert ox.row("web")["status"] == "running"
    for client in clients:
        client.close()
    ox.ok("stop")
