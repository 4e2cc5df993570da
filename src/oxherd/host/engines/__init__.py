"""The engines: one module each, imported only in a worker that uses it."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, cast

from .base import EngineError

if TYPE_CHECKING:
    from .base import Loader

__all__ = ["ENGINES", "load"]

# Engine to the package to install for it.
ENGINES = {"uvicorn": "uvicorn", "gunicorn": "gunicorn", "granian": "granian", "hypercorn": "hypercorn"}


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
