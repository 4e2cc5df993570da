"""`oxherd doctor`: each check finds its trouble, says what to do, and is silent where all is well."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys
from importlib import metadata

import pytest
from click.testing import CliRunner

from oxherd.cli.checks import capacity, files, network, supervisor, timing, workers
from oxherd.cli.checks.finding import Examination, Level
from oxherd.cli.doctor import doctor
from oxherd.control.paths import Home, find_home
from oxherd.programs.compiled import compile_stack

MACHINE = capacity.Machine(memory=8 << 30, nofile=4096)


def examination(folder, oxfile="", *, euid=1000, environ=None):
    """Compile an oxfile in a folder and return what the checks get to see."""
    compiled = None
    if oxfile:
        path = folder / "oxfile.toml"
        path.write_text(oxfile)
        compiled = compile_stack(str(path), environ=environ or {})
    home = Home(runtime=str(folder / "home/run"), state=str(folder / "home/state"))
    return Examination(home=home, environ=environ or {}, euid=euid, compiled=compiled)


def venv(folder, *, programs=(), packages=(), version="3.11.7"):
    """Make what the checks look at in a virtual environment."""
    root = folder / ".venv"
    (root / "bin").mkdir(parents=True)
    (root / "pyvenv.cfg").write_text(f"home = /usr/bin\nversion = {version}\n")
    (root / "bin/python").symlink_to(sys.executable)
    site = root / f"lib/python{'.'.join(version.split('.')[:2])}/site-packages"
    site.mkdir(parents=True)
    for package in packages:
        (site / package).mkdir()
    for program in programs:
        script = root / "bin" / program
        script.write_text(f"#!{root}/bin/python\n")
        script.chmod(0o755)
    return root


def process(command, *more, name="web"):
    return "\n".join([f"[processes.{name}]", f"command = {json.dumps(command)}", *more, ""])


def said(findings, level):
    return [finding for finding in findings if finding.level is level]


def only(findings, level=Level.PROBLEM):
    """Return the one finding of a level."""
    (finding,) = said(findings, level)
    return finding


def none_bad(findings):
    return not said(findings, Level.PROBLEM) and not said(findings, Level.WARNING)


# -- files ----------------------------------------------------------------------------------------------------------


def test_a_working_dir_that_is_not_there(tmp_path):
    found = list(files.check_programs(examination(tmp_path, process("true", 'working_dir = "gone"'))))
    assert only(found).what == f"working_dir {tmp_path}/gone is not there"


def test_a_program_that_is_not_there(tmp_path):
    found = list(files.check_programs(examination(tmp_path, process("bin/serve --x"))))
    assert only(found).what == f"{tmp_path}/bin/serve was not found"


def test_a_program_that_is_not_executable(tmp_path):
    (tmp_path / "serve").touch(mode=0o644)
    found = list(files.check_programs(examination(tmp_path, process("./serve"))))
    assert only(found).what == f"{tmp_path}/./serve is not executable"


def test_a_bare_name_that_is_nowhere_on_path(tmp_path):
    found = list(files.check_programs(examination(tmp_path, process("frobnicate"), environ={"PATH": str(tmp_path)})))
    assert only(found).what == "frobnicate on PATH was not found"


def test_a_server_whose_package_is_missing_from_its_environment(tmp_path):
    """A script can outlive its package: a half-removed install fails at the import."""
    root = venv(tmp_path, programs=["uvicorn"])
    found = list(files.check_programs(examination(tmp_path, process(".venv/bin/uvicorn main:app"))))
    finding = only(found)
    assert finding.what == f"uvicorn is not installed in {root}"
    assert finding.advice == f"{root}/bin/python -m pip install uvicorn"


def test_a_server_that_is_installed(tmp_path):
    venv(tmp_path, programs=["uvicorn"], packages=["uvicorn"])
    found = list(files.check_programs(examination(tmp_path, process(".venv/bin/uvicorn main:app"))))
    assert none_bad(found)
    assert only(found, Level.OK).what == f"Uvicorn in {tmp_path}/.venv (Python 3.11.7)"


def test_an_environment_that_was_moved(tmp_path):
    root = venv(tmp_path, programs=["gunicorn"], packages=["gunicorn"])
    (root / "bin/gunicorn").write_text(f"#!{tmp_path}/before/bin/python\n")
    found = list(files.check_programs(examination(tmp_path, process(".venv/bin/gunicorn main:app"))))
    assert f"is run by {tmp_path}/before/bin/python, which is not there" in only(found).what


def test_dropping_privileges_without_having_them(tmp_path):
    found = list(files.check_users(examination(tmp_path, process("true", 'user = "root"'))))
    assert only(found).what == "user and group need root, and you are not"


def test_a_user_that_does_not_exist(tmp_path):
    found = list(files.check_users(examination(tmp_path, process("true", 'user = "no-such-user-x"'), euid=0)))
    assert only(found).what == "there is no user no-such-user-x"


def test_serving_as_root(tmp_path):
    found = list(files.check_users(examination(tmp_path, process("uvicorn main:app"), euid=0)))
    assert only(found, Level.WARNING).what == "it serves requests as root"


# -- network --------------------------------------------------------------------------------------------------------


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_port_that_is_held_names_its_holder(tmp_path, listener):
    oxfile = process(f"uvicorn main:app --port {listener}")
    finding = only(network.check_ports(examination(tmp_path, oxfile)))
    assert f"port {listener} is held by" in finding.what
    assert f"(pid {os.getpid()})" in finding.what


def test_a_port_that_is_free(tmp_path, listener):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    found = list(network.check_ports(examination(tmp_path, process(f"uvicorn main:app --port {port}"))))
    assert only(found, Level.OK).what == "free"


@pytest.mark.parametrize(
    ("one", "other", "fights"),
    [
        ("--port 8123", "--port 8123", True),
        ("--port 8123", "--port 8124", False),
        ("--host 0.0.0.0 --port 8123", "--port 8123", True),
        ("--host 127.0.0.2 --port 8123", "--host 127.0.0.1 --port 8123", False),
        ("--host localhost --port 8123", "--host 127.0.0.1 --port 8123", True),
        ("--uds /tmp/x.sock", "--uds /tmp/x.sock", True),
        ("--uds /tmp/x.sock", "--uds /tmp/y.sock", False),
    ],
)
def test_two_processes_that_want_one_address(tmp_path, one, other, fights):
    """What Oxherd itself holds is refused by the reader; servers that bind for themselves are looked at here."""
    own = "adopt = false"
    oxfile = process(f"uvicorn a:app {one}", own) + process(f"uvicorn b:app {other}", own, name="api")
    found = said(network.check_ports(examination(tmp_path, oxfile)), Level.PROBLEM)
    assert [finding.what.startswith("web binds") for finding in found] == ([True] if fights else [])


def test_instances_that_would_bind_one_port(tmp_path):
    oxfile = process("uvicorn main:app --port 8123", "instances = 3", "adopt = false")
    assert "3 instances would bind 127.0.0.1:8123" in only(network.check_ports(examination(tmp_path, oxfile))).what
    hosted = process("uvicorn main:app --port 8123 --workers 2", "instances = 3")
    assert none_bad(network.check_ports(examination(tmp_path, hosted)))


@pytest.mark.parametrize(
    ("check", "warns"),
    [
        ('endpoint = "http://localhost:8124/health"', True),
        ('endpoint = "http://localhost:8123/health"', False),
        ('tcp = "localhost:8124"', True),
        ('command = "true"', False),
    ],
)
def test_a_health_check_that_asks_somebody_else(tmp_path, check, warns):
    oxfile = process("uvicorn main:app --port 8123", f"[processes.web.health_check]\n{check}")
    found = said(network.check_ports(examination(tmp_path, oxfile)), Level.WARNING)
    assert [finding.what for finding in found] == (
        ["its health check asks port 8124, and it serves port 8123"] if warns else []
    )


def test_a_listener_that_the_supervisor_holds_is_ours(tmp_path, supervise):
    """Hosted processes have their listeners from it, and it has no mark of a stack."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        looked = examination(tmp_path, f'[processes.web]\napp = "m:a"\nbind = "127.0.0.1:{port}"\n')
        assert f"port {port} is held by" in only(network.check_ports(looked)).what
        supervise(ping={"pid": os.getpid()})
        looked = dataclasses.replace(looked, home=find_home(os.environ))
        assert only(network.check_ports(looked), Level.OK).what == "held by this stack"


