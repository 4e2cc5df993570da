"""The supervisor stays small because of what it does not import."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {
    "argparse",
    "asyncio",
    "click",
    "concurrent.futures",
    "cronsim",
    "ctypes",
    "dataclasses",
    "datetime",
    "email",
    "h11",
    "http",
    "logging",
    "msgspec",
    "multiprocessing",
    "pathlib",
    "rich",
    "shutil",
    "ssl",
    "tempfile",
    "tomllib",
    "typing",
    "urllib",
    "watchfiles",
    "zoneinfo",
}
# What the interpreter itself has loaded by then (site, .pth files) is not the supervisor's doing.
SCRIPT = """
import sys, json
before = set(sys.modules)
import {module}
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def loaded_by(module: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-I", "-c", SCRIPT.format(module=module)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"importing {module} failed:\n{done.stderr}"
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("module", ["oxherd.daemon.main"])
def test_the_supervisor_imports_nothing_heavy(module):
    """Every megabyte of the supervisor is paid for by every machine it runs on."""
    loaded = loaded_by(module)
    assert module in loaded
    assert "selectors" in loaded, "the supervisor's loop was not among what was imported"
    assert not loaded & HEAVY


def test_nobody_needs_what_is_deferred():
    """One dataclass without a text is enough to load the whole grammar of Python."""
    code = "from oxherd.deferred import UNNEEDED, defer; defer(*UNNEEDED); import oxherd.daemon.main"
    loaded = loaded_by(f"sys; {code}")
    assert "oxherd.daemon.main" in loaded
    assert not loaded & {"ast", "dis", "linecache", "tokenize", "encodings.idna"}


@pytest.mark.parametrize("module", ["oxherd.cli.quick"])
def test_status_needs_no_command_line_library(module):
    """`oxherd status` is run by people in a hurry and by scripts in a loop."""
    loaded = loaded_by(module)
    assert module in loaded
    assert not loaded & {"click", "rich", "msgspec", "asyncio", "tomllib"}
