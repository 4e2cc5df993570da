"""The journal of instances and the records of stacks on a real disk: what is read after every way of being cut short."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from oxherd.control.paths import Home
from oxherd.daemon import journal as module
from oxherd.daemon.journal import STATE_VERSION, Journal

BOOT = "3f0e-boot"


class Disk:
    """A journal in a directory, and everything it has complained of."""

    def __init__(self, directory: Path) -> None:
        self.home = Home(runtime=str(directory / "run"), state=str(directory / "state"))
        self.home.prepare()
        self.path = Path(self.home.state, "instances.jsonl")
        self.trouble: list[str] = []
        self.journals: list[Journal] = []

    def open(self, boot: str = BOOT) -> tuple[Journal, dict[str, dict[str, object]]]:
        """Be the next supervisor: return its journal and what it finds."""
        journal = Journal(self.home, self.trouble.append)
        self.journals.append(journal)
        return journal, journal.load_instances(boot)

    def found(self, boot: str = BOOT) -> dict[str, dict[str, object]]:
        return self.open(boot)[1]

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def stack(self, identity: str) -> Path:
        path = Path(self.home.stack(identity), "stack.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


@pytest.fixture
def disk(tmp_path):
    disk = Disk(tmp_path)
    yield disk
    for journal in disk.journals:
        journal.close()


# -- instances --------------------------------------------------------------------------------------------------------


def test_the_last_record_of_each_is_found_by_the_next_one(disk):
    journal, found = disk.open()
    assert found == {}
    journal.save_instance("a", {"pid": 1})
    journal.save_instance("b", {"pid": 2})
    journal.save_instance("a", {"pid": 3, "state": "running"})
    journal.forget_instance("b")
    journal.forget_instance("never known")
    assert disk.found() == {"a": {"pid": 3, "state": "running"}}
    assert disk.lines()[0] == {"journal": STATE_VERSION, "boot": BOOT}
    assert len(disk.lines()) == 5
    assert disk.trouble == []
    assert disk.path.stat().st_mode & 0o777 == 0o600


def test_every_supervisor_appends_to_what_it_found(disk):
    disk.open()[0].save_instance("a", {"pid": 1})
    disk.open()[0].save_instance("b", {"pid": 2})
    assert disk.found() == {"a": {"pid": 1}, "b": {"pid": 2}}


@pytest.mark.parametrize(
    "head",
    [
        b'{"journal":2,"boot":"another"}',
        b'{"journal":2}',
        b'{"key":"a","pid":7}',
        b"",
        b"\xff\xfe",
        b"[1]",
        b'{"journal":2,"bo',
    ],
    ids=["another boot", "no boot", "version 1", "empty", "bytes", "list", "cut"],
)
def test_pids_of_another_boot_mean_nothing(disk, head):
    disk.path.write_bytes(head + b'\n{"key":"a","pid":1}\n')
    journal, found = disk.open()
    assert found == {}
    assert not disk.path.exists()
    journal.save_instance("b", {"pid": 2})
    assert disk.lines() == [{"journal": STATE_VERSION, "boot": BOOT}, {"key": "b", "pid": 2}]
    assert disk.trouble == []


def test_without_a_boot_to_compare_nobody_is_believed(disk):
    disk.open("")[0].save_instance("a", {"pid": 1})
    assert disk.found("") == {}


@pytest.mark.parametrize("cut", range(1, 20))
def test_a_line_that_was_cut_short_leaves_the_one_before_it(disk, cut):
    journal, _ = disk.open()
    journal.save_instance("a", {"pid": 1})
    journal.save_instance("a", {"pid": 2})
    disk.path.write_bytes(disk.path.read_bytes()[:-cut])
    expected = {"pid": 2} if cut == 1 else {"pid": 1}
    journal, found = disk.open()
    assert found == {"a": expected}
    # And what is appended to it is not lost with it.
    journal.save_instance("b", {"pid": 3})
    assert disk.found() == {"a": expected, "b": {"pid": 3}}


@pytest.mark.parametrize("garbage", [b"\x00\xff", b"[]", b"null", b"{}", b'"text"', b"12"])
def test_what_is_no_record_is_passed_over(disk, garbage):
    journal, _ = disk.open()
    journal.save_instance("a", {"pid": 1})
    journal.close()
    with disk.path.open("ab") as file:
        file.write(garbage + b"\n")
    journal.save_instance("b", {"pid": 2})
    assert disk.found() == {"a": {"pid": 1}, "b": {"pid": 2}}


def test_names_that_are_no_text_come_back(disk):
    name = os.fsdecode(b"caf\xe9")
    disk.open()[0].save_instance("a", {"detail": name, "é": 1})
    assert disk.found() == {"a": {"detail": name, "é": 1}}


class Full:
    """A disk that takes so many more bytes."""

    def __init__(self, monkeypatch, room: int) -> None:
        self.room = room
        self.write = os.write
        monkeypatch.setattr(module.os, "write", self)

    def __call__(self, fd: int, data: bytes) -> int:
        if data and self.room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self.write(fd, data[: self.room])
        self.room -= written
        return written


@pytest.mark.parametrize("room", [0, 1, 10, 22, 23])
def test_a_full_disk_loses_nothing_once_there_is_room_again(disk, monkeypatch, room):
    """Whatever part of a line was written; and the next supervisor finds what was true before or what is true now."""
    journal, _ = disk.open()
    journal.save_instance("a", {"pid": 1})
    with monkeypatch.context() as patch:
        Full(patch, room)
        journal.save_instance("a", {"pid": 22222})
        journal.save_instance("b", {"pid": 3})
        journal.forget_instance("b")
        assert disk.trouble
        assert all("No space left" in text or "no space is left" in text for text in disk.trouble)
        assert disk.found()["a"] in ({"pid": 1}, {"pid": 22222})
    journal.save_instance("c", {"pid": 4})
    assert disk.found() == {"a": {"pid": 22222}, "c": {"pid": 4}}
    journal.save_instance("d", {"pid": 5})
    assert disk.found() == {"a": {"pid": 22222}, "c": {"pid": 4}, "d": {"pid": 5}}


def test_a_journal_that_grew_is_written_anew_with_everything(disk, monkeypatch):
    monkeypatch.setattr(module, "_COMPACT_AFTER", 500)
    journal, _ = disk.open()
    journal.save_instance("stays", {"pid": 1})
    journal.save_instance("goes", {"pid": 2})
    journal.forget_instance("goes")
    sizes = []
    for number in range(200):
        journal.save_instance("changes", {"pid": number})
        sizes.append(disk.path.stat().st_size)
    assert max(sizes) < 1500
    assert disk.found() == {"stays": {"pid": 1}, "changes": {"pid": 199}}
    assert disk.lines()[0] == {"journal": STATE_VERSION, "boot": BOOT}
    assert disk.path.stat().st_mode & 0o777 == 0o600
    assert disk.trouble == []


def test_what_others_wrote_down_survives_being_written_anew(disk, monkeypatch):
    """Records of stacks that this supervisor does not know: a newer one's, which it is to leave alone."""
    disk.open()[0].save_instance("newer/web/0", {"pid": 1, "more": [1]})
    monkeypatch.setattr(module, "_COMPACT_AFTER", 0)
    disk.open()[0].save_instance("a", {"pid": 2})
    assert disk.found() == {"newer/web/0": {"pid": 1, "more": [1]}, "a": {"pid": 2}}


