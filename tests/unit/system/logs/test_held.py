"""The unfinished line of a pipe is whole on the disk at every moment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from oxherd.system.logs.held import LIMIT, RECORD, STRIDE, HeldFile
from oxherd.system.logs.recovery import read_left


def held(path: Path) -> tuple[int, bytes] | None:
    left = read_left(str(path), 7)
    return None if left is None else (left.sequence, left.data)


@pytest.mark.parametrize("length", [0, 1, 4000, 5000, LIMIT])
def test_the_last_record_counts(tmp_path: Path, length: int) -> None:
    path = tmp_path / "7"
    file = HeldFile(str(path))
    assert not file.used
    for sequence in range(1, 6):
        data = b"%d" % sequence * length
        file.save(sequence, data, slot=3, log=b"/var/log/web.log")
        left = read_left(str(path), 7)
        assert left is not None
        assert (left.sequence, left.data, left.missing) == (sequence, data, 0)
        assert (left.slot, left.log, left.pipe) == (3, b"/var/log/web.log", 7)
    file.remove()
    file.remove()
    assert not path.exists()


@pytest.mark.parametrize("torn", [0, RECORD.size - 1, 5000])
def test_a_record_that_was_torn_leaves_the_one_before(tmp_path: Path, torn: int) -> None:
    path = tmp_path / "7"
    file = HeldFile(str(path))
    file.save(1, b"a" * 9000, slot=0, log=b"l")
    file.save(2, b"b" * 9000, slot=0, log=b"l")
    file.close()
    # The third goes over the first, its body before its head.
    with path.open("r+b") as raw:
        raw.seek(RECORD.size)
        raw.write(b"c" * torn)
    assert held(path) == (2, b"b" * 9000)


def test_of_a_line_beyond_the_limit_the_rest_is_counted(tmp_path: Path) -> None:
    file = HeldFile(str(tmp_path / "7"))
    file.save(1, b"x" * (LIMIT + 10), slot=0, log=b"")
    file.close()
    left = read_left(str(tmp_path / "7"), 7)
    assert left is not None
    assert (len(left.data), left.missing) == (LIMIT, 10)
    assert left.text.endswith(b"x[oxherd: 10 bytes of this line are lost]")
    assert left.lines == 1


def test_a_long_line_that_is_over_gives_its_memory_back(tmp_path: Path) -> None:
    path = tmp_path / "7"
    file = HeldFile(str(path))
    file.save(1, b"short", slot=0, log=b"")
    file.shrink()
    assert held(path) == (1, b"short"), "not worth a call"
    file.save(2, b"x" * LIMIT, slot=0, log=b"")
    file.save(3, b"", slot=0, log=b"")
    file.shrink()
    assert path.stat().st_size == 0
    assert held(path) is None
    file.save(4, b"y", slot=0, log=b"")
    assert held(path) == (4, b"y")
    file.close()


def test_going_on_with_what_a_recovery_has_left_does_not_overwrite_it(tmp_path: Path) -> None:
    path = tmp_path / "7"
    path.write_bytes(RECORD.pack(9, 1, 1, 0, 0) + b"a")
    file = HeldFile(str(path))
    file.open()
    file.save(10, b"b", slot=0, log=b"")
    file.close()
    assert path.read_bytes()[: RECORD.size + 1] == RECORD.pack(9, 1, 1, 0, 0) + b"a"
    assert held(path) == (10, b"b")
    assert os.path.getsize(path) > STRIDE
