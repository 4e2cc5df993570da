"""Commands of another user of the machine: a child that became ``nobody`` before it ran anything."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

import oxherd
from support.harness import Result
from support.waiting import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from support.harness import Supervised

__all__ = ["GROUP", "PATHS", "STRANGER", "Stranger", "needs_root", "open_to_all", "python_of_others"]

STRANGER = 65534
GROUP = 65534

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")


# Where an interpreter that is not ours finds Oxherd and what the tests run.
PATHS = os.pathsep.join(dict.fromkeys(str(Path(module.__file__ or "").parent.parent) for module in (oxherd, click)))


def as_stranger(argv: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    """Run a program as ``nobody``, with none of root's groups."""
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        argv,
        user=STRANGER,
        group=GROUP,
        extra_groups=[],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="backslashreplace",
        timeout=2 * DEADLINE,
        check=False,
        **options,
    )


def python_of_others() -> str:
    """Return a Python of our version that every user may run, with `PATHS` as its PYTHONPATH; skip where there is none.

    The one that runs the tests may lie in root's own directory, which nobody else can enter.
    """
    version = f"python3.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        try:
            done = as_stranger([python, "-c", "import oxherd, click"], cwd="/", env={"PYTHONPATH": PATHS})
        except OSError:
            continue
        if done.returncode == 0:
            return python
    pytest.skip(f"needs root, and a {version} and an Oxherd that other users may read")


def open_to_all(*paths: object) -> None:
    """Let every user pass (and list) directories."""
    for path in paths:
        os.chmod(str(path), 0o755)


class Stranger:
    """``nobody``, who can read the stack's folder and calls Oxherd with the OXHERD_HOME of somebody else."""

    def __init__(self, ox: Supervised) -> None:
        """Open the folders above the home, and nothing of the home itself."""
        self.ox = ox
        self.name = pwd.getpwuid(STRANGER).pw_name
        self.python = python_of_others()
        open_to_all(ox.base, ox.folder)
        self.env = {**ox.env, "HOME": "/", "XDG_CONFIG_HOME": "/nonexistent", "PYTHONPATH": PATHS}

    def run(
        self, argv: list[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program as the stranger."""
        return as_stranger(argv, cwd=cwd or self.ox.folder, env={**self.env, **(env or {})})

    def oxherd(self, *arguments: str, env: Mapping[str, str] | None = None) -> Result:
        """Run ``oxherd`` as the stranger."""
        done = self.run([self.python, "-P", "-m", "oxherd", *arguments], env=env)
        result = Result(arguments, done.returncode, done.stdout, done.stderr)
        self.ox.commands.append(result)
        return result
