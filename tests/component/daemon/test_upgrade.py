"""The supervisor becomes another version of itself, or goes on as if nothing had been asked."""

from __future__ import annotations

import json
import os
from types import MappingProxyType

import pytest

from oxherd.daemon import upgrade as module
from oxherd.daemon.helpers import HelperEnd
from oxherd.daemon.inheritance import Inheritance, take_over
from oxherd.daemon.upgrade import Upgrade
from oxherd.errors import OperationError
from support.workbench import Workbench, spec

GOOD = json.dumps({"ok": True, "version": "9.9"}).encode()


class Helpers:
    """Programs that end when the test says so."""

    def __init__(self) -> None:
        self.requests, self.error = [], None

    def start(self, request, heard, ended):
        if self.error is not None:
            raise self.error
        self.requests.append(request)
        self.heard, self.ended = heard, ended

    def say(self, output: bytes, **end):
        self.heard(output)
        self.ended(HelperEnd(**{"success": True, "text": "", **end}))


class Stage:
    """An upgrade of a real supervisor; what is exec'd is kept, and fails as exec does."""

    def __init__(self, directory, monkeypatch) -> None:
        self.bench = Workbench(directory)
        self.helpers = Helpers()
        self.answers: list[tuple[str, OperationError | None]] = []
        self.lock, self.control = os.open(os.devnull, os.O_RDONLY), os.open(os.devnull, os.O_RDONLY)
        self.execs: list[list[str]] = []
        self.handed: list[Inheritance] = []
        self.told: list[str] = []
        self.error: OSError | None = OSError(2, "No such file or directory")
        monkeypatch.setattr(module.os, "execve", self.execve)
        self.upgrade = Upgrade(
            self.bench.supervisor,
            self.helpers,
            "mark",
            arguments=lambda: ["--run", "x"],
            watchdog=self,
            inherit=lambda: Inheritance(version="1.0", lock=self.lock, control=self.control),
        )

    # -- the service manager, which is told

    environ = MappingProxyType({"TOLD": "yes"})

    def reloading(self):
        self.told.append("reloading")

    def ready(self):
        self.told.append("ready")

    # -- what is asked of it

    def execve(self, _path, command, env):
        assert env["TOLD"] == "yes"
        self.execs.append(command)
        assert os.get_inheritable(self.lock)
        assert os.get_inheritable(self.control)
        self.handed.append(take_over(os.dup(int(command[command.index("--inherit") + 1]))))
        raise self.error

    def begin(self, python="/new/python"):
        self.upgrade.begin(python, lambda version, error: self.answers.append((version, error)))

    def refused(self):
        ((version, error),) = self.answers
        assert version == ""
        self.answers.clear()
        return error


@pytest.fixture
def stage(tmp_path, monkeypatch):
    stage = Stage(tmp_path, monkeypatch)
    yield stage
    stage.bench.close()
    os.close(stage.lock)
    os.close(stage.control)


def test_the_new_version_is_asked_then_told_of_then_become(stage):
    stage.begin()
    (request,) = stage.helpers.requests
    assert request.argv == ("/new/python", "-P", "-m", "oxherd.daemon", "--check", "--run", "x")
    assert stage.answers == []
    stage.helpers.say(b"a warning\n" + GOOD + b"\n")
    assert stage.answers == [("9.9", None)]
    assert stage.execs == [], "the answer leaves before the exec"
    stage.bench.loop.advance(0.1)
    (command,) = stage.execs
    assert command[:5] == ["/new/python", "-P", "-m", "oxherd.daemon", "--inherit"]
    assert command[6:] == ["--run", "x"]
    assert stage.handed == [Inheritance(version="1.0", lock=stage.lock, control=stage.control)]


def test_an_exec_that_fails_leaves_everything_as_it_was(stage):
    stage.bench.supervisor.tell("note", "the file of the events is open")
    stage.bench.loop.advance(0.0)
    before = set(os.listdir("/proc/self/fd"))
    stage.begin()
    stage.helpers.say(GOOD)
    stage.bench.loop.advance(0.1)
    assert set(os.listdir("/proc/self/fd")) <= before
    assert not os.get_inheritable(stage.lock)
    assert not os.get_inheritable(stage.control)
    assert "this version goes on: /new/python: No such file" in stage.bench.events("upgrade-failed")[0]
    assert stage.told == ["reloading", "ready"]
    stage.begin()  # and can be asked again
    assert len(stage.helpers.requests) == 2


def test_what_cannot_be_handed_over_is_told(stage, monkeypatch):
    monkeypatch.setattr(
        module, "hand_over", lambda _inheritance: (_ for _ in ()).throw(OSError(24, "Too many open files"))
    )
    stage.begin()
    stage.helpers.say(GOOD)
    stage.bench.loop.advance(0.1)
    assert stage.execs == []
    assert "handing over: Too many open files" in stage.bench.events("upgrade-failed")[0]


@pytest.mark.parametrize(
    ("output", "end", "text"),
    [
        (b'{"ok": false, "error": "x: it is of version 3"}', {"success": False}, "it is of version 3"),
        (b'{"ok": true, "version": "9"}', {"success": False, "text": "killed by SIGSEGV"}, "killed by SIGSEGV"),
        (b"Traceback\nModuleNotFoundError: No module named 'oxherd'\n", {"success": False}, "No module named 'oxherd'"),
        (b"", {"success": False, "text": "it did not end in time"}, "it did not end in time"),
        (b"[1]", {}, "[1]"),
        (b'{"ok": 1}', {}, '{"ok": 1}'),
    ],
)
def test_a_version_that_cannot_take_over_changes_nothing(stage, output, end, text):
    stage.begin()
    stage.helpers.say(output, **end)
    error = stage.refused()
    assert error.code == "OX434"
    assert text in error.message or '"ok": true' in error.message
    stage.bench.loop.advance(1)
    assert stage.execs == []
    assert stage.bench.events("upgrade-failed")
    stage.begin()
    assert len(stage.helpers.requests) == 2


@pytest.mark.parametrize(
    "error", [OSError(2, "No such file or directory"), OperationError("no room", hint="", code="OX430")]
)
def test_a_version_that_cannot_be_started_is_said(stage, error):
    stage.helpers.error = error
    stage.begin()
    assert stage.refused().code == "OX434"
    stage.helpers.error = None
    stage.begin()
    assert len(stage.helpers.requests) == 1


def test_one_at_a_time(stage):
    stage.begin()
    stage.begin()
    assert stage.refused().code == "OX433"
    stage.helpers.say(GOOD)
    assert stage.answers == [("9.9", None)]


def test_not_while_something_is_reloaded(stage):
    stage.bench.up(spec("web"))
    stage.bench.ask("reload", spec("web"))
    stage.begin()
    error = stage.refused()
    assert (error.code, "web is being reloaded" in error.message) == ("OX421", True)
    stage.bench.loop.advance(10)
    stage.begin()
    assert len(stage.helpers.requests) == 1


def test_what_began_while_the_new_version_was_asked_is_not_cut_off(stage):
    stage.bench.up(spec("web"))
    stage.begin()
    stage.bench.ask("reload", spec("web"))
    stage.helpers.say(GOOD)
    assert stage.refused().code == "OX421"
    stage.bench.loop.advance(10)
    assert stage.execs == []


def test_not_while_everything_is_being_stopped(stage):
    stage.bench.supervisor.ending = True
    stage.begin()
    assert stage.refused().code == "OX432"
    stage.bench.supervisor.ending = False
