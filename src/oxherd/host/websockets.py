"""Websockets of an ASGI app that are told that their worker leaves.

Engines end them in ways of their own, some without a word. Here every one gets 1012 (service restart, RFC 6455's
registry), which clients take as "connect again", and the app hears it as the disconnect it awaits.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    ASGIApp = Callable[[Message, Receive, Send], Awaitable[None]]

__all__ = ["SERVICE_RESTART", "Websockets"]

SERVICE_RESTART = 1012
_DISCONNECT = {"type": "websocket.disconnect", "code": SERVICE_RESTART, "reason": "service restart"}


class _Websocket:
    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._open = self._over = False
        self._pending: Any = None
        self._said = asyncio.Event()

    async def receive(self) -> Message:
        if self._over and self._pending is not None:
            return await self._ended()
        pending: Any = self._receive()
        if not hasattr(pending, "cancel"):
            return await pending  # type: ignore[no-any-return]
        # Granian's: a future, which holds a lock that closing waits for.
        self._pending = pending
        try:
            return await pending  # type: ignore[no-any-return]
        except asyncio.CancelledError:
            if not self._over:
                raise
        return await self._ended()

    async def send(self, message: Message) -> None:
        if self._over:
            await self._said.wait()
            # What ASGI has for a client that is gone; frameworks take it as the disconnect it is.
            raise OSError("the websocket was closed with 1012: this worker leaves")
        if message["type"] == "websocket.accept":
            await self._send(message)
            self._open = True
            return
        if message["type"] == "websocket.close":
            self._open = False
        await self._send(message)

    async def _ended(self) -> Message:
        # Not before the client was told: an app that returns has its connection closed without a reason.
        await self._said.wait()
        return _DISCONNECT

    async def leave(self) -> None:
        """Close it, unless the app has; one that was not accepted yet is refused (HTTP 403, or 500 by some)."""
        was_open, self._open, self._over = self._open, False, True
        if self._pending is not None:
            self._pending.cancel()
        try:
            if was_open:
                await self._send({"type": "websocket.close", "code": SERVICE_RESTART, "reason": "service restart"})
        finally:
            self._said.set()


class Websockets:
    """The open websockets of one app; everything on its event loop."""

    def __init__(self) -> None:
        """There are none yet."""
        self._there: set[_Websocket] = set()

    def __len__(self) -> int:
        """How many are open."""
        return len(self._there)

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """Return the app, its websockets known here; everything else goes straight through."""

        def wrapped(scope: Message, receive: Receive, send: Send) -> Awaitable[None]:
            return self._call(app, scope, receive, send) if scope["type"] == "websocket" else app(scope, receive, send)

        return wrapped

    async def _call(self, app: ASGIApp, scope: Message, receive: Receive, send: Send) -> None:
        one = _Websocket(receive, send)
        self._there.add(one)
        try:
            await app(scope, one.receive, one.send)
        finally:
            self._there.discard(one)

    async def leave(self) -> None:
        """Close every one with 1012. The app goes on until it has heard of it."""
        for one in tuple(self._there):
            # The client, or the engine, was quicker.
            with contextlib.suppress(OSError, RuntimeError, asyncio.InvalidStateError):
                await one.leave()
