"""Scale: a thousand processes, two hundred workers of one app, ten reloads in a row, an hour compressed."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from frame import Figure, Measure
from frame.places import BIN, absent, environment
from frame.processes import alive, children, descriptors, end, end_tree, free_port, pss, rss, tree, wait_for
from herds import HERDS
from hour import hour
from supervisors import FLOOR, at_size, figures_at

__all__ = ["PACKAGES", "measures"]

PACKAGES = (
    "oxherd",
    "supervisor",
    "circus",
    "pm2",
    "node",
    "oxmgr",
    "uvicorn",
    "gunicorn",
    "uvicorn-worker",
    "granian",
)
APP = """
import os


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = str(os.getpid()).encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server of an ASGI app. ``command`` has {port} and {workers}; "" is Oxherd's own."""

    name: str
    program: str
    command: str = ""

    def missing(self) -> str | None:
        """Return why it cannot be measured here, None if it can."""
        return absent(self.program)

    @contextlib.contextmanager
    def open(self, workers: int) -> Iterator[Served]:
        """Launch it with so many workers; at the end nothing of it is left."""
        served = Served(self, workers)
        try:
            served.launch()
            yield served
        finally:
            served.close()


SERVERS = (
    Server(name="oxherd", program="oxherd"),
    Server(
        name="uvicorn",
        program="uvicorn",
        command="uvicorn app:app --port {port} --workers {workers} --no-access-log --log-level warning",
    ),
    Server(
        name="gunicorn",
        program="gunicorn",
        command="gunicorn app:app -b 127.0.0.1:{port} -w {workers} -k uvicorn_worker.UvicornWorker --log-level warning",
    ),
    Server(
        name="granian",
        program="granian",
        command="granian --interface asgi app:app --port {port} --workers {workers} --no-access-log --log-level warning",
    ),
)


class Served:
    """A running server and what it is asked."""

    def __init__(self, server: Server, workers: int) -> None:
        """Write the app, and Oxherd's file; nothing is started."""
        self.folder = Path(tempfile.mkdtemp(prefix="bs", dir="/tmp"))
        self.env = environment(self.folder)
        self.port = free_port()
        self.workers = workers
        self.own = not server.command
        self.words = server.command.format(port=self.port, workers=workers).split()
        self.pid = 0
        self.child: subprocess.Popen[bytes] | None = None
        self.known: set[int] = set()
        self.launched = 0.0
        (self.folder / "app.py").write_text(APP)
        (self.folder / "oxfile.toml").write_text(
            f'[processes.web]\napp = "app:app"\nbind = "127.0.0.1:{self.port}"\nworkers = {workers}\n'
        )

    def oxherd(self, *words: str) -> str:
        """Run a command of Oxherd and return what it said.

        Raises:
            RuntimeError: it failed.
        """
        done = subprocess.run(
            [BIN / "oxherd", *words], cwd=self.folder, env=self.env, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"oxherd {words[0]}: exit code {done.returncode}: {done.stderr.strip()[-200:]}")
        return done.stdout

    def launch(self) -> None:
        """Start it; ``pid`` is that of the supervisor, the arbiter or the parent."""
        words = ["oxherd", "start", "--quiet"] if self.own else self.words
        with (self.folder / "log").open("wb") as log:
            self.launched = time.monotonic()
            self.child = subprocess.Popen(
                [BIN / words[0], *words[1:]], cwd=self.folder, env=self.env, stdout=log, stderr=log
            )
        if not self.own:
            self.pid = self.child.pid

    def find(self) -> None:
        """Look for Oxherd's supervisor: once it has a control socket it is asked who it is."""
        if next(self.folder.glob("home/**/control.sock"), None):
            self.pid = int(json.loads(self.oxherd("daemon", "status", "--json"))["pid"])

    def asked(self) -> int:
        """Return the pid of the worker that answers one request, 0 where nobody does."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/", headers={"Connection": "close"})
            answer = connection.getresponse()
            return int(answer.read()) if answer.status == 200 else 0
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    def accepting(self) -> set[int]:
        """Return the workers that wait for connections. Who did once is not looked at again while it lives."""
        inodes = listening()
        family = set(tree(self.pid)) - {self.pid}
        self.known = {pid for pid in family if pid in self.known or listens(pid, inodes)}
        return self.known

    def serving(self) -> float:
        """Return when one has answered and as many workers wait for connections as there are to be."""

        def ready() -> bool:
            if not self.pid:
                self.find()
            return bool(self.pid) and len(self.accepting()) >= self.workers and bool(self.asked())

        at = wait_for(ready, f"{self.workers} workers", deadline=300, every=0.02)
        if self.own and self.child.wait():
            raise RuntimeError("oxherd start failed")
        return at

    def reload(self) -> None:
        """Replace every worker, by `oxherd reload` or SIGHUP; return when none of the old is left and the new accept."""
        old = self.accepting()
        if self.own:
            self.oxherd("reload", "--quiet")
        else:
            os.kill(self.pid, signal.SIGHUP)
        wait_for(lambda: not any(alive(pid) for pid in old), "the end of the old workers", every=0.02)
        wait_for(lambda: len(self.accepting()) >= self.workers, "the new workers", every=0.02)
        wait_for(self.asked, "an answer", every=0.02)

    def close(self) -> None:
        """Leave nothing running."""
        try:
            if self.own:
                self.oxherd("daemon", "stop")
            elif alive(self.pid):
                end(self.pid, deadline=60)
        finally:
            if self.pid and alive(self.pid):
                end_tree(self.pid)
            if self.child:
                self.child.wait()
            shutil.rmtree(self.folder, ignore_errors=True)


def listens(pid: int, inodes: set[str]) -> bool:
    """Say whether a process waits for connections: its epoll descriptor holds a listening socket, proc_pid_fdinfo(5)."""
    with contextlib.suppress(OSError):  # it may end while it is looked at
        for name in os.listdir(f"/proc/{pid}/fdinfo"):
            text = Path(f"/proc/{pid}/fdinfo/{name}").read_text()
            for line in text.splitlines():
                if line.startswith("tfd:") and f"{int(line.split('ino:')[1].split()[0], 16)}" in inodes:
                    return True
    return False


def listening() -> set[str]:
    """Return the inodes of all listening TCP sockets."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[9] for row in rows if row[3] == "0A"}


