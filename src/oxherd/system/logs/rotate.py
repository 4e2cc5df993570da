"""Rotation: which number the current file has, what it is renamed to, and which old files are kept."""

from __future__ import annotations

import os

from oxherd.system.logs.index import IndexHeader, IndexReader, announce, interrupted
from oxherd.system.logs.names import COMPRESSED, exists, rotated
from oxherd.system.logs.surroundings import Surroundings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oxherd.system.logs.file import LogFile

__all__ = ["Rotation"]


class Rotation:
    """The old files of one log, known by their numbers.

    Only files whose index says that Oxherd rotated them are ever removed: ``web.log.1`` may just as well be logrotate's.

    Args:
        path: The log.
        index_path: Its index.
        keep: How many old files are kept.
        surroundings: Knows the directories; without it they are looked at each time.
    """

    __slots__ = ("_index_path", "_keep", "_path", "_surroundings", "kept", "numbered", "serial")

    def __init__(self, path: str, index_path: str, keep: int, surroundings: Surroundings | None = None) -> None:
        """Remember the paths; `adopt` looks at the disk."""
        self._surroundings = Surroundings() if surroundings is None else surroundings
        self._path = path
        self._index_path = index_path
        self._keep = keep
        self.kept: list[int] = []
        self.serial = 1
        self.numbered = False  # whether there were old files, anybody's, when the log was opened

    def adopt(self, file: LogFile) -> IndexHeader:
        """Find out the number of the file that has just been opened; returns what its index has to say of it."""
        self._finish_turn()
        indexed = self._surroundings.serials(self._index_path)
        logs = self._surroundings.serials(self._path)
        self.numbered = bool(indexed or logs)
        self.kept = sorted(indexed & logs)
        for serial in indexed - logs:
            self._remove(rotated(self._index_path, serial))
        known = self._serial_of(file)
        self.serial = max((*logs, *indexed, self.serial - 1, 0)) + 1 if known is None else known
        return self._header(file)

    def _finish_turn(self) -> None:
        """Rename the index too, should a supervisor have been killed when it had renamed the log."""
        serial = interrupted(self._path, self._index_path)
        if serial is not None:
            self._surroundings.changed(self._index_path)
            try:
                os.rename(self._index_path, rotated(self._index_path, serial))
            except OSError:
                # Not ours to rename; the old file goes without an index and is left alone, like somebody else's.
                return

    def _serial_of(self, file: LogFile) -> int | None:
        try:
            reader = IndexReader(self._index_path)
        except (OSError, ValueError):
            return None
        header = reader.header
        reader.close()
        return header.serial if (header.device, header.inode) == (file.device, file.inode) else None

    def _header(self, file: LogFile) -> IndexHeader:
        return IndexHeader(serial=self.serial, device=file.device, inode=file.inode)

    def turn(self, file: LogFile) -> IndexHeader:
        """Retire the current file under its number and begin the next; returns what the new index has to say.

        What is one too many now is removed by `prune`.

        Raises:
            OSError: The file cannot be renamed or the next not be created; the current one goes on being written.
        """
        while exists(self._path, self.serial):
            self.serial += 1
        announce(self._index_path, self.serial)
        self._surroundings.changed(self._path)
        self._surroundings.changed(self._index_path)
        file.rename(rotated(self._path, self.serial))
        try:
            os.rename(self._index_path, rotated(self._index_path, self.serial))
        except OSError:
            # Without its index the old file is shown without times and tags. It is still one to count and to remove.
            self._remove(self._index_path)
        self.kept.append(self.serial)
        self.serial += 1
        return self._header(file)

    def prune(self) -> None:
        """Remove the oldest files beyond the number that is kept."""
        while len(self.kept) > self._keep:
            serial = self.kept.pop(0)
            self._remove(rotated(self._path, serial))
            self._remove(rotated(self._index_path, serial))

    def _remove(self, path: str) -> None:
        self._surroundings.changed(path)
        for name in (path, path + COMPRESSED):
            if os.path.lexists(name):
                try:
                    os.unlink(name)
                except OSError:
                    # Gone just now, or not ours to remove: either way there is nothing more to do about it here.
                    continue
