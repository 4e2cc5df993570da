"""What a server says of its own configuration."""

from __future__ import annotations

import json

import pytest

from oxherd.programs.caller import Caller
from oxherd.programs.describing import Question, describe

CALLER = Caller(environ={"PATH": "/usr/bin:/bin", "MARK": "here"})


@pytest.fixture
def ask(script, tmp_path):
    """Ask a program that answers like this."""

    def _ask(body: str, patience: float = 10.0):
        python = script(tmp_path / "python", f"#!/bin/sh\n{body}\n")
        question = Question(
            engine="gunicorn", python=python, options=("-O",), args=("a:b", "-w", "2"), cwd=str(tmp_path)
        )
        return describe(question, CALLER, patience)

    return _ask


def test_the_question_is_a_job_on_stdin(ask, tmp_path):
    found = ask(
        f'echo "$@" > {tmp_path}/argv; cat > {tmp_path}/job; echo "a configuration prints"; echo \'{{"ok": true}}\''
    )
    assert (found.error, found.values) == ("", {"ok": True})
    job = json.loads((tmp_path / "job").read_text())
    assert job == {"engine": "gunicorn", "source": "command", "argv": ["a:b", "-w", "2"], "cwd": str(tmp_path)}
    option, boot, role = (tmp_path / "argv").read_text().split()
    assert (option, boot.endswith("/oxherd/host/boot.py"), role) == ("-O", True, "describe")


def test_it_is_asked_where_and_with_what_it_would_run(ask, tmp_path):
    assert ask('printf \'{"ok": true, "at": "%s", "mark": "%s"}\' "$PWD" "$MARK"').values == {
        "ok": True,
        "at": str(tmp_path),
        "mark": "here",
    }


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ('echo \'{"ok": false, "text": "no such option: --wrkers"}\'', "no such option: --wrkers"),
        ("echo '{\"ok\": false}'", "it refuses its configuration"),
        ("echo Traceback >&2; echo ValueError: x >&2; exit 1", "ValueError: x"),
        ("exit 7", "it ended with exit code 7"),
        ("echo nonsense", "it ended with exit code 0"),
    ],
)
def test_why_there_is_no_answer(ask, body, error):
    found = ask(body)
    assert (found.error, found.values) == (error, {})


def test_a_configuration_that_hangs(ask):
    assert ask("exec sleep 60", patience=0.2).error == "it did not read its configuration within 0.2 s"


def test_what_cannot_be_run(tmp_path):
    found = describe(Question(engine="gunicorn", python="/nowhere/python", cwd=str(tmp_path)), CALLER)
    assert found.error.startswith("/nowhere/python cannot be run")