# -- workers --------------------------------------------------------------------------------------------------------

APP = '[processes.web]\napp = "main:app"\n'


def test_an_engine_that_is_there(tmp_path):
    oxfile = APP + f'server = "uvicorn"\npython = "{sys.executable}"\n'
    finding = only(workers.check_engines(examination(tmp_path, oxfile, environ=dict(os.environ))), Level.OK)
    assert finding.what == f"served by Oxherd's workers: uvicorn {metadata.version('uvicorn')} on {sys.executable}"
    auto = APP + f'python = "{sys.executable}"\n'
    finding = only(workers.check_engines(examination(tmp_path, auto, environ=dict(os.environ))), Level.OK)
    assert "uvicorn or gunicorn on" in finding.what


def test_an_engine_that_is_missing(tmp_path):
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho \'{"python": [3, 12, 0], "packages": {}}\'\n')
    python.chmod(0o755)
    looked = examination(tmp_path, APP + 'server = "granian"\npython = "./python"\n')
    finding = only(workers.check_engines(looked))
    assert finding.what.startswith("granian is not installed in the interpreter that is to serve the app")
    assert finding.advice.startswith(f"{python} -m pip install granian")


def test_an_interpreter_that_is_missing(tmp_path):
    finding = only(workers.check_engines(examination(tmp_path, APP + 'python = "/nowhere/python"\n')))
    assert finding.what == "its interpreter /nowhere/python is not there"


