"""Two bounded memories of lines: the last ones of an instance, and those a full disk would not take."""

from __future__ import annotations

from collections import deque

from oxherd.records import dataclass

__all__ = ["Batch", "SpillRing", "TailRing"]

_TAIL_BYTES = 64 * 1024
_TAIL_LINES = 200
_SPILL_BYTES = 1024 * 1024


class TailRing:
    """The last lines of one incarnation, for the card that is written when it crashes.

    Whole chunks are kept and only split when somebody asks, so that a loud child costs one append a chunk.
    """

    __slots__ = ("_chunks", "_size")

    def __init__(self) -> None:
        """Start empty."""
        self._chunks: list[bytes] = []  # an empty deque has 700 bytes, and most programs are quiet
        self._size = 0

    def add(self, lines: bytes) -> None:
        """Remember whole lines."""
        if len(lines) > _TAIL_BYTES:
            start = len(lines) - _TAIL_BYTES
            # Prefer to begin at a line; only a line longer than the ring is shown from its middle.
            newline = lines.find(b"\n", start, len(lines) - 1)
            lines = lines[newline + 1 if newline >= 0 else start :]
        self._chunks.append(lines)
        self._size += len(lines)
        while self._size > _TAIL_BYTES or len(self._chunks) > _TAIL_LINES:
            self._size -= len(self._chunks.pop(0))

    def lines(self, count: int, held: bytes = b"") -> list[bytes]:
        """Return the last ``count`` lines without their newlines, ``held`` (an unfinished line) being the last."""
        if count <= 0:
            return []
        lines = b"".join(self._chunks).split(b"\n")
        lines.pop()
        if held:
            lines.append(held[-_TAIL_BYTES:])
        return lines[-count:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Whole lines of one instance as they go into a file, and what the index says of them.

    Attributes:
        time: Wall-clock nanoseconds.
        slot: The instance.
        data: Whole lines, newlines included.
        own: Whether the lines are Oxherd's own.
    """

    time: int
    slot: int
    data: bytes
    own: bool = False


class SpillRing:
    """Batches that could not be written; when they are too many the oldest lines fall out and are counted.

    Args:
        limit: Bytes that are held.
    """

    __slots__ = ("_batches", "_limit", "dropped", "size")

    def __init__(self, limit: int = _SPILL_BYTES) -> None:
        """Start empty, with nothing dropped."""
        self._batches: deque[Batch] = deque()
        self._limit = limit
        self.size = 0
        self.dropped = 0

    def __len__(self) -> int:
        """Return the number of batches held."""
        return len(self._batches)

    @property
    def lines(self) -> int:
        """Number of lines held."""
        return sum(batch.data.count(b"\n") for batch in self._batches)

    def add(self, batch: Batch) -> None:
        """Hold a batch, dropping as many of the oldest lines as it takes."""
        self._batches.append(batch)
        self.size += len(batch.data)
        self._shed()

    def _shed(self) -> None:
        while (excess := self.size - self._limit) > 0:
            self._drop(excess)

    def _drop(self, excess: int) -> None:
        oldest = self.pop()
        cut = oldest.data.find(b"\n", max(0, excess - 1)) + 1 or len(oldest.data)
        self.dropped += oldest.data.count(b"\n", 0, cut)
        if cut < len(oldest.data):
            self.push_back(oldest, oldest.data[cut:])

    def pop(self) -> Batch:
        """Take the oldest batch."""
        batch = self._batches.popleft()
        self.size -= len(batch.data)
        return batch

    def push_back(self, batch: Batch, rest: bytes) -> None:
        """Put what is left of a batch back to where it was taken from."""
        self._batches.appendleft(Batch(time=batch.time, slot=batch.slot, data=rest, own=batch.own))
        self.size += len(rest)
        self._shed()
