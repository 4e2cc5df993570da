"""The stack that chaos is done to: what is in its oxfile, what is changed about it, and what its status has to show.

Two services under load (uvicorn in two forked workers, gunicorn's threads in two more), a command that writes numbered
lines fast, another one with its log on a small disk, a singleton, a oneshot that the services wait for, and a job that the
clock starts every two seconds.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.scene import LOSS_APPS
from support.services import unused_port

if TYPE_CHECKING:
    from support.harness import Row

__all__ = ["COMMANDS", "SERVICES", "Stack"]

PROGRAMS = Path(__file__).resolve().parent / "programs"
# -I -S: no site packages, which is most of what an interpreter does when it starts.
PYTHON = f"{sys.executable} -I -S"

SERVICES = ("web", "wsgi")
COMMANDS = ("writer", "spiller", "single")
WORKERS = 2

# Lines a second: enough that rotation, compression and a full pipe happen within a short run.
WRITER_RATE = 2000
SPILLER_RATE = 200


@dataclass
class Stack:
    """What the oxfile says, what was changed beside it, and what is therefore wanted.

    Attributes:
        base: A directory of the run's own.
        spill: Where the log of ``spiller`` is: a small disk, or None where none can be mounted.
        workers: Of each service, by the oxfile.
        scaled: Of each service that `oxherd scale` has another number of.
        most: The most workers each service has had.
        extra: Whether there is the process that comes and goes by edits.
        turns: How often the settings of each process were edited.
        release: The name of the good code that is deployed.
    """

    base: Path
    spill: Path | None = None
    workers: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SERVICES, WORKERS))
    scaled: dict[str, int] = field(default_factory=dict)
    extra: bool = False
    turns: dict[str, int] = field(default_factory=dict)
    remark: int = 0
    release: str = ""
    deployments: int = 0
    ports: dict[str, int] = field(default_factory=dict)
    most: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make its directories."""
        for service in SERVICES:
            self.ports[service] = unused_port()
        self.deployed = self.base / "deployed"
        self.counters = {name: self.base / f"counters-{name}" for name in ("writer", "spiller")}
        self.overlaps = self.base / "overlaps"
        for folder in (self.deployed, *self.counters.values()):
            folder.mkdir()
        self.deploy()

    # -- what is wanted ---------------------------------------------------------------------------------------------

    def count(self, service: str) -> int:
        """Return how many workers a service has."""
        return self.scaled.get(service, self.workers[service])

    def running(self) -> set[str]:
        """Return the instances that have to run, as ``web:0``."""
        labels = {f"{service}:{slot}" for service in SERVICES for slot in range(self.count(service))}
        labels |= {"writer:0", "single:0"}
        labels |= {"spiller:0"} if self.spill is not None else set()
        return labels | ({"extra:0"} if self.extra else set())

    def amiss(self, rows: list[Row]) -> list[str]:
        """Return what in a status differs from what is wanted."""
        found = {f"{row['name']}:{row['instance']}": row for row in rows}
        running = self.running()
        wrong = [f"{label} is missing" for label in sorted((running | {"once:0", "job:0"}) - found.keys())]
        wrong += [f"{label} is not wanted" for label in sorted(found.keys() - running - {"once:0", "job:0"})]
        for label in sorted(running & found.keys()):
            row = found[label]
            if row["status"] != "running" or not row["ready"] or row["pid"] is None or row["health"] == "unhealthy":
                wrong.append(f"{label} is {row['status']}, ready {row['ready']}, {row['detail']!r}")
        once = found.get("once:0")
        # A supervisor that did not see the end itself knows that it was one, and has no exit to show.
        if once is not None and (once["status"] != "exited" or (once["exit"] or {"code": 0})["code"] != 0):
            wrong.append(f"once:0 is {once['status']}, {once['exit']}")
        job = found.get("job:0")
        if job is not None and job["status"] in {"crashed", "backoff"}:
            wrong.append(f"job:0 is {job['status']}, {job['detail']!r}")
        return wrong

    # -- code -------------------------------------------------------------------------------------------------------

    def deploy(self, mode: str = "") -> str:
        """Write what a worker that imports the app from now on is; return the name of the release."""
        self.deployments += 1
        name = str(self.deployments)
        self._write_release(name, mode)
        if not mode:
            self.release = name
        return name

    def undeploy(self, release: str) -> None:
        """Put an older release back."""
        self.release = release
        self._write_release(release, "")

    def _write_release(self, name: str, mode: str) -> None:
        new = self.deployed / "release.new"
        new.write_text(json.dumps({"generation": name, "mode": mode}))
        new.rename(self.deployed / "release.json")

    # -- the oxfile -------------------------------------------------------------------------------------------------

    def oxfile(self) -> str:
        """Return its text."""
        parts = [f"# edited {self.remark} times to no effect\n" if self.remark else ""]
        parts += [self._service("web", 'app = "asgi_app:app"\nserver = "uvicorn"\npreload = true\n')]
        parts += [
            self._service(
                "wsgi",
                'app = "wsgi_app:app"\nserver = "gunicorn"\n'
                "server_options = { worker_class = 'gthread', threads = 24 }\n",
            )
        ]
        rotation = "[processes.{}.logs]\nmax_size_mb = 1\nmax_files = 9999\ncompress = true\n"
        parts += [self._command("writer", f"writer.py {self.counters['writer']} {WRITER_RATE}")]
        parts += [rotation.format("writer")]
        if self.spill is not None:
            parts += [
                self._command(
                    "spiller",
                    f"writer.py {self.counters['spiller']} {SPILLER_RATE}",
                    f'log_file = "{self.spill}/spiller.log"\n',
                )
            ]
        lock = self.base / "single.lock"
        parts += [self._command("single", f"alone.py {lock} {self.overlaps}", "singleton = true\n")]
        parts += [self._command("once", f"once.py {self.base / 'runs'}", 'type = "oneshot"\n')]
        job = f"alone.py {self.base / 'job.lock'} {self.overlaps} 0.2"
        parts += [self._command("job", job, 'schedule = "*/2 * * * * *"\n')]
        if self.extra:
            parts += [self._command("extra", f"alone.py {self.base / 'extra.lock'} {self.overlaps}")]
        return "\n".join(parts)

    def _service(self, name: str, lines: str) -> str:
        port = self.ports[name]
        return (
            f'[processes.{name}]\n{lines}bind = "127.0.0.1:{port}"\nworkers = {self.workers[name]}\n'
            f'keepalive = "5s"\ngraceful_timeout = "2s"\nworking_dir = "{LOSS_APPS}"\ndepends_on = {{ once = "completed" }}\n'
            f'[processes.{name}.env]\nLOSS_DIR = "{self.deployed}"\n{self._turn(name)}'
            f'[processes.{name}.health_check]\nendpoint = "http://127.0.0.1:{port}/health"\ninterval_secs = 2\n'
        )

    def _command(self, name: str, arguments: str, more: str = "") -> str:
        env = self._turn(name)
        table = f"[processes.{name}.env]\n{env}" if env else ""
        return f'[processes.{name}]\ncommand = "{PYTHON} {PROGRAMS}/{arguments}"\n{more}{table}'

    def _turn(self, name: str) -> str:
        return f'CHAOS_TURN = "{self.turns[name]}"\n' if name in self.turns else ""

    def facts(self) -> dict[str, Any]:
        """Return what distinguishes this shape of the stack from others, for comparing like with like."""
        for service in SERVICES:
            # The listener of a slot that was given up is kept, lent to another one: closing it would reset its queue.
            self.most[service] = max(self.most.get(service, 0), self.count(service))
        return {
            **{service: [self.count(service), self.most[service]] for service in SERVICES},
            "extra": self.extra,
            "spiller": self.spill is not None,
        }