def test_a_journal_that_cannot_be_written_anew_is_as_it_was(disk, monkeypatch):
    journal, _ = disk.open()
    journal.save_instance("a", {"pid": 1})
    monkeypatch.setattr(module, "_COMPACT_AFTER", 0)
    Path(f"{disk.path}.new").mkdir()
    journal.save_instance("b", {"pid": 2})
    assert "Is a directory" in disk.trouble[0]
    assert disk.found() == {"a": {"pid": 1}, "b": {"pid": 2}}
    Path(f"{disk.path}.new").rmdir()
    journal.save_instance("c", {"pid": 3})
    assert disk.found() == {"a": {"pid": 1}, "b": {"pid": 2}, "c": {"pid": 3}}


def test_one_that_cannot_be_read_is_told(disk):
    disk.path.mkdir()
    assert disk.found() == {}
    assert "cannot read" in disk.trouble[0]
    assert "found by its mark" in disk.trouble[0]


def test_an_end_is_remembered_until_somebody_goes_on(disk):
    journal, _ = disk.open()
    journal.save_instance("a", {"pid": 1})
    assert not journal.ended
    journal.end()
    for _ in range(2):
        after, found = disk.open()
        assert after.ended
        assert found == {"a": {"pid": 1}}
    after.go_on()
    assert not after.ended
    assert not disk.open()[0].ended


# -- stacks -----------------------------------------------------------------------------------------------------------


def test_stacks_come_back_by_their_identity(disk):
    journal, _ = disk.open()
    assert journal.load_stacks() == {}
    assert journal.save_stack("one", {"path": "/srv/a"})
    assert journal.save_stack("two", {"path": "/srv/b"})
    journal.forget_stack("two")
    journal.forget_stack("two")
    assert journal.load_stacks() == {"one": {"state_version": STATE_VERSION, "path": "/srv/a"}}
    assert disk.stack("one").stat().st_mode & 0o777 == 0o600


def test_what_a_newer_version_wrote_is_left_untouched_and_known_as_that(disk):
    newer = disk.stack("newer")
    newer.write_text('{"state_version": 99, "anything": []}')
    journal, _ = disk.open()
    journal.save_stack("own", {"path": "/srv/a"})
    assert set(journal.load_stacks()) == {"own"}
    assert journal.newer == {"newer"}
    assert newer.read_text() == '{"state_version": 99, "anything": []}'
    assert list(newer.parent.iterdir()) == [newer]
    assert "of version 99, written by a newer Oxherd" in disk.trouble[0]


@pytest.mark.parametrize("version", range(1, STATE_VERSION + 1))
def test_what_an_older_version_wrote_is_read(disk, version):
    disk.stack("old").write_text(json.dumps({"state_version": version, "path": "/srv/a"}))
    assert disk.open()[0].load_stacks()["old"]["path"] == "/srv/a"
    assert disk.trouble == []


@pytest.mark.parametrize(
    "damage",
    [b"", b'{"path": "/tm', b"\xff\x00", b"[1]", b"{}", b'{"state_version": "2"}', b'{"state_version": 0}', b"null"],
)
def test_a_damaged_record_is_kept_aside_and_told(disk, damage):
    path = disk.stack("one")
    path.write_bytes(damage)
    journal, _ = disk.open()
    assert journal.load_stacks() == {}
    assert journal.newer == set()
    assert path.with_name("stack.json.damaged").read_bytes() == damage
    assert "is not what Oxherd wrote" in disk.trouble[0]


def test_a_record_that_cannot_be_written_leaves_the_old_one(disk, monkeypatch):
    journal, _ = disk.open()
    assert journal.save_stack("one", {"path": "/srv/old"})
    with monkeypatch.context() as patch:
        Full(patch, 5)
        assert not journal.save_stack("one", {"path": "/srv/new"})
    assert journal.load_stacks()["one"]["path"] == "/srv/old"
    assert "the stack may not come back" in disk.trouble[0]
    assert [path.name for path in disk.stack("one").parent.iterdir() if path.is_file()] == ["stack.json"]
