"""The servers of the comparison: how each is started, told to reload, made to recycle, and what it serves."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from frame.places import BIN, CHECKOUT, absent, environment, executable
from frame.processes import free_port

TESTS = CHECKOUT / "tests"
APPS = TESTS / "loss" / "apps"
# Where the client is.
sys.path.insert(0, str(TESTS))

WORKERS = 2
DEADLINE = 40.0


def wait_for(condition, seconds: float = DEADLINE) -> bool:
    """Look every few milliseconds until something holds; return whether it came to hold."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def lives(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One server with its options.

    Attributes:
        command: With {port} and {workers}; run in the directory of the apps. Of an Oxherd kind the lines of its ``[processes.web]``.
        recycle: Added to make workers leave all the time; "" where there is no such thing.
        load: What of the load its interface cannot serve, or what would say nothing of it.
        oxherd: Whether Oxherd runs it.
    """

    name: str
    command: str
    recycle: str = ""
    load: dict[str, object] = field(default_factory=dict)
    oxherd: bool = False

    def missing(self) -> str | None:
        """Return why it cannot be measured on this machine, None if it can."""
        first = self.command.split()[0]
        return absent("oxherd" if self.oxherd else first, None)

    @property
    def wsgi(self) -> bool:
        """Whether its app is one of WSGI, which knows no startup."""
        return "wsgi_app" in self.command


NO_WEBSOCKET: dict[str, object] = {"websocket": 0}
GUNICORN = "gunicorn -w {workers} -b 127.0.0.1:{port} --keep-alive 5"
RECYCLE = "--max-requests 1000 --max-requests-jitter 500"

KINDS = [
    Kind(
        name="uvicorn",
        command="uvicorn main:app --port {port} --workers {workers} --no-access-log --log-level warning",
        recycle="--limit-max-requests 1000 --limit-max-requests-jitter 500",
    ),
    Kind(
        name="gunicorn uvicorn-worker",
        command=f"{GUNICORN} -k uvicorn_worker.UvicornWorker main:app",
        recycle=RECYCLE,
    ),
    Kind(name="gunicorn asgi", command=f"{GUNICORN} -k asgi main:app", recycle=RECYCLE),
    Kind(
        name="gunicorn gthread",
        command=f"{GUNICORN} -k gthread --threads 24 wsgi_app:app",
        recycle=RECYCLE,
        load=NO_WEBSOCKET,
    ),
    Kind(
        name="granian asgi",
        command="granian --interface asgi --workers {workers} --port {port} main:app",
        recycle="--respawn-failed-workers --workers-lifetime 60",
    ),
    Kind(
        name="granian wsgi",
        command="granian --interface wsgi --workers {workers} --blocking-threads 24 --port {port} wsgi_app:app",
        recycle="--respawn-failed-workers --workers-lifetime 60",
        load=NO_WEBSOCKET,
    ),
    Kind(
        name="hypercorn",
        command="hypercorn -w {workers} -b 127.0.0.1:{port} main:app",
        recycle=RECYCLE,
    ),
    Kind(
        name="oxherd uvicorn",
        command='app = "main:app"\nworkers = {workers}\n',
        recycle="max_requests = 1000\nmax_requests_jitter = 500\n",
        oxherd=True,
    ),
    Kind(
        name="oxherd gthread",
        command='app = "wsgi_app:app"\nserver = "gunicorn"\nworkers = {workers}\n'
        "server_options = {{ worker_class = 'gthread', threads = 24 }}\n",
        recycle="max_requests = 1000\nmax_requests_jitter = 500\n",
        load=NO_WEBSOCKET,
        oxherd=True,
    ),
    Kind(
        name="oxherd granian",
        command='app = "main:app"\nserver = "granian"\nworkers = {workers}\n',
        recycle="max_requests = 1000\nmax_requests_jitter = 500\n",
        oxherd=True,
    ),
    Kind(
        name="oxherd hypercorn",
        command='app = "main:app"\nserver = "hypercorn"\nworkers = {workers}\n',
        recycle="max_requests = 1000\nmax_requests_jitter = 500\n",
        oxherd=True,
    ),
    Kind(
        name="oxherd uvicorn command",
        command=f'command = "{BIN}/uvicorn main:app --port {{port}} --workers {{workers}} --no-access-log"\n',
        oxherd=True,
    ),
]


class Server:
    """One that runs, in a directory of its own."""

    def __init__(self, kind: Kind, *, recycle: bool = False, workers: int = WORKERS) -> None:
        self.kind, self.workers = kind, workers
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="ox", dir="/tmp"))
        self.log = self.folder / "log"
        self.env = {**environment(self.folder), "LOSS_DIR": str(self.folder), "PATH": f"{BIN}:{os.environ['PATH']}"}
        self.recycle = kind.recycle if recycle else ""
        self.release("1")
        self.launch()
        if not wait_for(self.answers):
            raise RuntimeError(f"{kind.name} did not start: {self.log.read_text()[-500:]}")

    def answers(self) -> bool:
        """Whether the service answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def release(self, generation: str, mode: str = "") -> None:
        """Deploy: what a worker that is started from now on imports."""
        new = self.folder / "release.new"
        new.write_text(json.dumps({"generation": generation, "mode": mode}))
        new.rename(self.folder / "release.json")

    def launch(self) -> None:
        words = f"{self.kind.command} {self.recycle}".format(port=self.port, workers=self.workers).split()
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [str(executable(words[0])), *words[1:]],
                cwd=APPS,
                env=self.env,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # as in stacks.py
            )

    def reload(self) -> int | None:
        """Ask for a reload; return an exit code where the command has one."""
        self.process.send_signal(signal.SIGHUP)
        return None

    @property
    def ended(self) -> int | None:
        """The exit code of the whole service, None while there is one."""
        return self.process.poll()

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class OxherdServer(Server):
    """The same, run by Oxherd."""

    def launch(self) -> None:
        self.env["OXHERD_HOME"] = str(self.folder / "home")
        text = f"{self.kind.command}{self.recycle}".format(port=self.port, workers=self.workers)
        if "app =" in text:
            text += f'bind = "127.0.0.1:{self.port}"\nkeepalive = "5s"\n'
        (self.folder / "oxfile.toml").write_text(
            f'[processes.web]\n{text}working_dir = "{APPS}"\n'
            f'[processes.web.health_check]\nendpoint = "http://127.0.0.1:{self.port}/health"\n'
        )
        self.oxherd("start", "--quiet", check=True)

    def oxherd(self, *words: str, check: bool = False) -> int:
        command = [str(BIN / "oxherd"), *words]
        with self.log.open("a") as log:
            return subprocess.run(
                command, cwd=self.folder, env=self.env, stdout=log, stderr=subprocess.STDOUT, check=check
            ).returncode

    def reload(self) -> int | None:
        return self.oxherd("reload", "web")

    @property
    def ended(self) -> int | None:
        return None

    def stop(self) -> None:
        self.oxherd("daemon", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)


def launch(kind: Kind, *, recycle: bool = False, workers: int = WORKERS) -> Server:
    """Start a server and wait until it answers."""
    return (OxherdServer if kind.oxherd else Server)(kind, recycle=recycle, workers=workers)
