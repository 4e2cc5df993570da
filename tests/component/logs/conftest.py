"""A loop whose clock can be moved, and sinks that are given back at the end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from oxherd.config.model import LogSpec
from oxherd.system.logs.sink import LogSink
from oxherd.system.loop import Loop


class MovableLoop(Loop):
    """The real loop; `advance` lets timers of the future fire now."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self.skew = 0.0
        super().__init__(self.errors.append)

    def now(self) -> float:
        return time.monotonic() + self.skew

    def advance(self, seconds: float) -> None:
        self.skew += seconds
        self.run_once(0)

    def until(self, predicate: Callable[[], object], timeout: float = 30) -> None:
        """Run until the predicate holds; fail at the deadline."""
        deadline = time.monotonic() + timeout
        while not predicate():
            assert time.monotonic() < deadline, "deadline"
            self.run_once(0.05)
            assert not self.errors, self.errors


@dataclass
class Bench:
    """Makes sinks in one directory and remembers what they said."""

    loop: MovableLoop
    directory: Path
    troubles: list[str] = field(default_factory=list)
    recoveries: list[str] = field(default_factory=list)
    helpers: list[list[str]] = field(default_factory=list)
    children: list[subprocess.Popen[bytes]] = field(default_factory=list)
    sinks: list[LogSink] = field(default_factory=list)
    run_helpers: bool = False

    @property
    def path(self) -> Path:
        return self.directory / "web.log"

    @property
    def index(self) -> Path:
        return self.directory / "web.idx"

    def sink(self, *, path: Path | str | None = None, stream: str = "output", echo=None, spool=None, **spec) -> LogSink:
        sink = LogSink(
            loop=self.loop,
            path=str(path or self.path),
            index_path=str(self.index),
            process="web",
            spec=LogSpec(**spec),
            stream=stream,
            start_helper=self._start_helper,
            on_trouble=self.troubles.append,
            on_recovered=self.recoveries.append,
            echo=echo,
            spool=spool,
        )
        self.sinks.append(sink)
        return sink

    def _start_helper(self, argv: list[str]) -> None:
        self.helpers.append(argv)
        if self.run_helpers:
            self.children.append(subprocess.Popen(argv))

    def child(self, pipe, code: str) -> subprocess.Popen[bytes]:
        """Start a Python child that writes to the pipe as its stdout and stderr."""
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", code],
            stdout=pipe.child_fd,
            stderr=pipe.child_fd,
            stdin=subprocess.DEVNULL,
        )
        pipe.close_child_end()
        self.children.append(child)
        return child

    def files(self) -> list[Path]:
        """Return the files of the log, oldest first, without indexes."""
        old = [path for path in self.directory.glob("web.log.*") if path.suffix != ".tmp"]
        old.sort(key=lambda path: int(path.name.split(".")[2]))
        return [*old, *([self.path] if self.path.exists() else [])]


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No power cut happens here, and a busy disk takes a second for each of hundreds of files."""
    monkeypatch.setattr(os, "fsync", lambda _fd: None)


@pytest.fixture
def loop() -> Iterator[MovableLoop]:
    loop = MovableLoop()
    yield loop
    assert loop.errors == []
    assert loop.watched == frozenset()
    assert loop.timers == 0
    loop.close()


@pytest.fixture
def bench(loop: MovableLoop, tmp_path: Path) -> Iterator[Bench]:
    """At the end every descriptor that was opened must have been closed."""
    before = set(os.listdir("/proc/self/fd"))
    bench = Bench(loop, tmp_path)
    yield bench
    for child in bench.children:
        if child.poll() is None:
            child.kill()
        child.wait()
    for sink in bench.sinks:
        sink.close()
    left = {fd for fd in set(os.listdir("/proc/self/fd")) - before if os.path.lexists(f"/proc/self/fd/{fd}")}
    assert left == set()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    point = tmp_path / "small"
    point.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(point)], capture_output=True, check=False
    )
    if mount.returncode:
        pytest.skip(f"cannot mount: {mount.stderr!r}")
    yield point
    subprocess.run(["umount", "-l", str(point)], check=True)
