"""Slots: connections are shared fairly, and those of a worker that is blocked are taken by its sibling."""

from __future__ import annotations

import socket
from collections import Counter
from contextlib import ExitStack

import pytest

from support.lossclient.http1 import Response, request
from support.waiting import DEADLINE, wait_until

CONNECTIONS, ROUNDS = 64, 8


def open_connection(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)


def answer(connection: socket.socket) -> Response:
    """Receive one whole answer."""
    response = Response()
    while not response.complete:
        response.feed(connection.recv(65536))
    return response


def ask(connection: socket.socket, path: str) -> Response:
    """Send one request and receive its answer."""
    connection.sendall(request("GET", path))
    return answer(connection)


@pytest.mark.served("uvicorn", fits=lambda served: served.name in {"uvicorn", "granian-asgi", "hypercorn"})
def test_kept_connections_are_shared_fairly(scene):
    """64 connections at a time, opened in one burst. The kernel draws: a single draw may be off, all together are not."""
    scene.start()
    shares: Counter[str] = Counter()
    for _ in range(ROUNDS):
        with ExitStack() as stack:
            connections = [stack.enter_context(open_connection(scene.port)) for _ in range(CONNECTIONS)]
            round_ = Counter(ask(connection, "/fast?n=x").headers["x-pid"] for connection in connections)
        # 64 draws of a half are off by as much as this once in a hundred thousand rounds.
        assert max(round_.values()) < CONNECTIONS * 0.78, round_
        shares += round_
    assert len(shares) == 2
    assert all(0.4 < share / shares.total() < 0.6 for share in shares.values()), shares


@pytest.mark.served("uvicorn", fits=lambda served: served.hosted and served.interface == "asgi")
def test_a_blocked_worker_keeps_no_new_connection_waiting(scene):
    """Its listener is lent: what connects while it is blocked is answered by the others, before it comes back."""
    scene.start()
    with ExitStack() as stack:
        blocked = stack.enter_context(open_connection(scene.port))
        victim = ask(blocked, "/fast?n=x").headers["x-pid"]
        blocked.sendall(request("GET", f"/block?s={DEADLINE / 6}&n=late"))
        event = scene.ox.wait("lent")
        assert event["name"] == "web"
        answered = Counter()
        for _ in range(40):
            with open_connection(scene.port) as connection:
                answered[ask(connection, "/fast?n=x").headers["x-pid"]] += 1
        assert victim not in answered
        assert answered.total() == 40
        blocked.setblocking(False)
        with pytest.raises(BlockingIOError):
            blocked.recv(1)
        blocked.settimeout(DEADLINE)
        assert bytes(answer(blocked).body) == b"late"

        def it_accepts() -> bool:
            with open_connection(scene.port) as connection:
                return ask(connection, "/fast?n=x").headers["x-pid"] == victim

        wait_until(it_accepts, "the worker to accept again")
