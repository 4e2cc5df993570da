"""The kinds of HTTP traffic. Each client is a task that asks until it is told to stop; none ever asks twice for an answer.

A client on a kept-alive connection looks whether the server has closed it immediately before it sends: what was closed
then is no loss, what is closed after is one. Between the look and the send lie microseconds, and they are the server's:
it had to say `Connection: close` before.
"""

from __future__ import annotations

import asyncio
import random
import time
import zlib
from typing import TYPE_CHECKING

from support.lossclient.http1 import Response, request
from support.lossclient.ledger import Ledger
from support.lossclient.outcome import Closed, Lost, Outcome
from support.lossclient.websocket import websocket
from support.lossclient.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from support.lossclient.load import Load, Range

__all__ = ["KINDS", "Client"]

# What draining a connection that the server said it closes may take before it is closed from here.
POLITE_END = 1.0


class Client:
    """One client of one kind.

    Attributes:
        resting: Whether nothing is under way, so that it can be stopped at once.
    """

    def __init__(self, load: Load, ledger: Ledger, kind: str, number: int) -> None:
        self.load, self.ledger, self.kind = load, ledger, kind
        # Not hash(): it differs from run to run.
        self.rng = random.Random(f"{load.seed} {kind} {number}")
        self.loop = asyncio.get_running_loop()
        self.stopping = False
        self.resting = False
        self.wire: Wire | None = None
        self._asked = 0

    async def run(self) -> None:
        """Ask until it is stopped."""
        try:
            # Not all at once at the start.
            await self.rest((0.0, 0.2))
            while not self.stopping:
                await KINDS[self.kind](self)
        finally:
            self.drop()

    async def rest(self, span: Range) -> None:
        """Do nothing for a while."""
        if self.stopping:
            return
        self.resting = True
        await asyncio.sleep(self.rng.uniform(*span))
        self.resting = False

    def drop(self) -> None:
        """Close the connection, if there is one."""
        if self.wire is not None:
            self.wire.close()
            self.wire = None

    def token(self) -> str:
        """Return a text no other request sends, which its answer has to hold."""
        self._asked += 1
        return f"{self.kind}-{self.rng.getrandbits(40):010x}-{self._asked}"

    def look(self) -> None:
        """Forget the connection if the server has closed it while nothing was under way."""
        if self.wire is not None and (how := self.wire.ended()) is not None:
            self.ledger.closed(how)
            self.drop()

    async def connected(self) -> Wire:
        """Return the connection, a new one if there is none.

        Raises:
            Lost: None came about.
        """
        if self.wire is None:
            self.wire = Wire(self.loop)
            await self.wire.connect(self.load.address)
        return self.wire

    async def opened(self) -> bool:
        """Connect without asking anything; a failure is counted and followed by a rest."""
        begun = time.monotonic()
        try:
            async with asyncio.timeout(self.load.timeout):
                await self.connected()
        except TimeoutError:
            self.lose(Lost(Outcome.TIMEOUT, f"no connection within {self.load.timeout:g} s"), begun)
        except Lost as lost:
            self.lose(lost, begun)
        else:
            return True
        await self.rest(self.load.rest)
        return False

    async def ask(
        self, send: Callable[[Wire], Awaitable[float]], expected: bytes, *, served: float = 0.0
    ) -> Response | None:
        """Make one request, count what became of it and return its answer, None if it was lost.

        Args:
            send: Sends it and returns how much time of its own that took.
            expected: The body of the answer.
            served: How long the server is asked to take.
        """
        begun = time.monotonic()
        try:
            async with asyncio.timeout(self.load.timeout + served):
                wire = await self.connected()
                wire.stage = "send"
                served += await send(wire)
                answer = await wire.response()
            check(answer, expected)
        except TimeoutError:
            self.lose(Lost(Outcome.TIMEOUT, f"no answer within {self.load.timeout:g} + {served:g} s"), begun)
        except Lost as lost:
            self.lose(lost, begun)
        else:
            made = wire.made if wire.answered == 1 else None
            self.ledger.ok(self.kind, begun, served, answer.headers, made=made)
            if answer.closes:
                await self.part()
            return answer
        await self.rest(self.load.rest)
        return None

    async def part(self) -> None:
        """Let the server close, as it said it would: the one that closes first keeps the port."""
        self.ledger.closed(Closed.POLITE)
        wire, self.wire = self.wire, None
        assert wire is not None
        try:
            async with asyncio.timeout(POLITE_END):
                if await wire.some():
                    self.ledger.closed(Closed.UNASKED)
        except (TimeoutError, Lost):
            # However it ends: the answer was whole, and nothing more was asked.
            pass
        finally:
            wire.close()

    def lose(self, lost: Lost, begun: float) -> None:
        """Count a lost request and forget the connection."""
        wire = self.wire
        self.ledger.lost(
            self.kind,
            lost,
            begun,
            stage=wire.stage if wire else None,
            answered=wire.answered if wire else 0,
            pid=wire.pid if wire else None,
        )
        self.drop()

    async def get(self, path: str, *, close: bool = False, served: float = 0.0) -> Response | None:
        """Ask for a path whose answer is the token it is sent."""
        token = self.token()
        head = request("GET", f"{path}n={token}", close=close)

        async def send(wire: Wire) -> float:
            await wire.send(head)
            return 0.0

        return await self.ask(send, token.encode(), served=served)


