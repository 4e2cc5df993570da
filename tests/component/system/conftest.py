"""Real processes, and the certainty that none is left and no descriptor was lost."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from oxherd.system import reaper, spawn, tree

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

    from oxherd.core.exits import ExitStatus

DEADLINE = 30.0


def open_fds() -> set[int]:
    """The descriptors of this process, but the one that lists them."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            os.fstat(int(name))
            found.add(int(name))
    return found


@dataclass
class Shop:
    """Starts programs whose output can be read, and sees them to their end."""

    folder: str
    read_fd: int
    write_fd: int
    launches: list[spawn.Launch] = field(default_factory=list)
    output: bytes = b""

    @property
    def inode(self) -> int:
        return os.fstat(self.read_fd).st_ino

    def request(self, *argv: str, **wishes: object) -> spawn.LaunchRequest:
        values = {
            "argv": argv,
            "cwd": self.folder,
            "env": {"PATH": os.environ["PATH"]},
            "stdout": self.write_fd,
            "stderr": self.write_fd,
            **wishes,
        }
        return spawn.LaunchRequest(**values)  # type: ignore[arg-type]

    def launch(self, *argv: str, **wishes: object) -> spawn.Launch:
        launch = spawn.launch(self.request(*argv, **wishes))
        self.launches.append(launch)
        return launch

    def outcome(self, launch: spawn.Launch) -> spawn.Outcome:
        while launch.report_fd is not None:
            readable(launch.report_fd)
            if (outcome := launch.outcome()) is not None:
                return outcome
        return spawn.Outcome()

    def ended(self, launch: spawn.Launch) -> ExitStatus:
        readable(launch.pidfd)
        status = reaper.exit_of(launch.pid, launch.pidfd)
        assert status is not None
        return status

    def read_until(self, mark: bytes) -> bytes:
        """Return what was written up to a text; the rest is kept."""
        while mark not in self.output:
            readable(self.read_fd)
            self.output += os.read(self.read_fd, 65536)
        head, _, self.output = self.output.partition(mark)
        return head

    def run(self, *argv: str, **wishes: object) -> tuple[ExitStatus, str]:
        """Run a program to its end and return its status and its output."""
        launch = self.launch(*argv, **wishes)
        assert self.outcome(launch).error is None
        status = self.ended(launch)
        os.set_blocking(self.read_fd, False)
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self.read_fd, 65536):
                self.output += chunk
        os.set_blocking(self.read_fd, True)
        text, self.output = self.output.decode(), b""
        return status, text


def readable(fd: int) -> None:
    """Wait until a descriptor is readable; fail after the deadline."""
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    assert poller.poll(DEADLINE * 1000), "nothing came"


def until(look: Callable[[], object]) -> None:
    """Look until what is seen is true; for what the kernel does and tells by no descriptor."""
    end = time.monotonic() + DEADLINE
    while not look():
        assert time.monotonic() < end, "it did not come to pass"
        os.sched_yield()


def reap_all_but(known: Container[int]) -> list[tuple[int, ExitStatus]]:
    """Reap dead children as the supervisor does, until one that somebody waits for comes first."""
    reaped = []
    while (pid := reaper.next_dead()) is not None and pid not in known:
        status = reaper.exit_of(pid, -1)
        assert status is not None
        reaped.append((pid, status))
    return reaped


@pytest.fixture
def shop(tmp_path) -> Iterator[Shop]:
    before = open_fds()
    read_fd, write_fd = os.pipe()
    shop = Shop(folder=str(tmp_path), read_fd=read_fd, write_fd=write_fd)
    yield shop
    for launch in shop.launches:
        tree.exterminate(lambda pid=launch.pid: [*tree.descendants(pid), pid])
        launch.close()
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0) or tree.descendants(os.getpid()):
            pass
    os.close(read_fd)
    os.close(write_fd)
    assert open_fds() == before, "a descriptor was lost"


@pytest.fixture
def orphans_fall_here() -> Iterator[None]:
    """This process is the subreaper of its descendants while the test runs."""
    import ctypes

    prctl = ctypes.CDLL(None).prctl
    assert prctl(36, 1, 0, 0, 0) == 0
    yield
    for pid in tree.descendants(os.getpid()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    prctl(36, 0, 0, 0, 0)
