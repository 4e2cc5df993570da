"""A supervisor of a test's own, driven as a person drives it: oxfiles, the command line, the events.

`Supervised` makes a home in a short temporary directory (a unix socket's path holds 107 bytes), runs the installed
``oxherd`` in it, and at the end stops the supervisor and looks whether anything is left. Nothing here sleeps: a test
waits for events of the control stream, for a row of the status, or for the end of a process.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from oxherd.config.codec import encode
from oxherd.control.client import Client
from oxherd.control.paths import find_home, stack_id
from oxherd.errors import OxherdError
from oxherd.programs.compiled import compile_stack
from oxherd.system import tree
from oxherd.system.identity import mark_of, pids
from support import leftovers
from support.eventstream import EventStream
from support.waiting import DEADLINE, Expiry, wait_gone, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["FIXTURES", "PYTHON", "Result", "Supervised", "program"]

FIXTURES = Path(__file__).resolve().parent.parent / "e2e" / "fixtures"

# -I -S: no site packages, which is most of what an interpreter does when it starts.
PYTHON = f"{sys.executable} -I -S"

OXHERD = str(Path(sys.executable).with_name("oxherd"))

Row = dict[str, Any]


def program(name: str, *arguments: object) -> str:
    """Return the command line of a program of ``tests/e2e/fixtures``."""
    return " ".join([PYTHON, str(FIXTURES / f"{name}.py"), *map(str, arguments)])


@dataclass(frozen=True)
class Result:
    """What a command did."""

    arguments: tuple[str, ...]
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output as JSON."""
        return json.loads(self.out)

    def __str__(self) -> str:
        return f"oxherd {' '.join(self.arguments)} -> {self.code}\n{self.out}{self.err}"


