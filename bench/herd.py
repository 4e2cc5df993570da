"""A supervisor as a peer: what is done to each of them, and what is left to its own commands."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from frame.places import BENCH, absent, environment
from frame.processes import alive, end, end_tree, tree, wait_for
from programs import Marks

__all__ = ["CLIENTS", "Herd", "HerdKind", "Logs"]

CLIENTS = BENCH / "clients"


@dataclass(frozen=True, slots=True, kw_only=True)
class Logs:
    """Rotation as it is asked of all: size of a file in MB, and so many kept that nothing is dropped."""

    max_mb: int = 10
    files: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class HerdKind:
    """A supervisor as a peer."""

    name: str
    program: str
    herd: Callable[..., Herd]
    package: str | None = None

    def missing(self) -> str | None:
        """Return why it cannot be measured here, None if it can."""
        return absent(self.program, self.package)

    @contextlib.contextmanager
    def open(self, commands: Callable[[Path], Sequence[Sequence[str]]], *, logs: Logs | None = None) -> Iterator[Herd]:
        """Make one, not started yet, for the commands that ``commands(file of marks)`` returns; at the end nothing of it
        is left.
        """
        # Short: the path of a unix socket has 108 bytes, unix(7).
        folder = Path(tempfile.mkdtemp(prefix="bh", dir="/tmp"))
        herd = self.herd(folder, commands(folder / "marks"), logs)
        try:
            yield herd
        finally:
            try:
                herd.close()
            finally:
                shutil.rmtree(folder, ignore_errors=True)


class Herd:
    """A supervisor with its programs p0, p1, ... in a folder of its own."""

    def __init__(self, folder: Path, commands: Sequence[Sequence[str]], logs: Logs | None) -> None:
        """Keep what is to run; nothing is started."""
        self.folder = folder
        self.commands = [shlex.join(words) for words in commands]
        self.argvs = commands
        self.logs = logs
        self.marks = Marks(folder / "marks")
        self.env = environment(folder)
        self.pid = 0
        self.launched = 0.0

    def run(self, *words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of it to its end.

        Raises:
            RuntimeError: it failed, with the end of what it said.
        """
        argv = [str(word) for word in words]
        done = subprocess.run(argv, cwd=self.folder, env=self.env, capture_output=True, text=True, check=False)
        if check and done.returncode:
            said = (done.stderr or done.stdout).strip().replace("\n", " ")[-200:]
            raise RuntimeError(f"{Path(argv[0]).name} {' '.join(argv[1:3])}: exit code {done.returncode}: {said}")
        return done

    def start(self) -> None:
        """Launch it with all its programs; ``launched`` is when. Returns when its command has returned."""
        self.configure()
        self.launched = time.monotonic()
        self.launch()

    def configure(self) -> None:
        """Write its configuration."""
        raise AssertionError

    def launch(self) -> None:
        """Run its command that starts everything."""
        raise AssertionError

    def find(self) -> int:
        """Return the pid of the supervisor, 0 while it is not known."""
        raise AssertionError

    def settled(self) -> None:
        """Wait until each program has marked its first instructions, and the supervisor is known."""
        self.marks.wait(len(self.commands), deadline=300)
        self.locate()

    def locate(self) -> None:
        """Wait until the supervisor is known; ``pid`` is its pid."""
        wait_for(self.find, "the supervisor's pid")
        self.pid = self.find()

    def expect(self, count: int) -> None:
        """Wait until it has so many programs, for those that mark nothing before they are told to."""
        wait_for(lambda: len(self.programs()) >= count, f"{count} programs", deadline=120, every=0.01)

    def programs(self) -> list[int]:
        """Return the programs that run: what is below it and has the file of marks among its arguments."""
        needle = str(self.marks.path).encode()
        found = []
        for pid in tree(self.pid):
            with contextlib.suppress(OSError):  # it may end while it is looked at
                if needle in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                    found.append(pid)
        return found

    def empty(self) -> float:
        """Start it without programs; return the seconds from exec until it answers on its control socket."""
        self.configure()
        begun = time.monotonic()
        self.launch_empty()
        ready = wait_for(self.answers, "the control socket")
        self.locate()
        return ready - begun

    def launch_empty(self) -> None:
        """Run the command that starts it without programs."""
        self.launch()

    def socket(self) -> Path:
        """Return its control socket."""
        raise AssertionError

    def answers(self) -> bool:
        """Say whether its control socket accepts."""
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(self.socket()))
        except OSError:
            return False
        return True

    def status(self) -> None:
        """Run the command that shows all programs."""
        raise AssertionError

    def restart(self, index: int) -> None:  # noqa: ARG002 - each supervisor has its own
        """Run the command that restarts one program."""
        raise AssertionError

    def stop(self) -> None:
        """Run the command that stops all programs; the supervisor may stay."""
        raise AssertionError

    def quit(self) -> None:
        """End the supervisor."""
        end(self.pid)

    def rate(self, seconds: float) -> float:  # noqa: ARG002 - each supervisor has its own
        """Return how often a second a client of its own protocol gets the status of all, one request after another."""
        raise AssertionError

    def own(self) -> list[int]:
        """Return its processes without the programs: the supervisor and its helpers."""
        programs = set(self.programs())
        return [pid for pid in tree(self.pid) if pid not in programs]

    def close(self) -> None:
        """Leave nothing running, whatever happened before."""
        pid = self.pid or self.find()
        try:
            if pid and alive(pid):
                self.quit()
        except (TimeoutError, RuntimeError) as error:
            # What was measured is measured; that it had to be killed is told.
            print(f"\n{type(self).__name__}: killed, it did not end when asked: {error}", file=sys.stderr)
        finally:
            if pid and alive(pid):
                end_tree(pid)
            for mark in self.marks.look():
                # A program that outlived its supervisor; the pid is its own only while its command is.
                with contextlib.suppress(OSError):
                    if str(self.marks.path).encode() in Path(f"/proc/{mark.pid}/cmdline").read_bytes():
                        end_tree(mark.pid)

    def _client(self, *words: object) -> float:
        return float(self.run(*words).stdout.split()[-1])

    def _number(self, path: Path) -> int:
        with contextlib.suppress(OSError, ValueError):
            return int(path.read_text())
        return 0