def many_workers(server: Server, *, workers: int) -> dict[str, float]:
    """Launch many workers of a small app."""
    with server.open(workers) as served:
        ready = served.serving()
        family = tree(served.pid)
        return {
            f"launch of {workers} workers": ready - served.launched,
            f"PSS of {workers} workers": pss(family),
            f"parent of {workers} workers": rss(served.pid),
        }


def reloads(server: Server, *, count: int) -> dict[str, float]:
    """Reload many times in a row; what the second one left is what the others are compared with."""
    with server.open(2) as served:
        served.serving()
        begun, sizes, open_files, families = 0.0, [], [], []
        for number in range(count):
            begun = begun or (time.monotonic() if number == 1 else 0.0)
            served.reload()
            sizes.append(rss(served.pid))
            open_files.append(descriptors(served.pid))
            families.append(len(children(served.pid)))
        return {
            "memory grown over reloads": sizes[-1] - sizes[1],
            "descriptors grown over reloads": open_files[-1] - open_files[1],
            "children grown over reloads": families[-1] - families[1],
            "seconds a reload": (time.monotonic() - begun) / (count - 1),
        }


RELOADS = (
    Figure(name="memory grown over reloads", unit="MB", about="of the supervisor, arbiter or parent, second to last"),
    Figure(name="descriptors grown over reloads", unit="descriptors"),
    Figure(name="children grown over reloads", unit="processes"),
    Figure(name="seconds a reload", unit="s", about="until no old worker is left and the new ones accept"),
)


def measures(*, quick: bool) -> list[Measure]:
    """Return what is measured at scale."""
    many, workers, count = (100, 8, 3) if quick else (1000, 200, 10)
    return [
        Measure(
            name=f"{many:,} processes",
            figures=figures_at(many),
            peers=(*HERDS, FLOOR),
            run=partial(at_size, count=many, watch=2.0 if quick else 10.0, asks=3 if quick else 5, rate=1.0),
        ),
        Measure(
            name=f"{workers} workers",
            figures=(
                Figure(name=f"launch of {workers} workers", unit="s", about="until all of them accept"),
                Figure(name=f"PSS of {workers} workers", unit="MB", about="all that was started"),
                Figure(name=f"parent of {workers} workers", unit="MB", about="RSS of supervisor, arbiter or parent"),
            ),
            peers=SERVERS,
            run=partial(many_workers, workers=workers),
        ),
        Measure(name="reloads", figures=RELOADS, peers=SERVERS, run=partial(reloads, count=count)),
        hour(quick=quick),
    ]