class Supervised:
    """A home, its supervisor, and the stacks in it."""

    def __init__(self) -> None:
        # Not tmp_path: its name alone is too long for a socket.
        self.base = Path(tempfile.mkdtemp(prefix="ox-", dir="/tmp"))
        self.folder = self.base / "stack"
        self.folder.mkdir()
        (self.base / "home").mkdir()
        self.env = {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.base / "home"),
            "LANG": "C.UTF-8",
            "OXHERD_HOME": str(self.base / "ox"),
        }
        self.home = find_home(self.env)
        self.commands: list[Result] = []
        self.tracked: list[subprocess.Popen[str]] = []
        self.before = frozenset(leftovers.living_descendants())
        self.mounts: list[Path] = []
        self._events: EventStream | None = None
        self._client: Client | None = None

    # -- files ------------------------------------------------------------------------------------------------------

    def oxfile(self, text: str, folder: str = "stack") -> Path:
        """Write the oxfile of a stack; later commands run in the folder of the last one written, which is returned."""
        self.folder = self.base / folder
        self.folder.mkdir(exist_ok=True)
        (self.folder / "oxfile.toml").write_text(text)
        return self.folder

    @property
    def stack(self) -> str:
        """The path that identifies the stack."""
        return str(self.folder / "oxfile.toml")

    def state_of_stack(self, folder: Path | None = None) -> Path:
        """Return the state directory of the stack of a folder."""
        return Path(self.home.stack(stack_id(str((folder or self.folder) / "oxfile.toml"))))

    def log_path(self, name: str) -> Path:
        """Return the log file that a process of the stack has if the oxfile does not name one."""
        return self.state_of_stack() / "logs" / f"{name}.log"

    def log(self, name: str) -> bytes:
        """Return what is in the log of a process."""
        try:
            return self.log_path(name).read_bytes()
        except FileNotFoundError:
            return b""

    def wait_log(self, name: str, text: bytes, count: int = 1) -> bytes:
        """Wait until a text stands in the log so many times; return the log."""
        wait_until(lambda: self.log(name).count(text) >= count, lambda: f"{text!r} in {self.log(name)[-2000:]!r}")
        return self.log(name)

    def mount(self, path: Path, size: str) -> Path:
        """Mount a small disk of the test's own (``"1m"``), which goes at its end; skip where none can be mounted."""
        path.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "none", str(path)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
            pytest.skip("needs root to mount a small disk")
        self.mounts.append(path)
        return path

    # -- the command line -------------------------------------------------------------------------------------------

    def cli(
        self,
        *arguments: str,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        seconds: float | None = None,
    ) -> Result:
        """Run ``oxherd`` to its end.

        Args:
            arguments: What is typed.
            cwd: Where; the folder of the stack if None.
            env: Added to the environment.
            seconds: The longest it may take; twice the deadline of the tests if None.
        """
        done = subprocess.run(
            [OXHERD, *arguments],
            cwd=cwd or self.folder,
            env={**self.env, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="backslashreplace",
            timeout=seconds or 2 * DEADLINE,
            check=False,
        )
        result = Result(arguments, done.returncode, done.stdout, done.stderr)
        self.commands.append(result)
        return result

    def ok(self, *arguments: str, **options: Any) -> Result:
        """Run ``oxherd`` and insist on exit code 0."""
        result = self.cli(*arguments, **options)
        assert result.code == 0, result
        return result

    def popen(
        self, *arguments: str, env: Mapping[str, str] | None = None, argv: list[str] | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        """Start ``oxherd`` (or another ``argv``) beside the test; it is ended with it."""
        process = subprocess.Popen(
            argv or [OXHERD, *arguments],
            **{
                "cwd": self.folder,
                "env": {**self.env, **(env or {})},
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.STDOUT,
                "text": True,
                "errors": "backslashreplace",
                **options,
            },
        )
        self.tracked.append(process)
        return process

    # -- the supervisor ---------------------------------------------------------------------------------------------

    def client(self) -> Client:
        """Return a new connection, which the caller closes."""
        return Client.connect(self.home)

    def request(self, verb: str, **args: object) -> dict[str, Any]:
        """Ask the supervisor over a connection that is kept."""
        if self._client is None:
            self._client = self.client()
        try:
            return self._client.request(verb, timeout=DEADLINE, **args)
        except OxherdError:
            self._client.close()
            self._client = None
            raise

    @property
    def events(self) -> EventStream:
        """The events, from the first of the home on."""
        if self._events is None:
            self._events = EventStream(self.home.socket)
        return self._events

    @property
    def supervisor(self) -> int:
        """The pid of the supervisor."""
        return int(self.request("ping")["pid"])

    def wait_for_supervisor(self) -> None:
        """Wait until a supervisor that is being started by something else takes connections."""

        def answers() -> bool:
            try:
                self.client().close()
            except OxherdError:
                return False
            return True

        wait_until(answers, "a supervisor")

    def compiled(self) -> dict[str, Any]:
        """Return the oxfile as the command line hands it to the supervisor."""
        oxfile = compile_stack(self.stack, profile=None, environ=self.env, strict_files=True).oxfile
        return dict(encode(oxfile))

    def hang_up(self) -> None:
        """Forget the connections: the supervisor they lead to is another one now."""
        for connection in (self._events, self._client):
            if connection is not None:
                connection.close()
        self._events = self._client = None

    def kill_supervisor(self) -> int:
        """SIGKILL the supervisor and return its pid when it is gone."""
        pid = self.supervisor
        os.kill(pid, signal.SIGKILL)
        wait_gone(pid)
        self.hang_up()
        return pid

    def fds(self) -> list[str]:
        """Return what the supervisor's descriptors lead to, inode numbers left out; it serves no client meanwhile."""
        self.hang_up()
        wait_until(lambda: self._connections() == 0, "the supervisor to hang up too")
        folder = f"/proc/{self.pid_by_lock}/fd"
        found = []
        for name in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError):
                found.append(os.readlink(f"{folder}/{name}").partition(":[")[0])
        return sorted(found)

    def wait_fds(self, before: list[str]) -> None:
        """Wait until the supervisor has the descriptors it had."""
        wait_until(lambda: self.fds() == before, lambda: f"{before}, it is {self.fds()}")

    def _connections(self) -> int:
        lines = Path("/proc/net/unix").read_text().splitlines()
        # The listener was bound under another name in the same directory; its connections bear it too.
        own = [line for line in lines if f" {self.home.runtime}/" in line]
        return sum(f" {self.home.runtime}/workers/" not in line for line in own) - 1

    @property
    def pid_by_lock(self) -> int:
        """The pid of the supervisor, without asking it."""
        return int(Path(self.home.lock).read_text().split()[0])

    # -- what there is ----------------------------------------------------------------------------------------------

    def rows(self, *, everything: bool = False) -> list[Row]:
        """Return the status of the stack, or of all stacks."""
        return list(self.request("status", stack=None if everything else self.stack)["rows"])

    def row(self, label: str) -> Row:
        """Return the row of ``web`` or ``web:1``."""
        name, _, slot = label.partition(":")
        found = [row for row in self.rows() if row["name"] == name and row["instance"] == int(slot or 0)]
        assert found, f"there is no {label} in {self.rows()}"
        return found[0]

    def pid(self, label: str) -> int:
        """Return the main pid of ``web`` or ``web:1``."""
        pid = self.row(label)["pid"]
        assert isinstance(pid, int), f"{label} does not run: {self.row(label)}"
        return pid

    def pids(self) -> dict[str, int | None]:
        """Return the pid of every instance of the stack by ``web:0``."""
        return {f"{row['name']}:{row['instance']}": row["pid"] for row in self.rows()}

    def wait_row(self, label: str, where: Callable[[Row], object] | None = None, **fields: object) -> Row:
        """Wait until the row of an instance has these fields and satisfies a condition; return it."""
        expiry = Expiry()
        while True:
            row = self.row(label)
            if all(row[key] == value for key, value in fields.items()) and (where is None or where(row)):
                return row
            assert not expiry.over, f"{label} did not become {fields}; it is {row}; events:{self.events.tail()}"
            # Woken by whatever happens; what no event tells of (a health word, memory) is looked at again soon.
            self.events.take(0.05)

    def wait(self, *kinds: str, **fields: Any) -> dict[str, Any]:
        """Wait for an event; see `EventStream.wait`."""
        return self.events.wait(*kinds, **fields)

    def marked(self) -> dict[int, str]:
        """Return every process that carries a mark of this home."""
        prefix = f"{stack_id(self.home.state)}:"
        marks = {pid: mark_of(pid) for pid in pids()}
        return {pid: mark for pid, mark in marks.items() if mark is not None and mark.startswith(prefix)}

    # -- the end ----------------------------------------------------------------------------------------------------

    def close(self) -> list[str]:
        """Stop the supervisor and return what is wrong: what did not end, and what is left."""
        trouble = []
        own = {process.pid for process in self.tracked}
        for process in self.tracked:
            if process.poll() is None:
                process.terminate()
                try:
                    process.communicate(timeout=DEADLINE)
                except subprocess.TimeoutExpired:
                    trouble.append(f"{process.args} did not end")
                    process.kill()
            for stream in (process.stdout, process.stderr, process.stdin):
                if stream is not None:
                    stream.close()
            process.wait()
        if os.path.exists(self.home.socket):
            trouble += self._stop_supervisor()
        self.hang_up()
        left = leftovers.living_descendants(self.before)
        trouble += [f"still runs: {leftovers.describe(pid)}" for pid in left]
        trouble += [f"still carries a mark: {leftovers.describe(pid)}" for pid in self.marked() if pid not in left]
        trouble += [f"still there: {path}" for path in leftovers.litter(self.home.runtime)]
        trouble += [f"still there: {path}" for path in leftovers.litter(self.home.state)]
        leftovers.kill_descendants(self.before)
        leftovers.reap(self.before | own)
        return trouble

    def _stop_supervisor(self) -> list[str]:
        try:
            pid = self.supervisor
        except OxherdError:
            # Killed by the test, with nothing wanted up. The socket it left belongs to the test.
            os.unlink(self.home.socket)
            return []
        trouble = []
        try:
            wait_until(lambda: not leftovers.zombies_of(pid), "the supervisor to reap its zombies")
        except AssertionError as error:
            trouble.append(str(error))
        internal = [event["text"] for event in self._all_events() if event["kind"] in {"internal-error", "ignored"}]
        trouble += [f"the supervisor said: {text}" for text in internal]
        try:
            result = self.cli("daemon", "stop")
        except subprocess.TimeoutExpired:
            trouble.append("oxherd daemon stop did not end")
            os.kill(pid, signal.SIGKILL)
        else:
            if result.code != 0:
                trouble.append(str(result))
                os.kill(pid, signal.SIGKILL)
        wait_gone(pid)
        return trouble

    def _all_events(self) -> Iterator[dict[str, Any]]:
        path = Path(self.home.state, "events.jsonl")
        if path.is_file():
            for line in path.read_text(errors="replace").splitlines():
                # A test may have put anything there.
                with contextlib.suppress(ValueError, RecursionError):
                    event = json.loads(line)
                    if isinstance(event, dict) and "kind" in event:
                        yield event

    def unmount(self) -> None:
        """Take the small disks away; nothing may be open on them any more."""
        for path in self.mounts:
            subprocess.run(["umount", str(path)], check=True)
        self.mounts.clear()

    def remove(self) -> None:
        """Remove the directory."""
        shutil.rmtree(self.base, ignore_errors=True)

    def report(self) -> str:
        """Return what a person needs to see of a failure; the directory stays."""
        parts = [f"kept: {self.base}"]
        parts += ["commands:", *(str(result) for result in self.commands[-5:])]
        events = [f"  {event.get('time', 0):.3f} {event.get('text')}" for event in self._all_events()]
        parts += ["events:", *events[-80:]]
        for path in [Path(self.home.log), *sorted(Path(self.home.state).glob("stacks/*/logs/*.log"))]:
            if path.is_file():
                tail = path.read_bytes()[-3000:].decode(errors="backslashreplace")
                parts += [f"{path}:", *("  " + line for line in tail.splitlines()[-30:])]
        return "\n".join(parts)


def descendants(pid: int) -> list[int]:
    """Return every living process below one."""
    return tree.descendants(pid)
