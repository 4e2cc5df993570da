"""Well-known commands are recognised by their command line, however they are started."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oxherd.config.commandline import read_command
from oxherd.programs.program import GENERIC, Bind
from oxherd.programs.recognise import recognise


def program(line: str):
    return recognise(read_command(line))


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("uvicorn main:app", "uvicorn"),
        ("/srv/venv/bin/uvicorn main:app --workers 4", "uvicorn"),
        ("python -m uvicorn main:app", "uvicorn"),
        ("gunicorn app:app -w 3", "gunicorn"),
        ("hypercorn app", "hypercorn"),
        ("daphne app", "daphne"),
        ("granian --interface asgi main:app", "granian"),
        ("celery -A tasks worker -l info", "celery-worker"),
        ("celery --app=tasks worker", "celery-worker"),
        ("celery -Atasks worker", "celery-worker"),
        ("celery worker -A tasks", "celery-worker"),
        ("celery -A worker beat", "celery-beat"),
        ("celery -A beat worker", "celery-worker"),
        ("python -m celery -A tasks beat", "celery-beat"),
        ("poetry run celery -A tasks beat", "celery-beat"),
        ("celery multi start w1 -A tasks", "celery-multi"),
        ("celery -A tasks flower --port=5566", "celery-flower"),
        ("celery -A tasks inspect ping", "generic"),
        ("celery", "generic"),
        ("flask run", "flask-run"),
        ("flask --app shop run -p 80", "flask-run"),
        ("flask db upgrade", "generic"),
        ("python manage.py runserver", "django-runserver"),
        ("./manage.py runserver 0.0.0.0:80", "django-runserver"),
        ("python manage.py migrate", "generic"),
        ("rq worker high", "rq-worker"),
        ("rq info", "generic"),
        ("dramatiq tasks", "dramatiq"),
        ("huey_consumer app.huey", "huey"),
        ("node server.js", "generic"),
        ("python uvicorn_like.py", "generic"),
        ("echo celery worker", "generic"),
        ("sh -c 'cd /x && celery -A t worker'", "celery-worker"),
        ("source v/bin/activate && celery -A t beat", "celery-beat"),
        ("bash -lc 'A=b exec celery -A t worker >> log 2>&1'", "celery-worker"),
        ("celery -A t worker 2>&1 | tee log", "celery-worker"),
        ('bash -c "echo $X && celery -A t worker"', "celery-worker"),
        ("a; b;", "generic"),
        ("uvicorn main:app &", "uvicorn"),
    ],
)
def test_programs(line, name):
    assert program(line).name == name


@pytest.mark.parametrize(
    ("line", "binds"),
    [
        ("uvicorn a:b", ["127.0.0.1:8000"]),
        ("uvicorn a:b --host 0.0.0.0 --port 80", ["0.0.0.0:80"]),
        ("uvicorn a:b --host=:: --port=80", ["[::]:80"]),
        ("uvicorn a:b --uds /run/a.sock", ["unix:/run/a.sock"]),
        ("uvicorn a:b --fd 3", []),
        ("uvicorn a:b --port abc", []),
        ("gunicorn a:b", ["127.0.0.1:8000"]),
        (
            "gunicorn a:b -b :80 --bind unix:/a -b [::1]:81 -b fd://3 -b host",
            ["0.0.0.0:80", "[::1]:81", "host:8000", "unix:/a"],
        ),
        ("gunicorn -c conf.py a:b", []),
        ("gunicorn -c conf.py -b :80 a:b", ["0.0.0.0:80"]),
        ("hypercorn a -b 0.0.0.0:80", ["0.0.0.0:80"]),
        ("daphne a -b 0.0.0.0 -p 80", ["0.0.0.0:80"]),
        ("daphne a -u /a.sock", ["unix:/a.sock"]),
        ("daphne a --fd 3", []),
        ("granian a --host 0.0.0.0 --port 80", ["0.0.0.0:80"]),
        ("flask run", ["127.0.0.1:5000"]),
        ("flask run -h 0.0.0.0 -p 80", ["0.0.0.0:80"]),
        ("python manage.py runserver", ["127.0.0.1:8000"]),
        ("python manage.py runserver 80", ["127.0.0.1:80"]),
        ("python manage.py runserver 0.0.0.0:80", ["0.0.0.0:80"]),
        ("celery -A t flower --address=127.0.0.1", ["127.0.0.1:5555"]),
        ("celery -A t worker", []),
    ],
)
def test_addresses(line, binds):
    assert [bind.text() for bind in program(line).binds] == binds


def test_the_first_address_is_the_address():
    assert program("uvicorn a:b").bind == Bind(host="127.0.0.1", port=8000)
    assert GENERIC.bind is None


@pytest.mark.parametrize(
    ("line", "timeout"),
    [
        ("celery -A t worker", 300.0),
        ("celery -A t beat", None),
        ("gunicorn a", 35.0),
        ("gunicorn a --graceful-timeout 90", 95.0),
        ("gunicorn a --graceful-timeout 2", None),
        ("uvicorn a:b", None),
        ("uvicorn a:b --timeout-graceful-shutdown 60", 65.0),
        ("hypercorn a --graceful-timeout 20", 25.0),
        ("granian a --workers-kill-timeout 20", 25.0),
        ("rq worker", 300.0),
    ],
)
def test_the_time_a_program_needs_to_go(line, timeout):
    assert program(line).default_stop_timeout == timeout


@pytest.mark.parametrize(
    ("line", "singleton"),
    [
        ("celery -A t beat", True),
        ("celery -A t worker", False),
        ("celery -A t worker -B", True),
        ("celery -A t worker --beat", True),
    ],
)
def test_what_must_be_alone(line, singleton):
    assert program(line).singleton is singleton


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("gunicorn a --daemon", "remove --daemon"),
        ("gunicorn a -D", "remove -D"),
        ("celery -A t worker --detach", "remove --detach"),
        ("celery -A t beat -D", "remove -D"),
        ("celery multi start 2 -A t", "celery -A APP worker"),
        ("uvicorn a:b --reload", "watch = true"),
        ("gunicorn a --reload", "watch = true"),
        ("hypercorn a --reload", "watch = true"),
        ("granian a --reload", "watch = true"),
        ("dramatiq tasks --watch .", "remove --watch"),
        ("dramatiq --watch=. tasks", "remove --watch"),
        ("flask run", "app = "),
        ("python manage.py runserver", "--noreload"),
    ],
)
def test_what_works_against_a_supervisor_is_told_with_what_to_write(line, hint):
    (advice,) = program(line).advice
    assert hint in advice.hint
    assert advice.message


@pytest.mark.parametrize(
    "line", ["uvicorn a:b", "gunicorn a", "celery -A t worker", "celery -A t beat", "daphne a", "dramatiq tasks"]
)
def test_what_is_written_well_gets_no_advice(line):
    assert program(line).advice == ()


@pytest.mark.parametrize(
    ("line", "between"),
    [
        ("uvicorn a:b", False),
        ("uvicorn a:b > log", False),
        ("cd x && uvicorn a:b", True),
        ("cd x && exec uvicorn a:b", False),
        ("bash -c 'source v && uvicorn a:b'", True),
        ("bash -c 'source v && exec uvicorn a:b'", False),
        ("exec uvicorn a:b | tee log", True),
        ('bash -c "echo $X && uvicorn a:b"', True),
    ],
)
def test_a_shell_in_between_is_seen(line, between):
    assert program(line).behind_shell is between


def test_huey_is_stopped_with_the_signal_it_finishes_on():
    assert program("huey_consumer a.b").default_stop_signal == 2


WORDS = st.sampled_from(
    [
        "celery",
        "worker",
        "beat",
        "-A",
        "x",
        "uvicorn",
        "gunicorn",
        "-b",
        ":80",
        "--bind",
        "unix:",
        "flask",
        "run",
        "-p",
        "manage.py",
        "runserver",
        "99999999",
        "--port",
        "sh",
        "-c",
        "&&",
        "exec",
        "python",
        "-m",
        "--",
        "-",
        "'",
        ";",
        "env",
    ]
)


@given(st.lists(WORDS, min_size=1).map(tuple))
def test_any_words_are_recognised_as_something(words):
    """Recognition never fails: what it cannot read is a generic program."""
    from oxherd.config.model import Command

    found = recognise(Command(text="", argv=words))
    assert found.name
    assert all(bind.path or 0 <= bind.port <= 65535 for bind in found.binds)
