"""Modules that are loaded by the first who asks them for something."""

from __future__ import annotations

import subprocess
import sys

import pytest

from oxherd.deferred import defer


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
