"""The index of a log file: when each stretch of it was written, and by which instance.

The log holds the bytes of the children and nothing else, so what they do not say stands beside it: a header that names
the file by device and inode, then one record of fixed size for every batch of lines. The index rotates with its log. It
is a help and no more: where records are missing (a crash, a full disk, somebody else's writing) the reader shows the
text without them.
"""

from __future__ import annotations

import os
from struct import Struct, error

from oxherd.records import dataclass, field
from oxherd.system.logs.names import COMPRESSED, exists, rotated

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["STREAMS", "IndexHeader", "IndexReader", "IndexRecord", "IndexWriter", "announce", "interrupted"]

STREAMS = ("output", "stdout", "stderr")

_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
_MAGIC = b"OXHDIDX1"
_HEADER = Struct("<8sIIQQ")  # magic, serial, number it is being retired under or 0, device, inode
_RETIRING = Struct("<I")
_RETIRING_AT = 12
_RECORD = Struct("<QQIHBB")  # wall-clock nanoseconds, offset, length, slot, stream, own


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexHeader:
    """Which file an index speaks of.

    Attributes:
        serial: The number it will have once it is rotated, if that is free then.
        device: Where the file is.
        inode: Which one it is there.
        retiring: The number under which it is being rotated just now, else 0.
    """

    serial: int
    device: int
    inode: int
    retiring: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexRecord:
    """One batch: ``length`` bytes of whole lines at ``offset``, written by ``slot`` at ``time`` (wall-clock nanoseconds)."""

    time: int
    offset: int
    length: int
    slot: int
    stream: int
    own: bool


