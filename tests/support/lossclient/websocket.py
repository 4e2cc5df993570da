"""A minimal websocket client (RFC 6455): texts out, their echoes back, and a close that is one.

1001 and 1012 are how a server that leaves closes properly, and 1000 is how an app does. What had been sent and not
answered by then is counted apart: the protocol does not promise an answer after a close. A connection that ends without
a close frame is lost, whether or not a text was under way.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import time
from typing import TYPE_CHECKING

from support.lossclient.http1 import Response, request
from support.lossclient.outcome import Closed, Lost, Outcome

if TYPE_CHECKING:
    from support.lossclient.traffic import Client
    from support.lossclient.wire import Wire

__all__ = ["GUID", "Frames", "frame", "websocket"]

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, CLOSE, PONG = 1, 8, 10
PROPER = {1000, 1001, 1012}
GOODBYE = 1.0


def frame(opcode: int, payload: bytes) -> bytes:
    """Return one masked frame of at most 65,535 bytes."""
    mask = os.urandom(4)
    length = len(payload)
    head = (
        bytes([0x80 | opcode, 0x80 | length])
        if length < 126
        else bytes([0x80 | opcode, 0xFE, length >> 8, length & 255])
    )
    return head + mask + bytes(byte ^ mask[index & 3] for index, byte in enumerate(payload))


class Frames:
    """The frames of a server, from bytes as they come; no I/O here."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def take(self) -> tuple[int, bytes] | None:
        """Return the opcode and payload of the next whole frame, None if there is none.

        Raises:
            Lost: The server masks, or fragments what is short.
        """
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        length, start = buffer[1] & 0x7F, 2
        if buffer[1] & 0x80 or not buffer[0] & 0x80 or length == 127:
            raise Lost(Outcome.MALFORMED, f"no frame: {bytes(buffer[:20])!r}")
        if length == 126:
            if len(buffer) < 4:
                return None
            length, start = int.from_bytes(buffer[2:4], "big"), 4
        if len(buffer) < start + length:
            return None
        opcode, payload = buffer[0] & 15, bytes(buffer[start : start + length])
        del buffer[: start + length]
        return opcode, payload


class Gone(Exception):  # noqa: N818 - it is no error
    """The server closed properly."""


class Conversation:
    """One websocket: the connection, and the frames that have come over it."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.frames = Frames()

    async def begin(self) -> Response:
        """Upgrade the connection.

        Raises:
            Lost: The server did not.
        """
        key = base64.b64encode(os.urandom(16)).decode()
        headers = (
            f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        )
        await self.wire.send(request("GET", "/ws", headers=headers))
        answer = await self.wire.response()
        if answer.status != 101:
            raise Lost(Outcome.WRONG_STATUS, f"{answer.status}: {bytes(answer.body[:120])!r}")
        accept = base64.b64encode(hashlib.sha1(f"{key}{GUID}".encode()).digest()).decode()
        if answer.headers.get("sec-websocket-accept") != accept:
            raise Lost(Outcome.MALFORMED, "a wrong Sec-WebSocket-Accept")
        self.frames.feed(answer.take_rest())
        return answer

    async def receive(self) -> bytes:
        """Return the next text.

        Raises:
            Gone: The server closed properly.
            Lost: It ended otherwise.
        """
        while (text := await self._handle()) is None:
            await self._more()
        return text

    async def listen(self, seconds: float) -> None:
        """Ask nothing for a while, and see at once what comes unasked: a ping, a close.

        Raises:
            Gone: The server closed properly.
            Lost: It ended otherwise, or a text came that answers nothing.
        """
        end = time.monotonic() + seconds
        # A close may have come in one piece with the last echo.
        while (text := await self._handle()) is None:
            if await self.wire.quiet(end - time.monotonic()):
                return
            await self._more()
        raise Lost(Outcome.MALFORMED, f"a text nobody asked for: {text[:80]!r}")

    async def _more(self) -> None:
        data = await self.wire.some(begun=True)
        if not data:
            raise Lost(Outcome.RESET_MID, "end of file without a close frame")
        self.frames.feed(data)

    async def _handle(self) -> bytes | None:
        """Answer control frames; return a text as soon as one is there."""
        while (taken := self.frames.take()) is not None:
            opcode, payload = taken
            match opcode:
                case 1:
                    return payload
                case 9:
                    await self.wire.send(frame(PONG, payload))
                case 8:
                    code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
                    if code not in PROPER:
                        raise Lost(Outcome.WRONG_STATUS, f"closed with {code} {payload[2:]!r}")
                    await self.goodbye(payload[:2])
                    raise Gone
                case _:
                    raise Lost(Outcome.MALFORMED, f"a frame of kind {opcode}")
        return None

    async def goodbye(self, payload: bytes) -> None:
        """Send or answer a close, and let the server end the connection."""
        try:
            async with asyncio.timeout(GOODBYE):
                await self.wire.send(frame(CLOSE, payload))
                while await self.wire.some():
                    pass
        except (TimeoutError, Lost):
            # The close frame has been seen or sent; how the connection ends after it matters to nobody.
            pass


async def websocket(client: Client) -> None:
    """Talk over one websocket until it ends or the client is stopped."""
    ledger, load = client.ledger, client.load
    begun = time.monotonic()
    try:
        async with asyncio.timeout(load.timeout):
            conversation = Conversation(await client.connected())
            answer = await conversation.begin()
        ledger.ok(client.kind, begun, 0.0, answer.headers)
        while not client.stopping:
            begun = time.monotonic()
            await conversation.listen(client.rng.uniform(*load.websocket_think))
            text = client.token().encode()
            begun = time.monotonic()
            async with asyncio.timeout(load.timeout):
                await conversation.wire.send(frame(TEXT, text))
                try:
                    echo = await conversation.receive()
                except Gone:
                    ledger.gone_unanswered += 1
                    raise
            if echo != text:
                raise Lost(Outcome.WRONG_BODY, f"{echo[:80]!r} for {text!r}")
            ledger.ok(client.kind, begun, 0.0, None)
        await conversation.goodbye((1000).to_bytes(2, "big"))
    except Gone:
        ledger.closed(Closed.POLITE)
    except TimeoutError:
        client.lose(Lost(Outcome.TIMEOUT, f"no answer within {load.timeout:g} s"), begun)
        await client.rest(load.rest)
    except Lost as lost:
        client.lose(lost, begun)
        await client.rest(load.rest)
    finally:
        client.drop()