# -- the kinds: one turn of each ------------------------------------------------------------------------------------


async def busy(client: Client) -> None:
    """Ask on a kept-alive connection, soon again."""
    client.look()
    await client.get("/fast?")
    await client.rest(client.load.busy_think)


async def idle(client: Client) -> None:
    """Ask on a kept-alive connection, seldom."""
    client.look()
    await client.get("/fast?")
    await client.rest(client.load.idle_think)


async def silent(client: Client) -> None:
    """Connect, say nothing for a while, ask once."""
    if not await client.opened():
        return
    await client.rest(client.load.silent_wait)
    client.look()
    await client.get("/fast?", close=True)
    client.drop()


async def single(client: Client) -> None:
    """Ask once on a connection of its own."""
    await client.get("/fast?", close=True)
    client.drop()
    await client.rest(client.load.single_think)


async def slow(client: Client) -> None:
    """Ask for what takes the server a while."""
    client.look()
    take = client.rng.uniform(*client.load.slow_take)
    await client.get(f"/slow?s={take:.3f}&", served=take)
    await client.rest(client.load.slow_think)


async def post(client: Client) -> None:
    """Send a body in pieces, by its length or in chunks."""
    client.look()
    load = client.load
    body = client.token().encode().ljust(load.post_size, b".")
    chunked = client.rng.random() < 0.5
    framing = "Transfer-Encoding: chunked\r\n" if chunked else f"Content-Length: {len(body)}\r\n"
    size = -(-len(body) // load.post_pieces)

    async def send(wire: Wire) -> float:
        begun = time.monotonic()
        await wire.send(request("POST", "/post", headers=framing))
        for start in range(0, len(body), size):
            await asyncio.sleep(client.rng.uniform(*load.post_pause))
            piece = body[start : start + size]
            await wire.send(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        if chunked:
            await wire.send(b"0\r\n\r\n")
        return time.monotonic() - begun

    await client.ask(send, f"{len(body)} {zlib.crc32(body):08x}".encode())
    await client.rest(load.rest)


async def stream(client: Client) -> None:
    """Ask for an answer that comes in pieces."""
    client.look()
    load = client.load
    token = client.token()
    path = f"/stream?n={token}&chunks={load.stream_chunks}&size={load.stream_size}&pause={load.stream_pause}"
    expected = token.encode().ljust(load.stream_size, b".") * load.stream_chunks

    async def send(wire: Wire) -> float:
        await wire.send(request("GET", path))
        return 0.0

    await client.ask(send, expected, served=load.stream_chunks * load.stream_pause)
    await client.rest(load.rest)


def check(answer: Response, expected: bytes) -> None:
    """Look whether an answer is the one.

    Raises:
        Lost: It is another one.
    """
    if answer.status != 200:
        raise Lost(Outcome.WRONG_STATUS, f"{answer.status}: {bytes(answer.body[:120])!r}")
    if answer.body != expected:
        raise Lost(Outcome.WRONG_BODY, f"{bytes(answer.body[:80])!r} for {expected[:80]!r}")


KINDS: dict[str, Callable[[Client], Awaitable[None]]] = {
    "busy": busy,
    "idle": idle,
    "silent": silent,
    "single": single,
    "slow": slow,
    "post": post,
    "stream": stream,
    "websocket": websocket,
}
