"""One HTTP/1.1 response, parsed from bytes as they come; no I/O here.

Strict where a broken server would show: a status line that is none, a length that is no number, bytes after the end.
"""

from __future__ import annotations

from support.lossclient.outcome import Lost, Outcome

__all__ = ["Response", "request"]

HEAD_LIMIT = 65536


def request(method: str, path: str, *, close: bool = False, headers: str = "") -> bytes:
    """Return the head of a request."""
    ending = "Connection: close\r\n" if close else ""
    return f"{method} {path} HTTP/1.1\r\nHost: loss.test\r\n{ending}{headers}\r\n".encode()


class Response:
    """An answer that is being received."""

    __slots__ = ("_buffer", "_chunk", "_mode", "body", "complete", "headers", "status", "version")

    def __init__(self) -> None:
        self._buffer = bytearray()
        # head, length, chunks (a size line is due), chunk (data), trailer, eof
        self._mode = "head"
        self._chunk = 0
        self.body = bytearray()
        self.headers: dict[str, str] = {}
        self.status = 0
        self.version = ""
        self.complete = False

    @property
    def begun(self) -> bool:
        """Whether a byte of it has come."""
        return bool(self._buffer) or self._mode != "head"

    @property
    def headed(self) -> bool:
        """Whether its head is complete."""
        return self._mode != "head"

    @property
    def closes(self) -> bool:
        """Whether the server said that the connection ends with it."""
        words = self.headers.get("connection", "").lower()
        return "close" in words or self._mode == "eof" or (self.version == "1.0" and "keep-alive" not in words)

    def feed(self, data: bytes) -> None:
        """Take what came from the socket.

        Raises:
            Lost: It is not HTTP, or goes on after its end.
        """
        self._buffer += data
        if self._mode == "head":
            self._read_head()
        match self._mode:
            case "length":
                self._read_length()
            case "eof":
                self.body += self._buffer
                self._buffer.clear()
            case "chunks" | "chunk" | "trailer":
                self._read_chunks()
        if self.complete and self._buffer:
            raise Lost(Outcome.MALFORMED, f"bytes after the end of the answer: {bytes(self._buffer[:60])!r}")

    def end(self) -> bool:
        """Take the end of the connection; return whether the answer is whole."""
        if self._mode == "eof":
            self.complete = True
        return self.complete

    def take_rest(self) -> bytes:
        """Return what came after the head of a 101, which belongs to the next protocol."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def _read_head(self) -> None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > HEAD_LIMIT:
                raise Lost(Outcome.MALFORMED, "a head without end")
            return
        lines = self._buffer[:end].decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        version, _, rest = lines[0].partition(" ")
        code = rest[:3]
        if not version.startswith("HTTP/1.") or not code.isdecimal():
            raise Lost(Outcome.MALFORMED, f"no status line: {lines[0][:80]!r}")
        self.version, self.status = version[5:], int(code)
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon or name != name.strip():
                raise Lost(Outcome.MALFORMED, f"no header line: {line[:80]!r}")
            self.headers[name.lower()] = value.strip()
        if self.status == 101:
            self._mode, self.complete = "upgraded", True
        elif 100 <= self.status < 200:
            self.headers.clear()
            self._read_head()
        elif "chunked" in self.headers.get("transfer-encoding", "").lower():
            self._mode = "chunks"
        elif (length := self.headers.get("content-length")) is not None:
            if not length.isdecimal():
                raise Lost(Outcome.MALFORMED, f"no length: {length[:80]!r}")
            self._mode, self._chunk = "length", int(length)
        elif self.status in {204, 304}:
            self._mode, self._chunk = "length", 0
        else:
            self._mode = "eof"

    def _read_length(self) -> None:
        missing = self._chunk - len(self.body)
        self.body += self._buffer[:missing]
        del self._buffer[:missing]
        self.complete = len(self.body) == self._chunk

    def _read_chunks(self) -> None:
        while not self.complete:
            if self._mode == "chunk":
                if len(self._buffer) < self._chunk + 2:
                    return
                if self._buffer[self._chunk : self._chunk + 2] != b"\r\n":
                    raise Lost(Outcome.MALFORMED, "a chunk that does not end where it says")
                self.body += self._buffer[: self._chunk]
                del self._buffer[: self._chunk + 2]
                self._mode = "chunks"
                continue
            end = self._buffer.find(b"\r\n")
            if end < 0:
                return
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 2]
            if self._mode == "trailer":
                self.complete = not line
                continue
            try:
                self._chunk = int(line.partition(b";")[0], 16)
            except ValueError:
                raise Lost(Outcome.MALFORMED, f"no chunk size: {line[:80]!r}") from None
            self._mode = "chunk" if self._chunk else "trailer"
