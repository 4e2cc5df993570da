"""One HTTP/2 connection, spoken with the h2 library, for what is not worth a client library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h2.config
import h2.connection
import h2.events

if TYPE_CHECKING:
    import socket
    from typing import Self

__all__ = ["Http2"]


class Http2:
    """A client over a connected socket, TLS or not.

    Attributes:
        told_to_go: Whether a GOAWAY came.
    """

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self._h2.initiate_connection()
        self._answers: dict[int, dict[str, Any]] = {}
        self.told_to_go = False
        self.is_over = False
        self._flush()

    def send(self, path: str) -> int:
        """Begin a request and return its stream."""
        stream = self._h2.get_next_available_stream_id()
        headers = [(":method", "GET"), (":path", path), (":scheme", "http"), (":authority", "test.example")]
        self._h2.send_headers(stream, headers, end_stream=True)
        self._answers[stream] = {"status": 0, "body": b"", "done": False}
        self._flush()
        return stream

    def answer(self, stream: int) -> tuple[int, str]:
        """Wait for the answer on a stream: status and text; status 0 where there is none."""
        found = self._answers[stream]
        while not found["done"] and not self.is_over:
            self.take()
        return found["status"], found["body"].decode()

    def get(self, path: str) -> tuple[int, str]:
        """Send a request and wait for the answer."""
        return self.answer(self.send(path))

    def take(self) -> None:
        """Wait for bytes and take what they say."""
        data = self.socket.recv(65536)
        if not data:
            self.is_over = True
            return
        # GOAWAY with the highest stream number means "no new requests": what runs goes on, which h2 would not let be.
        data = self._without_goodbye(data)
        for event in self._h2.receive_data(data):
            match event:
                case h2.events.ResponseReceived():
                    self._answers[event.stream_id]["status"] = int(dict(event.headers)[":status"])
                case h2.events.DataReceived():
                    self._answers[event.stream_id]["body"] += event.data
                    self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                case h2.events.StreamEnded() | h2.events.StreamReset():
                    self._answers[event.stream_id]["done"] = True
                case h2.events.ConnectionTerminated():
                    self.told_to_go = True
        self._flush()

    def _without_goodbye(self, data: bytes) -> bytes:
        kept = b""
        while len(data) >= 9:
            size = 9 + int.from_bytes(data[:3], "big")
            if data[3] == 7 and data[9:13] == b"\x7f\xff\xff\xff":
                self.told_to_go = True
            else:
                kept += data[:size]
            data = data[size:]
        return kept + data

    def _flush(self) -> None:
        if data := self._h2.data_to_send():
            self.socket.sendall(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