@pytest.mark.parametrize(
    ("more", "warns"),
    [
        ('workers = 2\nbalance = "shared"\n', True),
        ('balance = "shared"\n', False),
        ("workers = 2\n", False),
        ('workers = 2\nbind = "unix:/run/a.sock"\nbalance = "shared"\n', False),
    ],
)
def test_a_listener_that_is_shared_for_no_reason(tmp_path, more, warns):
    found = said(workers.check_balance(examination(tmp_path, APP + more)), Level.WARNING)
    assert bool(found) is warns


def test_workers_that_do_not_fit_the_machine(tmp_path, supervise):
    oxfile = APP + "workers = 4\nmax_memory_mb = 3072\n"
    finding = only(workers.check_worker_memory(examination(tmp_path, oxfile), MACHINE), Level.WARNING)
    assert finding.what == "the workers together take 12.0 GB of 8.0 GB: web 4 x 3.0 GB (limit)"
    measured = APP + "workers = 4\n"
    assert not list(workers.check_worker_memory(examination(tmp_path, measured), MACHINE)), "nothing runs"
    rows = [{"name": "web", "memory_bytes": 2 << 30}, {"name": "web", "memory_bytes": 3 << 30}, {"name": "db"}]
    supervise(status={"rows": rows})
    looked = dataclasses.replace(examination(tmp_path, measured), home=find_home(os.environ))
    finding = only(workers.check_worker_memory(looked, MACHINE), Level.WARNING)
    assert "web 4 x 3.0 GB (as measured)" in finding.what
    limited = APP + 'workers = 4\nlimits = { memory = "3G" }\n'
    assert not list(workers.check_worker_memory(examination(tmp_path, limited), MACHINE)), "told with the limits"


# -- times ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "stop", "warns"),
    [
        ("gunicorn main:app", 'stop_timeout = "10s"', "--graceful-timeout defaults to 30 s"),
        ("gunicorn main:app --graceful-timeout 5", 'stop_timeout = "10s"', ""),
        ("gunicorn main:app", "", ""),
        ("uvicorn main:app --timeout-graceful-shutdown 60", 'stop_timeout = "30s"', "--timeout-graceful-shutdown 60"),
        ("uvicorn main:app", 'stop_timeout = "1s"', ""),
    ],
)
def test_a_stop_timeout_shorter_than_the_servers_own_drain(tmp_path, command, stop, warns):
    found = list(timing.check_stop_times(examination(tmp_path, process(command, stop, "adopt = false"))))
    assert bool(found) == bool(warns)
    assert all(warns in finding.what for finding in found)


