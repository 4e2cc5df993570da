"""What an interpreter says it has."""

from __future__ import annotations

import os
import sys
from importlib import metadata

import pytest

from oxherd.programs.caller import Caller
from oxherd.programs.describing import Question
from oxherd.programs.probes import BLIND, Probes

CALLER = Caller(environ=dict(os.environ))


def answering(script, tmp_path, body: str) -> str:
    """A file that is run in place of an interpreter."""
    return script(tmp_path / "python", f"#!/bin/sh\n{body}\n")


def test_an_interpreter_says_what_it_has():
    found = Probes().installed(sys.executable, CALLER)
    assert found.version == sys.version_info[:3]
    assert found.version_text == ".".join(map(str, sys.version_info[:3]))
    assert found.packages["uvicorn"] == metadata.version("uvicorn")
    names = [name for name, _ in found.engines]
    assert names == [name for name in ("uvicorn", "gunicorn", "granian", "hypercorn", "a2wsgi") if name in names]


def test_a_package_without_metadata_is_found_too(script, tmp_path):
    bare = script(tmp_path / "bin/python", f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    (tmp_path / "hypercorn.py").write_text("raise SystemExit('nobody imports this')\n")
    probes = Probes()
    assert probes.installed(bare, CALLER).packages == {}
    more = Caller(environ={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert probes.installed(bare, more).packages == {"hypercorn": ""}, "PYTHONPATH is part of the question"


def test_the_working_directory_does_not_answer(tmp_path, monkeypatch):
    """Its json.py is not the one that is meant."""
    (tmp_path / "json.py").write_text("raise SystemExit(1)\n")
    monkeypatch.chdir(tmp_path)
    assert Probes().installed(sys.executable, CALLER) is not None


def test_each_question_is_asked_once(script, tmp_path):
    answer = '{"python": [3, 12, 0], "packages": {"uvicorn": "1"}}'
    python = answering(script, tmp_path, f"echo x >> {tmp_path}/asked; echo chatter; echo '{answer}'")
    probes = Probes()
    assert probes.installed(python, CALLER).engines == (("uvicorn", "1"),)
    assert probes.installed(python, CALLER).version == (3, 12, 0)
    assert (tmp_path / "asked").read_text() == "x\n"


@pytest.mark.parametrize(
    "body", ["exit 1", 'echo \'{"python": [3], "packages": {}}\'; exit 1', "echo nonsense", "true"]
)
def test_what_does_not_answer_is_not_known(script, tmp_path, body):
    assert Probes().installed(answering(script, tmp_path, body), CALLER) is None


def test_what_does_not_answer_in_time_is_not_known(script, tmp_path):
    assert Probes(patience=0.2).installed(answering(script, tmp_path, "exec sleep 60"), CALLER) is None


def test_what_is_not_there_is_not_known():
    assert Probes().installed("/nowhere/python", CALLER) is None


def test_a_server_is_asked_once_and_only_where_it_is(script, tmp_path):
    answer = '{"ok": true, "workers": 3}'
    python = answering(script, tmp_path, f"echo x >> {tmp_path}/asked; cat > {tmp_path}/job; echo '{answer}'")
    question = Question(engine="gunicorn", python=python, args=("-w", "3"), cwd=str(tmp_path))
    probes = Probes()
    assert probes.described(question, CALLER).values["workers"] == 3
    assert probes.described(question, CALLER).values["workers"] == 3
    assert (tmp_path / "asked").read_text() == "x\n"
    assert Probes(describing=None).described(question, CALLER) is None
    absent = Question(engine="gunicorn", python="/nowhere/python", cwd=str(tmp_path))
    assert probes.described(absent, CALLER) is None
    assert probes.described(Question(engine="gunicorn", python=python, cwd="/nowhere"), CALLER) is None


def test_the_blind_know_nothing(tmp_path):
    assert BLIND.installed(sys.executable, CALLER) is None
    assert BLIND.described(Question(engine="gunicorn", python=sys.executable, cwd=str(tmp_path)), CALLER) is None
