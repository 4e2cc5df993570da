"""Throughput, latency, CPU a request and fairness: each server under its own manager and under Oxherd, two workers."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import asking
from frame.measure import Figure, Measure, Outcome, Skipped
from frame.places import BENCH, BIN, executable
from frame.processes import alive, cpu
from stacks import PACKAGES, Service, Stack

__all__ = ["ASGI", "PACKAGES", "WSGI", "Load", "load", "measures"]

THREADS = 8
SECOND = 1.0
GUNICORN = "gunicorn -w {workers} -b 127.0.0.1:{port} --keep-alive 5"
UVICORN = "uvicorn {app} --port {port} --workers {workers} --no-access-log --log-level warning"

# The same loop and parser for all that can choose: "auto" is uvloop and httptools, which are there.
ASGI = (
    Stack(name="uvicorn", program="uvicorn", words=UVICORN),
    Stack(
        name="gunicorn uvicorn-worker",
        program="gunicorn",
        words=f"{GUNICORN} -k uvicorn_worker.UvicornWorker {{app}}",
    ),
    Stack(name="oxherd uvicorn", program="uvicorn", manager="oxherd", words='app = "{app}"\nworkers = {workers}'),
    Stack(name="oxherd uvicorn command", program="uvicorn", manager="oxherd", words=f'command = "{BIN}/{UVICORN}"'),
    Stack(
        name="granian",
        program="granian",
        words="granian --interface asgi --workers {workers} --port {port} --loop uvloop {app}",
    ),
    Stack(
        name="oxherd granian",
        program="granian",
        manager="oxherd",
        words='app = "{app}"\nserver = "granian"\nworkers = {workers}',
    ),
    Stack(name="gunicorn asgi", program="gunicorn", words=f"{GUNICORN} -k asgi {{app}}"),
    Stack(
        name="oxherd gunicorn asgi",
        program="gunicorn",
        manager="oxherd",
        words='app = "{app}"\nserver = "gunicorn"\nworkers = {workers}\nserver_options = {{ worker_class = "asgi" }}',
    ),
    Stack(
        name="hypercorn",
        program="hypercorn",
        words="hypercorn -w {workers} -k uvloop -b 127.0.0.1:{port} {app}",
    ),
    Stack(
        name="oxherd hypercorn",
        program="hypercorn",
        manager="oxherd",
        words='app = "{app}"\nserver = "hypercorn"\nworkers = {workers}\nserver_options = {{ worker_class = "uvloop" }}',
    ),
)
WSGI = (
    Stack(name="gunicorn gthread", program="gunicorn", words=f"{GUNICORN} -k gthread --threads {THREADS} {{app}}"),
    Stack(
        name="oxherd gthread",
        program="gunicorn",
        manager="oxherd",
        words='app = "{app}"\nserver = "gunicorn"\nworkers = {workers}\n'
        f'server_options = {{{{ worker_class = "gthread", threads = {THREADS} }}}}',
    ),
    Stack(
        name="granian wsgi",
        program="granian",
        words=f"granian --interface wsgi --workers {{workers}} --blocking-threads {THREADS} --port {{port}} {{app}}",
    ),
    Stack(
        name="oxherd granian wsgi",
        program="granian",
        manager="oxherd",
        words='app = "{app}"\nserver = "granian"\nworkers = {workers}\n'
        f"server_options = {{{{ blocking_threads = {THREADS} }}}}",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is asked, of which path; ``body`` in bytes; ``close``: one request a connection."""

    name: str
    path: str = "/"
    method: str = "GET"
    body: int = 0
    close: bool = False
    websocket: bool = False
    connections: int = 64

    def figures(self) -> tuple[Figure, ...]:
        """Return what is measured of it."""
        return (
            Figure(name=f"{self.name}: requests a second", unit="1/s", better="more"),
            Figure(name=f"{self.name}: p50", unit="ms"),
            Figure(name=f"{self.name}: p99", unit="ms"),
            Figure(name=f"{self.name}: p99.9", unit="ms"),
            Figure(
                name=f"{self.name}: CPU of the workers",
                unit="s for 10,000 requests",
                about="user and system; steadier than the rate where a machine has other work",
            ),
            Figure(
                name=f"{self.name}: CPU of the manager",
                unit="s for 10,000 requests",
                about="everything of the tree that is no worker",
            ),
            Figure(name=f"{self.name}: failed", unit="requests"),
        )


def driven(port: int, load: Load, seconds: float) -> dict[str, float]:
    """Run the client for so many seconds; return what it counted: requests, failed, us, p50, p99, p999 (microseconds).

    Raises:
        RuntimeError: the client failed.
    """
    if load.websocket:
        words = [str(BIN / "python"), str(BENCH / "echo.py"), str(port), str(load.connections), str(seconds)]
    else:
        words = [str(executable("wrk")), "-t1", f"-c{load.connections}", f"-d{max(1, round(seconds))}s", "--timeout"]
        words += ["10s", "-s", str(BENCH / "wrk" / "load.lua"), f"http://127.0.0.1:{port}{load.path}"]
    asked = {"WRK_METHOD": load.method, "WRK_BODY": str(load.body), "WRK_CLOSE": str(int(load.close))}
    # A session of its own, as the servers have.
    done = subprocess.run(
        words, env={**os.environ, **asked}, capture_output=True, text=True, check=False, start_new_session=True
    )
    line = done.stdout.rpartition("RESULT ")[2]
    if done.returncode or not line.strip().startswith("{"):
        raise RuntimeError(f"{words[0].rpartition('/')[2]}: {(done.stderr or done.stdout).strip()[-200:]}")
    return dict(json.loads(line))


