"""What is known of the directories of logs, and for how long."""

from __future__ import annotations

import os

import pytest

from oxherd.system.logs import surroundings as module
from oxherd.system.logs.file import LogFile
from oxherd.system.logs.rotate import Rotation
from oxherd.system.logs.surroundings import Surroundings


class Turn:
    """A turn of a loop that ends when the test says so."""

    def __init__(self):
        self.later = []

    def end(self):
        later, self.later = self.later, []
        for callback in later:
            callback()


@pytest.fixture
def turn():
    return Turn()


@pytest.fixture
def looks(monkeypatch):
    """Every look at a directory."""
    seen = []
    look = module.names_beside

    def watched(path):
        seen.append(path)
        return look(path)

    monkeypatch.setattr(module, "names_beside", watched)
    return seen


def test_a_thousand_logs_of_one_turn_are_one_look(tmp_path, turn, looks):
    around = Surroundings(turn.later.append)
    (tmp_path / "p7.log.3.gz").touch()
    found = {number: around.serials(str(tmp_path / f"p{number}.log")) for number in range(1000)}
    assert found.pop(7) == {3}
    assert set(found.values()) == {frozenset()}
    assert len(looks) == 1


def test_the_next_turn_looks_again(tmp_path, turn):
    around = Surroundings(turn.later.append)
    path = str(tmp_path / "web.log")
    assert around.serials(path) == set()
    (tmp_path / "web.log.1").touch()
    turn.end()
    assert around.serials(path) == {1}


def test_without_turns_every_look_is_a_new_one(tmp_path):
    around = Surroundings()
    path = str(tmp_path / "web.log")
    assert around.serials(path) == set()
    (tmp_path / "web.log.1").touch()
    assert around.serials(path) == {1}


def test_what_is_changed_here_is_seen_in_the_same_turn(tmp_path, turn):
    """A log that is rotated and opened again in one turn has no number twice, and keeps no more than it may."""
    around = Surroundings(turn.later.append)
    path, index = str(tmp_path / "web.log"), str(tmp_path / "web.idx")
    file = opened(path)
    rotation = Rotation(path, index, 2, around)
    rotation.adopt(file)
    for _ in range(3):
        with open(index, "wb"):
            pass
        rotation.turn(file)
        rotation.prune()
    again = Rotation(path, index, 2, around)
    again.adopt(file)
    assert (again.kept, again.serial) == ([2, 3], 4)
    file.close()
    assert sorted(os.listdir(tmp_path)) == ["web.idx.2", "web.idx.3", "web.log", "web.log.2", "web.log.3"]


def opened(path):
    file = LogFile(path)
    file.open()
    return file
