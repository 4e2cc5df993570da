"""A full disk degrades the supervisor; it never stops it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
from typing import TYPE_CHECKING

from support.harness import program
from support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path


def fill(disk: Path) -> Path:
    """Leave no byte free; return what has to go to make room again."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 4096)
    return ballast


def fill_last_page(path: Path) -> None:
    """Leave no room in the last page of a file, which a full tmpfs would still give away."""
    with path.open("ab") as file:
        file.write(b" " * (4095 - path.stat().st_size % 4096) + b"\n")


def test_a_full_log_disk_drops_counted_lines_and_recovers(ox):
    """The supervisor lives, says what it could not write, counts each line it dropped, and goes on when there is room."""
    disk, done = ox.mount(ox.base / "disk", "4m"), ox.base / "done"
    ox.oxfile(f'[processes.web]\ncommand = "{program("prints", 60_000, 200, done)}"\nlog_file = "{disk}/web.log"\n')
    ballast = fill(disk)
    ox.ok("start")
    trouble = ox.wait("log-trouble", name="web")
    assert "No space left on device" in trouble["text"]
    wait_until(done.exists, "the last line")
    assert ox.row("web")["status"] == "running"
    ballast.unlink()
    recovered = ox.wait("log-recovered", name="web")
    lines = wait_until(lambda: whole(disk / "web.log"), "the last line in the log")
    dropped = sum(int(found[1]) for line in lines if (found := re.match(rb"oxherd: (\d+) lines dropped", line)))
    kept = [int(line[:8]) for line in lines if re.match(rb"\d{8} x", line)]
    assert dropped > 0
    assert f"lines dropped meanwhile: {dropped}" in recovered["text"]
    assert len(kept) + dropped == 60_000
    assert kept == sorted(set(kept))
    assert kept[-1] == 59_999
    ox.ok("stop")


def whole(log: Path) -> list[bytes]:
    """The lines of a log, once its last one is there."""
    data = log.read_bytes()
    return data.splitlines() if b"all printed\n" in data else []


def test_a_full_state_disk_stops_nothing(ox):
    """No byte for events, journal and stack records: start, crash, restart and stop work all the same."""
    disk = ox.mount(ox.base / "ox", "1m")
    ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper")}"\n[processes.b]\ncommand = "{program("sleeper")}"\n')
    ox.ok("start", "web")
    ballast = fill(disk)
    fill_last_page(disk / "state" / "events.jsonl")
    fill_last_page(disk / "state" / "instances.jsonl")
    os.kill(ox.pid("web"), signal.SIGKILL)
    ox.wait("started", name="web", incarnation=2)
    ox.ok("start", "b")
    ox.wait_row("web", status="running")
    assert ox.row("b")["status"] == "running"
    assert "memory only" in ox.ok("daemon", "status").err
    ox.ok("stop")
    assert {row["status"] for row in ox.rows()} == {"stopped"}
    ballast.unlink()
    ox.ok("start")
    assert "memory only" not in ox.ok("daemon", "status").err
    record = json.loads((ox.state_of_stack() / "stack.json").read_text())
    assert record["processes"]["web"]["wanted"] is True
