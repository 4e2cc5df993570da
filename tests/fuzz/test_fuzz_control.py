"""A living supervisor is sent anything: it answers, serves the others meanwhile, and grows no more than it may.

That nothing went wrong within is seen at the end: the harness fails a test whose supervisor told of an internal error.
"""

from __future__ import annotations

import json
import os
import select
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oxherd.control.protocol import MAX_LINE
from support.harness import program
from support.waiting import DEADLINE, wait_until

MIB = 1 << 20
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
# Not `shutdown`, nor what stops the one process for good: the supervisor has to live to the end of the test.
VERBS = [
    "ping", "stacks", "environment", "status", "events", "why", "logfiles", "hosting", "start", "restart", "reload", "apply",
    "delete", "scale", "signal", "reopen", "", "nothing",
]  # fmt: skip
ARGUMENTS = [
    "stack",
    "names",
    "name",
    "instances",
    "signal",
    "last",
    "follow",
    "env",
    "update_env",
    "profile",
    "prune",
    "oxfile",
]


@pytest.fixture
def living(ox):
    ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper")}"\n')
    ox.ok("start")
    return ox


def connect(ox):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(DEADLINE)
    client.connect(ox.home.socket)
    return client


def memory(ox):
    """Return the bytes of memory the supervisor has."""
    with open(f"/proc/{ox.pid_by_lock}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def alive(ox):
    with connect(ox) as client:
        client.sendall(b'{"oxherd":1,"id":9,"verb":"ping"}\n')
        assert b'"pid"' in client.recv(65536)


def test_any_bytes(living):
    ox = living

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode() + b"\n"), max_size=6))
    def send(pieces):
        with connect(ox) as client:
            for piece in pieces:
                try:
                    client.sendall(piece)
                except OSError:
                    break  # it has hung up: a line was none
            client.shutdown(socket.SHUT_WR) if not pieces else None
        alive(ox)

    send()
    assert ox.row("web")["status"] == "running"


def test_any_arguments_of_any_verb(living):
    """Each request gets one answer, an error in most cases; the process that runs goes on running."""
    ox = living
    here = st.just(ox.stack)
    values = JSON | here | st.just(["web"]) | st.just("web") | st.just(1)
    answers = set()

    @settings(max_examples=150, deadline=None)
    @given(st.sampled_from(VERBS), st.dictionaries(st.sampled_from(ARGUMENTS), values, max_size=5))
    def ask(verb, args):
        if verb in {"restart", "reload", "delete", "scale", "signal", "start"} and "oxfile" not in args:
            # What fits is carried out, which takes its time and is tested elsewhere.
            args = {**args, "stack": "/nowhere"}
        args.pop("follow", None)
        with connect(ox) as client:
            client.sendall(json.dumps({"oxherd": 1, "id": 3, "verb": verb, "args": args}).encode() + b"\n")
            data = b""
            while not any(b'"result"' in line or b'"error"' in line for line in data.split(b"\n")[:-1]):
                chunk = client.recv(65536)
                assert chunk, (verb, args, data)
                data += chunk
        last = json.loads(data.split(b"\n")[-2])
        answers.add("error" in last)
        if "error" in last:
            assert "this is a bug in Oxherd" not in last["error"]["hint"], (verb, args, last)

    ask()
    assert answers == {True, False}
    assert ox.row("web")["status"] == "running"


def test_a_hundred_megabytes_in_one_line_are_not_kept(living):
    ox = living
    before = memory(ox)
    highest = 0
    with connect(ox) as client:
        piece = b"x" * MIB
        sent = 0
        try:
            while sent < 100:
                client.sendall(piece)
                sent += 1
                highest = max(highest, memory(ox))
        except OSError:
            pass  # refused and hung up on
        assert sent < 100
        alive(ox)
    assert highest - before < 3 * MAX_LINE
    wait_until(lambda: memory(ox) - before < MAX_LINE, lambda: f"{memory(ox)} bytes, before {before}")


def test_clients_that_never_read_cost_a_bounded_amount_and_delay_nobody(living):
    """Each asks for more than it takes: its connection ends, and others are served all the while."""
    ox = living
    before = memory(ox)
    line = json.dumps({"oxherd": 1, "id": 1, "verb": "events", "args": {"last": 1000}}).encode() + b"\n"
    ends = 0
    for _ in range(3):
        with connect(ox) as client:
            client.settimeout(0)
            for _ in range(20_000):
                # Until it reads no more of us, or is gone.
                if not select.select([], [client], [], 0.2)[1]:
                    break
                try:
                    client.send(line * 50)
                except BlockingIOError:
                    break
                except OSError:
                    ends += 1
                    break
            alive(ox)
            assert memory(ox) - before < 3 * MAX_LINE
    alive(ox)
    wait_until(lambda: memory(ox) - before < MAX_LINE, lambda: f"{memory(ox)} bytes, before {before}")


def test_half_a_message_and_silence_cost_nobody_anything(living):
    ox = living
    clients = [connect(ox) for _ in range(50)]
    for client in clients:
        client.sendall(b'{"oxherd":1,"id":1,"verb":"ping","args":{')
    alive(ox)
    for client in clients:
        client.close()
    alive(ox)