def test_a_check_that_may_take_longer_than_its_interval(tmp_path):
    oxfile = process("true", 'health_check = { tcp = "localhost:1", interval_secs = 2, timeout_secs = 5 }')
    finding = only(timing.check_health_times(examination(tmp_path, oxfile)), Level.WARNING)
    assert finding.what == "a check may take 5 s and is due every 2 s"


def test_a_ready_timeout_inside_the_grace_of_the_check(tmp_path):
    oxfile = process("true", 'ready_timeout = "5s"', 'health_check = { tcp = "localhost:1", initial_delay_secs = 20 }')
    finding = only(timing.check_health_times(examination(tmp_path, oxfile)), Level.WARNING)
    assert "ready_timeout (5 s) ends before initial_delay (20 s)" in finding.what


def test_a_worker_that_is_killed_before_its_tasks_end(tmp_path):
    oxfile = process("celery -A tasks worker", 'stop_timeout = "5s"')
    finding = only(timing.check_celery_times(examination(tmp_path, oxfile)), Level.WARNING)
    assert finding.what == "its tasks are killed 5 s after a stop or restart begins"
    assert list(timing.check_celery_times(examination(tmp_path, process("celery -A tasks worker")))) == []


def test_a_visibility_timeout_shorter_than_the_drain(tmp_path):
    """The broker would hand a task to a second worker while the first still finishes it."""
    (tmp_path / "tasks.py").write_text("app.conf.broker_transport_options = {'visibility_timeout': 60}\n")
    finding = only(timing.check_celery_times(examination(tmp_path, process("celery -A tasks worker"))), Level.WARNING)
    assert finding.what.startswith("visibility_timeout is 60 s and the stop timeout 5 min")


@pytest.mark.parametrize(
    ("first", "second", "doubled"),
    [
        ("celery -A shop beat", "celery -A shop beat", True),
        ("celery -A shop beat", "celery -A shop worker -B", True),
        ("celery -A shop beat", "celery -A blog beat", False),
        ("celery -A shop beat", "celery -A shop worker", False),
    ],
)
def test_two_beats_of_one_app(tmp_path, first, second, doubled):
    oxfile = process(first, name="beat") + process(second, name="other")
    found = said(timing.check_beat(examination(tmp_path, oxfile)), Level.PROBLEM)
    assert [finding.where for finding in found] == (["other"] if doubled else [])


@pytest.mark.parametrize(("app", "found"), [("shop", True), ("blog", False)])
def test_a_beat_that_somebody_else_runs(tmp_path, app, found):
    """After a migration the old manager's beat is easily forgotten, and every task is sent twice."""
    script = tmp_path / "celery"
    script.write_text("import sys; print('up', flush=True); sys.stdin.read()\n")
    command = [sys.executable, "-I", "-S", str(script), "-A", "shop", "beat"]
    with subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as beat:
        beat.stdout.readline()
        findings = said(timing.check_beat(examination(tmp_path, process(f"celery -A {app} beat"))), Level.PROBLEM)
        beat.stdin.close()
    assert [f"pid {beat.pid}" in finding.what for finding in findings] == ([True] if found else [])


# -- capacity -------------------------------------------------------------------------------------------------------


def test_memory_limits_beyond_the_machine(tmp_path):
    oxfile = process("true", "instances = 4", 'limits = { memory = "3G" }')
    finding = only(capacity.check_memory(examination(tmp_path, oxfile), MACHINE), Level.WARNING)
    assert finding.what == "the memory limits together are 12.0 GB of 8.0 GB: web 4 x 3.0 GB"
    fitting = process("true", "instances = 2", 'limits = { memory = "3G" }')
    assert none_bad(capacity.check_memory(examination(tmp_path, fitting), MACHINE))


def test_more_open_files_than_allowed(tmp_path):
    oxfile = process("true", "limits = { nofile = 65536 }")
    assert said(capacity.check_open_files(examination(tmp_path, oxfile), MACHINE), Level.WARNING)
    assert not list(capacity.check_open_files(examination(tmp_path, oxfile, euid=0), MACHINE))


