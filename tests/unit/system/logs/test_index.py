"""The index survives what happens to it, and finds places by time and by offset."""

from __future__ import annotations

from pathlib import Path

import pytest

from oxherd.system.logs.index import IndexHeader, IndexReader, IndexRecord, IndexWriter

HEADER = IndexHeader(serial=4, device=1, inode=99)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "web.idx"


def fill(path: Path, count: int, header: IndexHeader = HEADER, size: int = 10**9) -> None:
    writer = IndexWriter(str(path), 1)
    writer.open(header, size)
    for number in range(count):
        writer.add(time=1000 + number, offset=number * 10, length=10, slot=number % 3, own=number == 1)
    writer.close()


def read(path: Path) -> list[IndexRecord]:
    reader = IndexReader(str(path))
    try:
        return reader.records(0, len(reader))
    finally:
        reader.close()


def test_records_are_read_as_they_were_written(path: Path) -> None:
    fill(path, 3)
    assert read(path)[1] == IndexRecord(time=1001, offset=10, length=10, slot=1, stream=1, own=True)
    assert [record.slot for record in read(path)] == [0, 1, 2]


def test_the_index_of_the_same_file_is_continued(path: Path) -> None:
    fill(path, 2)
    fill(path, 2)
    assert len(read(path)) == 4


@pytest.mark.parametrize(
    "header",
    [
        IndexHeader(serial=5, device=1, inode=99),
        IndexHeader(serial=4, device=2, inode=99),
        IndexHeader(serial=4, device=1, inode=98),
    ],
)
def test_the_index_of_another_file_is_begun_anew(path: Path, header: IndexHeader) -> None:
    fill(path, 5)
    fill(path, 1, header)
    assert len(read(path)) == 1


def test_a_file_shorter_than_its_index_is_another_one_with_the_same_inode(path: Path) -> None:
    fill(path, 5)
    fill(path, 1, size=49)
    assert len(read(path)) == 1


@pytest.mark.parametrize("torn", range(1, 24))
def test_half_a_record_is_cut_off_before_more_are_added(path: Path, torn: int) -> None:
    fill(path, 2)
    with path.open("ab") as file:
        file.write(b"\xff" * torn)
    assert len(read(path)) == 2
    fill(path, 1)
    assert [record.offset for record in read(path)] == [0, 10, 0]


def test_places_are_found_by_time_and_by_offset(path: Path) -> None:
    fill(path, 100)
    reader = IndexReader(str(path))
    assert reader.first_since(0) == 0
    assert reader.first_since(1050 / 1e9) == 50
    assert reader.first_since(5000 / 1e9) == 100
    assert reader.first_at(0) == 0
    assert reader.first_at(505) == 50
    assert reader.first_at(510) == 51
    assert reader.first_at(1000) == 100
    reader.close()


def test_a_reader_of_the_old_index_keeps_it_when_it_is_begun_anew(path: Path) -> None:
    fill(path, 5)
    reader = IndexReader(str(path))
    fill(path, 1, IndexHeader(serial=5, device=1, inode=98))
    assert len(reader) == 5
    reader.close()


def test_reset_forgets_the_records_and_keeps_the_header(path: Path) -> None:
    writer = IndexWriter(str(path), 0)
    writer.open(HEADER, 0)
    writer.add(time=1, offset=0, length=1, slot=0, own=False)
    writer.reset()
    writer.add(time=2, offset=0, length=5, slot=0, own=False)
    writer.close()
    assert [record.time for record in read(path)] == [2]


def test_an_index_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    writer = IndexWriter(str(tmp_path / "no" / "such" / "directory"), 0)
    writer.open(HEADER, 0)
    writer.add(time=1, offset=0, length=1, slot=0, own=False)
    writer.reset()
    writer.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 200])
def test_what_is_no_index_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"web\.idx"):
        IndexReader(str(path))
