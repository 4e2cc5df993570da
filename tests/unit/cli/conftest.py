"""A supervisor that follows a script: the real control server on a loop in a thread."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field

import pytest

from oxherd import __version__
from oxherd.control.paths import find_home, stack_id
from oxherd.daemon.control_server import ControlServer
from oxherd.system.loop import Loop


def make_row(name="web", instance=0, **changes):
    return {
        "stack": "shop",
        "stack_path": "/srv/shop/oxfile.toml",
        "name": name,
        "instance": instance,
        "instances": 1,
        "pid": 22140,
        "status": "running",
        "ready": True,
        "health": "healthy",
        "cpu_percent": 3.2,
        "memory_bytes": 210 * 1024 * 1024,
        "restarts": 0,
        "uptime_seconds": 2 * 86400 + 6 * 3600 + 61.0,
        "generation": 1,
        "exit": None,
        "next_run": None,
        "detail": "",
        **changes,
    }


@dataclass
class FakeSupervisor:
    """Answers each verb with what ``answers`` holds: a dict, an error, or a callable (request, reply)."""

    path: str
    answers: dict = field(default_factory=dict)
    requests: list = field(default_factory=list)
    errors: list = field(default_factory=list)
    version: str = __version__

    def __post_init__(self):
        self.loop = Loop(self.errors.append)
        self.server = ControlServer(self.loop, self.path, self._dispatch, version=self.version, owner_uid=os.geteuid())
        self.thread = threading.Thread(target=self.loop.run)
        self.thread.start()

    def _dispatch(self, request, reply):
        self.requests.append(request)
        answer = self.answers.get(request.verb, {})
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            answer(request, reply)
        else:
            reply.result(answer)

    def asked(self, verb):
        """Return the arguments of each request for this verb."""
        return [request.args for request in self.requests if request.verb == verb]

    def close(self):
        if self.thread.is_alive():
            self.loop.stop()
            self.loop.wake()
            self.thread.join(30)
            self.server.close()
            self.loop.close()
        assert self.errors == []


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


@pytest.fixture
def row():
    """Make a row as the supervisor sends it."""
    return make_row


@pytest.fixture
def home(tmp_path_factory, monkeypatch):
    """An empty home of a supervisor, and nothing of the environment that would change what is printed."""
    directory = tmp_path_factory.mktemp("h")
    monkeypatch.setenv("OXHERD_HOME", str(directory))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(directory / "config"))
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    made = find_home(os.environ)
    made.prepare()
    return made


@pytest.fixture
def folder(tmp_path, home, monkeypatch):
    """An empty directory that commands are run in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def shop(folder):
    """The directory of a small stack; its oxfile's path."""
    path = folder / "oxfile.toml"
    path.write_text(
        'name = "shop"\n\n[processes.web]\ncommand = "sleep 1000"\ninstances = 2\n\n'
        '[processes.worker]\ncommand = "sleep 2000"\n'
    )
    return str(path)


@pytest.fixture
def supervise(home):
    """Start fake supervisors; they end with the test."""
    made = []

    def start(*, run_of=None, version=__version__, **answers):
        path = home.socket if run_of is None else home.run_socket(stack_id(run_of))
        made.append(FakeSupervisor(path, answers, version=version))
        return made[-1]

    yield start
    for supervisor in made:
        supervisor.close()


@pytest.fixture
def oxherd(folder, capfdbinary, monkeypatch):
    """Run a command line in this process: the same way the console script goes, without its exit."""
    from oxherd.cli.main import main
    from oxherd.cli.quick import quick_status

    def run(*words):
        monkeypatch.setattr("sys.argv", ["oxherd", *words])
        code = quick_status(words[1:]) if words[:1] in {("status",), ("ls",)} else None
        try:
            code = main(words) if code is None else code
        except SystemExit as end:  # how click ends a completion
            code = end.code
        captured = capfdbinary.readouterr()
        return Result(code, captured.out.decode(), captured.err.decode())

    return run