@pytest.mark.parametrize(("reason", "level"), [("no controller", Level.PROBLEM), ("", Level.OK)])
def test_hard_limits_need_cgroups(tmp_path, monkeypatch, reason, level):
    """What this machine can do is made up: the suite runs on machines of either kind."""
    monkeypatch.setattr(capacity.cgroups, "why_not", lambda limits: reason)
    looked = examination(tmp_path, process("true", 'limits = { memory = "1G", hard = true }'))
    finding = only(capacity.check_hard_limits(looked), level)
    assert (finding.where, reason in finding.what) == ("web", True)


def test_logs_that_may_fill_the_disk(tmp_path):
    oxfile = process("true", "logs = { max_size_mb = 1000000000, max_files = 9 }")
    finding = only(capacity.check_disk(examination(tmp_path, oxfile)), Level.WARNING)
    assert "the logs may grow to" in finding.what


def test_a_log_directory_that_cannot_be_written(tmp_path, monkeypatch):
    """Permissions do not bind root, who may be running this test: the kernel's answer is made up."""
    (tmp_path / "logs").mkdir()
    looked = examination(tmp_path, process("true", 'log_file = "logs/web.log"'))
    monkeypatch.setattr(capacity.os, "access", lambda path, mode: not path.endswith("/logs"))
    assert only(capacity.check_disk(looked)).what == f"its logs cannot be written: {tmp_path}/logs is not writable"


# -- supervisor and home --------------------------------------------------------------------------------------------


def test_the_directories_of_the_home(tmp_path):
    looked = examination(tmp_path, euid=os.geteuid())
    assert none_bad(supervisor.check_directories(looked))
    os.makedirs(looked.home.runtime, mode=0o700)
    os.makedirs(looked.home.state)
    os.chmod(looked.home.state, 0o755)
    finding = only(supervisor.check_directories(looked), Level.WARNING)
    assert (finding.what, finding.advice) == ("is open to others (mode 0755)", f"chmod 700 {looked.home.state}")


def test_a_home_of_somebody_else(tmp_path):
    looked = examination(tmp_path, euid=os.geteuid() + 1)
    os.makedirs(looked.home.runtime, mode=0o700)
    assert f"belongs to uid {os.geteuid()}" in only(supervisor.check_directories(looked)).what


def test_a_home_whose_path_is_too_long_for_a_socket(tmp_path):
    looked = examination(tmp_path / ("x" * 90), euid=os.geteuid())
    assert "too long for a unix socket" in only(supervisor.check_directories(looked)).what


def test_no_supervisor_is_no_trouble(tmp_path):
    assert only(supervisor.check_supervisor(examination(tmp_path)), Level.OK).what.startswith("none is running")


# -- the command ----------------------------------------------------------------------------------------------------


def run(folder, *options, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("OXHERD_HOME", str(folder / "home"))
    return CliRunner().invoke(doctor, [*options], standalone_mode=False)


def test_a_problem_makes_the_exit_code_1(tmp_path, monkeypatch):
    (tmp_path / "oxfile.toml").write_text(process("./not-there"))
    result = run(tmp_path, monkeypatch=monkeypatch)
    assert (result.exception, result.return_value) == (None, 1)
    assert f"problem web: {tmp_path}/./not-there was not found" in result.output
    assert "1 problem, " in result.output


def test_a_bad_oxfile_is_a_finding_beside_the_others(tmp_path, monkeypatch):
    """The machine is looked at all the same."""
    (tmp_path / "oxfile.toml").write_text("[processes.web]\ncomand = 'true'\n")
    document = json.loads(run(tmp_path, "--json", monkeypatch=monkeypatch).output)
    problems = [finding for finding in document["findings"] if finding["level"] == "problem"]
    assert any("oxfile.toml:2" in finding["where"] for finding in problems)
    assert any(finding["where"] == "supervisor" for finding in document["findings"])
    assert document["problems"] == len(problems)


def test_without_an_oxfile_the_machine_is_looked_at(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    result = run(tmp_path, monkeypatch=monkeypatch)
    assert result.return_value == 0
    assert "none here, so only the machine was looked at" in result.output
