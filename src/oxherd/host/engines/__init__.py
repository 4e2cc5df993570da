"""The engines: one module each, imported only in a worker that uses it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import TYPE_CHECKING, cast

from .base import EngineError

if TYPE_CHECKING:
    from .base import Loader

__all__ = ["ENGINES", "choose", "load"]

# Engine to the package to install for it.
ENGINES = {"uvicorn": "uvicorn", "gunicorn": "gunicorn", "granian": "granian", "hypercorn": "hypercorn"}

# Which engine serves an app whose oxfile names none, the best one first, and what has to be importable for it.
_FITTING = {
    "asgi": (("uvicorn", ("uvicorn",)), ("granian", ("granian",)), ("hypercorn", ("hypercorn",))),
    "wsgi": (
        ("gunicorn", ("gunicorn",)),
        ("uvicorn", ("uvicorn", "a2wsgi")),
        ("granian", ("granian",)),
        ("hypercorn", ("hypercorn",)),
    ),
}


def choose(interface: str) -> str:
    """Return the best engine of this interpreter for an interface, "asgi" or "wsgi".

    Raises:
        EngineError: None is installed.
    """
    for name, needed in _FITTING[interface]:
        if all(importlib.util.find_spec(module) is not None for module in needed):
            return name
    best = _FITTING[interface][0][0]
    raise EngineError(
        f"no engine for {interface.upper()} is installed in {sys.executable}; "
        f"type: {sys.executable} -m pip install {ENGINES[best]}"
    )


def load(name: str) -> Loader:
    """Import the module of an engine and return it.

    Raises:
        EngineError: There is no such engine, or its library is not installed in this interpreter.
    """
    if name not in ENGINES:
        raise EngineError(f"there is no engine {name!r}; there are {', '.join(ENGINES)}")
    try:
        return cast("Loader", importlib.import_module(f".{name}", __package__))
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != name:
            raise
        raise EngineError(_missing(name)) from error


def _missing(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - for this text alone

    there = []
    for other, package in ENGINES.items():
        try:
            there.append(f"{other} {version(package)}")
        except PackageNotFoundError:
            continue
    found = f"installed there: {', '.join(there)}; set `server =` to use one of them, or" if there else "type:"
    return f"{name} is not installed in {sys.executable}; {found} {sys.executable} -m pip install {ENGINES[name]}"
