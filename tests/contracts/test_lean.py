"""The supervisor stays small because of what it does not import."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest

from oxherd.cli import bootstrap
from oxherd.deferred import SELDOM, UNNEEDED

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
    "json",
    "logging",
    "msgspec",
    "multiprocessing",
    "pathlib",
    "re",
    "rich",
    "shutil",
    "socket",
    "ssl",
    "subprocess",
    "tempfile",
    "threading",
    "tomllib",
    "typing",
    "urllib",
    "watchfiles",
    "zoneinfo",
}
# Bytes: what it is with the Python that needs most, 3.13, and a little; 3.11 needs 4.2 million. It was 6.5 million with generated
# methods, json, re and socket.
MOST = 5_100_000

# What the interpreter itself has loaded by then (site, .pth files) is not the supervisor's doing; what is deferred is not loaded.
SCRIPT = """
import sys, json
before = set(sys.modules)
{first}
import {module}
loaded = (name for name, module in sys.modules.items() if type(module).__name__ != "_Deferred")
print(json.dumps(sorted(set(loaded) - before)))
"""
# As the program of the supervisor begins.
DEFERRING = "from oxherd.deferred import SELDOM, UNNEEDED, defer; defer(*UNNEEDED, *SELDOM)"


def loaded_by(module: str, first: str = "") -> set[str]:
    code = SCRIPT.format(module=module, first=first)
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"importing {module} failed:\n{done.stderr}"
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("module", ["oxherd.daemon.main"])
def test_the_supervisor_imports_nothing_heavy(module):
    """Every megabyte of the supervisor is paid for by every machine it runs on."""
    loaded = loaded_by(module, first=DEFERRING)
    assert module in loaded
    assert "selectors" in loaded, "the supervisor's loop was not among what was imported"
    assert not loaded & HEAVY


def test_what_the_supervisor_imports_has_a_size():
    """No single import is heavy, and a hundred light ones are: this is all of them, classes, functions and texts."""
    code = (
        f"import gc, sys, _tracemalloc; sys.path[:0] = {sys.path!r}; _tracemalloc.start(1); {DEFERRING}\n"
        "import oxherd.daemon.main; gc.collect(); print(_tracemalloc.get_traced_memory()[0])"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 1_000_000 < int(done.stdout) < MOST


def test_a_supervisor_is_started_without_site():
    assert bootstrap.daemon_command()[1:3] == ["-P", "-S"]


def test_nobody_needs_what_is_deferred():
    """One name taken out of a deferred module at import is enough to load it, and what it imports."""
    loaded = loaded_by("oxherd.daemon.main", first=DEFERRING)
    assert "oxherd.daemon.main" in loaded
    assert not loaded & {*UNNEEDED, *SELDOM}
    assert not loaded & {"ast", "dis", "linecache", "tokenize", "encodings.idna"}


def test_what_is_deferred_of_ours_is_there():
    """A module that is renamed would be deferred in vain."""
    assert all(importlib.util.find_spec(name) for name in SELDOM)


def test_an_idle_supervisor_asks_for_nothing_that_is_deferred():
    """The parts of a supervisor that runs programs without checks, schedules and watched files are all it has."""
    code = f"""
import json, os, sys, tempfile
{DEFERRING}
from oxherd.control.paths import Home
from oxherd.daemon.assembly import Assembly
from oxherd.daemon.options import parse_options
with tempfile.TemporaryDirectory() as place:
    home = Home(runtime=place, state=place)
    assembly = Assembly(home, parse_options([]), version="1")
    assembly.open()
    assembly.leave(0)
    assembly.run()
    assembly.close()
print(json.dumps([name for name in SELDOM if type(sys.modules[name]).__name__ != "_Deferred"]))
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize("module", ["oxherd.cli.quick"])
def test_status_needs_no_command_line_library(module):
    """`oxherd status` is run by people in a hurry and by scripts in a loop."""
    loaded = loaded_by(module)
    assert module in loaded
    assert not loaded & {
        "click",
        "dataclasses",
        "enum",
        "json",
        "re",
        "rich",
        "msgspec",
        "asyncio",
        "socket",
        "tomllib",
    }
