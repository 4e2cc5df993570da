"""One log on a disk that may be full: the file, its rotation, its index, and the ring for when it cannot be written."""

from __future__ import annotations

import errno
import os
import time

from oxherd.system.logs.compressor import Compressor
from oxherd.system.logs.file import Change, LogFile, describe
from oxherd.system.logs.index import STREAMS, IndexWriter
from oxherd.system.logs.landed import Place
from oxherd.system.logs.ring import Batch, SpillRing
from oxherd.system.logs.rotate import Rotation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oxherd.config.model import LogSpec
    from oxherd.system.logs.spool import Spool
    from oxherd.system.logs.stamp import Stamper
    from oxherd.system.logs.surroundings import Surroundings
    from oxherd.system.loop import Loop, Timer

__all__ = ["LogWriter"]

_FIRST_RETRY = 0.25
_LONGEST_RETRY = 10.0
_ROTATION_RETRY = 30.0
_LOOK_INTERVAL = 1.0


class LogWriter:
    """Writes batches of whole lines to one log. Nothing here raises or blocks on a disk that refuses.

    While the file cannot be written, lines go to a bounded ring and a timer tries again; what falls out of the ring is
    counted, and the count is written before the lines that were kept.

    Args:
        loop: For the retries.
        path: The log.
        index_path: Its index.
        stream: ``output``, ``stdout`` or ``stderr``.
        spec: Size, number and compression of old files.
        stamper: Gives Oxherd's own lines the form of the others.
        start_helper: Starts a program (the compressor) without waiting for it.
        on_trouble: Called once when it begins not to work, with what is wrong.
        on_recovered: Called once when it works again.
        owner: uid and gid for what is created.
        spool: Told when the lines of a batch go on in another file.
        surroundings: Knows the directories.

    Attributes:
        path: The log, links resolved.
        encoded_path: The same in bytes.
    """

    __slots__ = (
        "_compressor",
        "_dropped",
        "_file",
        "_index",
        "_loop",
        "_max_bytes",
        "_next_look",
        "_no_descriptors",
        "_on_recovered",
        "_on_trouble",
        "_reason",
        "_retry_timer",
        "_retry_wait",
        "_rotation",
        "_rotation_blocked_until",
        "_spill",
        "_spool",
        "_stamper",
        "_was_moved",
        "encoded_path",
        "path",
    )

    def __init__(
        self,
        *,
        loop: Loop,
        path: str,
        index_path: str,
        stream: str,
        spec: LogSpec,
        stamper: Stamper,
        start_helper: Callable[[list[str]], None],
        on_trouble: Callable[[str], None],
        on_recovered: Callable[[str], None],
        owner: tuple[int, int] | None = None,
        spool: Spool | None = None,
        surroundings: Surroundings | None = None,
    ) -> None:
        """Open the log, or begin with trouble."""
        self._loop = loop
        if owner is None and os.path.isfile(path):
            # Rotating a link would rename the link. Where links are not trusted the file refuses to open one.
            path = os.path.realpath(path)
        self.path = path
        self.encoded_path = os.fsencode(path)
        self._spool = spool
        self._max_bytes = spec.max_bytes
        self._on_trouble = on_trouble
        self._on_recovered = on_recovered
        self._file = LogFile(path, owner)
        self._index = IndexWriter(index_path, STREAMS.index(stream))
        self._rotation = Rotation(path, index_path, spec.max_files, surroundings)
        self._compressor: Compressor | None = None
        if spec.compress:
            self._compressor = Compressor(
                loop=loop, path=path, index_path=index_path, rotation=self._rotation, start_helper=start_helper
            )
        self._stamper = stamper
        self._spill: SpillRing | None = None
        self._no_descriptors = False
        self._dropped = 0
        self._reason = ""
        self._retry_timer: Timer | None = None
        self._retry_wait = _FIRST_RETRY
        self._rotation_blocked_until = 0.0
        self._next_look = 0.0
        self._was_moved = False
        try:
            self._open()
        except OSError as error:
            self._begin_trouble(error)

    # -- writing ------------------------------------------------------------------------------------------------

    def write(self, batch: Batch) -> None:
        """Write whole lines now, or keep them for later."""
        if self._spill is not None:
            self._spill.add(batch)
            return
        rest, error = self._store(batch)
        if error is not None:
            self._begin_trouble(error).push_back(batch, rest)

    def _store(self, batch: Batch) -> tuple[bytes, OSError | None]:
        """Write a batch, rotating where it is due; returns what could not be written, and why."""
        data = batch.data
        try:
            inode = self._file.inode
            self._follow_the_file()
            if inode != self._file.inode:
                self._tell_spool(batch, data)
            while data:
                cut = self._cut(data)
                if not cut:
                    self._rotate(batch, data)
                    continue
                offset = self._file.size
                written, error = self._file.append(data if cut == len(data) else data[:cut])
                if written and self._file.regular:
                    self._index.add(time=batch.time, offset=offset, length=written, slot=batch.slot, own=batch.own)
                data = data[written:]
                if error is not None:
                    return data, error
        except OSError as error:
            return data, error
        return b"", None

    def _follow_the_file(self) -> None:
        match self._file.check():
            case Change.REMOVED:
                self._open()
            case Change.TRUNCATED:
                self._index.reset()
            case Change.NONE:
                self._look_for_move()

    def _look_for_move(self) -> None:
        """Go on at the path once the file has been away from there for a second, should nobody tell us (SIGHUP)."""
        now = self._loop.now()
        if now < self._next_look:
            return
        self._next_look = now + _LOOK_INTERVAL
        moved = self._file.regular and self._file.moved()
        # Not at the first sight: logrotate makes the new file itself, right after the move, and wants none to be there.
        if moved and self._was_moved:
            self._open()
            moved = False
        self._was_moved = moved

    def _cut(self, data: bytes) -> int:
        """Return how much of ``data`` goes into the current file; 0 means that it has to be rotated first."""
        room = self._max_bytes - self._file.size
        if not self._rotates or len(data) <= room:
            return len(data)
        cut = data.rfind(b"\n", 0, max(room, 0)) + 1
        if cut or self._file.size:
            return cut
        # A line that is longer than a whole file gets a file of its own.
        return data.find(b"\n") + 1

    @property
    def _rotates(self) -> bool:
        return bool(self._max_bytes) and self._file.regular and self._loop.now() >= self._rotation_blocked_until

    def place(self) -> Place:
        """Return where the next line is going to be written; an inode of 0 says that nobody can tell."""
        file, known = self._file, self._spill is None and self._file.regular
        inode, size = (file.inode, file.end()) if known else (0, 0)
        return Place(self.encoded_path, file.device, inode, size, self._stamper.form)

    def _tell_spool(self, batch: Batch, rest: bytes) -> None:
        """Say that the rest of the batch goes to another file: should we be killed, its lines are looked for there."""
        if self._spool is not None and not batch.own:
            self._spool.advance(self.place(), batch.data.count(b"\n", 0, len(batch.data) - len(rest)))

    def _rotate(self, batch: Batch, rest: bytes) -> None:
        if self._file.moved():
            # logrotate was quicker and has not told us yet. What is at the path now is none of our business to rename.
            self._open()
            self._tell_spool(batch, rest)
            return
        try:
            self._index.open(self._rotation.turn(self._file), 0)
        except OSError as error:
            # Better a file that is too long than a lost line; said once, tried again later.
            if not self._rotation_blocked_until:
                self._on_trouble(f"{self.path}: cannot rotate: {error.strerror or error}; it grows beyond its limit")
            self._rotation_blocked_until = self._loop.now() + _ROTATION_RETRY
            return
        if self._rotation_blocked_until:
            self._rotation_blocked_until = 0.0
            self._on_recovered(f"{self.path}: rotates again")
        self._tell_spool(batch, rest)
        # Not before the spool knows: until then a recovery would look into the file that may be removed now.
        self._rotation.prune()
        if self._compressor is not None:
            self._compressor.wake()

    def _open(self) -> None:
        self._file.open()
        if not self._file.regular:
            self._index.close()
            return
        self._index.open(self._rotation.adopt(self._file), self._file.size)
        self._rotation.prune()
        if self._compressor is not None:
            self._compressor.sweep()
            self._compressor.wake()

    # -- trouble ------------------------------------------------------------------------------------------------

    def _begin_trouble(self, error: OSError) -> SpillRing:
        self._file.close()
        self._reason = describe(error)
        self._no_descriptors = error.errno in {errno.EMFILE, errno.ENFILE}
        if self._spill is None:
            self._spill = SpillRing()
            self._retry_wait = _FIRST_RETRY
            self._on_trouble(f"{self.path}: {self._reason}; the last lines are kept in memory until it can be written")
        self._schedule_retry()
        return self._spill

    def _schedule_retry(self) -> None:
        if self._retry_timer is None:
            self._retry_timer = self._loop.call_later(self._retry_wait, self._on_retry)
            self._retry_wait = min(_LONGEST_RETRY, self._retry_wait * 2)

    def _on_retry(self) -> None:
        self._retry_timer = None
        self._recover()

    def _recover(self) -> None:
        """Try to write what the ring holds; on success the trouble is over."""
        spill = self._spill
        if spill is None:
            return
        dropped = spill.dropped
        try:
            self._open()
        except OSError as error:
            self._begin_trouble(error)
            return
        if dropped and not self._report_dropped(spill):
            return
        while len(spill):
            batch = spill.pop()
            rest, failure = self._store(batch)
            if failure is not None:
                spill.push_back(batch, rest)
                self._begin_trouble(failure)
                return
        self._spill = None
        lost = f"; lines dropped meanwhile: {self._dropped}" if self._dropped else ""
        self._dropped = 0
        self._on_recovered(f"{self.path}: can be written again{lost}")

    def _report_dropped(self, spill: SpillRing) -> bool:
        lines = "line" if spill.dropped == 1 else "lines"
        notice = f"oxherd: {spill.dropped} {lines} dropped ({self._reason})\n".encode("utf-8", "backslashreplace")
        now = time.time_ns()
        batch = Batch(time=now, slot=0, data=self._stamper.apply(notice, now, 0), own=True)
        _, failure = self._store(batch)
        if failure is not None:
            self._begin_trouble(failure)
            return False
        self._dropped += spill.dropped
        spill.dropped = 0
        return True

    # -- the rest -----------------------------------------------------------------------------------------------

    def reopen(self) -> None:
        """Open the path anew: logrotate has moved the file."""
        if self._spill is not None:
            self._recover()
            return
        try:
            self._open()
        except OSError as error:
            self._begin_trouble(error)

    @property
    def busy(self) -> bool:
        """Whether it has something to do yet: lines it could not write, or files to compress."""
        # Where descriptors are short, a log that would open again to write its last lines is in the way of others.
        waits = self._spill is not None and not self._no_descriptors
        return waits or (self._compressor is not None and self._compressor.busy)

    def close(self) -> None:
        """Write what can be written and give everything back."""
        self._recover()
        if self._spill is not None:
            lost = self._spill.lines
            if lost:
                self._on_trouble(f"{self.path}: {self._reason}; {lost} lines are lost")
            self._spill = None
        if self._retry_timer is not None:
            self._retry_timer.cancel()
            self._retry_timer = None
        if self._compressor is not None:
            self._compressor.close()
        self._index.close()
        self._file.close()
