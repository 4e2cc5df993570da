"""Modules that are loaded by the first who asks them for something."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import metadata

import pytest

import oxherd
from oxherd.deferred import PACKAGES, defer


@pytest.fixture
def unloaded():
    """A module of the standard library that nobody here has loaded."""
    name = "this"
    known = sys.modules.pop(name, None)
    yield name
    sys.modules.pop(name, None)
    if known is not None:
        sys.modules[name] = known


def test_it_is_loaded_in_its_place_by_the_first_who_asks(unloaded, capsys):
    defer(unloaded)
    import this

    assert capsys.readouterr().out == ""
    assert this.d["a"] == "n"
    assert capsys.readouterr().out.startswith("The Zen")
    assert sys.modules[unloaded] is not this
    assert this.d is sys.modules[unloaded].d


def test_what_it_does_not_have_is_missing_in_it_as_well(unloaded):
    defer(unloaded)
    with pytest.raises(AttributeError, match="no attribute 'that'"):
        sys.modules[unloaded].that  # noqa: B018 - the asking is it


def test_one_that_could_not_be_loaded_is_loaded_by_the_next_who_asks(monkeypatch, unloaded, capsys):
    defer(unloaded)
    import this

    with monkeypatch.context() as patch:
        patch.setattr("builtins.__import__", lambda *_: (_ for _ in ()).throw(OSError("no descriptor")))
        with pytest.raises(OSError, match="no descriptor"):
            this.d  # noqa: B018 - the asking is it
    assert sys.modules[unloaded] is this
    assert this.d["a"] == "n"
    assert capsys.readouterr().out.startswith("The Zen")


def test_what_is_loaded_already_stays():
    before = sys.modules["os"]
    defer("os")
    assert sys.modules["os"] is before


def test_a_supervisor_can_make_dataclasses_without_the_grammar_of_python():
    """What asks for a text still gets it."""
    code = (
        "from oxherd.deferred import defer; defer('inspect'); import sys, dataclasses\n"
        "print('ast' in sys.modules)\n"
        "@dataclasses.dataclass\nclass Bare: x: int\n"
        "print('ast' in sys.modules, Bare.__doc__)\n"
    )
    said = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == ["False", "True Bare(x: int)"]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_found_without_site_all_the_same(package):
    """As where Oxherd is installed for development, or its packages in another directory than itself."""
    place = os.path.dirname(os.path.dirname(oxherd.__file__))
    code = (
        f"import sys; sys.path.append({place!r})\n"
        "from oxherd.deferred import site_when_needed; site_when_needed()\n"
        "try:\n    import no_such_package\nexcept ModuleNotFoundError:\n    print('site' in sys.modules)\n"
        f"import {package}\nprint({package}.__name__)\n"
        "print(any(type(finder).__name__ == '_Site' for finder in sys.meta_path))\n"
    )
    command = [sys.executable, "-I", "-S", "-c", code]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == ["False", package, "False"]


def test_packages_are_all_that_the_supervisor_imports_of_others():
    """Each import of one, in what the supervisor may load, is of a package that is looked for."""
    place = os.path.dirname(oxherd.__file__)
    found = set()
    for part in ("config", "control", "core", "daemon", "system"):
        for folder, _, files in os.walk(os.path.join(place, part)):
            for name in (name for name in files if name.endswith(".py")):
                with open(os.path.join(folder, name), encoding="utf-8") as file:
                    found |= set(re.findall(r"^ *(?:import|from) (\w+)", file.read(), re.MULTILINE))
    installed = set(metadata.packages_distributions())
    assert found & installed - {"oxherd"} <= {*PACKAGES}