class IndexWriter:
    """Appends to the index of the file that is being written. Never raises: a log without an index is still a log.

    Args:
        path: The index file.
        stream: An index into `STREAMS`; the same for all records of a sink.
    """

    __slots__ = ("_fd", "_path", "_stream")

    def __init__(self, path: str, stream: int) -> None:
        """Remember the path; `open` opens."""
        self._path = path
        self._stream = stream
        self._fd = -1

    def open(self, header: IndexHeader, size: int) -> None:
        """Continue the index if it is that of this file, which has ``size`` bytes now, else begin it anew."""
        self.close()
        if not os.path.lexists(self._path):
            self._create(header)
            return
        try:
            self._fd = os.open(self._path, _FLAGS)
            # A file that is too short for its index is another one, with the inode of the old.
            if _unpack_header(os.pread(self._fd, _HEADER.size, 0)) == header and self._end() <= size:
                self._trim()
                return
            # Not truncated: somebody may be reading the old log with it, though both have lost their names.
            os.unlink(self._path)
        except OSError:
            self.close()
            return
        self._create(header)

    def _create(self, header: IndexHeader) -> None:
        self.close()
        try:
            self._fd = os.open(self._path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
            if os.write(self._fd, _HEADER.pack(_MAGIC, header.serial, 0, header.device, header.inode)) != _HEADER.size:
                # What has no whole header is no index; the next opening begins it anew.
                self.close()
        except OSError:
            self.close()

    def add(self, *, time: int, offset: int, length: int, slot: int, own: bool) -> None:
        """Append a record."""
        if self._fd < 0:
            return
        try:
            done = os.write(self._fd, _RECORD.pack(time, offset, length, slot & 0xFFFF, self._stream, own))
            if done != _RECORD.size:
                self._trim()
        except (OSError, error):
            # The batch goes without a record; half a record would put all later ones out of step.
            return

    def reset(self) -> None:
        """Forget all records: the log was truncated in place (logrotate's copytruncate)."""
        if self._fd >= 0:
            try:
                os.ftruncate(self._fd, _HEADER.size)
            except OSError:
                self.close()

    def close(self) -> None:
        """Close the file; idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _end(self) -> int:
        count = (os.fstat(self._fd).st_size - _HEADER.size) // _RECORD.size
        if count <= 0:
            return 0
        place = _HEADER.size + (count - 1) * _RECORD.size
        _, offset, length, *_ = _RECORD.unpack(os.pread(self._fd, _RECORD.size, place))
        return int(offset + length)

    def _trim(self) -> None:
        size = os.fstat(self._fd).st_size
        over = (size - _HEADER.size) % _RECORD.size
        if over:
            os.ftruncate(self._fd, size - over)


class IndexReader:
    """Reads an index: one that may be growing, or a compressed one.

    Args:
        path: The index file; ``.gz`` at its end says that it is compressed.

    Raises:
        OSError: It cannot be opened.
        ValueError: It is no index.
    """

    def __init__(self, path: str) -> None:
        """Open the file and read its header."""
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._unpacked: bytes | None = None
        try:
            if path.endswith(COMPRESSED):
                self._unpacked = _unpack_file(self._fd)
            header = _unpack_header(self._pread(_HEADER.size, 0))
            if header is None:
                raise ValueError(path)
        except BaseException:
            os.close(self._fd)
            raise
        self.header = header

    def _pread(self, length: int, offset: int) -> bytes:
        if self._unpacked is not None:
            return self._unpacked[offset : offset + length]
        return os.pread(self._fd, length, offset)

    def __len__(self) -> int:
        """Return the number of records there are now."""
        size = os.fstat(self._fd).st_size if self._unpacked is None else len(self._unpacked)
        return max(0, (size - _HEADER.size) // _RECORD.size)

    def records(self, start: int, stop: int) -> list[IndexRecord]:
        """Return the records from ``start`` up to ``stop``, fewer if there are not as many."""
        return [
            IndexRecord(time=time, offset=offset, length=length, slot=slot, stream=stream, own=bool(own))
            for time, offset, length, slot, stream, own in self.rows(start, stop)
        ]

    def rows(self, start: int, stop: int) -> list[tuple[int, int, int, int, int, int]]:
        """Return the same as plain tuples: a log of single lines has a million of them."""
        data = self._pread(max(0, stop - start) * _RECORD.size, _HEADER.size + start * _RECORD.size)
        return list(_RECORD.iter_unpack(data[: len(data) - len(data) % _RECORD.size]))

    def first_at(self, offset: int) -> int:
        """Return the number of the first record that ends after ``offset``."""
        return self._bisect(lambda record: record.offset + record.length > offset)

    def first_since(self, since: float) -> int:
        """Return the number of the first record written at ``since`` (unix time) or later."""
        return self._bisect(lambda record: record.time / 1e9 >= since)

    def close(self) -> None:
        """Close the file; idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _bisect(self, reached: Callable[[IndexRecord], bool]) -> int:
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            found = self.records(middle, middle + 1)
            if found and not reached(found[0]):
                low = middle + 1
            else:
                high = middle
        return low


def announce(index_path: str, serial: int) -> None:
    """Write down that the log is going to be retired under a number; what it cannot write it leaves."""
    try:
        fd = os.open(index_path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        # A descriptor of its own, for with O_APPEND a pwrite appends; pwrite(2).
        os.pwrite(fd, _RETIRING.pack(serial & 0xFFFFFFFF), _RETIRING_AT)
    except OSError:
        # The disk is full. Should a kill come right now as well, one old file will be without its index.
        return
    finally:
        os.close(fd)


def interrupted(path: str, index_path: str) -> int | None:
    """Return the number under which a log was retired whose index has not followed: the supervisor was killed between.

    Args:
        path: The log.
        index_path: Its index, which then is still that of the retired file. That logrotate has moved a file away does not
            make it ours: only a number that was announced counts.
    """
    try:
        reader = IndexReader(index_path)
    except (OSError, ValueError):
        return None
    header = reader.header
    reader.close()
    if not header.retiring or exists(index_path, header.retiring):
        return None
    try:
        status = os.lstat(rotated(path, header.retiring))
    except OSError:
        return None
    return header.retiring if (status.st_dev, status.st_ino) == (header.device, header.inode) else None


def _unpack_file(fd: int) -> bytes:
    import zlib  # noqa: PLC0415 - the supervisor reads no compressed index

    parts = []
    while part := os.read(fd, 1 << 20):
        parts.append(part)
    try:
        return zlib.decompress(b"".join(parts), wbits=31)
    except zlib.error as damaged:
        raise ValueError(str(damaged)) from damaged


def _unpack_header(data: bytes) -> IndexHeader | None:
    if len(data) != _HEADER.size:
        return None
    magic, serial, retiring, device, inode = _HEADER.unpack(data)
    if magic != _MAGIC:
        return None
    return IndexHeader(serial=serial, device=device, inode=inode, retiring=retiring)
