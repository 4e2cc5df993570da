"""Where the peers are, the environment they get, and why one of them is not there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

__all__ = ["BENCH", "BIN", "CHECKOUT", "RESULTS", "absent", "environment", "executable", "scrubbed"]

BENCH = Path(__file__).resolve().parent.parent
CHECKOUT = BENCH.parent
BIN = BENCH / ".venv" / "bin"
RESULTS = BENCH / "results"
SKIPPED = BENCH / ".skipped"
SEARCHED = (BIN, BENCH / "node_modules" / ".bin", BENCH / ".cargo" / "bin")


def executable(name: str) -> Path | None:
    """Return the program: of the benchmark's own installs, else of the system."""
    for folder in SEARCHED:
        if os.access(folder / name, os.X_OK):
            return folder / name
    found = shutil.which(name)
    return Path(found) if found else None


def absent(name: str, package: str | None = None) -> str | None:
    """Return why a program cannot be measured, None if it can; ``bench/setup`` left a note where an install failed."""
    if executable(name):
        return None
    note = SKIPPED / (package or name)
    return note.read_text().strip() if note.exists() else f"{name} is not installed"


def environment(folder: Path) -> dict[str, str]:
    """Return what every measured command gets: nothing of the caller's Python, byte code cached, homes of its own.

    Byte code is cached because it is where these programs are installed.
    """
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "OXHERD", "OXMGR", "PM2"))}
    own = {"OXHERD_HOME": folder / "home", "OXMGR_HOME": folder / "oxmgr", "PM2_HOME": folder / "pm2"}
    return {**kept, **{key: str(value) for key, value in own.items()}}


def scrubbed(text: str) -> str:
    """Return a message without the places of this machine."""
    for place, word in ((str(CHECKOUT), "."), (os.path.expanduser("~"), "~")):
        text = text.replace(place, word)
    return text
