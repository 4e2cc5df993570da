"""The wheel alone, in an empty virtual environment: nothing of the checkout may be needed or found."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from support import harness
from support.services import unused_port
from support.waiting import wait_gone
from support.web import ask, left_of, listening_inodes

ROOT = Path(__file__).resolve().parent.parent.parent
PARTS = ("src", "pyproject.toml", "README.md", "LICENSE")

OXFILE = """
[processes.web]
command = "{python} -m http.server --bind 127.0.0.1 {port}"
stop_signal = "SIGINT"
[processes.web.health_check]
endpoint = "http://127.0.0.1:{port}/"

[processes.clock]
command = "sh -c 'echo tick; exec sleep 600'"
"""

WHERE = """
import importlib.resources, json, sys
import oxherd, oxherd.config.oxfile, oxherd.cli.main, oxherd.daemon.main
schema = importlib.resources.files("oxherd").joinpath("config/oxfile.schema.json")
print(json.dumps({"path": sys.path, "files": [getattr(m, "__file__", None) or "" for m in list(sys.modules.values())],
                  "schema": schema.is_file()}))
"""


def run(*command, cwd, **options):
    environ = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": os.environ.get("HOME", "/"), "LANG": "C.UTF-8"}
    # What tells pip where packages come from is the machine's business.
    environ |= {key: value for key, value in os.environ.items() if key.startswith(("PIP_", "SSL_", "REQUESTS_"))}
    environ |= {
        key: value for key, value in os.environ.items() if key.lower() in {"http_proxy", "https_proxy", "no_proxy"}
    }
    done = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Build the wheel from a copy of the sources and install it; return the environment's bin directory."""
    base = tmp_path_factory.mktemp("wheel")
    source = base / "source"
    source.mkdir()
    for name in PARTS:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")
    run(*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", str(base), str(source), cwd=base)
    (wheel,) = base.glob("oxherd-*.whl")
    shutil.rmtree(source)
    venv.create(base / "venv", with_pip=False)
    python = str(base / "venv" / "bin" / "python")
    run(*pip, "--python", python, "install", "--quiet", str(wheel), cwd=base)
    return base / "venv" / "bin"


@pytest.fixture
def alone(ox, installed, monkeypatch):
    """The harness with the installed commands and nothing of the test's own environment."""
    monkeypatch.setattr(harness, "OXHERD", str(installed / "oxherd"))
    ox.env["PATH"] = f"{installed}:/usr/bin:/bin"
    return ox


def files_of(pid):
    """Every file a process has mapped or open, and where it is."""
    maps = {line.split(None, 5)[5] for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if "/" in line}
    links = [Path(f"/proc/{pid}/{name}") for name in ("cwd", "exe")]
    return maps | {os.readlink(link) for link in [*links, *Path(f"/proc/{pid}/fd").iterdir()]}


def test_every_module_comes_from_the_environment(installed):
    """Neither the path nor a loaded module leads into the checkout; what is no module is there as well."""
    told = json.loads(run(str(installed / "python"), "-c", WHERE, cwd="/"))
    assert told["schema"]
    outside = [name for name in (*told["path"], *told["files"]) if name.startswith(str(ROOT))]
    assert outside == []
    own = [name for name in told["files"] if "/oxherd/" in name]
    assert own
    assert all(name.startswith(str(installed.parent)) for name in own)


def test_both_names_of_the_program_are_there(installed):
    """`oxmgr` is a second name of the same program."""
    from oxherd import __version__

    for name in ("oxherd", "oxmgr"):
        assert __version__ in run(str(installed / name), "--version", cwd="/")


def test_it_runs_an_oxfile(alone, installed):
    """Start, status, logs, restart, why, stop, far from the checkout."""
    port = unused_port()
    alone.oxfile(OXFILE.format(python=installed / "python", port=port))
    alone.ok("validate")
    alone.ok("start")
    assert ask(port, "/").status == 200
    assert [row["status"] for row in alone.ok("status", "--json").json] == ["running", "running"]
    assert alone.ok("status").out.startswith("NAME")
    assert "clock:0 | tick" in alone.ok("logs", "-n", "1000").out
    supervisor = alone.supervisor
    assert [name for name in files_of(supervisor) if name.startswith(str(ROOT))] == []
    command = Path(f"/proc/{supervisor}/cmdline").read_bytes().split(b"\0")
    assert command[0] == os.fsencode(installed / "python")
    assert str(ROOT).encode() not in Path(f"/proc/{supervisor}/environ").read_bytes()
    pids = [alone.pid("web"), alone.pid("clock")]
    alone.ok("restart", "web")
    assert ask(port, "/").status == 200
    alone.ok("stop")
    assert left_of(pids) == []
    assert listening_inodes(port) == set()
    alone.ok("daemon", "stop")
    wait_gone(supervisor)
