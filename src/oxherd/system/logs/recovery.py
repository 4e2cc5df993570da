"""What a supervisor that was killed has left in its spool; loaded only when there is something.

It is looked at before the new supervisor writes anything, for the logs themselves tell which lines are in them. What comes
of it is written down before the step that was in flight is closed: a recovery that is killed is done again.
"""

from __future__ import annotations

import os

from oxherd.records import dataclass
from oxherd.system.logs.held import RECORD, STRIDE, pwrite_all
from oxherd.system.logs.landed import Place, landed
from oxherd.system.logs.spool import AREA, AREA_NAME, DONE, HEADER, MAGIC_AT, NONCE

__all__ = ["Left", "read_left", "recover"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What was read from a pipe and is in no log.

    Attributes:
        pipe: Inode of the pipe.
        sequence: Number of the step it is the outcome of.
        data: The bytes: the beginning of a line, after a step in flight with whole lines before it.
        missing: How many bytes of the line followed that were not kept.
        slot: The instance.
        log: Path of the log they belong to.
    """

    pipe: int
    sequence: int
    data: bytes
    missing: int
    slot: int
    log: bytes

    @property
    def text(self) -> bytes:
        """The bytes, with a remark where some are missing."""
        return self.data + b"[oxherd: %d bytes of this line are lost]" % self.missing if self.missing else self.data

    @property
    def lines(self) -> int:
        """Number of lines, the unfinished one included."""
        return self.data.count(b"\n") + (not self.data.endswith(b"\n"))


def read_left(path: str, pipe: int) -> Left | None:
    """Return what the file of a pipe holds, or None if it has no whole record.

    Raises:
        OSError: It cannot be read.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        found = [left for place in (0, STRIDE) if (left := _read_record(fd, pipe, place)) is not None]
    finally:
        os.close(fd)
    return max(found, key=lambda left: left.sequence, default=None)


def _read_record(fd: int, pipe: int, place: int) -> Left | None:
    head = os.pread(fd, RECORD.size, place)
    if len(head) != RECORD.size:
        return None
    sequence, total, length, slot, path_length = RECORD.unpack(head)
    body = os.pread(fd, path_length + length, place + RECORD.size)
    if not sequence or len(body) != path_length + length:
        return None
    log, data = body[:path_length], body[path_length:]
    return Left(pipe=pipe, sequence=sequence, data=data, missing=total - length, slot=slot, log=log)


def recover(directory: str, magic: bytes) -> tuple[dict[int, Left], int]:
    """Close the step that was in flight.

    Args:
        directory: The spool.
        magic: What marks a spool of this format and of this start of the machine.

    Returns:
        What is left of each pipe, by its inode, and the highest number of a step.

    Raises:
        OSError: The spool cannot be read or written. Nothing was changed that another try would need.
    """
    area = _read_area(directory)
    names = os.listdir(directory)
    if area[MAGIC_AT:][: len(magic)] != magic:
        # The machine was started anew: there are no such pipes any more, and their inodes are those of others.
        for name in names:
            os.unlink(os.path.join(directory, name))
        return {}, 0
    found: dict[int, Left] = {}
    for name in names:
        path = os.path.join(directory, name)
        left = read_left(path, int(name)) if name.isdigit() else None
        if left is not None:
            found[left.pipe] = left
        elif name != AREA_NAME:
            # Its maker was killed before there was anything in it.
            os.unlink(path)
    if area[AREA]:
        left = _finish_step(area, found)
        if left is not None:
            _store(os.path.join(directory, str(left.pipe)), left)
            found[left.pipe] = left
        _close_step(directory)
    last = max((left.sequence for left in found.values()), default=0)
    for left in [left for left in found.values() if not left.data]:
        # Not before the step is closed: that nothing is held is part of what it needs to know.
        os.unlink(os.path.join(directory, str(left.pipe)))
        del found[left.pipe]
    return found, last


def _read_area(directory: str) -> bytes:
    try:
        with open(os.path.join(directory, AREA_NAME), "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


def _close_step(directory: str) -> None:
    fd = os.open(os.path.join(directory, AREA_NAME), os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.pwrite(fd, DONE, AREA)
    finally:
        os.close(fd)


def _finish_step(area: bytes, found: dict[int, Left]) -> Left | None:
    """Return what the step in flight has not brought into a log; None if it had come to its end."""
    header = HEADER.unpack_from(area, AREA)
    _, form, last, slot, size, pipe, sequence, done, device, inode, length, path_length = header
    log = area[AREA + HEADER.size :][:path_length]
    before = found.get(pipe)
    if before is not None and before.sequence >= sequence:
        return None
    data = area[AREA - size : AREA]
    if size and data.endswith(NONCE[-size:]):
        data = b""
    # The end of a line whose middle was not kept.
    cut = data.partition(b"\n")[0] or None if before is not None and before.missing else None
    if before is not None:
        data = before.text + data
    if last and data and not data.endswith(b"\n"):
        data += b"\n"
    lines = data.split(b"\n")
    lines.pop()
    done = min(done, len(lines))
    if done < len(lines):
        place = Place(log, device, inode, length, form)
        done += landed(lines[done:], place, cut=None if done else cut)
    rest = data.split(b"\n", done)[done]
    return Left(pipe=pipe, sequence=sequence, data=rest, missing=0, slot=slot, log=log)


def _store(path: str, left: Left) -> None:
    """Replace the file of a pipe by one with this record in it, at once."""
    partial = path + ".new"
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        head = RECORD.pack(left.sequence, len(left.data), len(left.data), left.slot, len(left.log))
        pwrite_all(fd, head + left.log + left.data, 0)
    finally:
        os.close(fd)
    os.rename(partial, path)
