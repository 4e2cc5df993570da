"""A disk that refuses: nothing blocks, nothing is lost silently, and it is said once."""

from __future__ import annotations

import errno
import itertools
import json
import os
from pathlib import Path

import pytest

from oxherd.config.model import LogFormat
from oxherd.system.logs import file as file_module
from oxherd.system.logs.index import IndexReader


class Disk:
    """Stands in for write(2) on the log: takes so many bytes, then fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room: int | None = None
        self.error = errno.ENOSPC
        self.most = 1 << 30
        monkeypatch.setattr(file_module, "write", self.write)

    def write(self, fd: int, data: bytes) -> int:
        take = min(len(data), self.most)
        if self.room is not None:
            if self.room == 0:
                raise OSError(self.error, os.strerror(self.error))
            take = min(take, self.room)
            self.room -= take
        return os.write(fd, data[:take])


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def put(pipe, data: bytes) -> None:
    for start in range(0, len(data), 60_000):
        os.write(pipe.child_fd, data[start : start + 60_000])
        pipe.drain()


def test_short_writes_are_continued(bench, disk: Disk) -> None:
    disk.most = 3
    pipe = bench.sink().open_pipe(0)
    put(pipe, b"a line longer than three bytes\nand another\n")
    assert bench.path.read_bytes() == b"a line longer than three bytes\nand another\n"


@pytest.mark.parametrize("room", range(13))
def test_wherever_a_write_stops_the_file_ends_at_a_line_and_nothing_is_lost_or_doubled(
    bench, disk: Disk, room: int
) -> None:
    pipe = bench.sink().open_pipe(0)
    disk.room = room
    put(pipe, b"one\ntwo\nthree\n")
    assert bench.path.read_bytes() in {b"", b"one\n", b"one\ntwo\n"}
    put(pipe, b"four\n")
    disk.room = None
    bench.loop.advance(1)
    assert bench.path.read_bytes() == b"one\ntwo\nthree\nfour\n"
    reader = IndexReader(str(bench.index))
    ends = [(record.offset, record.offset + record.length) for record in reader.records(0, 99)]
    reader.close()
    assert ends[0][0] == 0
    assert ends[-1][1] == 19
    assert all(end == start for (_, end), (start, _) in itertools.pairwise(ends))


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, "disk full: No space left on device"),
        (errno.EDQUOT, "disk full: Disk quota exceeded"),
        (errno.EIO, "cannot write: Input/output error"),
        (errno.EROFS, "cannot write: Read-only file system"),
    ],
)
def test_trouble_and_recovery_are_said_once_each(bench, disk: Disk, number: int, reason: str) -> None:
    pipe = bench.sink().open_pipe(0)
    disk.room, disk.error = 0, number
    for _ in range(5):
        put(pipe, b"x\n")
        bench.loop.advance(20)
    assert bench.troubles == [f"{bench.path}: {reason}; the last lines are kept in memory until it can be written"]
    assert bench.recoveries == []
    disk.room = None
    bench.loop.advance(20)
    assert bench.path.read_bytes() == b"x\n" * 5
    assert bench.recoveries == [f"{bench.path}: can be written again"]
    put(pipe, b"y\n")
    assert bench.path.read_bytes().endswith(b"x\ny\n")
    disk.room = 0
    put(pipe, b"z\n")
    assert len(bench.troubles) == 2


def test_what_the_ring_cannot_hold_is_counted_and_the_count_written_first(bench, disk: Disk) -> None:
    pipe = bench.sink().open_pipe(0)
    put(pipe, b"before\n")
    disk.room = 0
    total = 200_000
    lines = [b"%011d\n" % number for number in range(total)]
    put(pipe, b"".join(lines))
    disk.room = None
    bench.loop.advance(1)
    got = bench.path.read_bytes().splitlines(keepends=True)
    assert got[0] == b"before\n"
    dropped = int(got[1].split()[1])
    assert got[1] == b"oxherd: %d lines dropped (disk full: No space left on device)\n" % dropped
    assert got[2:] == lines[dropped:]
    assert bench.recoveries == [f"{bench.path}: can be written again; lines dropped meanwhile: {dropped}"]
    assert 1_000_000 < sum(map(len, got[2:])) <= 1 << 20


def test_a_disk_that_fills_up_again_while_the_ring_is_written_loses_and_doubles_nothing(bench, disk: Disk) -> None:
    pipe = bench.sink().open_pipe(0)
    disk.room = 0
    for number in range(100):
        put(pipe, b"%05d\n" % number)
    for _ in range(30):
        disk.room = 25
        bench.loop.advance(20)
    disk.room = None
    bench.loop.advance(20)
    assert bench.path.read_bytes() == b"".join(b"%05d\n" % number for number in range(100))
    assert len(bench.troubles) == len(bench.recoveries) == 1


def test_retries_come_later_and_later_but_never_later_than_ten_seconds(bench, disk: Disk) -> None:
    pipe = bench.sink().open_pipe(0)
    disk.room = 0
    put(pipe, b"x\n")
    for _ in range(20):
        assert bench.loop.timers == 1
        bench.loop.advance(10)
    disk.room = None
    bench.loop.advance(10)
    assert bench.path.read_bytes() == b"x\n"
    assert bench.loop.timers == 0


def test_a_line_larger_than_the_ring_is_dropped_and_counted(bench, disk: Disk) -> None:
    pipe = bench.sink().open_pipe(0)
    disk.room = 0
    put(pipe, b"x" * 5_000_000 + b"\nsmall\n")
    disk.room = None
    bench.loop.advance(1)
    assert bench.path.read_bytes() == b"oxherd: 1 line dropped (disk full: No space left on device)\nsmall\n"


def test_the_count_has_the_form_of_the_other_lines(bench, disk: Disk) -> None:
    pipe = bench.sink(format=LogFormat.JSON).open_pipe(0)
    disk.room = 0
    put(pipe, b"x" * 2_000_000 + b"\n")
    disk.room = None
    bench.loop.advance(1)
    (line,) = bench.path.read_bytes().splitlines()
    assert json.loads(line)["line"] == "oxherd: 1 line dropped (disk full: No space left on device)"


def test_a_log_that_cannot_be_opened_at_first_is_trouble_and_not_an_error(bench) -> None:
    blocker = bench.directory / "not-a-directory"
    blocker.touch()
    pipe = bench.sink(path=blocker / "web.log").open_pipe(0)
    put(pipe, b"early\n")
    assert "cannot write: Not a directory" in bench.troubles[0]
    blocker.unlink()
    bench.loop.advance(1)
    assert (blocker / "web.log").read_bytes() == b"early\n"
    assert len(bench.recoveries) == 1


def test_closing_while_the_disk_is_full_says_how_much_is_lost(bench, disk: Disk) -> None:
    sink = bench.sink()
    pipe = sink.open_pipe(0)
    disk.room = 0
    put(pipe, b"1\n2\n3")
    sink.close()
    assert bench.troubles[-1] == f"{bench.path}: disk full: No space left on device; 3 lines are lost"


def test_reopen_is_a_retry_at_once(bench, disk: Disk) -> None:
    sink = bench.sink()
    pipe = sink.open_pipe(0)
    disk.room = 0
    put(pipe, b"x\n")
    disk.room = None
    sink.reopen()
    assert bench.path.read_bytes() == b"x\n"
    assert len(bench.recoveries) == 1


def test_an_index_on_a_full_disk_costs_only_itself(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from oxherd.system.logs import index as index_module

    sink = bench.sink()
    pipe = sink.open_pipe(0)
    put(pipe, b"1\n")
    real = os.write

    def half(fd: int, data: bytes) -> int:
        return real(fd, data[:7]) if len(data) == 24 else real(fd, data)

    monkeypatch.setattr(index_module.os, "write", half)
    put(pipe, b"2\n")
    monkeypatch.undo()
    put(pipe, b"3\n")
    assert bench.path.read_bytes() == b"1\n2\n3\n"
    reader = IndexReader(str(bench.index))
    assert [record.offset for record in reader.records(0, 9)] == [0, 4]
    reader.close()
    assert bench.troubles == []


@pytest.mark.needs_root
def test_a_disk_that_is_really_full(bench, small_disk: Path) -> None:
    path = small_disk / "web.log"
    sink = bench.sink(path=path, max_bytes=0)
    pipe = sink.open_pipe(0)
    lines = [b"%099d\n" % number for number in range(40_000)]
    put(pipe, b"".join(lines[:20_000]))
    assert bench.troubles == [
        f"{path}: disk full: No space left on device; the last lines are kept in memory until it can be written"
    ]
    on_disk = path.read_bytes()
    assert on_disk == b"".join(lines[: len(on_disk) // 100])
    assert on_disk.endswith(b"\n")
    put(pipe, b"".join(lines[20_000:]))
    # Somebody makes room by taking the log away.
    path.unlink()
    os.system(f"mount -o remount,size=8m {small_disk}")
    bench.loop.advance(20)
    got = path.read_bytes().splitlines(keepends=True)
    dropped = int(got[0].split()[1])
    assert len(on_disk) // 100 + dropped + len(got) - 1 == 40_000
    assert got[1:] == lines[len(on_disk) // 100 + dropped :]
    assert len(bench.recoveries) == 1
    pipe.finish()
    sink.close()
