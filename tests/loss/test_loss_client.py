"""The client counts what a server does to it: a server that misbehaves on demand, one way at a time."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
import struct

import pytest

from support.lossclient.__main__ import Run
from support.lossclient.http1 import Response
from support.lossclient.load import Load
from support.lossclient.outcome import Lost, Outcome
from support.lossclient.websocket import GUID, Frames, frame
from support.services import unused_port

NONE = {"busy": 0, "idle": 0, "silent": 0, "single": 0, "slow": 0, "post": 0, "stream": 0, "websocket": 0}


class Server:
    """Answers as a script says: one word a request, counted over all connections; the last goes on for ever."""

    def __init__(self, script):
        self.script, self.heard = script, 0

    async def serve(self, reader, writer):
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                word = self.script[min(self.heard, len(self.script) - 1)]
                self.heard += 1
                if not await self.answer(word, head.split(b"n=")[1].split(b" ")[0], writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            # The client has hung up, which is its right.
            pass
        finally:
            writer.close()

    async def answer(self, word, token, writer):
        good = b"HTTP/1.1 200 OK\r\nx-pid: 7\r\nContent-Length: %d\r\n\r\n%b" % (len(token), token)
        match word:
            case "ok":
                writer.write(good)
            case "eof":
                return False
            case "reset":
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()
                return False
            case "ok, then close":
                writer.write(good)
                return False
            case "ok and close":
                writer.write(good.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"))
                return False
            case "half":
                writer.write(good[:-2])
                return False
            case "500":
                writer.write(good.replace(b"200 OK", b"500 No"))
            case "other":
                writer.write(good.replace(token, b"x" * len(token)))
            case "too much":
                writer.write(good + b"xx")
            case "nonsense":
                writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")
            case "never":
                await asyncio.Event().wait()
        await writer.drain()
        return True


async def count(script, *, until=6, **load):
    """Return the report of one client whose server follows a script."""
    server = Server(script)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    rest = {"busy_think": (0.002, 0.004), "rest": (0.0, 0.002), "timeout": 0.3}
    run = Run(Load(address=f"127.0.0.1:{port}", **{**NONE, "busy": 1, **rest, **load}))
    run.start()
    await run.until(lambda: server.heard >= until)
    report = await run.stop()
    listener.close()
    return report


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("eof", Outcome.RESET_REUSED),
        ("reset", Outcome.RESET_REUSED),
        ("half", Outcome.RESET_MID),
        ("500", Outcome.WRONG_STATUS),
        ("other", Outcome.WRONG_BODY),
        ("too much", Outcome.MALFORMED),
        ("nonsense", Outcome.MALFORMED),
        ("never", Outcome.TIMEOUT),
    ],
)
def test_each_misdeed_has_its_class(word, expected):
    report = asyncio.run(count(["ok", word, "ok"]))
    assert report["classes"].get(expected) == 1, report
    assert report["failed"] == 1
    (failure,) = report["failures"]
    assert (failure["class"], failure["kind"], failure["pid"]) == (expected, "busy", 7)
    assert report["requests"] == report["classes"]["ok"] + 1


@pytest.mark.parametrize("word", ["eof", "reset"])
def test_a_connection_that_has_answered_nothing_is_fresh(word):
    report = asyncio.run(count([word, "ok"]))
    assert report["classes"][Outcome.RESET_FRESH] == report["failed"] == 1


def test_a_close_between_two_requests_is_seen_before_the_next_is_sent():
    """It is no loss, and it is told apart from a close that was announced."""
    report = asyncio.run(count(["ok, then close"], busy_think=(0.02, 0.03)))
    assert (report["failed"], set(report["classes"])) == (0, {"ok"})
    assert set(report["closed"]) == {"idle"}


def test_an_announced_close_is_polite():
    report = asyncio.run(count(["ok and close"]))
    assert (report["failed"], set(report["closed"])) == (0, {"polite"})


def test_a_silent_connection_that_is_closed_is_counted_apart():
    """Nothing was sent yet, so nothing was lost; the request goes over another connection."""

    async def story():
        closing = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        port = closing.sockets[0].getsockname()[1]
        run = Run(Load(address=f"127.0.0.1:{port}", **{**NONE, "silent": 1}, silent_wait=(0.02, 0.03)))
        run.start()
        await run.until(lambda: run.ledger.phase.closed)
        report = await run.stop()
        closing.close()
        return report

    report = asyncio.run(story())
    assert report["closed"]["silent"] >= 1
    # The connection that replaced it was closed as well, under the request.
    assert set(report["classes"]) <= {Outcome.RESET_FRESH}


def test_nobody_there_is_refused():
    async def story():
        run = Run(Load(address=f"127.0.0.1:{unused_port()}", **{**NONE, "single": 1}))
        run.start()
        await run.until(lambda: run.ledger.failed)
        return await run.stop()

    assert set(asyncio.run(story())["classes"]) == {Outcome.REFUSED}


@pytest.mark.parametrize(
    ("frames", "failed", "closed"),
    [
        # The close comes in one piece with the echo.
        ([b"%b", b"\x88\x02\x03\xf4"], set(), {"polite"}),
        ([b"%b", b"\x88\x02\x03\xf3"], {Outcome.WRONG_STATUS}, set()),
        ([b"%b"], {Outcome.RESET_MID}, set()),
        ([b"\x81\x01x"], {Outcome.WRONG_BODY}, set()),
        ([b"%b", b"\x81\x01x"], {Outcome.MALFORMED}, set()),
    ],
)
def test_a_websocket_ends_properly_or_is_lost(frames, failed, closed):
    """1012 is a proper end, 1011 and none at all are not."""

    async def serve(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        key = head.split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0].decode()
        accept = base64.b64encode(hashlib.sha1(f"{key}{GUID}".encode()).digest())
        writer.write(b"HTTP/1.1 101 Up\r\nSec-WebSocket-Accept: %b\r\n\r\n" % accept)
        _, length, *mask = await reader.readexactly(6)
        masked = await reader.readexactly(length & 127)
        text = bytes(byte ^ mask[index % 4] for index, byte in enumerate(masked))
        echo = bytes([0x81, len(text)]) + text
        writer.write(b"".join(part.replace(b"%b", echo) for part in frames))
        writer.close()

    async def story():
        listener = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        run = Run(Load(address=f"127.0.0.1:{port}", **{**NONE, "websocket": 1}, websocket_think=(0.01, 0.02)))
        run.start()
        await run.until(lambda: run.ledger.failed or run.ledger.phase.closed)
        report = await run.stop()
        listener.close()
        return report

    report = asyncio.run(story())
    assert set(report["classes"]) - {"ok"} == failed
    assert set(report["closed"]) == closed


def test_phases_hold_what_ended_in_them():
    async def story():
        server = Server(["ok"])
        listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        run = Run(Load(address=f"127.0.0.1:{port}", **{**NONE, "busy": 2}))
        run.start()
        await run.reached({"kinds": True})
        server.script = ["500"]
        run.ledger.mark("bad")
        await run.until(lambda: run.ledger.failed >= 3)
        server.script = ["ok"]
        run.ledger.mark("good")
        await run.reached({"answers": 5})
        report = await run.stop()
        listener.close()
        return report

    report = asyncio.run(story())
    start, bad, good = report["phases"]
    assert (start["failed"], [phase["name"] for phase in report["phases"]]) == (0, ["start", "bad", "good"])
    assert bad["failed"] >= 3
    assert good["classes"]["ok"] >= 5
    assert sum(phase["requests"] for phase in report["phases"]) == report["requests"]
    assert {failure["phase"] for failure in report["failures"]} <= {"bad", "good"}


@pytest.mark.parametrize("size", [1, 3, 10_000])
@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nTrailer: x\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    ],
)
def test_a_response_is_whole_however_it_comes(raw, size):
    response = Response()
    for start in range(0, len(raw), size):
        assert not response.complete
        response.feed(raw[start : start + size])
    assert (response.complete, response.status, bytes(response.body)) == (True, 200, b"hello")


def test_a_response_without_length_ends_with_its_connection():
    response = Response()
    response.feed(b"HTTP/1.0 200 OK\r\n\r\nhello")
    assert (response.complete, response.closes) == (False, True)
    assert response.end()
    assert bytes(response.body) == b"hello"


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab",
    ],
)
def test_what_is_no_response_is_malformed(raw):
    with pytest.raises(Lost) as caught:
        Response().feed(raw)
    assert caught.value.outcome is Outcome.MALFORMED


def test_a_websocket_frame_is_whole_however_it_comes():
    frames = Frames()
    for byte in b"\x81\x7e\x01\x00" + b"x" * 256:
        assert frames.take() is None
        frames.feed(bytes([byte]))
    assert frames.take() == (1, b"x" * 256)


def test_the_client_masks():
    sent = frame(1, b"abc")
    assert sent[:2] == b"\x81\x83"
    assert bytes(byte ^ sent[2 + index % 4] for index, byte in enumerate(sent[6:])) == b"abc"
