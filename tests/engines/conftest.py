"""Workers of every engine, exec'd as the supervisor does it. A test names the features it needs with `on`."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from support.engines import kinds
from support.hosting import HostedWorker, job, listener

APPS = Path(__file__).parent / "apps"


def pytest_generate_tests(metafunc):
    if "kind" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("needs_features")
        found = kinds(*(mark.args if mark else ()))
        metafunc.parametrize("kind", found, ids=[kind.name.replace(" ", "-") for kind in found])


@pytest.fixture
def stack():
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def start(stack, kind):
    """Return a function that starts a worker of the kind."""

    def start(target=None, *, env=None, cwd=APPS, options=None, **fields) -> HostedWorker:
        settings = job(
            kind.engine,
            target=target or kind.target,
            cwd=cwd,
            interface=kind.interface,
            options={**kind.options, **(options or {})},
            **fields,
        )
        return stack.enter_context(HostedWorker(settings, env=env))

    return start


@pytest.fixture
def public(stack):
    """Return a function that makes a listener as the supervisor does."""
    return lambda host="127.0.0.1": stack.enter_context(listener(host))


@pytest.fixture
def serving(start, public):
    """Return a function that starts a worker and gives it a listener: (worker, listener)."""

    def serve(**fields):
        worker, held = start(**fields), public()
        worker.started()
        worker.accept("web:0", held)
        return worker, held

    return serve


@pytest.fixture
def gate(tmp_path):
    """Return a file that does not exist; what waits for it in the app goes on when the test touches it."""
    return tmp_path / "gate"
