"""A program's own needs fill in what the oxfile leaves open, and nothing else."""

from __future__ import annotations

import pytest

from oxherd.config.commandline import read_command
from oxherd.config.model import AppSpec, ProcessKind, ProcessSpec, StopSpec
from oxherd.programs.applied import apply_program


def spec(line: str, **fields) -> ProcessSpec:
    return ProcessSpec(name="p", command=read_command(line), working_dir="/", **fields)


def test_a_celery_worker_gets_time_to_finish_and_says_so():
    changed, notes = apply_program(spec("celery -A t worker"), ())
    assert (changed.program, changed.stop.timeout) == ("celery-worker", 300.0)
    assert "stop_timeout is 5 min, the default for Celery worker" in notes


def test_celery_beat_is_a_singleton():
    changed, notes = apply_program(spec("celery -A t beat"), ())
    assert (changed.program, changed.singleton) == ("celery-beat", True)
    assert any("singleton" in note for note in notes)
    assert changed.stop == StopSpec()


def test_what_the_oxfile_says_stays():
    own = spec("celery -A t worker -B", stop=StopSpec(timeout=2.0))
    changed, notes = apply_program(own, {"stop_timeout", "singleton"})
    assert (changed.stop.timeout, changed.singleton) == (2.0, False)
    assert not any("default" in note for note in notes)


def test_a_signal_that_finishes_the_work():
    changed, _ = apply_program(spec("huey_consumer a.b"), ())
    assert changed.stop.signal == 2
    kept, _ = apply_program(spec("huey_consumer a.b"), {"stop_signal"})
    assert kept.stop.signal == 15


@pytest.mark.parametrize("line", ["node server.js", "./run"])
def test_an_unknown_program_is_left_alone(line):
    own = spec(line)
    assert apply_program(own, ()) == (own, ())


def test_an_app_is_left_alone():
    own = ProcessSpec(name="p", kind=ProcessKind.APP, app=AppSpec(target="m:a"), working_dir="/")
    assert apply_program(own, ()) == (own, ())
