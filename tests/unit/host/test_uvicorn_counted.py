"""uvicorn's own request and answer count themselves: what is told of each, and where they are left alone."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from oxherd.host.counting import Draining
from oxherd.host.engines.uvicorn_counted import counted
from oxherd.host.tally import Tally

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
BODY = {"type": "http.response.body", "body": b"ok"}
GET = b"GET /a%20b?c=d HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Transport(asyncio.Transport):
    """Keeps what is written; its client reads all of it."""

    def __init__(self):
        super().__init__({"sockname": ("127.0.0.1", 80), "peername": ("127.0.0.1", 4000)})
        self.written = b""
        self.closed = False

    def write(self, data):
        self.written += data

    def is_closing(self):
        return self.closed

    def close(self):
        self.closed = True

    def pause_reading(self):
        """Nothing is read."""

    def resume_reading(self):
        """Nothing is read."""


class Connection:
    """One connection to an app, with what was counted of it."""

    def __init__(self, app, **options):
        self.tally = Tally(SimpleNamespace())
        self.draining = Draining()
        self.logged = []
        self.config = Config(app, http="httptools", interface="asgi3", lifespan="off", access_log=False, **options)
        self.config.load()
        self.state = ServerState()
        self.transport = Transport()
        protocol = counted(HttpToolsProtocol, self.tally, self.draining, lambda *told: self.logged.append(told))
        self.protocol = protocol(self.config, self.state, {}, _loop=asyncio.get_running_loop())
        self.protocol.connection_made(self.transport)

    def ask(self, data=GET):
        self.protocol.data_received(data)

    async def over(self):
        while self.state.tasks:  # noqa: ASYNC110 - it is the set that has to become empty
            await asyncio.sleep(0)
        # An access log entry a request, and each of them in one of the two.
        assert len(self.logged) == len(self.tally.fine) + len(self.tally.over)
        assert self.tally.busy == 0

    @property
    def statuses(self):
        return [200] * len(self.tally.fine) + [status for status, _ in self.tally.over]


def tried(test):
    """Run a test that is a coroutine."""

    def run():
        asyncio.run(test())

    run.__name__ = test.__name__
    return run


async def hello(_scope, _receive, send):
    await send(START)
    await send(BODY)


async def waiting():
    """Return a connection whose request is in flight, and what lets the app answer it."""
    gate = asyncio.Event()

    async def app(scope, receive, send):
        await gate.wait()
        await hello(scope, receive, send)

    connection = Connection(app)
    connection.ask()
    await asyncio.sleep(0)
    return connection, gate


@tried
async def test_an_answer_is_counted():
    connection = Connection(hello)
    connection.ask()
    await connection.over()
    assert connection.transport.written.endswith(b"content-length: 2\r\n\r\nok")
    assert b"connection: close" not in connection.transport.written
    ((scope, status, seconds),) = connection.logged
    assert (scope["path"], status) == ("/a b", 200)
    assert list(connection.tally.fine) == [seconds]
    connection.ask()
    await connection.over()
    assert connection.statuses == [200, 200]


@tried
async def test_what_is_in_flight_is_told_and_waited_for():
    connection, gate = await waiting()
    assert [one.text for one in connection.tally.flying] == ["GET /a b"]
    assert len(connection.state.tasks) == 1
    gate.set()
    await connection.over()
    assert connection.statuses == [200]


@tried
async def test_pipelined_requests_are_counted_one_after_the_other():
    connection = Connection(hello)
    connection.ask(GET * 3)
    await connection.over()
    assert connection.transport.written.count(b"HTTP/1.1 200") == 3
    assert connection.statuses == [200, 200, 200]


@tried
async def test_a_lame_duck_says_close():
    connection = Connection(hello)
    connection.draining.on = True
    connection.ask()
    await connection.over()
    assert b"connection: close" in connection.transport.written
    assert connection.transport.closed


@tried
async def test_an_app_that_raises_is_a_500():
    async def app(_scope, _receive, _send):
        raise RuntimeError("no")

    connection = Connection(app, log_level="critical")
    connection.ask()
    await connection.over()
    assert b"500" in connection.transport.written
    assert connection.statuses == [500]


@tried
async def test_half_an_answer_is_none():
    async def app(_scope, _receive, send):
        await send({**START, "status": 201})
        raise RuntimeError("no")

    connection = Connection(app, log_level="critical")
    connection.ask()
    await connection.over()
    assert connection.transport.closed
    assert connection.statuses == [0]


@tried
async def test_an_answer_nobody_waits_for_is_one():
    connection, gate = await waiting()
    connection.protocol.connection_lost(None)
    gate.set()
    await connection.over()
    assert connection.transport.written == b""
    assert connection.statuses == [200]


@tried
async def test_who_hangs_up_before_the_answer_has_ended_has_half_of_it():
    gate = asyncio.Event()

    async def app(_scope, _receive, send):
        await send(START)
        await gate.wait()
        await send({**BODY, "more_body": True})

    connection = Connection(app)
    connection.ask()
    await asyncio.sleep(0)
    connection.protocol.connection_lost(None)
    gate.set()
    await connection.over()
    assert connection.statuses == [0]


@tried
async def test_uvicorn_can_cancel_what_takes_too_long():
    async def app(_scope, _receive, _send):
        await asyncio.Event().wait()

    connection = Connection(app, log_level="critical")
    connection.ask()
    await asyncio.sleep(0)
    (running,) = connection.state.tasks
    assert running.cancel(msg="Task cancelled, timeout graceful shutdown exceeded")
    await connection.over()
    # It has sent something all the same, which is not the app's answer.
    assert b"HTTP/1.1 500" in connection.transport.written
    assert connection.statuses == [0]


@tried
async def test_too_many_at_once_are_refused_and_counted():
    connection = Connection(hello, limit_concurrency=1, log_level="critical")
    connection.ask()
    await connection.over()
    assert connection.statuses == [503]


class Theirs(HttpToolsProtocol):
    """A class of the user's."""


def another(**changed):
    """Return the protocol of a uvicorn that is not as it is known; None: it does not have something."""
    members = {name: value for name, value in {**vars(HttpToolsProtocol), **changed}.items() if value is not None}
    return type("HttpToolsProtocol", (asyncio.Protocol,), members)


def on_headers_complete(self):
    """Make no request by the name that is known."""
    self.headers.clear()


@pytest.mark.parametrize(
    "protocol",
    [H11Protocol, Theirs, another(on_headers_complete=on_headers_complete), another(_start_asgi_task=None)],
)
def test_what_is_not_known_is_left_alone(protocol):
    assert counted(protocol, Tally(SimpleNamespace(), str), Draining()) is None


def test_what_is_the_same_but_for_its_class_is_known():
    assert counted(another(), Tally(SimpleNamespace(), str), Draining()) is not None
