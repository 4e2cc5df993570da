"""What every engine does with an app, or an installation, that does not work."""

from __future__ import annotations

import signal

import pytest

from support.engines import Feature
from support.waiting import wait_until


@pytest.mark.needs_features(Feature.LIFESPAN)
def test_it_is_not_started_before_the_startup_is_over(start, gate):
    worker = start(env={"SLOW_STARTUP": str(gate)})
    wait_until(lambda: "starting" in worker.output(), worker.story)
    assert [one for one in worker.look() if one["kind"] == "started"] == []
    gate.touch()
    worker.started()
    assert "startup done" in worker.output()


@pytest.mark.needs_features(Feature.LIFESPAN)
def test_a_listener_that_comes_early_waits_for_the_startup(start, public, gate):
    worker, held = start(env={"SLOW_STARTUP": str(gate)}), public()
    wait_until(lambda: "starting" in worker.output(), worker.story)
    worker.tell("accept", [held.fileno()], key="web:0")
    gate.touch()
    worker.wait("accepting", key="web:0")
    assert worker.request("/", to=held).status == 200


@pytest.mark.needs_features(Feature.LIFESPAN)
def test_a_startup_that_fails_says_why(start):
    worker = start(env={"FAIL_LIFESPAN": "1"})
    failed = worker.wait("failed")
    assert failed["stage"] == "startup"
    assert "the database is away" in failed["text"]
    assert worker.exit_code() == 3
    assert "the database is away" in worker.output()


@pytest.mark.needs_features(Feature.LIFESPAN)
def test_it_leaves_at_once_while_it_starts(start, gate):
    worker = start(env={"SLOW_STARTUP": str(gate)})
    wait_until(lambda: "starting" in worker.output(), worker.story)
    worker.signal(signal.SIGTERM)
    assert worker.exit_code() == 0
    assert "startup done" not in worker.output()


def test_an_import_that_fails_shows_the_traceback(start):
    worker = start("broken:app")
    failed = worker.wait("failed")
    assert failed["stage"] == "import"
    assert "the settings are wrong" in failed["text"]
    assert "broken.py" in failed["traceback"]
    assert worker.exit_code() == 3
    assert "RuntimeError: the settings are wrong" in worker.output()


def test_an_engine_that_is_missing_says_what_to_type(start, kind, tmp_path):
    (tmp_path / f"{kind.engine}.py").write_text(
        f"raise ModuleNotFoundError('No module named {kind.engine}', name='{kind.engine}')\n"
    )
    worker = start(env={"PYTHONPATH": str(tmp_path)})
    failed = worker.wait("failed")
    assert failed["stage"] == "engine"
    assert f"-m pip install {kind.engine}" in failed["text"]
    assert worker.exit_code() == 3


def test_an_option_that_is_none_is_refused(start, kind):
    worker = start(options={"no_such_option": 1})
    failed = worker.wait("failed")
    assert failed["stage"] == "options"
    assert "no_such_option" in failed["text"]
    assert kind.engine in failed["text"]
    assert worker.exit_code() == 3


def test_certificates_that_are_not_there_are_refused(start, tmp_path):
    missing = str(tmp_path / "missing.pem")
    worker = start(ssl_certfile=missing, ssl_keyfile=missing)
    failed = worker.wait("failed")
    assert failed["stage"] == "options"
    assert worker.exit_code() == 3
