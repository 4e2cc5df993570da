"""Oxherd and its peers, measured in one run: memory, starts, status, recovery, idleness.

Nothing here is a test: the figures are printed and kept, never asserted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
PEERS = HERE / ".venv" / "bin"
OWN = HERE.parent / ".venv" / "bin"
DEADLINE = 60.0


def environment(folder: Path) -> dict[str, str]:
    """What every measured command gets: byte code is cached, as it is where these programs are installed."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "OXHERD"))}
    return {**kept, "OXHERD_HOME": str(folder / "home")}


def program(folder: Path, number: int) -> str:
    """Return the command of one program."""
    return f"/bin/sh -c 'echo $$ > {folder}/pid{number}; exec sleep 100000'"


def wait_for(condition, what: str) -> float:
    """Poll every half millisecond and return the monotonic time at which it held."""
    end = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.0005)
    return time.monotonic()


def pids(folder: Path, count: int) -> list[int]:
    """Return the pids that were written, an empty list while one is missing."""
    found = []
    for number in range(count):
        try:
            found.append(int((folder / f"pid{number}").read_text()))
        except (OSError, ValueError):
            return []
    return found


class Supervisor:
    """One of the measured."""

    name = ""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.count = count
        self.env = environment(folder)

    def run(self, *command: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        words = [str(word) for word in command]
        return subprocess.run(words, cwd=self.folder, env=self.env, capture_output=True, text=True, check=check)


class Oxherd(Supervisor):
    name = "oxherd"

    def start(self) -> None:
        tables = [
            f'[processes.p{n}]\ncommand = "{program(self.folder, n)}"\nrestart = "always"\n' for n in range(self.count)
        ]
        (self.folder / "oxfile.toml").write_text("\n".join(tables))
        if self.count:
            self.run(OWN / "oxherd", "start", "--quiet")
        else:
            self.child = subprocess.Popen(
                [OWN / "oxherd", "daemon", "run"],
                cwd=self.folder,
                env=self.env,
                stderr=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
            wait_for(lambda: self.run(OWN / "oxherd", "daemon", "status", check=False).returncode == 0, "daemon")

    def pid(self) -> int:
        return json.loads(self.run(OWN / "oxherd", "daemon", "status", "--json").stdout)["pid"]

    def status(self) -> None:
        self.run(OWN / "oxherd", "status")

    def stop(self) -> None:
        self.run(OWN / "oxherd", "daemon", "stop")
        if not self.count:
            self.child.wait()


class Supervisord(Supervisor):
    name = "supervisord"

    def start(self) -> None:
        folder = self.folder
        sections = "".join(
            f"[program:p{n}]\ncommand={program(folder, n)}\nautorestart=true\n" for n in range(self.count)
        )
        (folder / "s.conf").write_text(
            f"[supervisord]\nlogfile={folder}/s.log\npidfile={folder}/s.pid\nchildlogdir={folder}\n"
            f"[unix_http_server]\nfile={folder}/s.sock\n[supervisorctl]\nserverurl=unix://{folder}/s.sock\n"
            "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
            + sections
        )
        self.run(PEERS / "supervisord", "-c", "s.conf")
        wait_for((folder / "s.pid").exists, "supervisord")

    def pid(self) -> int:
        return int((self.folder / "s.pid").read_text())

    def status(self) -> None:
        self.run(PEERS / "supervisorctl", "-c", "s.conf", "status", check=False)

    def stop(self) -> None:
        end(self.pid())


class Circus(Supervisor):
    name = "circus"

    def start(self) -> None:
        folder = self.folder
        sections = "".join(
            f"[watcher:p{n}]\ncmd={program(folder, n)}\nwarmup_delay=0\ncopy_env=True\n" for n in range(self.count)
        )
        (folder / "c.ini").write_text(
            f"[circus]\nendpoint=ipc://{folder}/e\npubsub_endpoint=ipc://{folder}/p\nstatsd=False\nwarmup_delay=0\n"
            + sections
        )
        self.run(
            PEERS / "circusd", "--daemon", "--pidfile", folder / "c.pid", "--log-output", folder / "c.log", "c.ini"
        )
        wait_for(lambda: (folder / "c.pid").exists() and (folder / "c.pid").read_text().strip(), "circusd")

    def pid(self) -> int:
        return int((self.folder / "c.pid").read_text())

    def status(self) -> None:
        self.run(PEERS / "circusctl", "--endpoint", f"ipc://{self.folder}/e", "status", check=False)

    def stop(self) -> None:
        end(self.pid())


def end(pid: int) -> None:
    """Stop a supervisor by SIGTERM and wait until it is gone."""
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), f"the end of {pid}")


