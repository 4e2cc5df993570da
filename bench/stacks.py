"""The servers under their own managers, under Oxherd and under plain supervisors: command lines, start, tree, stop."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import asking
from frame.places import BENCH, BIN, absent, environment, executable
from frame.processes import alive, end_tree, free_port, tree, wait_for

__all__ = ["APPS", "PACKAGES", "Service", "Stack"]

APPS = BENCH / "apps"
PACKAGES = ("uvicorn", "gunicorn", "uvicorn-worker", "granian", "hypercorn", "uvloop", "httptools", "websockets")
PACKAGES += ("fastapi", "starlette", "pydantic", "flask", "sqlalchemy", "pandas", "oxherd", "supervisor")

# The same for servers of WSGI.
WSGI = {"hello:app": "wsgi:app", "heavy:app": "heavy:wsgi"}
# A server that is first asked for after a cold start may compile its byte code.
DEADLINE = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """One server under one manager, as a peer.

    Attributes:
        program: What has to be installed.
        manager: Who starts and watches it: its own command, or one of the supervisors.
        words: Its command line with {app}, {port} and {workers}; of ``oxherd`` the lines of ``[processes.web]``.
        blocked: Added to let it notice a blocked worker after {seconds}; None if it never looks.
        least: The least workers it watches.
        wsgi: It serves the WSGI counterpart of the app it is given.
        gunicorn: A configuration file of gunicorn's that its command names with {folder}.
    """

    name: str
    program: str
    words: str
    manager: Literal["own", "oxherd", "supervisord", "pm2"] = "own"
    blocked: str | None = None
    least: int = 1
    wsgi: bool = False
    gunicorn: str = ""
    package: str | None = None

    def missing(self) -> str | None:
        """Return why it cannot be measured on this machine, None if it can."""
        manager = {"supervisord": "supervisord", "pm2": "pm2", "oxherd": "oxherd"}.get(self.manager)
        package = "supervisor" if manager == "supervisord" else manager
        return absent(self.program, self.package) or (absent(manager, package) if manager else None)

    @contextlib.contextmanager
    def open(self, app: str, *, workers: int = 2, blocked: int = 0) -> Iterator[Service]:
        """Launch it and give it at once: nobody has answered yet. At the end nothing of it is left."""
        kinds = {"own": Service, "oxherd": Oxherd, "supervisord": Supervisord, "pm2": Pm2}
        service = kinds[self.manager](self, WSGI.get(app, app) if self.wsgi else app, workers, blocked)
        try:
            service.launch()
            yield service
        finally:
            service.close()


class Service:
    """A server that runs under its own manager, in a folder of its own."""

    def __init__(self, stack: Stack, app: str, workers: int, blocked: int) -> None:
        """Prepare its folder; nothing is started."""
        self.stack, self.workers = stack, workers
        self.port = free_port()
        # Short: the path of a unix socket has 108 bytes, unix(7).
        self.folder = Path(tempfile.mkdtemp(prefix="bs", dir="/tmp"))
        self.log = self.folder / "log"
        self.env = environment(self.folder)
        self.launched = 0.0
        self.root = 0
        text = stack.words + (stack.blocked or "" if blocked else "")
        self.text = text.format(app=app, port=self.port, workers=workers, folder=self.folder, seconds=blocked)
        if stack.gunicorn:
            (self.folder / "gunicorn.conf.py").write_text(stack.gunicorn)

    def spawn(self, *words: str, cwd: Path = APPS) -> subprocess.Popen[bytes]:
        """Start a program whose words go to the log."""
        # A session each: sched_autogroup_enabled shares processors out by session, sched(7). In that of the client
        # some servers would be preempted by it less than those that make a session of their own.
        with self.log.open("ab") as log:
            return subprocess.Popen(
                words, cwd=cwd, env=self.env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    @property
    def argv(self) -> list[str]:
        """The command line of the server, by the path of its program."""
        words = self.text.split()
        return [str(executable(words[0])), *words[1:]]

    def launch(self) -> None:
        """Start it; ``launched`` is when."""
        self.launched = time.monotonic()
        self.process = self.spawn(*self.argv)
        self.root = self.process.pid

    def known(self) -> None:
        """Find the pid of the manager, where it is not that of what was started."""

    def answered(self) -> float:
        """Wait for the first answer; return its monotonic time."""

        def answers() -> bool:
            if self.process.poll():
                raise RuntimeError(f"it ended: {self.log.read_text(errors='replace').strip()[-300:]}")
            with contextlib.suppress(OSError):
                return bool(asking.pid(self.port))
            return False

        at = wait_for(answers, "the first answer", deadline=DEADLINE)
        self.known()
        return at

    def serving(self, count: int | None = None) -> dict[int, float]:
        """Wait until all workers have answered; return each with the monotonic time of its first answer."""
        self.answered()
        wanted = count or self.workers
        seen: dict[int, float] = {}

        def all_seen() -> bool:
            for pid, at in asking.burst(self.port, 3 * wanted).items():
                seen.setdefault(pid, at)
            return len(seen) >= wanted

        wait_for(all_seen, f"answers of {wanted} workers", deadline=DEADLINE, every=0.02)
        return seen

    def tree(self) -> list[int]:
        """Return the manager and everything below it."""
        return tree(self.root)

    def close(self) -> None:
        """End it and remove its folder."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            end_tree(self.process.pid)
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Oxherd(Service):
    """The same under Oxherd, in the background as its users run it, with a health check as they are told to have."""

    def launch(self) -> None:
        """Start it as a user does; ``launched`` is when."""
        text = self.text
        if "app =" in text:
            text += f'\nbind = "127.0.0.1:{self.port}"'
        (self.folder / "oxfile.toml").write_text(
            f'[processes.web]\n{text}\nworking_dir = "{APPS}"\n'
            f'health_check = {{ endpoint = "http://127.0.0.1:{self.port}/pid" }}\n'
        )
        self.launched = time.monotonic()
        self.process = self.spawn(str(BIN / "oxherd"), "start", "--quiet", cwd=self.folder)

    def known(self) -> None:
        """Ask for the pid of the supervisor."""
        if self.process.wait(60):
            raise RuntimeError(f"it did not start: {self.log.read_text(errors='replace').strip()[-300:]}")
        words = [str(BIN / "oxherd"), "daemon", "status", "--json"]
        done = subprocess.run(words, cwd=self.folder, env=self.env, capture_output=True, text=True, check=True)
        self.root = json.loads(done.stdout)["pid"]

    def close(self) -> None:
        """Stop the stack and its supervisor."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(60)
        words = [str(BIN / "oxherd"), "daemon", "stop"]
        subprocess.run(words, cwd=self.folder, env=self.env, capture_output=True, check=False, timeout=120)
        if self.root and alive(self.root):
            end_tree(self.root)
        shutil.rmtree(self.folder, ignore_errors=True)


class Supervisord(Service):
    """A command under supervisord."""

    def launch(self) -> None:
        """Start supervisord with one program."""
        config = self.folder / "supervisord.conf"
        config.write_text(
            f"[supervisord]\nnodaemon = true\nlogfile = {self.folder}/supervisord.log\npidfile = {self.folder}/pid\n"
            f"childlogdir = {self.folder}\n"
            f"[program:web]\ncommand = {' '.join(self.argv)}\ndirectory = {APPS}\nautorestart = true\n"
        )
        self.launched = time.monotonic()
        self.process = self.spawn(str(BIN / "supervisord"), "-c", str(config))
        self.root = self.process.pid


class Pm2(Service):
    """A command under PM2."""

    def launch(self) -> None:
        """Start PM2 with one program."""
        words = self.argv
        app = {"name": "web", "script": words[0], "args": words[1:], "interpreter": "none", "cwd": str(APPS)}
        config = self.folder / "ecosystem.config.json"
        config.write_text(json.dumps({"apps": [app]}))
        self.launched = time.monotonic()
        self.process = self.spawn(str(executable("pm2")), "start", str(config))

    def known(self) -> None:
        """Read the pid of its daemon."""
        self.process.wait(60)
        self.root = int((self.folder / "pm2" / "pm2.pid").read_text())

    def close(self) -> None:
        """Kill its daemon, by its own command."""
        self.process.wait(60)
        words = [str(executable("pm2")), "kill"]
        subprocess.run(words, cwd=self.folder, env=self.env, capture_output=True, check=False, timeout=120)
        if self.root and alive(self.root):
            end_tree(self.root)
        shutil.rmtree(self.folder, ignore_errors=True)
