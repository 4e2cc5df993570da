"""Which file a command means, and which Python runs it."""

from __future__ import annotations

import sys

import pytest

from oxherd.config.commandline import read_command
from oxherd.config.model import ProcessSpec
from oxherd.programs.interpreter import find_interpreter, find_program


@pytest.fixture
def spec(tmp_path):
    def _spec(line: str, **fields) -> ProcessSpec:
        return ProcessSpec(name="p", command=read_command(line), working_dir=str(tmp_path), **fields)

    return _spec


def test_a_path_is_itself(spec, script, tmp_path):
    path = script(tmp_path / "bin/run")
    assert find_program(spec(path), {}).path == path
    assert find_program(spec("./bin/run"), {}).path == f"{tmp_path}/./bin/run"
    assert find_program(spec("./bin/none"), {}) is None


def test_the_order_of_places(spec, script, tmp_path):
    """Beside the interpreter that is named, then PATH, then the working directory's environment."""
    named = script(tmp_path / "named/bin/uvicorn")
    path = script(tmp_path / "path/uvicorn")
    venv = script(tmp_path / ".venv/bin/uvicorn")
    environ = {"PATH": str(tmp_path / "path")}
    own = spec("uvicorn a:b", python=str(tmp_path / "named/bin/python"))
    assert find_program(own, environ).path == named
    assert find_program(spec("uvicorn a:b"), environ).path == path
    assert find_program(spec("uvicorn a:b"), {"PATH": "/nowhere"}).path == venv
    assert find_program(spec("none"), {"PATH": "/nowhere"}) is None


def test_the_process_has_its_own_path(spec, script, tmp_path):
    path = script(tmp_path / "own/run")
    own = spec("run", env=(("PATH", str(tmp_path / "own")),))
    assert find_program(own, {"PATH": "/nowhere"}).path == path


def test_a_file_that_cannot_be_run_is_not_it(spec, tmp_path):
    (tmp_path / "run").write_text("")
    assert find_program(spec("run"), {"PATH": str(tmp_path)}) is None


def test_the_interpreter_that_is_named(spec):
    assert find_interpreter(spec("x", python="/v/python"), {}).path == "/v/python"


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("#!/v/bin/python\n", "/v/bin/python"),
        ("#!/v/bin/python3.12 -I\n", "/v/bin/python3.12"),
        ("#!/bin/sh\n'''exec' \"/long/v/bin/python\" \"$0\" \"$@\"\n' '''\n", "/long/v/bin/python"),
    ],
)
def test_the_interpreter_of_a_script_is_in_its_first_line(spec, script, tmp_path, head, expected):
    path = script(tmp_path / "bin/uvicorn", head)
    assert find_interpreter(spec(path), {}).path == expected


@pytest.mark.parametrize("head", ["#!/bin/sh\n", "#!/usr/bin/env python\n", "\x7fELF", "", "#!\n"])
def test_without_such_a_line_it_is_the_working_directorys_or_our_own(spec, script, tmp_path, head):
    path = script(tmp_path / "bin/run", head)
    assert find_interpreter(spec(path), {}).path == sys.executable
    venv = script(tmp_path / ".venv/bin/python")
    assert find_interpreter(spec(path), {}).path == venv


def test_a_command_that_is_an_interpreter(spec, script, tmp_path):
    path = script(tmp_path / "v/bin/python3")
    assert find_interpreter(spec(f"{path} -m celery"), {}).path == path
