"""Which lines of a batch had reached its log when the supervisor was killed."""

from __future__ import annotations

import os

from oxherd.records import dataclass
from oxherd.system.logs.stamp import bears

__all__ = ["Place", "landed"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the next line is going to be written.

    Attributes:
        path: Path of the log.
        device: Device of the file that is there.
        inode: Its inode; 0 where there is no regular file, in which nothing can be looked up.
        size: Its length.
        form: How lines are dressed there: an `oxherd.system.logs.stamp.Form` as a number.
    """

    path: bytes
    device: int
    inode: int
    size: int
    form: int


def landed(lines: list[bytes], place: Place, *, cut: bytes | None = None) -> int:
    """Return how many of the lines, from the first on, are in the log from ``place`` on; end a torn line there.

    The lines are looked for one after the other, so that what others have written in between does not count. A write(2)
    that was killed in its middle has left the beginning of a line at the end of the file: that is taken back, for the
    line is going to be written again as a whole.

    Args:
        lines: Captured lines without their newlines.
        place: Where the first of them was going to be written.
        cut: The end of the first line, where its middle is not known.
    """
    path = _find(place)
    if path is None or not lines:
        return 0
    count = 0
    position = place.size
    with open(path, "rb") as file:
        file.seek(position)
        for written in file:
            if not written.endswith(b"\n"):
                if count < len(lines) and (place.form or lines[count].startswith(written)):
                    os.truncate(path, position)
                break
            position += len(written)
            if count < len(lines):
                part = cut if count == 0 else None
                line = lines[count] if part is None else part
                count += bears(written[:-1], line, place.form, whole=part is None)
    return count


def _find(place: Place) -> str | None:
    """Return the path at which the file is now: it may have been rotated in the very moment."""
    if not place.inode:
        return None
    path = os.fsdecode(place.path)
    if _is(path, place):
        return path
    try:
        with os.scandir(os.path.dirname(path) or ".") as entries:
            found = [entry.path for entry in entries if entry.inode() == place.inode]
    except OSError:
        return None
    return next((name for name in found if _is(name, place)), None)


def _is(path: str, place: Place) -> bool:
    try:
        status = os.lstat(path)
    except OSError:
        return False
    # A file that is too short is another one with the inode of the old, or was truncated: nothing of ours is in it.
    return (status.st_dev, status.st_ino) == (place.device, place.inode) and status.st_size >= place.size
