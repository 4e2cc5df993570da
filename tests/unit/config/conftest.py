"""An oxfile on disk, and what is read of it."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from oxherd.config.oxfile import load
from oxherd.errors import ConfigError

# How fast a machine under load generates examples says nothing about the code.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture
def write(tmp_path):
    """Write a file below the test's folder, readable by its owner only, and return its path."""

    def _write(text: str, name: str = "oxfile.toml", mode: int = 0o600) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return str(path)

    return _write


@pytest.fixture
def read(write):
    """Write an oxfile and load it."""

    def _read(text: str, *, environ=None, **options):
        return load(write(text), environ={"HOME": "/home/me", **(environ or {})}, **options)

    return _read


@pytest.fixture
def one(read):
    """Load an oxfile of one process and return its spec."""

    def _one(text: str, **options):
        (spec,) = read(text, **options).oxfile.processes
        return spec

    return _one


@pytest.fixture
def refused(read):
    """Load an oxfile that is wrong and return its problems as (code, line, key)."""

    def _refused(text: str, **options):
        with pytest.raises(ConfigError) as caught:
            read(text, **options)
        return [(p.code, p.line, p.key) for p in caught.value.problems if p.severity == "error"]

    return _refused


@pytest.fixture
def the_problem(read):
    """Load an oxfile with one error and return it."""

    def _problem(text: str, **options):
        with pytest.raises(ConfigError) as caught:
            read(text, **options)
        (problem,) = [p for p in caught.value.problems if p.severity == "error"]
        return problem

    return _problem


@pytest.fixture
def folder(tmp_path):
    return os.fspath(tmp_path)
