"""The scripts a newcomer runs first are executable, portable shell."""

from __future__ import annotations

import os
import subprocess

import pytest

SCRIPTS = [
    "scripts/setup",
    "scripts/debian-packages",
    "scripts/check-container",
    "scripts/demo",
    "scripts/test",
    "scripts/generate",
    "bench/setup",
    "bench/run",
    ".ci/run",
]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_executable_and_reads_as_posix_shell(root, name):
    path = root / name
    assert os.access(path, os.X_OK)
    assert path.read_text().startswith("#!/bin/sh\n")
    done = subprocess.run(["sh", "-n", str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_setup_refuses_what_it_does_not_know(root):
    """A mistyped word must not install the wrong thing."""
    done = subprocess.run([str(root / "scripts/setup"), "everything"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage: ./scripts/setup [demo|test]" in done.stderr


def test_setup_names_what_it_looked_at_when_there_is_no_python(root, tmp_path):
    """A machine without Python 3.11 is told so, not shown a traceback."""
    checkout = tmp_path / "checkout"
    (checkout / "scripts").mkdir(parents=True)
    (checkout / "pyproject.toml").write_text((root / "pyproject.toml").read_text())
    script = checkout / "scripts/setup"
    script.write_text((root / "scripts/setup").read_text())
    script.chmod(0o755)
    environ = {"PATH": "/usr/bin:/bin", "PYTHON": "python-that-is-not-there"}
    done = subprocess.run([str(script), "demo"], capture_output=True, text=True, check=False, env=environ)
    assert done.returncode == 1
    assert "no Python 3.11 or newer" in done.stderr
    assert "python-that-is-not-there" in done.stderr
    assert not (checkout / ".venv").exists()