def memory(pid: int) -> float:
    """Return the resident memory of one process in MB."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def cpu(pid: int) -> float:
    """Return the CPU seconds of one process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(kind: type[Supervisor]) -> dict[str, float]:
    """Return one round of figures of one supervisor."""
    figures: dict[str, float] = {}
    for count in (0, 1, 100):
        folder = Path(tempfile.mkdtemp(prefix="ox", dir="/tmp"))
        supervisor = kind(folder, count)
        try:
            begun = time.monotonic()
            supervisor.start()
            ready = wait_for(lambda folder=folder, count=count: len(pids(folder, count)) == count, "programs")
            pid = supervisor.pid()
            if count == 1:
                (old,) = pids(folder, 1)
                killed = time.monotonic()
                os.kill(old, signal.SIGKILL)
                again = wait_for(lambda folder=folder, old=old: pids(folder, 1) not in ([], [old]), "the restart")
                figures["crash to new pid, ms"] = (again - killed) * 1000
                continue
            figures[f"RSS with {count}, MB"] = memory(pid)
            if count:
                figures["start of 100, s"] = ready - begun
                times = []
                for _ in range(9):
                    at = time.monotonic()
                    supervisor.status()
                    times.append((time.monotonic() - at) * 1000)
                figures["status at 100, ms"] = statistics.median(times)
                used = cpu(pid)
                time.sleep(20)
                figures["idle CPU of 20 s at 100, s"] = cpu(pid) - used
        finally:
            supervisor.stop()
            shutil.rmtree(folder, ignore_errors=True)
    return figures


def table(results: dict[str, list[dict[str, float]]]) -> str:
    """Return the medians, their spread and the ratio to supervisord as a Markdown table."""
    names = list(results)
    lines = ["| figure | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for figure in next(iter(results.values()))[0]:
        cells = []
        reference = results.get("supervisord")
        base = statistics.median(round_[figure] for round_ in reference) if reference else 0
        for name in names:
            values = [round_[figure] for round_ in results[name]]
            middle = statistics.median(values)
            ratio = f", {middle / base:.2f}x" if base else ""
            cells.append(f"{middle:.3g} [{min(values):.3g}-{max(values):.3g}]{ratio}")
        lines.append(f"| {figure} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    kinds: list[type[Supervisor]] = [Oxherd]
    for kind, command in ((Supervisord, "supervisord"), (Circus, "circusd")):
        if (PEERS / command).exists():
            kinds.append(kind)
        else:
            print(f"skipped: {kind.name} is not installed", file=sys.stderr)
    results: dict[str, list[dict[str, float]]] = {kind.name: [] for kind in kinds}
    for number in range(options.rounds):
        for kind in kinds[number % len(kinds) :] + kinds[: number % len(kinds)]:
            print(f"round {number + 1}: {kind.name}", file=sys.stderr)
            results[kind.name].append(measure(kind))
    facts = {"machine": platform.platform(), "python": platform.python_version(), "cpus": os.cpu_count()}
    (HERE / "results").mkdir(exist_ok=True)
    stamp = time.strftime("%Y-%m-%d-%H%M")
    (HERE / "results" / f"supervisors-{stamp}.json").write_text(json.dumps({**facts, "rounds": results}, indent=1))
    print(json.dumps(facts))
    print(table(results))


if __name__ == "__main__":
    main()
