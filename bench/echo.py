"""A client of websockets that sends the next message when the last has come back; prints one line of JSON.

python echo.py PORT CONNECTIONS SECONDS
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import struct
import sys
import time

import uvloop

SIZE = 64
# A masked binary frame of a client, RFC 6455 section 5.2; the echo of it is not masked: two bytes, then the payload.
FRAME = struct.pack("!BB4s", 0x82, 0x80 | SIZE, b"\0\0\0\0") + b"x" * SIZE
ECHO = 2 + SIZE


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, port: int, times: list[float], failed: list[str], ended: asyncio.Event) -> None:
        self.port, self.times, self.failed, self.ended = port, times, failed, ended
        self.data = b""
        self.open = False

    def connection_made(self, transport) -> None:
        self.transport = transport
        key = base64.b64encode(os.urandom(16)).decode()
        transport.write(
            f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self.data += data
        if not self.open:
            head, separator, self.data = self.data.partition(b"\r\n\r\n")
            if not separator:
                self.data = head
                return
            if b" 101 " not in head.partition(b"\r\n")[0]:
                self.failed.append(head.partition(b"\r\n")[0].decode(errors="replace"))
                self.transport.close()
                return
            self.open = True
            self.send()
        while len(self.data) >= ECHO:
            if self.data[0] == 0x89:  # a ping, that no server sends within the seconds measured
                self.failed.append("a ping")
            self.data = self.data[ECHO:]
            self.times.append(time.perf_counter() - self.sent)
            if not self.ended.is_set():
                self.send()

    def send(self) -> None:
        self.sent = time.perf_counter()
        self.transport.write(FRAME)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.is_set():
            self.failed.append(f"lost: {exc!r}")


async def main(port: int, connections: int, seconds: float) -> None:
    """Echo for so many seconds on so many connections."""
    loop = asyncio.get_running_loop()
    times: list[float] = []
    failed: list[str] = []
    ended = asyncio.Event()
    begun = time.perf_counter()
    for _ in range(connections):
        await loop.create_connection(lambda: Client(port, times, failed, ended), "127.0.0.1", port)
    await asyncio.sleep(seconds)
    ended.set()
    took = time.perf_counter() - begun
    times.sort()

    def percentile(share: float) -> float:
        return times[min(len(times) - 1, int(share * len(times)))] * 1e6 if times else 0

    figures = {"p50": percentile(0.5), "p99": percentile(0.99), "p999": percentile(0.999)}
    print(json.dumps({"requests": len(times), "us": took * 1e6, "failed": len(failed), **figures, "why": failed[:3]}))


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
