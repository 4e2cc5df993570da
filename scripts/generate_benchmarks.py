"""The report of the benchmarks, its charts and the table of README.md, made from the committed results."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

__all__ = ["pages"]

BENCH = Path(__file__).resolve().parent.parent / "bench"


def pages() -> dict[str, str]:
    """Return every file by its path."""
    if str(BENCH) not in sys.path:
        sys.path.append(str(BENCH))
    made: dict[str, str] = importlib.import_module("report").pages()
    return made
