"""A supervisor, its stack and the load at it, as actions use them and checks look at them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from chaos import vitals
from chaos.events import EventFile
from chaos.logbook import LogBook
from chaos.stack import Stack
from chaos.traffic import Kill, Traffic
from support import leftovers
from support.harness import Result, Supervised
from support.waiting import DEADLINE, Expiry, wait_gone, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Home", "Verb", "World"]

DISK = "48m"
# How often a command that runs is looked at, seconds; what falls to this process is reaped meanwhile.
LOOK = 0.02


class Home(Supervised):
    """The harness of the end-to-end tests, in which this process is also the init that survivors fall to."""

    def cli(
        self,
        *arguments: str,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        seconds: float | None = None,
    ) -> Result:
        """Run ``oxherd`` to its end; see `Supervised.cli`."""
        expiry = Expiry(seconds or 2 * DEADLINE)
        process = self.popen(*arguments, env=env, stderr=subprocess.PIPE, **({"cwd": cwd} if cwd else {}))
        while True:
            try:
                out, err = process.communicate(timeout=LOOK)
                break
            except subprocess.TimeoutExpired:
                self.reap()
                assert not expiry.over, f"oxherd {' '.join(arguments)} did not end"
        self.tracked.remove(process)
        result = Result(arguments, process.returncode, out, err)
        self.commands.append(result)
        return result

    def reap(self) -> None:
        """Reap what a dead supervisor has left to this process, as an init does."""
        leftovers.reap(self.before | {process.pid for process in self.tracked})


class Verb:
    """A command that runs beside an action."""

    def __init__(self, home: Home, process: subprocess.Popen[str]) -> None:
        """It runs already."""
        self._home, self._process = home, process
        self.said = ""

    def ended(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def wait(self) -> int:
        """Wait for its end; return its exit code."""
        expiry = Expiry(2 * DEADLINE)
        while True:
            try:
                out, _ = self._process.communicate(timeout=LOOK)
            except subprocess.TimeoutExpired:
                self._home.reap()
                assert not expiry.over, f"{self._process.args} did not end"
            else:
                self.said += out or ""
                return self._process.returncode


class World:
    """Everything of one run.

    Args:
        seed: Of the load.
        small_disk: Whether to mount a small disk for a log, if that can be done.
    """

    def __init__(self, *, seed: int, small_disk: bool = True) -> None:
        """Start the stack and the load."""
        self.ox = Home()
        self.era = 0
        self.survivors: set[int] = set()
        base = self.ox.base / "chaos"
        base.mkdir()
        self.stack = Stack(base, self._small_disk() if small_disk else None)
        self.ox.oxfile(self.stack.oxfile())
        self.events = EventFile(Path(self.ox.home.state, "events.jsonl"))
        self.books = {"writer": LogBook(self.ox.log_path("writer"), self.stack.counters["writer"])}
        if self.stack.spill is not None:
            self.books["spiller"] = LogBook(self.stack.spill / "spiller.log", self.stack.counters["spiller"])
        try:
            self.ox.ok("start")
            self.traffic = Traffic(self.stack, seed)
        except BaseException:
            self.ox.close()
            raise
        # They are waited for by the client's own end of them.
        self._clients = {client.pid for client in self.traffic.clients.values()}
        self.ox.before |= self._clients

    def _small_disk(self) -> Path | None:
        if os.geteuid() != 0:
            return None
        path = self.ox.base / "disk"
        path.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=700", "none", str(path)]
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            return None
        self.ox.mounts.append(path)
        return path

    # -- what is done -----------------------------------------------------------------------------------------------

    def kill(self, pid: int) -> None:
        """SIGKILL a process, and note when its connections ended."""
        at = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        wait_gone(pid)
        self.traffic.kills.append(Kill(at=at, gone=time.monotonic(), pid=pid))

    def kill_supervisor(self) -> int:
        """SIGKILL the supervisor, and note what outlives it; return its pid."""
        pid = self.ox.kill_supervisor()
        self.survivors = set(self.ox.marked())
        return pid

    @contextlib.contextmanager
    def stopped(self, pid: int) -> Iterator[None]:
        """Let a process stand still for the block."""
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    @contextlib.contextmanager
    def verb(self, *arguments: str) -> Iterator[Verb]:
        """Run a command beside the block."""
        process = self.ox.popen(*arguments)
        yield Verb(self.ox, process)

    def new_era(self) -> None:
        """There is another supervisor, or its program is another one: its memory and descriptors are compared anew."""
        self.era += 1
        self.ox.hang_up()

    def wait_release(self, service: str, release: str) -> None:
        """Wait until a release answers at a service."""

        def answering() -> dict[str, int]:
            found: dict[str, int] = self.traffic.look(service)["generations"]
            return found

        wait_until(lambda: release in answering(), lambda: f"release {release} of {service} to answer; {answering()}")

    # -- what there is ----------------------------------------------------------------------------------------------

    def zygotes(self) -> dict[str, set[int]]:
        """Return the zygotes by their service, one each."""

        def look() -> dict[str, set[int]]:
            found = vitals.zygotes(self.ox, self.ox.rows())
            return found if all(len(found.get(service, ())) == 1 for service in self.stack.ports) else {}

        return wait_until(look, lambda: f"one zygote a service; there are {vitals.zygotes(self.ox, self.ox.rows())}")

    def overlaps(self) -> list[str]:
        """Return what was seen running twice."""
        try:
            return self.stack.overlaps.read_text().splitlines()
        except FileNotFoundError:
            return []

    # -- the end ----------------------------------------------------------------------------------------------------

    def close(self) -> list[str]:
        """End the load and the stack; return what is wrong at the end."""
        self.traffic.kill()
        self.ox.before -= self._clients
        self.ox.reap()
        return self.ox.close()

    def keep(self) -> str:
        """Keep the directory of a run that failed, and on its own disk what was on the small one; return its path."""
        if self.stack.spill is not None:
            shutil.copytree(self.stack.spill, self.ox.base / "was-on-disk")
        self.ox.unmount()
        return str(self.ox.base)

    def remove(self) -> None:
        """Remove the directory and the disk."""
        self.ox.unmount()
        self.ox.remove()

    def shape(self) -> str:
        """Return what the supervisor's descriptors depend on: what there is, and what of it was adopted."""
        rows = self.ox.rows()
        living = [(row["name"], row["pid"]) for row in rows if row["name"] not in {"once", "job"}]
        living += [(f"zygote of {name}", pid) for name, pids in vitals.zygotes(self.ox, rows).items() for pid in pids]
        adopted = sorted(name for name, pid in living if pid in self.survivors)
        return f"{self.era} {sorted(self.stack.facts().items())} {adopted}"
