"""Workers of the app in ``apps/``, ended whatever becomes of the test."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from support.hosting import HostedWorker, HostedZygote, job, listener

APPS = Path(__file__).parent / "apps"


@pytest.fixture
def stack():
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def worker(stack):
    """Return a function that starts a worker of `apps/full.py`, or of another target."""

    def start(target: str = "full:app", *, env=None, python=None, cwd=APPS, **fields) -> HostedWorker:
        more = {"python": python} if python else {}
        return stack.enter_context(HostedWorker(job(target=target, cwd=cwd, **fields), env=env, **more))

    return start


@pytest.fixture
def zygote(stack):
    """Return a function that starts a zygote of `apps/full.py`, or of another target."""

    def start(target: str = "full:app", *, env=None, cwd=APPS, **fields) -> HostedZygote:
        return stack.enter_context(HostedZygote(job(target=target, cwd=cwd, **fields), env=env))

    return start


@pytest.fixture
def public(stack):
    """Return a function that makes a listener as the supervisor does."""

    def make(host: str = "127.0.0.1"):
        return stack.enter_context(listener(host))

    return make


@pytest.fixture
def gate(tmp_path):
    """Return a file that does not exist; what waits for it in the app goes on when the test touches it."""
    return tmp_path / "gate"
