"""What servers say of a command line, asked in the app's interpreter without importing the app."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import oxherd.host
from support.waiting import DEADLINE

BOOT = str(Path(oxherd.host.__file__).parent / "boot.py")


@pytest.fixture
def ask(tmp_path):
    """Return a function that asks a server what it makes of arguments."""

    def answer(engine: str, *argv: str, env: dict[str, str] | None = None, whole: bool = False):
        done = subprocess.run(
            [sys.executable, BOOT, "describe"],
            input=json.dumps({"engine": engine, "argv": argv, "cwd": str(tmp_path)}).encode(),
            capture_output=True,
            env={**os.environ, **(env or {})},
            timeout=DEADLINE,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        assert done.stdout.count(b"\n") == 1
        said = json.loads(done.stdout)
        return (said, done.stderr.decode()) if whole else said

    return answer


def test_gunicorn_with_nothing_said(ask):
    """Its defaults, and every key there is."""
    answer = ask("gunicorn", "main:app", env={"WEB_CONCURRENCY": ""} if os.environ.get("WEB_CONCURRENCY") else None)
    assert answer["ok"]
    assert answer["target"] == "main:app"
    assert (answer["bind"], answer["workers"], answer["worker_class"]) == (["127.0.0.1:8000"], 1, "sync")
    assert (answer["timeout"], answer["graceful_timeout"], answer["keepalive"], answer["backlog"]) == (30, 30, 2, 2048)
    assert (answer["unsupported"], answer["notes"], answer["config_file"]) == ([], [], None)
    assert (answer["reload"], answer["daemon"], answer["preload_app"]) == (False, False, False)
    assert answer["version"]


def test_gunicorn_arguments(ask):
    answer = ask(
        "gunicorn",
        *("-w", "3", "-b", "0.0.0.0:9000", "-b", "unix:/run/app.sock", "-k", "gthread", "--threads", "8"),
        *("--max-requests", "1000", "--max-requests-jitter", "50", "--preload", "--pid", "/run/app.pid"),
        *("--certfile", "a.pem", "--keyfile", "b.pem", "-t", "90", "main:create_app('x')"),
    )
    assert answer["bind"] == ["0.0.0.0:9000", "unix:/run/app.sock"]
    assert (answer["workers"], answer["worker_class"], answer["threads"]) == (3, "gthread", 8)
    assert (answer["max_requests"], answer["max_requests_jitter"], answer["preload_app"]) == (1000, 50, True)
    assert (answer["certfile"], answer["keyfile"], answer["timeout"]) == ("a.pem", "b.pem", 90)
    assert answer["target"] == "main:create_app('x')"
    assert any("pidfile" in note for note in answer["notes"])


def test_gunicorn_configuration_file_and_environment(ask, tmp_path):
    """The file is a program, prints and is overruled by GUNICORN_CMD_ARGS; the app is not imported."""
    (tmp_path / "gunicorn.conf.py").write_text(
        "import os, multiprocessing\n"
        "print('reading the configuration')\n"
        "os.system('echo from a program')\n"
        "workers = 2 * 3\nbind = [f\"127.0.0.1:{os.environ['PORT']}\"]\nkeepalive = 75\nwsgi_app = 'main:app'\n"
        "def on_exit(server): pass\n"
    )
    (tmp_path / "main.py").write_text("raise RuntimeError('imported')\n")
    answer, stderr = ask(
        "gunicorn", env={"PORT": "9001", "GUNICORN_CMD_ARGS": "--workers 5 --log-level debug"}, whole=True
    )
    assert (answer["workers"], answer["bind"], answer["keepalive"]) == (5, ["127.0.0.1:9001"], 75)
    assert answer["target"] == "main:app"
    assert answer["config_file"] == str(tmp_path / "gunicorn.conf.py")
    assert any("on_exit" in note for note in answer["notes"])
    assert "reading the configuration" in stderr
    assert "from a program" in stderr


def test_gunicorn_what_cannot_be_hosted(ask, tmp_path):
    (tmp_path / "conf.py").write_text("dirty_apps = ['jobs:App']\ndirty_workers = 1\n")
    answer = ask("gunicorn", "-c", "conf.py", "main:app")
    assert answer["unsupported"] == ["dirty workers are children of gunicorn's arbiter"]


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (("--wrokers", "3", "main:app"), "unrecognized arguments: --wrokers"),
        ((), "No application module specified."),
        (("-c", "nowhere.py", "main:app"), "'nowhere.py' doesn't exist"),
        (("-c", "broken.py", "main:app"), "NameError: name 'wrokers' is not defined"),
        (("-w", "-3", "main:app"), ""),
        (("--help",), "prints something and serves nothing"),
    ],
)
def test_gunicorn_that_refuses(ask, tmp_path, argv, text):
    (tmp_path / "broken.py").write_text("workers = wrokers\n")
    answer = ask("gunicorn", *argv)
    assert not answer["ok"]
    assert text in answer["error"]


def test_uvicorn(ask):
    answer = ask("uvicorn", "main:app", "--port", "9000", "--workers", "4", "--timeout-keep-alive", "9")
    assert answer["ok"]
    assert (answer["bind"], answer["workers"], answer["keepalive"]) == (["127.0.0.1:9000"], 4, 9)
    assert (answer["target"], answer["reload"]) == ("main:app", False)


def test_uvicorn_environment(ask):
    """UVICORN_* as its own parser has it, WEB_CONCURRENCY as its configuration has it."""
    env = {"UVICORN_APP": "site:app", "UVICORN_UDS": "/run/web.sock", "WEB_CONCURRENCY": "3"}
    answer = ask("uvicorn", env=env)
    assert (answer["target"], answer["bind"], answer["workers"]) == ("site:app", ["unix:/run/web.sock"], 3)


@pytest.mark.parametrize(
    ("argv", "bind"),
    [
        (("main:app", "--host", "::1"), "[::1]:8000"),
        (("main:app", "--fd", "3"), "fd://3"),
        (("main:app", "--uds", "/run/a.sock"), "unix:/run/a.sock"),
    ],
)
def test_uvicorn_addresses(ask, argv, bind):
    assert ask("uvicorn", *argv)["bind"] == [bind]


def test_uvicorn_that_refuses(ask):
    assert "No such option" in ask("uvicorn", "main:app", "--prot", "1")["error"]
    assert "prints something" in ask("uvicorn", "--version")["error"]


def test_hypercorn(ask, tmp_path):
    (tmp_path / "hyper.toml").write_text('bind = ["0.0.0.0:9000"]\nworkers = 3\nkeep_alive_timeout = 7\n')
    answer = ask("hypercorn", "-c", "hyper.toml", "--graceful-timeout", "20", "main:app")
    assert answer["ok"]
    assert (answer["bind"], answer["workers"], answer["keepalive"]) == (["0.0.0.0:9000"], 3, 7)
    assert (answer["graceful_timeout"], answer["target"]) == (20, "main:app")
    assert answer["config_file"] == "hyper.toml"


def test_hypercorn_that_refuses(ask):
    assert "required" in ask("hypercorn")["error"]


def test_an_engine_that_cannot_be_asked(ask):
    assert ask("waitress", "main:app") == {
        "ok": False,
        "error": "'waitress' cannot be asked; gunicorn, uvicorn, hypercorn can",
    }
