"""Which lines of a batch are in a log after a kill, whatever else is in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from oxherd.system.logs.landed import Place, landed
from oxherd.system.logs.stamp import Form

BEFORE = b"before\n"
WRAPPED = b'{"time": "t", "process": "web", "instance": 0, "stream": "output", "line": "%s"}\n'


def place(path: Path, form: Form = Form.RAW) -> Place:
    status = path.stat()
    return Place(os.fsencode(path), status.st_dev, status.st_ino, len(BEFORE), form)


@pytest.mark.parametrize(
    ("written", "lines", "count", "kept"),
    [
        pytest.param(b"", [b"a"], 0, b"", id="nothing"),
        pytest.param(b"a\n", [b"a", b"b"], 1, b"a\n", id="some"),
        pytest.param(b"a\nb\n", [b"a", b"b"], 2, b"a\nb\n", id="all"),
        pytest.param(b"a\n\n", [b"a", b"", b""], 2, b"a\n\n", id="empty lines"),
        pytest.param(b"a\na\n", [b"a", b"a", b"a"], 2, b"a\na\n", id="the same line again"),
        pytest.param(b"a\nb", [b"a", b"bc"], 1, b"a\n", id="torn"),
        pytest.param(b"bc", [b"bc"], 0, b"", id="torn before its newline"),
        pytest.param(b"a\nzz", [b"a", b"bc"], 1, b"a\nzz", id="somebody else's torn line stays"),
        pytest.param(b"a\nother\nb\nother\n", [b"a", b"b", b"c"], 2, b"a\nother\nb\nother\n", id="others in between"),
        pytest.param(b"other", [], 0, b"other", id="no lines"),
        pytest.param(b"\xff\xfe\n", [b"\xff\xfe", b"\xff"], 1, b"\xff\xfe\n", id="any bytes"),
        pytest.param(b"a\r\n", [b"a\r"], 1, b"a\r\n", id="carriage return"),
    ],
)
def test_raw(tmp_path: Path, written: bytes, lines: list[bytes], count: int, kept: bytes) -> None:
    path = tmp_path / "web.log"
    path.write_bytes(BEFORE + written)
    assert landed(lines, place(path)) == count
    assert path.read_bytes() == BEFORE + kept
    assert landed(lines, place(path)) == count, "a recovery that is done again finds the same"


def test_dated_and_wrapped(tmp_path: Path) -> None:
    path = tmp_path / "web.log"
    path.write_bytes(BEFORE + b"12:00 a\n12:01 \n12:0")
    assert landed([b"a", b"", b"c"], place(path, Form.DATED)) == 2
    assert path.read_bytes() == BEFORE + b"12:00 a\n12:01 \n"
    path.write_bytes(BEFORE + WRAPPED % rb"a\"" + WRAPPED % b"" + WRAPPED % b"\\\\xff" + b'{"ti')
    assert landed([b'a"', b"", b"\xff", b"d"], place(path, Form.JSON)) == 3


def test_a_line_whose_middle_is_not_known_is_known_by_its_end(tmp_path: Path) -> None:
    path = tmp_path / "web.log"
    for form, written in (
        (Form.RAW, b"xxxxend\n"),
        (Form.DATED, b"12:00 xxxxend\n"),
        (Form.JSON, WRAPPED % b"xxxxend"),
    ):
        path.write_bytes(BEFORE + written)
        assert landed([b"xx[..]end", b"b"], place(path, form), cut=b"end") == 1


def test_the_file_is_found_where_rotation_has_put_it(tmp_path: Path) -> None:
    path = tmp_path / "web.log"
    path.write_bytes(BEFORE + b"a\n")
    there = place(path)
    path.rename(tmp_path / "web.log.7")
    path.write_bytes(BEFORE + b"a\nb\n")
    assert landed([b"a", b"b"], there) == 1


def test_where_nothing_can_be_looked_up_nothing_has_landed(tmp_path: Path) -> None:
    path = tmp_path / "web.log"
    path.write_bytes(BEFORE + b"a\n")
    there = place(path)
    assert landed([b"a"], Place(there.path, there.device, 0, 0, Form.RAW)) == 0
    path.write_bytes(b"cut\n")
    assert landed([b"cut"], there) == 0, "truncated since"
    path.unlink()
    assert landed([b"a"], there) == 0
    assert landed([b"a"], Place(b"/nowhere/at/all", 1, 1, 0, Form.RAW)) == 0
