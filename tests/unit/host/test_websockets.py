"""Websockets that are told that their worker leaves, with an engine that is played."""

from __future__ import annotations

import asyncio

import pytest

from oxherd.host.websockets import Websockets


class Engine:
    """What an engine gives an app: messages to receive, and what was sent."""

    def __init__(self):
        self.sent = []
        self.coming = asyncio.Queue()
        self.coming.put_nowait({"type": "websocket.connect"})

    async def receive(self):
        return await self.coming.get()

    def receive_as_future(self):
        return asyncio.ensure_future(self.coming.get())

    async def send(self, message):
        self.sent.append(message)


async def turn():
    """Let the loop go round once."""
    over = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(over.set_result, None)
    await over


async def echo(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    scope["accepted"].set()
    scope["heard"] = await receive()


def opened(there, engine, app=echo, receive=None):
    scope = {"type": "websocket", "accepted": asyncio.Event()}
    return scope, asyncio.ensure_future(there.wrap(app)(scope, receive or engine.receive, engine.send))


def test_what_is_no_websocket_goes_straight_through():
    async def story():
        there = Websockets()

        async def app(scope, receive, send):
            return scope, receive, send

        assert await there.wrap(app)({"type": "http"}, 1, 2) == ({"type": "http"}, 1, 2)
        assert len(there) == 0

    asyncio.run(story())


def test_one_is_there_until_its_app_has_ended():
    async def story():
        there, engine = Websockets(), Engine()
        scope, running = opened(there, engine)
        await scope["accepted"].wait()
        assert len(there) == 1
        engine.coming.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await running
        assert len(there) == 0

    asyncio.run(story())


def test_leaving_closes_with_1012_and_the_engine_tells_the_app():
    async def story():
        there, engine = Websockets(), Engine()
        scope, running = opened(there, engine)
        await scope["accepted"].wait()
        await there.leave()
        assert engine.sent[-1] == {"type": "websocket.close", "code": 1012, "reason": "service restart"}
        engine.coming.put_nowait({"type": "websocket.disconnect", "code": 1012})
        await running
        assert scope["heard"]["code"] == 1012

    asyncio.run(story())


def test_a_receive_that_can_be_cancelled_is_and_the_app_hears_1012():
    """Granian's holds a lock that closing needs."""

    async def story():
        there, engine = Websockets(), Engine()
        scope, running = opened(there, engine, receive=engine.receive_as_future)
        await scope["accepted"].wait()
        await turn()
        await there.leave()
        await running
        assert scope["heard"]["type"] == "websocket.disconnect"
        assert scope["heard"]["code"] == 1012
        assert engine.sent[-1]["code"] == 1012

    asyncio.run(story())


def test_the_app_is_told_after_the_client():
    async def story():
        there, engine = Websockets(), Engine()
        scope, running = opened(there, engine, receive=engine.receive_as_future)
        await scope["accepted"].wait()
        released = asyncio.Event()

        async def slow(message):
            await released.wait()
            engine.sent.append(message)

        next(iter(there._there))._send = slow
        leaving = asyncio.ensure_future(there.leave())
        await asyncio.wait({running}, timeout=0)
        for _ in range(5):
            await turn()
        assert not running.done()
        released.set()
        await leaving
        await running

    asyncio.run(story())


def test_what_an_app_sends_afterwards_fails_as_to_a_client_that_is_gone():
    async def story():
        there, engine = Websockets(), Engine()

        async def talker(scope, receive, send):
            await receive()
            await send({"type": "websocket.accept"})
            scope["accepted"].set()
            await scope["left"].wait()
            await send({"type": "websocket.send", "text": "still here"})

        scope = {"type": "websocket", "accepted": asyncio.Event(), "left": asyncio.Event()}
        running = asyncio.ensure_future(there.wrap(talker)(scope, engine.receive, engine.send))
        await scope["accepted"].wait()
        await there.leave()
        scope["left"].set()
        with pytest.raises(OSError, match="1012"):
            await running

    asyncio.run(story())


def test_one_that_the_app_has_closed_is_left_alone():
    async def story():
        there, engine = Websockets(), Engine()

        async def closer(scope, receive, send):
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close", "code": 4001})
            scope["accepted"].set()
            await receive()

        scope, running = opened(there, engine, closer)
        await scope["accepted"].wait()
        await there.leave()
        assert [one.get("code") for one in engine.sent] == [None, 4001]
        running.cancel()
        await asyncio.wait({running})

    asyncio.run(story())


def test_an_engine_that_was_quicker_does_no_harm():
    async def story():
        there, engine = Websockets(), Engine()
        scope, running = opened(there, engine)
        await scope["accepted"].wait()

        async def gone(_message):
            raise OSError("the client was quicker")

        next(iter(there._there))._send = gone
        await there.leave()
        running.cancel()
        await asyncio.wait({running})

    asyncio.run(story())
