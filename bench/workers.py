"""Oxherd's own workers, measured: recovery of a heavy app, memory of eight workers, fairness, and a blocked worker.

Nothing here is a test: the figures are printed and kept, never asserted. Run by ``bench/workers``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import socket
import statistics
import sys
import time
from collections import Counter
from pathlib import Path

from loss_servers import Kind, launch, wait_for

from support.loss import loss_client
from support.lossclient.http1 import Response, request

HERE = Path(__file__).resolve().parent

HEAVY = {
    "oxherd": Kind(name="oxherd", command='app = "heavy_app:app"\nworkers = {workers}\n', oxherd=True),
    "oxherd, preload = false": Kind(
        name="oxherd, preload = false",
        command='app = "heavy_app:app"\nworkers = {workers}\npreload = false\n',
        oxherd=True,
    ),
    "uvicorn": Kind(name="uvicorn", command="uvicorn heavy_app:app --port {port} --workers {workers} --no-access-log"),
    "gunicorn uvicorn-worker": Kind(
        name="gunicorn uvicorn-worker",
        command="gunicorn -k uvicorn_worker.UvicornWorker -w {workers} -b 127.0.0.1:{port} heavy_app:app",
    ),
    "gunicorn uvicorn-worker --preload": Kind(
        name="gunicorn uvicorn-worker --preload",
        command="gunicorn --preload -k uvicorn_worker.UvicornWorker -w {workers} -b 127.0.0.1:{port} heavy_app:app",
    ),
}
LIGHT = {
    "oxherd slots": Kind(name="oxherd slots", command='app = "main:app"\nworkers = {workers}\n', oxherd=True),
    "oxherd shared": Kind(
        name="oxherd shared", command='app = "main:app"\nworkers = {workers}\nbalance = "shared"\n', oxherd=True
    ),
    "uvicorn": Kind(name="uvicorn", command="uvicorn main:app --port {port} --workers {workers} --no-access-log"),
}


def connect(port: int) -> socket.socket:
    """Return a new connection."""
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def ask(connection: socket.socket, path: str) -> Response:
    """Send one request and receive its answer."""
    connection.sendall(request("GET", path))
    response = Response()
    while not response.complete:
        data = connection.recv(65536)
        if not data:
            raise ConnectionResetError("end of file")
        response.feed(data)
    return response


def pid_of(port: int) -> int:
    """Ask on a connection of its own, again until somebody answers; return who did."""
    end = time.monotonic() + 30
    while True:
        try:
            with connect(port) as connection:
                return int(ask(connection, "/fast?n=x").headers["x-pid"])
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.0005)


def pids_of(port: int, count: int) -> set[int]:
    """Ask until so many workers have answered."""
    seen: set[int] = set()
    if not wait_for(lambda: seen.add(pid_of(port)) or len(seen) >= count):
        raise TimeoutError(f"only {seen} of {count} workers answer")
    return seen


def recovery(kind: Kind, _name: str) -> dict[str, float]:
    """Measure a cold start, and SIGKILL of a worker until its successor answers.

    Of one worker, whose successor answers whatever is asked next; but uvicorn has no supervisor with less than two.
    """
    begun = time.monotonic()
    count = 2 if kind.name == "uvicorn" else 1
    server = launch(kind, workers=count)
    try:
        started = time.monotonic() - begun
        times = []
        for _ in range(3):
            old = pids_of(server.port, count)
            at = time.monotonic()
            os.kill(max(old), signal.SIGKILL)
            if not wait_for(lambda old=old: pid_of(server.port) not in old):
                raise TimeoutError("no successor answers")
            times.append(time.monotonic() - at)
        # The second and third come at once after the first, which a back-off may answer.
        return {
            "start to 200, ms": started * 1000,
            "kill to 200, ms": times[0] * 1000,
            "killed again at once, ms": times[1] * 1000,
            "and again, ms": times[2] * 1000,
        }
    finally:
        server.stop()


def proportional(pid: int) -> float:
    """Return the proportional set size of a process in MB; proc_pid_smaps_rollup(5)."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("Pss:")).split()[1]) / 1024
    return 0.0


def tree(pid: int) -> list[int]:
    """Return a process and all below it."""
    found = [pid]
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found += tree(int(child))
    return found


