"""Lines out of chunks: what a pipe hands over in pieces becomes whole lines. Pure."""

from __future__ import annotations

__all__ = ["MAX_LINE", "LineAssembler"]

# A longer line is written in pieces. It bounds what one child that never ends a line can cost the supervisor.
MAX_LINE = 16 * 1024 * 1024


class LineAssembler:
    """Holds the unfinished last line of one pipe until its end arrives.

    A tail is never written before its line is whole, however long it takes: the output of several instances goes into
    one file, and half a line of one of them there would be finished by another's. Whoever wants to see a prompt or a
    progress bar earlier asks for `held`.

    Args:
        limit: Bytes after which an unfinished line is given out as a piece of its own.
    """

    __slots__ = ("_held", "_limit", "pieces")

    def __init__(self, limit: int = MAX_LINE) -> None:
        """Start with nothing held."""
        # One growing buffer: a list of pieces would cost a child that writes single bytes 34 bytes for each.
        self._held = bytearray()
        self._limit = limit
        self.pieces = 0

    @property
    def held(self) -> bytes:
        """The unfinished line."""
        return bytes(self._held)

    def feed(self, data: bytes) -> bytes:
        """Return the whole lines that ``data`` completes, ending in a newline, or nothing."""
        cut = data.rfind(b"\n") + 1
        if not self._held and cut == len(data):
            return data
        if not cut:
            whole = b""
            self._held += data
        elif self._held:
            # Not data[:cut], which would copy a whole read once more.
            whole = b"".join((self._held, memoryview(data)[:cut]))
            self._held = bytearray(data[cut:])
        else:
            whole = data[:cut]
            self._held += data[cut:]
        if len(self._held) >= self._limit:
            self.pieces += 1
            whole += self.flush()
        return whole

    def flush(self) -> bytes:
        """Return the unfinished line with a newline added, or nothing, and hold nothing."""
        if not self._held:
            return b""
        self._held += b"\n"
        whole = bytes(self._held)
        self._held = bytearray()
        return whole
