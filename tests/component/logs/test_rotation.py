"""Rotation at line ends, what is kept, and what others do to the files."""

from __future__ import annotations

import errno
import fcntl
import gzip
import os
from pathlib import Path

import pytest

from oxherd.system.logs import file as file_module
from oxherd.system.logs import rotate as rotate_module
from oxherd.system.logs.index import IndexReader
from oxherd.system.logs.reader import LogSource, read_logs


def write(bench, sink, data: bytes, slot: int = 0) -> None:
    pipe = sink.open_pipe(slot)
    for start in range(0, len(data), 60_000):
        os.write(pipe.child_fd, data[start : start + 60_000])
        pipe.drain()
    pipe.finish()


def names(bench) -> list[str]:
    return sorted(path.name for path in bench.directory.iterdir())


@pytest.mark.parametrize("length", [1, 7, 99, 100, 101])
def test_no_file_is_longer_than_the_limit_and_none_ends_within_a_line(bench, length: int) -> None:
    sink = bench.sink(max_bytes=100, max_files=10_000, compress=False)
    lines = [b"%0*d\n" % (length, number % 10) for number in range(50)]
    write(bench, sink, b"".join(lines))
    files = [path.read_bytes() for path in bench.files()]
    assert b"".join(files) == b"".join(lines)
    for content in files:
        assert content.endswith(b"\n")
        assert len(content) <= 100 or content.count(b"\n") == 1
    # As full as whole lines can make them.
    assert all(len(content) + length + 1 > 100 for content in files[:-1])


def test_a_line_longer_than_a_file_gets_one_of_its_own(bench) -> None:
    sink = bench.sink(max_bytes=10, max_files=10, compress=False)
    write(bench, sink, b"a\n" + b"x" * 50 + b"\nb\n")
    assert [path.read_bytes() for path in bench.files()] == [b"a\n", b"x" * 50 + b"\n", b"b\n"]


def test_a_limit_of_zero_never_rotates(bench) -> None:
    write(bench, bench.sink(max_bytes=0), b"x\n" * 100_000)
    assert names(bench) == ["web.idx", "web.log"]


@pytest.mark.parametrize("keep", [0, 1, 3])
def test_only_so_many_old_files_and_indexes_are_kept(bench, keep: int) -> None:
    sink = bench.sink(max_bytes=10, max_files=keep, compress=False)
    write(bench, sink, b"".join(b"%08d\n" % number for number in range(8)))
    old = [str(number) for number in range(8 - keep, 8)]
    assert names(bench) == sorted(["web.log", "web.idx", *(f"web.{kind}.{n}" for n in old for kind in ("log", "idx"))])
    assert bench.path.read_bytes() == b"00000007\n"


def test_a_later_supervisor_counts_on_and_prunes_what_the_earlier_left(bench) -> None:
    first = bench.sink(max_bytes=10, max_files=5, compress=False)
    write(bench, first, b"".join(b"%08d\n" % number for number in range(4)))
    first.close()
    second = bench.sink(max_bytes=10, max_files=2, compress=False)
    write(bench, second, b"00000004\n")
    assert names(bench) == ["web.idx", "web.idx.3", "web.idx.4", "web.log", "web.log.3", "web.log.4"]


def test_files_of_others_are_neither_overwritten_nor_removed(bench) -> None:
    for number in (1, 3):
        (bench.directory / f"web.log.{number}").write_bytes(b"logrotate's\n")
    sink = bench.sink(max_bytes=10, max_files=1, compress=False)
    (bench.directory / "web.log.5").write_bytes(b"made meanwhile\n")
    write(bench, sink, b"".join(b"%08d\n" % number for number in range(4)))
    kept = {path.name: path.read_bytes() for path in bench.directory.glob("web.log*")}
    assert kept == {
        "web.log.1": b"logrotate's\n",
        "web.log.3": b"logrotate's\n",
        "web.log.5": b"made meanwhile\n",
        "web.log.7": b"00000002\n",
        "web.log": b"00000003\n",
    }