def load(service: Service, workers: set[int], what: Load, times: int) -> dict[str, list[float]]:
    """Put a load on a service for a second, so many times; return the figures of each.

    Raises:
        RuntimeError: nothing was answered, or it says why.
    """
    # What a server does once (first requests of each worker, buffers, caches) is not what is measured.
    driven(service.port, what, SECOND / 2)
    found: dict[str, list[float]] = {}
    for _ in range(times):
        # Anew each time: how connections fall on the workers, and processes on the processors, is luck.
        for name, value in once(service, workers, what).items():
            found.setdefault(name, []).append(value)
    return found


def once(service: Service, workers: set[int], what: Load) -> dict[str, float]:
    """Return the figures of one second, with connections of its own."""
    managers = set(service.tree()) - workers
    # A helper may end meanwhile; its parent has its time then, proc_pid_stat(5).
    before, before_managers = cpu(workers), {pid: cpu([pid]) for pid in managers}
    told = driven(service.port, what, SECOND)
    used = cpu(workers) - before
    used_managers = sum(cpu([pid]) - spent for pid, spent in before_managers.items() if alive(pid))
    requests = told["requests"]
    if not requests:
        raise RuntimeError(f"{what.name}: not one answer: {told.get('why', '')}")
    values = (requests / told["us"] * 1e6, *(told[key] / 1000 for key in ("p50", "p99", "p999")))
    values += (used / requests * 10_000, max(0.0, used_managers) / requests * 10_000, told["failed"])
    return {figure.name: value for figure, value in zip(what.figures(), values, strict=True)}


def shares(connections: int) -> Figure:
    """Return the figure of one number of connections."""
    return Figure(
        name=f"share of the busier of two, {connections} connections",
        unit="of 1",
        about="kept connections opened in one burst, one request on each; five bursts a round",
    )


def busier(service: Service, connections: int, bursts: int) -> list[float]:
    """Return the share of the busier worker, of each burst."""
    found = []
    for _ in range(bursts):
        with asking.kept(service.port, connections) as counts:
            found.append(max(counts.values()) / connections)
    return found


def serve(
    app: str, loads: tuple[Load, ...], times: int, stack: Stack, *, bursts: tuple[int, ...], count: int
) -> Outcome:
    """Launch a server, put each load on it, return all figures.

    Raises:
        Skipped: there is no wrk.
    """
    if executable("wrk") is None:
        raise Skipped("wrk is not installed")
    figures: dict[str, float | list[float]] = {}
    with stack.open(app, workers=count) as service:
        workers = set(service.serving())
        for connections in bursts:
            figures[shares(connections).name] = busier(service, connections, 5)
        for what in loads:
            figures.update(load(service, workers, what, times))
    return figures


HELLO = (
    Load(name="hello"),
    # So many that a worker has less often nothing to do while the client, with which it shares the processors, is at its turn.
    Load(name="hello, 256 connections", connections=256),
    Load(name="hello, one request a connection", close=True),
    Load(name="websocket echo", websocket=True),
)
API = (
    Load(name="JSON of 10 kB", path="/json"),
    Load(name="def endpoint", path="/def"),
    Load(name="upload of 64 kB", path="/upload", method="POST", body=65536),
)
PLAIN = (Load(name="WSGI hello"), Load(name="WSGI hello, one request a connection", close=True))
FLASK = (Load(name="Flask"),)
# With a processor left for the client: what a request costs, whatever way processors are shared out (see README.md).
SINGLE = (Load(name="hello, one worker"),)
SINGLE_WSGI = (Load(name="WSGI hello, one worker"),)


def measures(*, quick: bool) -> list[Measure]:
    """Return what is measured; quick: once each, not three times."""
    times = 1 if quick else 3
    bursts = (8, 64) if quick else (8, 64, 512)

    def measure(
        name: str,
        app: str,
        loads: tuple[Load, ...],
        peers: tuple[Stack, ...],
        *,
        bursts: tuple[int, ...] = (),
        count: int = 2,
    ) -> Measure:
        run: Callable[[Stack], Outcome] = partial(serve, app, loads, times, bursts=bursts, count=count)
        figures = (*map(shares, bursts), *(figure for one in loads for figure in one.figures()))
        return Measure(name=name, figures=figures, peers=peers, run=run)

    return [
        measure("hello", "hello:app", HELLO, ASGI, bursts=bursts),
        measure("api", "api:app", API, ASGI),
        measure("wsgi", "wsgi:app", PLAIN, WSGI),
        measure("flask", "flasky:app", FLASK, WSGI),
        measure("single", "hello:app", SINGLE, ASGI, count=1),
        measure("single wsgi", "wsgi:app", SINGLE_WSGI, WSGI, count=1),
    ]
