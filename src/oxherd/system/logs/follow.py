"""One log as a stream: what it holds now, and then whatever is added, through every rotation."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from oxherd.system.logs.names import exists
from oxherd.system.logs.segment import Block, Segment, open_current, open_rotated, rotated_serials, serial_of

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LogStream"]

# The supervisor writes the lines, then their record. Text that is still without one after this long will get none.
_RECORD_GRACE = 0.5
# For a file without index that is at the place of the one that was followed.
_INDEX_GRACE = 1.0
_SETTLE = 0.002
_SETTLE_TRIES = 25


class LogStream:
    """Reads one log from the oldest of its files to the end of the newest, and goes on from there.

    Args:
        path: The log.
        index_path: Its index.
    """

    def __init__(self, path: str, index_path: str) -> None:
        """Open the current file and take down where it ends now: there history ends and following begins."""
        self._path = os.path.realpath(path) if os.path.isfile(path) else path
        self._index_path = index_path
        self._current = self._open_settled()
        self._serial = self._current.serial if self._current is not None else None
        self._offset = 0
        self._bare_since: float | None = None
        self._waiting_since: float | None = None
        self.end = 0
        if self._current is not None:
            self._offset = self.end = self._end_of(self._current)

    def _open_settled(self) -> Segment | None:
        """Open the current file together with its index, waiting a moment if it is being rotated."""
        segment = open_current(self._path, self._index_path)
        for _ in range(_SETTLE_TRIES):
            if segment is None or segment.indexed or not os.path.exists(self._index_path):
                break
            segment.close()
            time.sleep(_SETTLE)
            segment = open_current(self._path, self._index_path)
        return segment

    def _end_of(self, segment: Segment) -> int:
        size = segment.size()
        if time.time() - segment.mtime > 1:
            # Nobody is writing: if the last line has no end it will get none.
            return size
        end = segment.last_line_end(size)
        for _ in range(_SETTLE_TRIES if segment.indexed else 0):
            if segment.covered() >= end:
                break
            time.sleep(_SETTLE)
        return end

    # -- history ------------------------------------------------------------------------------------------------

    @property
    def current(self) -> Segment | None:
        """The file that was current when this was made; its history ends at `end`."""
        return self._current

    def past(self) -> list[int]:
        """Return the numbers of the files that were retired before `current` was begun, oldest first."""
        serials = rotated_serials(self._path, self._index_path)
        if self._serial is None:
            return serials
        # The current file itself may have been retired meanwhile, and others after it.
        return [serial for serial in serials if serial < self._serial or not self._is_ours(serial)]

    def open_past(self, serial: int) -> Segment | None:
        """Open one of `past`; None if rotation has removed it, or if it turns out to be the current one."""
        segment = open_rotated(self._path, self._index_path, serial)
        if segment is not None and self._current is not None and segment.identity == self._current.identity:
            segment.close()
            return None
        return segment

    def _is_ours(self, serial: int) -> bool:
        return exists(self._index_path, serial)

    # -- following ----------------------------------------------------------------------------------------------

    def poll(self) -> Iterator[Block]:
        """Yield what has been added since the last call."""
        while True:
            if self._current is None:
                newest = self._open_settled()
                if newest is None:
                    return
                self._begin(newest)
            elif not self._current.indexed:
                self._current.attach_index(self._index_path)
                self._serial = self._current.serial
            moved = self._moved()
            # Once another file is at the path nothing is added to this one: what is read now is all of it.
            yield from self._added(final=moved)
            if not moved or not self._advance():
                return

    def _moved(self) -> bool:
        if self._current is None or self._current.compressed:
            return True
        try:
            status = os.stat(self._path)
        except OSError:
            # Being rotated, or removed: wait until something is there again.
            return False
        return (status.st_dev, status.st_ino) != self._current.identity

    def _added(self, *, final: bool) -> Iterator[Block]:
        segment = self._current
        if segment is None:
            return
        if segment.compressed:
            for block in segment.blocks(self._offset, None):
                self._offset += len(block.data)
                yield block
            return
        size = segment.size()
        if size == self._offset:
            return
        if size < self._offset:
            # Truncated in place (copytruncate): it begins again.
            self._offset = 0
        if not final:
            size = self._presentable(segment, segment.last_line_end(size))
        if size > self._offset:
            begin, self._offset = self._offset, size
            yield from segment.blocks(begin, size)

    def _presentable(self, segment: Segment, size: int) -> int:
        """Leave text whose record is still to come for the next poll, but not for ever."""
        covered = segment.covered() if segment.indexed else size
        if covered >= size:
            self._bare_since = None
            return size
        now = time.monotonic()
        if self._bare_since is None:
            self._bare_since = now
        if now - self._bare_since < _RECORD_GRACE:
            return max(covered, self._offset)
        self._bare_since = None
        return size

    def _advance(self) -> bool:
        """Go on to the file that was begun after the one that has been read to its end."""
        old = self._current
        newest = self._open_settled()
        if newest is not None and not newest.indexed and not self._waited_long():
            # In the middle of a rotation: once its index is there, those of all files before it are as well.
            newest.close()
            return False
        follower = self._next_rotated(old, newest)
        if follower is None:
            follower = newest
        elif newest is not None:
            newest.close()
        if follower is None:
            return False
        if old is not None:
            old.close()
        self._begin(follower)
        return True

    def _begin(self, segment: Segment) -> None:
        self._current = segment
        self._serial = segment.serial
        self._offset = 0
        self._bare_since = self._waiting_since = None

    def _waited_long(self) -> bool:
        now = time.monotonic()
        if self._waiting_since is None:
            self._waiting_since = now
        return now - self._waiting_since > _INDEX_GRACE

    def _next_rotated(self, old: Segment | None, newest: Segment | None) -> Segment | None:
        """Open the oldest of the files that were begun and retired since ``old`` was."""
        if self._serial is None and old is not None:
            self._serial = serial_of(self._index_path, old.identity)
        if self._serial is None:
            return None
        taken = [other.identity for other in (old, newest) if other is not None]
        for serial in sorted(rotated_serials(self._path, self._index_path)):
            beyond = newest is not None and newest.serial is not None and serial >= newest.serial
            if serial <= self._serial or beyond or not self._is_ours(serial):
                continue
            segment = open_rotated(self._path, self._index_path, serial)
            if segment is not None and segment.identity not in taken:
                return segment
            if segment is not None:
                segment.close()
        return None

    def close(self) -> None:
        """Close the current file; idempotent."""
        if self._current is not None:
            self._current.close()
            self._current = None
