"""Whether another version can take over: everything a supervisor reads when it begins, damaged in every way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from oxherd.config.codec import encode
from oxherd.daemon.check import check, trouble_with
from oxherd.daemon.journal import STATE_VERSION
from support.workbench import Workbench, spec


@pytest.fixture
def state(tmp_path):
    """The state directory of a supervisor that runs something, and died."""
    bench = Workbench(tmp_path)
    bench.begin()
    bench.up(spec("web", instances=2), spec("worker"))
    bench.die()
    yield Path(bench.home.state)
    for process in bench.system.living():
        process.end(None)


def record_of(state):
    return next(state.glob("stacks/*/stack.json"))


def damaged(path, **changes):
    record = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in record.items() if value is not None}))


def test_what_this_version_wrote_it_can_read(state, capsys):
    assert trouble_with(str(state)) == ""
    assert check(str(state)) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["ok"], said["state_version"]) == (True, STATE_VERSION)
    assert "error" not in said


def test_nothing_written_down_is_no_trouble(tmp_path):
    assert trouble_with(str(tmp_path)) == ""
    assert trouble_with(str(tmp_path / "nowhere")) == ""
    (tmp_path / "stacks" / "empty").mkdir(parents=True)
    (tmp_path / "instances.jsonl").touch()
    assert trouble_with(str(tmp_path)) == ""


def test_it_changes_nothing(state):
    before = {path: path.read_bytes() for path in state.rglob("*") if path.is_file()}
    record_of(state).write_text("{")
    before[record_of(state)] = b"{"
    assert trouble_with(str(state))
    assert {path: path.read_bytes() for path in state.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("changes", "trouble"),
    [
        ({"state_version": 99}, "it is of version 99"),
        ({"state_version": 0}, "it is of version 0"),
        ({"state_version": "2"}, "it is of version '2'"),
        ({"state_version": None}, "cannot be read: KeyError('state_version')"),
        ({"oxfile": None}, "cannot be read: KeyError('oxfile')"),
        ({"oxfile": []}, "cannot be read"),
        ({"oxfile": {}}, "cannot be read"),
        ({"processes": []}, "not a table"),
        ({"processes": {"web": 1}}, "not a table"),
        ({"processes": {"web": {"others": {"key": 1}}}}, "not a table"),
        ({"processes": {"web": {"others": {"key": {"name": 1}}}}}, "cannot be read"),
    ],
)
def test_a_record_of_a_stack_that_cannot_be_read_is_named(state, changes, trouble, capsys):
    path = record_of(state)
    damaged(path, **changes)
    text = trouble_with(str(state))
    assert text.startswith(f"{path}: ")
    assert trouble in text or "cannot be read" in text
    assert check(str(state)) == 1
    assert json.loads(capsys.readouterr().out)["error"] == text


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\x00", b"[]", b"null"])
def test_a_file_that_is_no_record_is_named(state, data):
    record_of(state).write_bytes(data)
    assert "it cannot be read" in trouble_with(str(state))


def test_a_record_of_the_oldest_version_is_none(state):
    damaged(record_of(state), state_version=1, processes=None)
    assert trouble_with(str(state)) == ""


def test_settings_that_an_instance_still_runs_under_are_read(state):
    others = {"processes": {"web": {"others": {"key": encode(spec("web"))}}}}
    damaged(record_of(state), **others)
    assert trouble_with(str(state)) == ""


def journal(state, *lines, head=None):
    head = {"journal": STATE_VERSION, "boot": "x"} if head is None else head
    text = [json.dumps(line) if isinstance(line, dict) else line for line in (head, *lines)]
    (state / "instances.jsonl").write_text("\n".join(text) + "\n")


UNREADABLE = {"key": "a/web/0", "state": "running", "desired": "sideways"}


@pytest.mark.parametrize(
    ("head", "trouble"),
    [
        ({"journal": 99, "boot": "x"}, "it is of version 99"),
        ({"journal": "2"}, "its first line cannot be read"),
        ("[1]", "its first line cannot be read"),
        ("{", "its first line cannot be read"),
    ],
)
def test_a_journal_of_another_version_is_named(state, head, trouble):
    journal(state, head=head)
    assert trouble in trouble_with(str(state))
    assert "instances.jsonl" in trouble_with(str(state))


def test_an_instance_that_cannot_be_read_is_named(state):
    journal(state, UNREADABLE)
    assert "a/web/0 cannot be read" in trouble_with(str(state))


@pytest.mark.parametrize(
    "after",
    [
        {"key": "a/web/0"},  # it is forgotten
        {"key": "a/web/0", "state": "stopped", "desired": "down"},  # a later line stands
    ],
)
def test_what_is_not_the_last_of_an_instance_is_not_read(state, after):
    journal(state, UNREADABLE, after)
    assert trouble_with(str(state)) == ""


@pytest.mark.parametrize("line", ['{"key": "a/we', "[]", "12", "{}", '{"state": "?"}'])
def test_lines_that_were_cut_short_are_passed_over(state, line):
    journal(state, line, {"key": "a/zygote/1", "pid": 5, "ticks": 9})
    assert trouble_with(str(state)) == ""


def test_what_cannot_be_opened_is_said(state):
    path = state / "instances.jsonl"
    path.unlink()
    path.mkdir()
    assert trouble_with(str(state)) == f"{path}: Is a directory"
