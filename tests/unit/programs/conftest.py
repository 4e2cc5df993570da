"""Oxfiles compiled."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from oxherd.programs.compiled import compile_stack

# How fast a machine under load generates examples says nothing about the code.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture
def compiled(tmp_path):
    """Write an oxfile, readable by its owner only, and compile it."""

    def _compiled(text: str, *, environ=None, **options):
        path = tmp_path / "oxfile.toml"
        path.write_text(text)
        path.chmod(0o600)
        return compile_stack(str(path), environ=environ or {}, **options)

    return _compiled


@pytest.fixture
def script():
    """Write an executable file and return its path."""

    def _script(path, text: str = "#!/bin/sh\n") -> str:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
        return str(path)

    return _script
