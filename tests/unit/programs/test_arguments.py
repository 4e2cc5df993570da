"""Other people's command lines, taken apart."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oxherd.programs.arguments import Options, unwrap

VALUED = frozenset({"--host", "-b", "-w"})


def options(text: str) -> Options:
    return Options(tuple(shlex.split(text)), VALUED)


def test_options_and_words_are_told_apart():
    read = options("run --host h --flag word -b=1 -w2 -Db 3 -- --host x")
    assert read.words == ["run", "word", "--host", "x"]
    assert read.last("--host") == "h"
    assert read.every("-b") == ["1", "3"]
    assert read.last("-w") == "2"
    assert read.has("--flag")
    assert read.has("-D", "--daemon")
    assert not read.has("--other")
    assert read.last("--other") is None


@pytest.mark.parametrize(
    ("text", "number"), [("-w 4", 4.0), ("-w x", None), ("-w", None), ("", None), ("-w 1 -w 2", 2.0)]
)
def test_numbers(text, number):
    assert options(text).number("-w") == number


@pytest.mark.parametrize(
    ("line", "name", "args", "wrapper"),
    [
        ("celery -A x worker", "celery", "-A x worker", ""),
        ("/v/bin/celery -A x worker", "celery", "-A x worker", ""),
        ("python -m celery -A x", "celery", "-A x", "python -m"),
        ("/v/bin/python3.11 -u -m celery beat", "celery", "beat", "python3.11 -u -m"),
        ("python -X dev -W error -m uvicorn a:b", "uvicorn", "a:b", "python -X dev -W error -m"),
        ("python -um gunicorn a", "gunicorn", "a", "python -um"),
        ("python /v/bin/celery worker", "celery", "worker", "python"),
        ("python manage.py runserver", "manage.py", "runserver", "python"),
        ("python -c pass", "python", "-c pass", ""),
        ("pypy3 -m celery", "celery", "", "pypy3 -m"),
        ("poetry run celery worker", "celery", "worker", "poetry run"),
        ("uv run celery worker", "celery", "worker", "uv run"),
        ("uv run --frozen --with redis celery worker", "celery", "worker", "uv run --frozen --with redis"),
        ("uv --project x run -m celery worker", "celery", "worker", "uv --project x run -m"),
        ("uv run python -m celery worker", "celery", "worker", "uv run python -m"),
        ("uv pip install x", "uv", "pip install x", ""),
        ("pipenv run uvicorn a:b", "uvicorn", "a:b", "pipenv run"),
        ("env A=b -u C celery worker", "celery", "worker", "env A=b -u C"),
        ("env A=b/c X=1 celery", "celery", "", "env A=b/c X=1"),
        ("A=b/c celery", "celery", "", "c"),
        ("exec celery worker", "celery", "worker", "exec"),
        ("nice -n 5 celery worker", "celery", "worker", "nice -n 5"),
        ("timeout -s INT 30 celery worker", "celery", "worker", "timeout -s INT 30"),
        ("tini -- celery worker", "celery", "worker", "tini --"),
        ("gosu app celery worker", "celery", "worker", "gosu app"),
        ("ddtrace-run uvicorn a:b", "uvicorn", "a:b", "ddtrace-run"),
        ("newrelic-admin run-program gunicorn a", "gunicorn", "a", "newrelic-admin run-program"),
        ("env", "env", "", ""),
        ("python", "python", "", ""),
        ("poetry install", "poetry", "install", ""),
    ],
)
def test_what_wraps_a_program_is_taken_off(line, name, args, wrapper):
    found, rest, before = unwrap(tuple(shlex.split(line)))
    assert (found, " ".join(rest)) == (name, args)
    assert before == wrapper


@given(st.lists(st.sampled_from(["env", "A=b", "-m", "python", "uv", "run", "--", "-n", "nice", "x", "-c", "timeout"])))
def test_any_words_come_to_an_end(words):
    name, args, _ = unwrap(tuple(words))
    assert len(args) < len(words) or not words
    assert isinstance(name, str)
