"""Silent connections without timers: who stays silent is closed in time, who speaks is not."""

from __future__ import annotations

import asyncio

import pytest
import uvicorn
from uvicorn.server import ServerState

from oxherd.host.engines.uvicorn_idle import Idle

KEEPALIVE = 5
TICK = 0.1
REQUEST = b"GET / HTTP/1.1\r\nHost: test.example\r\n\r\n"


class Loop:
    """A loop whose time is set by the test."""

    def __init__(self):
        self.now = 100.0
        self.timers = []

    def time(self):
        return self.now

    def call_later(self, delay, callback, *args, **context):
        self.timers.append((delay, callback, args, context))
        return "the loop's"

    def call_soon(self, callback):
        callback()

    def create_task(self, coroutine, **context):
        return ("task", coroutine, context)

    def create_future(self):
        return "future"


class Known:
    """A protocol of uvicorn's."""

    __module__ = "uvicorn.protocols.http.httptools_impl"


class World:
    """A loop, its silent connections, and ticks."""

    def __init__(self, keepalive=KEEPALIVE):
        self.loop = Loop()
        self.idle = Idle(self.loop, keepalive)
        self.closed = []

    def connection(self, name="one"):
        loop = self.idle.loop_for(Known)
        return loop, lambda: loop.call_later(KEEPALIVE, self.closes(name))

    def closes(self, name):
        return lambda: self.closed.append((name, round(self.loop.now - 100.0, 1)))

    def tick(self, until, step=TICK):
        while self.loop.now < 100.0 + until - step / 2:
            self.loop.now += step
            self.idle.tick(self.loop.now)


def test_who_stays_silent_is_closed_never_early_and_little_late():
    world = World()
    for at in (0.0, 0.1, 0.3, 4.2):
        world.tick(at)
        world.connection(at)[1]()
    world.tick(12.0)
    late = {at: round(then - at - KEEPALIVE, 1) for at, then in world.closed}
    assert late.keys() == {0.0, 0.1, 0.3, 4.2}
    assert all(0.0 <= one <= 0.3 for one in late.values()), late
    assert world.loop.timers == []


def test_who_speaks_is_not_closed_and_is_counted_anew():
    world = World()
    loop, silent = world.connection()
    silent()
    for at in (2.0, 4.0, 6.0):
        world.tick(at)
        loop.cancel()
        silent()
    world.tick(10.9)
    assert world.closed == []
    world.tick(12.0)
    assert len(world.closed) == 1
    loop.cancel()


def test_who_is_being_answered_is_never_closed():
    world = World()
    loop, silent = world.connection()
    silent()
    loop.cancel()
    loop.cancel()
    world.tick(30.0)
    assert world.closed == []


def test_after_a_blocked_loop_what_came_in_is_read_before_anybody_is_closed():
    world = World()
    loop, silent = world.connection()
    silent()
    world.tick(3.0)
    world.tick(9.0, step=6.0)
    assert world.closed == []
    loop.cancel()  # it has: a request
    silent()
    world.tick(13.9)
    assert world.closed == []
    world.tick(15.0)
    assert len(world.closed) == 1


def test_what_is_another_timer_is_the_loops():
    world = World()
    loop, silent = world.connection()

    def callback(*_args):
        return None

    assert loop.call_later(0.5, callback) == "the loop's"
    assert loop.call_later(KEEPALIVE, callback, "argument") == "the loop's"
    silent()
    assert loop.call_later(KEEPALIVE, callback) == "the loop's"  # a second one beside the first
    assert [(delay, args) for delay, _, args, _ in world.loop.timers] == [
        (0.5, ()),
        (KEEPALIVE, ("argument",)),
        (KEEPALIVE, ()),
    ]


def test_everything_else_is_the_loops():
    loop = World().idle.loop_for(Known)
    assert loop.create_future() == "future"
    assert loop.create_task("coroutine", context="own") == ("task", "coroutine", {"context": "own"})


def test_a_short_time_and_a_class_of_the_users_have_the_loop_itself():
    world = World()
    assert world.idle.loop_for(World) is world.loop
    short = World(keepalive=0.5)
    assert short.idle.loop_for(Known) is short.loop


class Transport(asyncio.Transport):
    """Takes what is written."""

    def __init__(self):
        super().__init__()
        self.written = b""

    def write(self, data):
        self.written += data

    def is_closing(self):
        return False

    def close(self):
        raise AssertionError("closed")


@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_uvicorns_protocols_ask_their_loop_for_what_is_offered(http):
    """What is relied on: another uvicorn that asks in another way would have its own timers back, at their price."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    async def main():
        loop = asyncio.get_running_loop()
        config = uvicorn.Config(app, http=http, log_level="warning", access_log=False, lifespan="off")
        config.load()
        idle = Idle(loop, config.timeout_keep_alive)
        connection = idle.loop_for(config.http_protocol_class)
        state = ServerState()
        protocol = config.http_protocol_class(config=config, server_state=state, app_state={}, _loop=connection)
        transport = Transport()
        protocol.connection_made(transport)
        for _ in range(2):
            transport.written = b""
            protocol.data_received(REQUEST)
            assert not idle.now
            await asyncio.gather(*state.tasks)
            assert transport.written.startswith(b"HTTP/1.1 200 OK\r\n")
            assert idle.now == {connection}
            assert protocol.timeout_keep_alive_task is connection

    asyncio.run(main())
