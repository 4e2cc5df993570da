"""Error codes are stable names: each stands for one thing, and all are in the catalogue."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def generate_errors(root):
    path = Path(root) / "scripts" / "generate_errors.py"
    spec = importlib.util.spec_from_file_location("generate_errors", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["generate_errors"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["generate_errors"]


def test_every_code_is_in_the_catalogue(generate_errors, root):
    """Somebody who searches for a code finds it."""
    page = (root / "docs/reference/errors.md").read_text()
    codes = generate_errors.scan()
    assert len(codes) > 20
    assert [code for code in codes if f"### {code}\n" not in page] == []


def test_a_code_is_the_default_of_one_class_only(generate_errors):
    """Two classes with one code could not be told apart by a program."""
    shared = {code: entry.classes for code, entry in generate_errors.scan().items() if len(entry.classes) > 1}
    assert shared == {}


def test_every_code_of_the_configuration_has_a_meaning(generate_errors):
    """OX1xx are read most; each has one line that says what it is about."""
    codes = generate_errors.scan()
    assert [code for code, entry in codes.items() if code.startswith("OX1") and not entry.meaning] == []


def test_the_first_digit_tells_the_exit_code():
    """OX1xx and OX2xx are the caller's mistakes (2), OX3xx is no supervisor (3), the others are failures (1)."""
    from oxherd import errors

    expected = {"0": 1, "1": 2, "2": 2, "3": 3, "4": 1, "5": 1, "6": 1}
    for name in errors.__all__:
        kind = getattr(errors, name)
        if isinstance(kind, type) and issubclass(kind, errors.OxherdError):
            assert kind.exit_code == expected[kind.code[2]], name