def test_an_old_file_is_compressed_by_a_helper_and_then_removed(bench) -> None:
    bench.run_helpers = True
    sink = bench.sink(max_bytes=1000, max_files=9)
    text = b"".join(b"%08d\n" % number for number in range(300))
    write(bench, sink, text)

    def compressed() -> bool:
        bench.loop.advance(1)
        return not [path for path in bench.files() if path.suffix != ".gz" and path != bench.path]

    bench.loop.until(compressed)
    parts = [gzip.decompress(path.read_bytes()) for path in bench.files()[:-1]]
    assert b"".join([*parts, bench.path.read_bytes()]) == text
    assert all(child.wait() == 0 for child in bench.children)
    assert {path.suffix for path in bench.directory.glob("web.idx.*")} == {".gz"}
    lines = read_logs([LogSource(process="web", path=str(bench.path), index=str(bench.index))])
    assert [(line.raw, line.instance) for line in lines] == [(line, 0) for line in text.splitlines()]
    bench.loop.until(lambda: not bench.loop.timers)


def test_one_helper_at_a_time_and_another_only_when_it_is_dead(bench) -> None:
    sink = bench.sink(max_bytes=10, max_files=9)
    write(bench, sink, b"".join(b"%08d\n" % number for number in range(4)))
    first = str(bench.directory / "web.log.1")
    assert [argv[4] for argv in bench.helpers] == [first]
    with open(first, "rb") as worked_on:
        fcntl.flock(worked_on, fcntl.LOCK_EX)
        bench.loop.advance(10)
        bench.loop.advance(10)
        assert len(bench.helpers) == 1
    bench.loop.advance(100)
    assert [argv[4] for argv in bench.helpers] == [first, first]
    # It is done: the next one's turn.
    os.rename(first, first + ".gz")
    bench.loop.advance(100)
    assert [argv[4] for argv in bench.helpers] == [first, first, str(bench.directory / "web.log.2")]


def test_what_a_dead_helper_left_is_swept_when_the_log_is_opened(bench) -> None:
    (bench.directory / "web.log.1").write_bytes(b"x\n")
    (bench.directory / "web.log.1.gz.tmp").write_bytes(b"half")
    bench.sink()
    assert names(bench) == ["web.idx", "web.log", "web.log.1"]


