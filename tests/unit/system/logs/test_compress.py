"""The source goes only when its compressed copy is complete."""

from __future__ import annotations

import errno
import fcntl
import gzip
import os
from pathlib import Path

import pytest

from oxherd.system.logs import compress as module
from oxherd.system.logs.compress import compress, main

TEXT = b"".join(b"line %d\n" % number for number in range(50_000))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "web.log.3"
    path.write_bytes(TEXT)
    path.chmod(0o640)
    os.utime(path, ns=(10**18, 10**18 + 5))
    return path


def names(source: Path) -> list[str]:
    return sorted(path.name for path in source.parent.iterdir())


def test_the_copy_has_the_content_the_mode_and_the_time_of_the_source(source: Path) -> None:
    assert compress(str(source))
    assert names(source) == ["web.log.3.gz"]
    copy = source.with_name("web.log.3.gz")
    assert gzip.decompress(copy.read_bytes()) == TEXT
    assert copy.stat().st_mode & 0o777 == 0o640
    assert copy.stat().st_mtime_ns == 10**18 + 5


def test_a_full_disk_leaves_the_source_and_nothing_else(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    budget = [2]

    def write(fd: int, data: bytes) -> int:
        budget[0] -= 1
        if budget[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data[:100])

    monkeypatch.setattr(module.os, "write", write)
    with pytest.raises(OSError, match="No space left"):
        compress(str(source))
    monkeypatch.undo()
    assert names(source) == ["web.log.3"]
    assert source.read_bytes() == TEXT


def test_what_a_dead_helper_left_is_overwritten(source: Path) -> None:
    source.with_name("web.log.3.gz.tmp").write_bytes(b"half")
    source.with_name("web.log.3.gz").write_bytes(b"of an earlier try")
    assert compress(str(source))
    assert names(source) == ["web.log.3.gz"]
    assert gzip.decompress(source.with_name("web.log.3.gz").read_bytes()) == TEXT


def test_a_file_somebody_works_on_is_left_to_them(source: Path) -> None:
    with source.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert not compress(str(source))
    assert names(source) == ["web.log.3"]


def test_a_file_that_was_pruned_meanwhile_leaves_no_copy(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync

    def fsync(fd: int) -> None:
        real(fd)
        source.unlink(missing_ok=True)

    monkeypatch.setattr(module.os, "fsync", fsync)
    assert compress(str(source))
    assert names(source) == []


def test_links_and_missing_files_are_not_touched(source: Path) -> None:
    link = source.with_name("web.log.4")
    link.symlink_to(source)
    assert not compress(str(link))
    assert not compress(str(source.with_name("web.log.5")))
    assert names(source) == ["web.log.3", "web.log.4"]


def test_the_program_reports_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(module.os, "nice", lambda _: 0)
    path = tmp_path / "web.log.1"
    path.write_bytes(b"x\n")
    (tmp_path / "web.log.1.gz").mkdir()
    assert main([str(path)]) == 1
    assert "cannot compress" in capsys.readouterr().err
    assert path.read_bytes() == b"x\n"
    assert not (tmp_path / "web.log.1.gz.tmp").exists()