def memory(kind: Kind, name: str) -> dict[str, float]:
    """Measure eight workers after each has answered, with everything they need beside them but the supervisor."""
    server = launch(kind, workers=8)
    try:
        workers = pids_of(server.port, 8)
        for _ in range(48 * 8):
            pid_of(server.port)
        if name.startswith("oxherd"):
            supervisor = json.loads(server.oxherd_says("daemon", "status", "--json"))["pid"]
            family = set(tree(supervisor)) - {supervisor}
        else:
            family = set(tree(server.process.pid))
        if not workers <= family:
            raise RuntimeError(f"{workers - family} is not of the family")
        return {"PSS of 8 workers, MB": sum(map(proportional, family))}
    finally:
        server.stop()


def fairness(kind: Kind, _name: str) -> dict[str, float]:
    """Open 64 connections in one burst, ask once on each; return the greater share of two workers."""
    server = launch(kind, workers=2)
    try:
        pids_of(server.port, 2)
        shares = []
        for _ in range(5):
            with contextlib.ExitStack() as stack:
                connections = [stack.enter_context(connect(server.port)) for _ in range(64)]
                counts = Counter(ask(connection, "/fast?n=x").headers["x-pid"] for connection in connections)
            shares.append(max(counts.values()) / 64)
        return {"greater share of 64, median": statistics.median(shares), "greater share of 64, worst": max(shares)}
    finally:
        server.stop()


def blocked(kind: Kind, _name: str) -> dict[str, float]:
    """Block one of two workers for 3 s under 32 kept connections and 16 clients of one request a connection."""
    server = launch(kind, workers=2)
    try:
        pids_of(server.port, 2)
        traffic = {"idle": 0, "silent": 0, "slow": 0, "post": 0, "stream": 0, "websocket": 0, "single": 16}
        with loss_client(address=f"127.0.0.1:{server.port}", timeout=10.0, **traffic) as client:
            client.warm()
            client.answers(2000)
            client.mark("blocked")
            with connect(server.port) as connection:
                ask(connection, "/block?s=3&n=x")
            client.mark("after")
            client.answers(2000)
            report = client.stop()
        during = [phase for phase in report["phases"] if phase["name"] != "start"]
        return {
            "new connections stalled": sum(phase["stalled"].get("single", 0) for phase in during),
            "kept connections stalled": sum(phase["stalled"].get("busy", 0) for phase in during),
            "answered in the 3 s": float(during[0]["classes"].get("ok", 0)),
            "failed": float(report["failed"]),
        }
    finally:
        server.stop()


MEASURES = (
    ("recovery of a heavy app", recovery, HEAVY),
    ("memory of a heavy app", memory, HEAVY),
    ("fairness", fairness, LIGHT),
    ("one of two workers blocked for 3 s", blocked, LIGHT),
)


def table(title: str, results: dict[str, list[dict[str, float]]]) -> str:
    """Return medians with their spread as a Markdown table; ratios are to the first server."""
    figures = list(next((rounds[0] for rounds in results.values() if rounds), {}))
    lines = [f"### {title}", "", "| server | " + " | ".join(figures) + " |", "|---" * (len(figures) + 1) + "|"]
    for name, rounds in results.items():
        cells = []
        for figure in figures:
            values = [one[figure] for one in rounds]
            if not values:
                cells.append("not measured")
                continue
            cells.append(f"{statistics.median(values):.3g} [{min(values):.3g}-{max(values):.3g}]")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--only", help="only figures whose title holds this")
    options = parser.parse_args()
    chosen = [one for one in MEASURES if not options.only or options.only in one[0]]
    results: dict[str, dict[str, list[dict[str, float]]]] = {
        title: {name: [] for name in kinds} for title, _, kinds in chosen
    }
    for number in range(1 if options.quick else options.rounds):
        for title, measure, kinds in chosen:
            names = list(kinds)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                print(f"round {number + 1}: {title}: {name}", file=sys.stderr)
                try:
                    results[title][name].append(measure(kinds[name], name))
                except (OSError, RuntimeError, TimeoutError) as error:
                    print(f"not measured: {error}", file=sys.stderr)
    facts = {"machine": platform.platform(), "python": platform.python_version(), "cpus": os.cpu_count()}
    (HERE / "results").mkdir(exist_ok=True)
    path = HERE / "results" / f"workers-{time.strftime('%Y-%m-%d-%H%M')}.json"
    path.write_text(json.dumps({**facts, "rounds": results}, indent=1))
    print(json.dumps(facts))
    for title, rounds in results.items():
        print("\n" + table(title, rounds))


if __name__ == "__main__":
    main()