def test_a_log_that_cannot_be_renamed_grows_and_says_so_once(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = bench.sink(max_bytes=10, max_files=9, compress=False)

    def refuse(_source: str, _target: str) -> None:
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(file_module.os, "rename", refuse)
    for number in range(4):
        write(bench, sink, b"%08d\n" % number)
    bench.loop.skew += 100
    write(bench, sink, b"00000004\n")
    assert bench.path.read_bytes() == b"".join(b"%08d\n" % number for number in range(5))
    assert len(bench.troubles) == 1
    assert "cannot rotate: Permission denied" in bench.troubles[0]
    monkeypatch.undo()
    bench.loop.skew += 100
    write(bench, sink, b"00000005\n")
    assert bench.path.read_bytes() == b"00000005\n"
    assert len(bench.recoveries) == 1


def test_no_new_file_can_be_made_so_the_old_one_goes_on(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = bench.sink(max_bytes=10, max_files=9, compress=False)
    write(bench, sink, b"00000000\n")
    real = os.open

    def refuse(path: str, flags: int, *args: int, **kwargs: int) -> int:
        if flags & os.O_CREAT and str(path).endswith(".log"):
            raise OSError(errno.ENFILE, "Too many open files in system")
        return real(path, flags, *args, **kwargs)

    monkeypatch.setattr(file_module.os, "open", refuse)
    write(bench, sink, b"00000001\n")
    monkeypatch.undo()
    assert names(bench) == ["web.idx", "web.log"]
    assert bench.path.read_bytes() == b"00000000\n00000001\n"
    assert "Too many open files in system" in bench.troubles[0]


def test_an_index_that_cannot_be_renamed_is_given_up(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = bench.sink(max_bytes=10, max_files=9, compress=False)
    real = os.rename

    def refuse(source: str, target: str) -> None:
        if source.endswith(".idx"):
            raise OSError(errno.EACCES, "Permission denied")
        real(source, target)

    monkeypatch.setattr(rotate_module.os, "rename", refuse)
    write(bench, sink, b"00000000\n00000001\n")
    assert names(bench) == ["web.idx", "web.log", "web.log.1"]
    reader = IndexReader(str(bench.index))
    assert (reader.header.serial, len(reader)) == (2, 1)
    reader.close()
    assert bench.troubles == []


def test_reopen_goes_on_at_the_path_after_logrotate_has_moved_the_file(bench) -> None:
    sink = bench.sink()
    write(bench, sink, b"before\n")
    bench.path.rename(bench.directory / "moved")
    sink.reopen()
    write(bench, sink, b"after\n")
    assert (bench.directory / "moved").read_bytes() == b"before\n"
    assert bench.path.read_bytes() == b"after\n"


def test_a_moved_file_is_noticed_without_being_told(bench) -> None:
    sink = bench.sink()
    write(bench, sink, b"1\n")
    bench.path.rename(bench.directory / "moved")
    for line in (b"2\n", b"3\n", b"4\n"):
        bench.loop.skew += 2
        write(bench, sink, line)
    assert (bench.directory / "moved").read_bytes() == b"1\n2\n"
    assert bench.path.read_bytes() == b"3\n4\n"


def test_a_file_that_was_moved_away_is_not_rotated_over_the_one_in_its_place(bench) -> None:
    sink = bench.sink(max_bytes=10, compress=False)
    write(bench, sink, b"00000000\n")
    bench.path.rename(bench.directory / "moved")
    bench.path.write_bytes(b"new\n")
    write(bench, sink, b"00001\n")
    assert bench.path.read_bytes() == b"new\n00001\n"
    assert bench.files() == [bench.path]


def test_a_removed_file_and_directory_are_made_again_for_the_next_line(bench) -> None:
    path = bench.directory / "deep" / "er" / "web.log"
    sink = bench.sink(path=path)
    write(bench, sink, b"1\n")
    path.unlink()
    path.parent.rmdir()
    path.parent.parent.rmdir()
    write(bench, sink, b"2\n")
    assert path.read_bytes() == b"2\n"
    assert bench.troubles == []


def test_truncation_in_place_begins_the_index_again(bench) -> None:
    sink = bench.sink()
    write(bench, sink, b"before\n")
    os.truncate(bench.path, 0)
    write(bench, sink, b"after\n")
    assert bench.path.read_bytes() == b"after\n"
    reader = IndexReader(str(bench.index))
    assert [record.offset for record in reader.records(0, 9)] == [0]
    reader.close()


def test_a_line_torn_by_a_crash_is_ended_before_the_next(bench) -> None:
    bench.path.write_bytes(b"whole\nto")
    write(bench, bench.sink(), b"next\n")
    assert bench.path.read_bytes() == b"whole\nto\nnext\n"


def test_a_log_may_be_a_link_to_a_file_elsewhere(bench) -> None:
    target = bench.directory / "disk2" / "real.log"
    target.parent.mkdir()
    target.touch()
    bench.path.symlink_to(target)
    write(bench, bench.sink(max_bytes=10, compress=False), b"00000000\n00000001\n")
    assert bench.path.is_symlink()
    assert target.read_bytes() == b"00000001\n"
    assert (target.parent / "real.log.1").read_bytes() == b"00000000\n"


def test_a_device_is_written_to_and_never_rotated(bench) -> None:
    read_fd, write_fd = os.pipe()
    sink = bench.sink(path=f"/proc/self/fd/{write_fd}", max_bytes=10)
    write(bench, sink, b"00000000\n" * 5)
    assert os.read(read_fd, 100) == b"00000000\n" * 5
    os.close(read_fd)
    os.close(write_fd)
    assert Path("/dev/null").is_char_device()
    write(bench, bench.sink(path="/dev/null", max_bytes=10), b"00000000\n" * 5)
    assert Path("/dev/null").is_char_device()
    assert bench.troubles == []


@pytest.mark.needs_root
def test_root_follows_no_link_that_the_owner_of_the_process_could_have_made(bench, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    from oxherd.system.logs.file import LogFile

    victim = tmp_path / "shadow"
    victim.write_bytes(b"secret\n")
    link = tmp_path / "app.log"
    link.symlink_to(victim)
    file = LogFile(str(link), owner=(65534, 65534))
    with pytest.raises(OSError, match="symbolic links"):
        file.open()
    assert victim.read_bytes() == b"secret\n"
    created = LogFile(str(tmp_path / "sub" / "web.log"), owner=(65534, 65534))
    created.open()
    created.close()
    assert (tmp_path / "sub" / "web.log").stat().st_uid == 65534
    assert (tmp_path / "sub").stat().st_uid == 65534
