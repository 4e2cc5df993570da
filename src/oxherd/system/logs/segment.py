"""One file of a log, opened for reading: plain or compressed, with its index or without."""

from __future__ import annotations

import gzip
import os
from typing import TYPE_CHECKING

from oxherd.records import dataclass
from oxherd.system.logs.index import IndexReader, interrupted
from oxherd.system.logs.names import COMPRESSED, all_serials, rotated

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Block", "Segment", "open_current", "open_rotated", "rotated_serials", "serial_of"]

_CHUNK = 256 * 1024
_RECORDS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Whole lines that belong together.

    Attributes:
        time: Unix time they were written at; of text without a record, the time the file was last written.
        slot: The instance, or None without a record.
        stream: Index into `oxherd.system.logs.index.STREAMS`, or None without a record.
        data: The lines; only the last one of a file may lack its newline.
    """

    time: float
    slot: int | None
    stream: int | None
    data: bytes


class Segment:
    """An open file of a log; it stays readable when it is renamed, compressed or removed.

    Args:
        fd: The log file; taken over.
        index: Its index, or None.
        serial: The number it has or will have, or None if nobody knows.
        compressed: Whether it is a gzip file.
    """

    def __init__(self, fd: int, *, index: IndexReader | None, serial: int | None, compressed: bool) -> None:
        """Take over the descriptor and the index."""
        self._file = os.fdopen(fd, "rb", buffering=0)
        self._index = index
        self._gzip = gzip.GzipFile(fileobj=self._file, mode="rb") if compressed else None
        self._buffer = b""
        self._buffer_offset = 0
        self.serial = serial
        self.compressed = compressed
        status = os.fstat(fd)
        self.identity = (status.st_dev, status.st_ino)
        self.mtime = status.st_mtime

    @property
    def indexed(self) -> bool:
        """Whether there is an index."""
        return self._index is not None

    def attach_index(self, path: str) -> None:
        """Take the index at ``path``, if there is one by now and it is about this very file."""
        index = _open_index(path)
        if index is None:
            return
        if (index.header.device, index.header.inode) == self.identity:
            self._index = index
            self.serial = index.header.serial
        else:
            index.close()

    def size(self) -> int:
        """Return the bytes of a plain file now; a compressed one does not say."""
        status = os.fstat(self._file.fileno())
        self.mtime = status.st_mtime
        return status.st_size

    def covered(self) -> int:
        """Return up to where the index speaks of the file."""
        count = len(self._index) if self._index is not None else 0
        last = self._index.records(count - 1, count) if self._index is not None and count else []
        return last[0].offset + last[0].length if last else 0

    def offset_since(self, since: float) -> int:
        """Return where the first record written at ``since`` (unix time) or later begins, else where the index ends."""
        if self._index is None:
            return 0
        number = self._index.first_since(since)
        found = self._index.records(number, number + 1)
        return found[0].offset if found else self.covered()

    def line_start(self, offset: int) -> int:
        """Return the beginning of a line (of a batch, where the index knows) at or before, else after, ``offset``."""
        if offset <= 0:
            return 0
        if self._index is not None:
            number = self._index.first_at(offset)
            found = self._index.records(number, number + 1)
            if found and found[0].offset <= offset:
                return found[0].offset
        while chunk := self._read(offset - 1, _CHUNK):
            newline = chunk.find(b"\n")
            if newline >= 0:
                return offset + newline
            offset += len(chunk)
        return offset

    def last_line_end(self, size: int) -> int:
        """Return the end of the last whole line within the first ``size`` bytes."""
        while size > 0:
            start = max(0, size - _CHUNK)
            newline = self._read(start, size - start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            size = start
        return 0

    def _read(self, offset: int, length: int) -> bytes:
        if self._gzip is None:
            return os.pread(self._file.fileno(), length, offset)
        try:
            if self._gzip.tell() != offset:
                self._gzip.seek(offset)
            return self._gzip.read(length)
        except (OSError, EOFError):
            # A damaged archive: what could be read of it has been shown.
            return b""

    def _read_fully(self, offset: int, length: int) -> bytes:
        parts: list[bytes] = []
        while length > 0 and (data := self._read(offset, length)):
            parts.append(data)
            offset += len(data)
            length -= len(data)
        return b"".join(parts)

    def blocks(self, start: int, end: int | None) -> Iterator[Block]:
        """Yield what stands from ``start`` (a line's beginning) up to ``end``, None being the end of the file."""
        # What has been read ahead may have been truncated and written anew since.
        self._buffer = b""
        position = start
        number = self._index.first_at(start) if self._index is not None else 0
        while self._index is not None and (rows := self._index.rows(number, number + _RECORDS)):
            for time, offset, length, slot, stream, _ in rows:
                if end is not None and offset >= end:
                    break
                if offset > position:
                    # Its record was never written, for the supervisor was killed: at the latest it is of that time.
                    yield from self._bare(position, offset, time / 1e9)
                first = max(position, offset)
                stop = offset + length if end is None else min(offset + length, end)
                data = self._buffered(first, stop - first)
                if data:
                    yield Block(time=time / 1e9, slot=slot, stream=stream, data=data)
                position = max(position, stop)
            else:
                number += len(rows)
                continue
            break
        yield from self._bare(position, end)

    def _buffered(self, offset: int, length: int) -> bytes:
        """Return those bytes; of small neighbours many are read at once."""
        start = offset - self._buffer_offset
        if not 0 <= start <= len(self._buffer):
            start = len(self._buffer)
        elif start + length <= len(self._buffer):
            return self._buffer[start : start + length]
        # What is there of it is kept: there is no cheap way back in a gzip file.
        kept = self._buffer[start:]
        self._buffer = kept + self._read_fully(offset + len(kept), max(length, _CHUNK) - len(kept))
        self._buffer_offset = offset
        return self._buffer[:length]

    def _bare(self, start: int, end: int | None, time: float | None = None) -> Iterator[Block]:
        """Yield text the index does not know, cut at line ends; ``time`` is unix time, None that of the file."""
        time = self.mtime if time is None else time
        held = b""
        while end is None or start < end:
            data = self._read(start, _CHUNK if end is None else min(_CHUNK, end - start))
            if not data:
                break
            start += len(data)
            held += data
            cut = held.rfind(b"\n") + 1
            if cut:
                yield Block(time=time, slot=None, stream=None, data=held[:cut])
                held = held[cut:]
        if held:
            yield Block(time=time, slot=None, stream=None, data=held)

    def close(self) -> None:
        """Close both files; idempotent."""
        if self._gzip is not None:
            self._gzip.close()
        self._file.close()
        if self._index is not None:
            self._index.close()


def _open_index(path: str) -> IndexReader | None:
    try:
        return IndexReader(path)
    except (OSError, ValueError):
        return None


def _open_rotated_index(path: str, serial: int) -> IndexReader | None:
    name = rotated(path, serial)
    index = _open_index(name)
    return _open_index(name + COMPRESSED) if index is None else index


def _index_left_behind(path: str, identity: tuple[int, int]) -> IndexReader | None:
    """Return the index of an old file that has not got its number, for the supervisor was killed when it rotated."""
    index = _open_index(path)
    if index is not None and (index.header.device, index.header.inode) != identity:
        index.close()
        return None
    return index


def open_current(path: str, index_path: str) -> Segment | None:
    """Open the file that is being written; None if there is none.

    Its index is taken only if it is about this very file: in the middle of a rotation it is still that of the old one.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    segment = Segment(fd, index=None, serial=None, compressed=False)
    segment.attach_index(index_path)
    return segment


def serial_of(index_path: str, identity: tuple[int, int]) -> int | None:
    """Return the number under which the file of that device and inode was retired, for its index still names it."""
    for serial in sorted(all_serials(index_path), reverse=True):
        index = _open_rotated_index(index_path, serial)
        if index is not None:
            index.close()
            if (index.header.device, index.header.inode) == identity:
                return serial
    return None


def open_rotated(path: str, index_path: str, serial: int) -> Segment | None:
    """Open an old file, compressed or not; None if rotation has removed it."""
    name = rotated(path, serial)
    # Compression puts the .gz there before it takes the plain file away.
    for candidate, compressed in ((name, False), (name + COMPRESSED, True)):
        try:
            fd = os.open(candidate, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            continue
        index = _open_rotated_index(index_path, serial)
        if index is None and not compressed:
            status = os.fstat(fd)
            index = _index_left_behind(index_path, (status.st_dev, status.st_ino))
        return Segment(fd, index=index, serial=serial, compressed=compressed)
    return None


def rotated_serials(path: str, index_path: str) -> list[int]:
    """Return the numbers of all old files, oldest first.

    Those without an index are somebody else's, logrotate's for instance, whose numbers run the other way round: they are
    put in the order of their times, before those of Oxherd.
    """
    indexed = all_serials(index_path)
    logs = all_serials(path)
    unfinished = interrupted(path, index_path)
    if unfinished is not None:
        indexed.add(unfinished)
    return [*sorted(logs - indexed, key=lambda serial: (_mtime(path, serial), serial)), *sorted(logs & indexed)]


def _mtime(path: str, serial: int) -> int:
    name = rotated(path, serial)
    for candidate in (name, name + COMPRESSED):
        try:
            return os.stat(candidate).st_mtime_ns
        except OSError:
            continue
    return 0
