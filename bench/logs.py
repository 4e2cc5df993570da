"""Logs: what it costs to keep a million lines, of one writer and of fifty, with rotation and gzip where there is any."""

from __future__ import annotations

import gzip
import time
from functools import partial
from pathlib import Path

import programs
from frame import Figure, Measure
from frame.processes import cpu, highest
from herd import Herd, HerdKind, Logs
from herds import CIRCUS, OXHERD, OXMGR, PM2, SUPERVISORD

__all__ = ["PACKAGES", "measures"]

PACKAGES = ("oxherd", "supervisor", "circus", "pm2", "node", "oxmgr")
LINE = 100  # bytes, programs/lines.c
NEEDLE = b" GET /orders/"
QUIET = 0.5


def figures(writers: int) -> tuple[Figure, ...]:
    """Return the figures of so many writers."""
    who = "one writer" if writers == 1 else f"{writers} writers"
    return (
        Figure(name=f"log rate, {who}", unit="MB/s", better="more", about="until the writers have got rid of it all"),
        Figure(name=f"log rate to disk, {who}", unit="MB/s", better="more", about="until all of it is in files"),
        Figure(
            name=f"CPU of logs, {who}", unit="s a million lines", about="the supervisor and its helpers, gzip included"
        ),
        Figure(name=f"memory of logs, {who}", unit="MB", about="the most that was resident of the supervisor"),
        Figure(
            name=f"lines kept, {who}",
            unit="of 100",
            better="more",
            about="of what was written, in all files at the end",
        ),
        Figure(name=f"disk of logs, {who}", unit="MB a million lines", about="gzip or not"),
    )


def files(herd: Herd) -> list[Path]:
    """Return the files in which its programs' output is."""
    # supervisord names them by its own rule, circus as it was told; Oxherd and PM2 have folders for them.
    found = (path for path in herd.folder.rglob("*") if path.is_file() and "p" in path.name)
    return [path for path in found if ".log" in path.name or path.suffix == ".gz" or "stdout" in path.name]


def kept(path: Path) -> int:
    """Return how many of the written lines are in a file."""
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        return sum(block.count(NEEDLE) for block in iter(partial(_lines, file), b""))


def _lines(file) -> bytes:
    return file.read(1 << 22) + file.readline()


def flow(kind: HerdKind, *, writers: int, lines: int) -> dict[str, float]:
    """Let the writers write together; return what keeping it cost."""
    program = programs.writer()
    each = lines // writers

    def commands(marks: Path) -> list[list[str]]:
        return [[str(program), str(marks), str(index), str(marks.parent / "go"), str(each)] for index in range(writers)]

    who = "one writer" if writers == 1 else f"{writers} writers"
    with kind.open(commands, logs=Logs()) as herd:
        herd.start()
        herd.locate()
        herd.expect(writers)
        time.sleep(2)
        before = cpu(herd.own())
        (herd.folder / "go").touch()
        marks = herd.marks.wait(2 * writers, deadline=600)
        begun = min(mark.at for mark in marks if mark.index < programs.END)
        done = max(mark.at for mark in marks if mark.index >= programs.END)
        # Whoever has taken it into memory has not kept it yet: it is over when nothing more is done.
        used, since = cpu(herd.own()), time.monotonic()
        while time.monotonic() < since + QUIET:
            time.sleep(0.02)
            now = cpu(herd.own())
            if now > used + 0.005:
                used, since = now, time.monotonic()
        written = writers * each
        paths = files(herd)
        return {
            f"log rate, {who}": written * LINE / 1e6 / (done - begun),
            f"log rate to disk, {who}": written * LINE / 1e6 / (max(since, done) - begun),
            f"CPU of logs, {who}": (used - before) * 1e6 / written,
            f"memory of logs, {who}": highest(herd.pid),
            f"lines kept, {who}": 100 * sum(kept(path) for path in paths) / written,
            f"disk of logs, {who}": sum(path.stat().st_size for path in paths) / written,
        }


def measures(*, quick: bool) -> list[Measure]:
    """Return what is measured of logs."""
    lines = 200_000 if quick else 1_000_000
    return [
        Measure(
            name=f"{writers} writers",
            figures=figures(writers),
            peers=(OXHERD, SUPERVISORD, CIRCUS, PM2, OXMGR),
            run=partial(flow, writers=writers, lines=lines),
        )
        for writers in (1, 50)
    ]
