"""Crash, launch, memory and a blocked worker: every manager of workers, a hello app and one that is heavy to import."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
import time
from functools import partial

import asking
from frame.measure import Figure, Measure, Outcome, Skipped
from frame.places import BIN
from frame.processes import alive, pss, wait_for
from serving import Load, driven
from stacks import PACKAGES, Stack

__all__ = ["PACKAGES", "STACKS", "measures"]

ONE = "uvicorn {app} --port {port} --no-access-log --log-level warning"
UVICORN = "uvicorn {app} --port {port} --workers {workers} --no-access-log --log-level warning"
GUNICORN = "gunicorn -k uvicorn_worker.UvicornWorker -w {workers} -b 127.0.0.1:{port}"
THREADS = "gunicorn -k gthread --threads 8 -w {workers} -b 127.0.0.1:{port}"
TIMEOUT = " --timeout {seconds}"
# What gunicorn's documentation of preload_app and Python's of gc.freeze() advise together.
FREEZE = """\
import gc

preload_app = True


def when_ready(server):
    gc.freeze()
"""

SINGLE = (
    Stack(name="supervisord, uvicorn", program="uvicorn", manager="supervisord", words=ONE),
    Stack(name="pm2, uvicorn", program="uvicorn", manager="pm2", words=ONE),
)
STACKS = (
    # With one worker uvicorn watches nothing.
    Stack(name="uvicorn", program="uvicorn", words=UVICORN, least=2, blocked=" --timeout-worker-healthcheck {seconds}"),
    Stack(name="gunicorn uvicorn-worker", program="gunicorn", words=f"{GUNICORN} {{app}}", blocked=TIMEOUT),
    Stack(name="gunicorn, preload", program="gunicorn", words=f"{GUNICORN} --preload {{app}}", blocked=TIMEOUT),
    Stack(
        name="gunicorn, preload and gc.freeze",
        program="gunicorn",
        words=f"{GUNICORN} -c {{folder}}/gunicorn.conf.py {{app}}",
        gunicorn=FREEZE,
        blocked=TIMEOUT,
    ),
    Stack(
        name="gunicorn asgi",
        program="gunicorn",
        words="gunicorn -k asgi -w {workers} -b 127.0.0.1:{port} {app}",
        blocked=TIMEOUT,
    ),
    Stack(name="gunicorn gthread", program="gunicorn", words=f"{THREADS} {{app}}", wsgi=True),
    Stack(name="gunicorn gthread, preload", program="gunicorn", words=f"{THREADS} --preload {{app}}", wsgi=True),
    Stack(name="hypercorn", program="hypercorn", words="hypercorn -w {workers} -k uvloop -b 127.0.0.1:{port} {app}"),
    Stack(
        name="granian",
        program="granian",
        words="granian --interface asgi --workers {workers} --port {port} --loop uvloop --respawn-failed-workers {app}",
    ),
    Stack(
        name="oxherd uvicorn",
        program="uvicorn",
        manager="oxherd",
        words='app = "{app}"\nworkers = {workers}',
        blocked='\ntimeout = "{seconds}s"',
    ),
    Stack(
        name="oxherd uvicorn command",
        program="uvicorn",
        manager="oxherd",
        words=f'command = "{BIN}/{UVICORN}"',
        blocked='\ntimeout = "{seconds}s"',
    ),
    Stack(
        name="oxherd gthread",
        program="gunicorn",
        manager="oxherd",
        words='app = "{app}"\nserver = "gunicorn"\nworkers = {workers}\n'
        'server_options = {{ worker_class = "gthread", threads = 8 }}',
        wsgi=True,
    ),
)
# A process is long-lived when it dies: less than a second after its start it is the start that failed, to supervisord
# and to PM2.
SETTLED = 1.5
# Every service is asked every so many seconds while a worker is blocked; a probe that got no answer in PATIENCE hung.
PROBE, PATIENCE = 0.05, 1.0


def crash(app: str, stack: Stack) -> Outcome:
    """Launch, then SIGKILL a worker; the milliseconds until its successor is there, and until that has answered."""
    with stack.open(app, workers=stack.least) as service:
        first = service.answered() - service.launched
        old = set(service.serving())
        time.sleep(SETTLED)
        victim, before = max(old), set(service.tree())
        born: list[float] = []
        given_up = threading.Event()

        def watch() -> None:
            # Beside the client, which a server that queues connections makes wait.
            with contextlib.suppress(TimeoutError):
                at = wait_for(
                    lambda: given_up.is_set() or set(service.tree()) - before,
                    "a new process",
                    deadline=60,
                    every=0.0002,
                )
                born.append(at)

        def answered() -> bool:
            if not alive(service.root):
                raise Skipped("the whole server ends when a worker of it is killed")
            with contextlib.suppress(OSError):
                return asking.pid(service.port) not in old
            return False

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            killed = time.monotonic()
            os.kill(victim, signal.SIGKILL)
            back = wait_for(answered, "an answer of the successor")
        finally:
            given_up.set()
            watcher.join()
    return {
        f"launch to 200, {named(app)}": first,
        f"crash to new pid, {named(app)}": (born[0] - killed) * 1000,
        f"crash to 200, {named(app)}": (back - killed) * 1000,
    }


def named(app: str) -> str:
    """Return how the figures call an app."""
    return f"{app.partition(':')[0]} app"


def herd(count: int, each: int, stack: Stack) -> Outcome:
    """Launch so many workers of the heavy app; time, memory, and memory after ``each`` requests a worker."""
    with stack.open("heavy:app", workers=count) as service:
        seen = service.serving()
        time.sleep(SETTLED)
        fresh = pss(service.tree())
        left, seconds = float(each * count), 1.0
        while left > 0:
            # As many connections as give each worker some, also where one listener is shared.
            told = driven(service.port, Load(name="heavy", connections=16 * count), seconds)
            if not told["requests"]:
                raise RuntimeError("not one answer")
            left -= told["requests"]
            seconds = math.ceil(left / told["requests"] * seconds)
        return {
            f"launch of {count} to all serving, heavy app": max(seen.values()) - service.launched,
            f"PSS of {count}, fresh": fresh,
            f"PSS of {count}, used": pss(service.tree()),
        }


def blocked(seconds: int, stack: Stack) -> Outcome:
    """Block one of two workers for good, where ``seconds`` is the limit in every manager that has one."""
    with stack.open("hello:app", workers=2, blocked=seconds) as service:
        old = set(service.serving())
        time.sleep(SETTLED)
        hung: list[float] = []
        probes: list[threading.Thread] = []

        def probe() -> None:
            try:
                asking.pid(service.port, PATIENCE)
            except OSError:
                hung.append(time.monotonic())

        with asking.connection(service.port) as stream:
            stream.sendall(asking.request("/block", last=False))
            at = time.monotonic()
            limit, gone, capacity = 3.0 * seconds, None, None
            while time.monotonic() < at + limit and capacity is None:
                thread = threading.Thread(target=probe)
                thread.start()
                probes.append(thread)
                time.sleep(PROBE)
                if gone is None and not all(map(alive, old)):
                    gone = time.monotonic() - at
                if (
                    gone is not None
                    and len(set(asking.burst(service.port, 6)) - {one for one in old if not alive(one)}) >= 2
                ):
                    capacity = time.monotonic() - at
            for thread in probes:
                thread.join()
    return {
        # Not noticed in three times the limit counts as that.
        "blocked: until noticed": limit if gone is None else gone,
        "blocked: until capacity is back": limit if capacity is None else capacity,
        "blocked: probes that hung": 100 * len(hung) / len(probes),
    }


def measures(*, quick: bool) -> list[Measure]:
    """Return what is measured; quick: two workers, few requests."""
    sizes, each, limit = ((2,), 200, 2) if quick else ((2, 4, 8), 10_000, 5)
    apps = ("hello:app", "heavy:app")
    found = [
        Measure(
            name=f"crash, {named(app)}",
            figures=(
                Figure(name=f"launch to 200, {named(app)}", unit="s", about="one worker, uvicorn alone: two"),
                Figure(name=f"crash to new pid, {named(app)}", unit="ms"),
                Figure(name=f"crash to 200, {named(app)}", unit="ms"),
            ),
            peers=(*SINGLE, *STACKS),
            run=partial(crash, app),
        )
        for app in apps
    ]
    found += [
        Measure(
            name=f"{count} workers",
            figures=(
                Figure(name=f"launch of {count} to all serving, heavy app", unit="s"),
                Figure(
                    name=f"PSS of {count}, fresh", unit="MB", about="of the whole tree, with manager and supervisor"
                ),
                Figure(name=f"PSS of {count}, used", unit="MB", about=f"after {each:,} requests a worker"),
            ),
            peers=STACKS,
            run=partial(herd, count, each),
        )
        for count in sizes
    ]
    about = f"one of two workers blocked for good; limit {limit} s; never noticed counts as {3 * limit} s"
    found.append(
        Measure(
            name="blocked",
            figures=(
                Figure(name="blocked: until noticed", unit="s", about=about),
                Figure(name="blocked: until capacity is back", unit="s", about=about),
                Figure(
                    name="blocked: probes that hung",
                    unit="%",
                    about=f"new connections, one every {PROBE * 1000:.0f} ms meanwhile, without an answer in {PATIENCE:g} s",
                ),
            ),
            # One thread of eight that is blocked is no blocked worker.
            peers=tuple(stack for stack in STACKS if not stack.wsgi),
            run=partial(blocked, limit),
        )
    )
    return found
