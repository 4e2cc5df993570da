"""A full disk degrades the supervisor; it never stops it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from support.harness import program
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.needs_root


@contextlib.contextmanager
def small_disk(path: Path, size: str) -> Iterator[None]:
    """A file system of its own that is soon full; skips where none can be mounted."""
    path.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "none", str(path)], capture_output=True, check=False
    )
    if made.returncode != 0:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.fixture
def disk(ox) -> Iterator[Path]:
    """A megabyte for the logs of the test."""
    path = ox.base / "disk"
    with small_disk(path, "1m"):
        yield path


def fill(disk: Path) -> Path:
    """Leave no byte free."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 4096)
    return ballast


def test_a_full_log_disk_drops_counted_lines_and_recovers(ox, disk):
    """The supervisor lives, says what it could not write, counts what it dropped, and goes on when there is room."""
    go = ox.base / "go"
    ox.oxfile(f'[processes.web]\ncommand = "{program("counts", 40_000, 200, go)}"\nlog_file = "{disk}/web.log"\n')
    ballast = fill(disk)
    ox.ok("start")
    trouble = ox.wait("log-trouble", name="web")
    assert "No space left on device" in trouble["text"]
    assert ox.row("web")["status"] == "running"
    go.touch()
    ox.ok("status")
    ballast.unlink()
    ox.wait("log-recovered", name="web")
    log = disk / "web.log"
    wait_until(lambda: b"lines dropped" in log.read_bytes(), "the count in the log")
    os.kill(ox.pid("web"), signal.SIGKILL)
    ox.wait("started", name="web", incarnation=2)
    ox.ok("stop")


def test_a_full_state_disk_stops_nothing(ox):
    """No byte for events, journal and stack records: start, crash, restart and stop work all the same."""
    with small_disk(ox.base / "ox", "1m"):
        ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper")}"\n[processes.b]\ncommand = "{program("sleeper")}"\n')
        ox.ok("start", "web")
        ballast = fill(ox.base / "ox")
        os.kill(ox.pid("web"), signal.SIGKILL)
        ox.wait("started", name="web", incarnation=2)
        ox.ok("start", "b")
        assert {row["status"] for row in ox.rows()} == {"running"}
        assert "memory only" in ox.ok("daemon", "status").err
        ox.ok("stop")
        assert {row["status"] for row in ox.rows()} == {"stopped"}
        ballast.unlink()
        ox.ok("start")
        assert "memory only" not in ox.ok("daemon", "status").err
        record = json.loads((ox.state_of_stack() / "stack.json").read_text())
        assert record["processes"]["web"]["wanted"] is True
        ox.ok("daemon", "stop")
        ox.hang_up()
        assert ox.marked() == {}
