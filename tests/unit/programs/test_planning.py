"""How a process and the listeners of the supervisor come together."""

from __future__ import annotations

import pytest

from oxherd.config.cpus import usable_cpus
from oxherd.config.model import HostWay
from oxherd.core.restart import RestartMode
from oxherd.programs.probes import Installed


class Knows:
    """Knows what every interpreter has, without asking it."""

    def __init__(self, version=(3, 12, 1), **packages: str) -> None:
        self.answer = Installed(version=version, packages=packages)
        self.asked: list[str] = []

    def installed(self, python, _caller):
        self.asked.append(python)
        return self.answer


ALL = {"uvicorn": "0.54.0", "gunicorn": "27.0.1", "granian": "2.8.7", "hypercorn": "0.18.0", "a2wsgi": "1.10.10"}


@pytest.fixture
def plan(compiled):
    """Compile an oxfile of one process and return its plan."""

    def _plan(text: str, probes=None, **options):
        result = compiled(f"[processes.web]\n{text}", probes=probes or Knows(**ALL), **options)
        return result.plans["web"]

    return _plan


@pytest.fixture
def venv(script, tmp_path):
    """A virtual environment in the working directory, with scripts that name it."""
    python = script(tmp_path / ".venv/bin/python")
    for name in ("uvicorn", "gunicorn", "hypercorn", "daphne", "granian"):
        script(tmp_path / f".venv/bin/{name}", f"#!{python}\n")
    return python


# -- apps -----------------------------------------------------------------------------------------------------------


def test_an_app_is_hosted(plan, venv):
    made = plan('app = "main:app"\nbind = ["0.0.0.0:8000", "unix:run/app.sock"]\nworkers = 3\n')
    host = made.spec.host
    assert (host.way, host.engine, host.target, host.python) == (HostWay.HOSTED, "auto", "main:app", venv)
    assert host.bind == ("0.0.0.0:8000", f"unix:{made.spec.working_dir}/run/app.sock")
    assert made.spec.hosted
    assert made.spec.instances == 3
    assert host.engines[0] == ("uvicorn", "0.54.0")
    assert made.interpreter == ".venv of the working directory"


def test_what_the_oxfile_says_of_an_app_arrives(plan, venv):
    host = plan(
        'app = "main:make()"\nserver = "granian"\nbalance = "shared"\npreload = false\ntimeout = "1m"\nkeepalive = "2s"\n'
        'max_requests = 10\nmax_requests_jitter = 3\nmax_lifetime = "1d"\nmax_memory_mb = 5\nlog_level = "debug"\n'
        'access_log = true\nssl_certfile = "/c"\nssl_keyfile = "/k"\nready_timeout = "20s"\n'
        'server_options = { root_path = "/x" }\n'
    ).spec.host
    assert (host.engine, host.balance, host.preload, host.block_timeout, host.keepalive) == (
        "granian",
        "shared",
        "false",
        60.0,
        2.0,
    )
    assert (host.max_requests, host.max_requests_jitter, host.max_lifetime, host.max_memory) == (
        10,
        3,
        86400.0,
        5 << 20,
    )
    assert (host.log_level, host.access_log, host.tls) == ("debug", "text", True)
    assert (host.ssl_certfile, host.ssl_keyfile, host.boot_timeout) == ("/c", "/k", 20.0)
    assert (host.target, host.factory, host.options) == ("main:make", True, (("root_path", "/x"),))


def test_a_factory_may_be_an_option(plan, venv):
    host = plan('app = "main:make"\nserver_options = { factory = true, http = "h11" }\n').spec.host
    assert (host.factory, host.options) == (True, (("http", "h11"),))


def test_the_access_log_of_json_lines_is_json(plan, venv):
    assert plan('app = "a:b"\naccess_log = true\nlog_format = "json"\n').spec.host.access_log == "json"
    assert plan('app = "a:b"\naccess_log = "text"\nlog_format = "json"\n').spec.host.access_log == "text"


def test_workers_are_slots(plan, venv):
    assert plan('app = "a:b"\nworkers = "auto"\n').spec.instances == usable_cpus()
    several = plan('app = "a:b"\nworkers = 2\ninstances = 3\n')
    assert several.spec.instances == 6
    assert "3 instances of 2 workers each are 6 workers" in several.notes


def test_a_path_is_asked_of_the_first_listener(plan, venv):
    text = 'app = "a:b"\nbind = "{bind}"\n{more}health_check = {{ endpoint = "/health", readiness = "/ready" }}\n'
    health = plan(text.format(bind="0.0.0.0:8000", more="")).spec.health
    assert (health.endpoint, health.readiness) == ("http://127.0.0.1:8000/health", "http://127.0.0.1:8000/ready")
    tls = 'ssl_certfile = "/c"\nssl_keyfile = "/k"\n'
    assert plan(text.format(bind="[::]:8000", more=tls)).spec.health.endpoint == "https://[::1]:8000/health"
    assert plan(text.format(bind="unix:/run/a", more="")).spec.health.endpoint == "http+unix://%2Frun%2Fa/health"


def test_a_disabled_app_asks_nobody(plan, venv):
    probes = Knows()
    assert plan('app = "a:b"\ndisabled = true\n', probes).spec.hosted
    assert probes.asked == []


# -- times and restarts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "stop", "graceful", "linger"),
    [
        ("", 10.0, 8.0, 7.0),
        ('stop_timeout = "30s"\n', 30.0, 28.0, 7.0),
        ('stop_timeout = "2s"\n', 2.0, 1.0, 1.0),
        ('graceful_timeout = "3s"\n', 10.0, 3.0, 3.0),
        ('graceful_timeout = "60s"\n', 62.0, 60.0, 7.0),
        ('graceful_timeout = "5s"\nstop_timeout = "6s"\n', 6.0, 4.0, 4.0),
        ('keepalive = "75s"\n', 10.0, 8.0, 8.0),
    ],
)
@pytest.mark.usefixtures("venv")
def test_a_worker_ends_by_itself_before_it_is_killed(plan, text, stop, graceful, linger):
    spec = plan(f'app = "a:b"\n{text}').spec
    assert (spec.stop.timeout, spec.host.graceful_timeout, spec.host.linger) == (stop, graceful, linger)


def test_times_that_contradict_each_other_are_told(compiled, venv):
    text = '[processes.web]\napp = "a:b"\nstop_timeout = "5s"\ngraceful_timeout = "60s"\n'
    (warning,) = compiled(text, probes=Knows(**ALL)).warnings
    assert (warning.code, warning.line) == ("OX157", 4)
    assert "graceful_timeout is more than the stop timeout (5 s)" in warning.message


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("", RestartMode.ALWAYS),
        ('restart = "on-failure"\n', RestartMode.ALWAYS),
        ('restart = "never"\n', RestartMode.NEVER),
        ("restart_on_exit = true\n", RestartMode.ALWAYS),
    ],
)
def test_a_worker_that_ends_by_itself_comes_back(plan, venv, text, mode):
    assert plan(f'app = "a:b"\n{text}').spec.restart.mode is mode


def test_a_worker_is_asked_to_go_by_its_own_signal(plan, venv):
    made = plan('command = "uvicorn a:b"\nstop_signal = "INT"\n')
    assert made.spec.stop.signal == 15
    assert any("SIGTERM" in note for note in made.notes)


# -- uvicorn --------------------------------------------------------------------------------------------------------

DESIGN = 'command = "/var/www/myapp/venv/bin/uvicorn main:app --host 0.0.0.0 --port 8000 --workers 4"\n'


def test_the_file_that_must_work(plan):
    """The environment it names is not there yet; what is made of it does not depend on that."""
    made = plan(DESIGN + "stop_timeout_ms = 30000\n")
    host = made.spec.host
    assert (host.way, host.engine, host.interface) == (HostWay.HOSTED, "uvicorn", "auto")
    assert host.python == "/var/www/myapp/venv/bin/python"
    assert host.argv == ("main:app", "--host", "0.0.0.0", "--port", "8000", "--workers", "4")
    assert host.bind == ("0.0.0.0:8000",)
    assert (made.spec.instances, made.workers_from) == (4, "--workers 4")
    assert (made.spec.stop.timeout, host.graceful_timeout) == (30.0, 28.0)
    assert made.untouched == ""


@pytest.mark.parametrize(
    ("line", "environ", "bind", "workers"),
    [
        ("uvicorn a:b", {}, "127.0.0.1:8000", 1),
        ("uvicorn a:b --port=81 --host ::1", {}, "[::1]:81", 1),
        ("uvicorn a:b --host ''", {}, "0.0.0.0:8000", 1),
        ("uvicorn a:b", {"UVICORN_PORT": "82", "UVICORN_HOST": "h"}, "h:82", 1),
        ("uvicorn a:b --port 83", {"UVICORN_PORT": "82"}, "127.0.0.1:83", 1),
        ("uvicorn a:b", {"UVICORN_PORT": ""}, "127.0.0.1:8000", 1),
        ("uvicorn a:b", {"WEB_CONCURRENCY": "3"}, "127.0.0.1:8000", 3),
        ("uvicorn a:b", {"WEB_CONCURRENCY": "3", "UVICORN_WORKERS": "2"}, "127.0.0.1:8000", 2),
        ("uvicorn a:b --workers 5", {"WEB_CONCURRENCY": "3"}, "127.0.0.1:8000", 5),
        ("uvicorn a:b --workers 0", {}, "127.0.0.1:8000", usable_cpus()),
        ("uvicorn a:b --uds /run/a.sock", {}, "unix:/run/a.sock", 1),
        ("python -m uvicorn a:b", {}, "127.0.0.1:8000", 1),
        ("exec uvicorn a:b", {}, "127.0.0.1:8000", 1),
        ("sh -c 'exec uvicorn a:b --port 84'", {}, "127.0.0.1:84", 1),
    ],
)
@pytest.mark.usefixtures("venv")
def test_the_command_line_of_uvicorn(plan, line, environ, bind, workers):
    spec = plan(f'command = "{line}"\n', environ=environ).spec
    assert (spec.host.bind, spec.instances) == ((bind,), workers)


def test_the_oxfiles_own_variables_go_before_the_callers(plan, venv):
    spec = plan('command = "uvicorn a:b"\nenv = { UVICORN_PORT = "91" }\n', environ={"UVICORN_PORT": "92"}).spec
    assert spec.host.bind == ("127.0.0.1:91",)


def test_a_unix_socket_belongs_to_the_working_directory_and_is_shared(plan, venv, tmp_path):
    host = plan('command = "uvicorn a:b --uds run.sock --workers 2"\n').spec.host
    assert (host.bind, host.balance) == ((f"unix:{tmp_path}/run.sock",), "shared")


def test_the_options_of_uvicorn_that_matter_outside_of_it(plan, venv, tmp_path):
    made = plan(
        'command = "uvicorn a:b --timeout-graceful-shutdown 40 --timeout-keep-alive 9 --backlog 64 --factory '
        '--limit-max-requests 100 --limit-max-requests-jitter 7 --ssl-certfile c.pem --ssl-keyfile /k.pem"\n'
    )
    host = made.spec.host
    assert (host.graceful_timeout, made.spec.stop.timeout) == (40.0, 45.0)
    assert (host.keepalive, host.linger, host.backlog, host.factory) == (9.0, 11.0, 64, True)
    assert (host.max_requests, host.max_requests_jitter) == (100, 7)
    assert (host.tls, host.ssl_certfile, host.ssl_keyfile) == (True, f"{tmp_path}/c.pem", "/k.pem")


def test_the_oxfile_says_more_of_the_workers_of_a_command(plan, venv):
    made = plan(
        'command = "uvicorn a:b --timeout-graceful-shutdown 4"\npreload = false\nbalance = "shared"\ntimeout = "9s"\n'
        'graceful_timeout = "5s"\n'
    )
    host = made.spec.host
    assert (host.preload, host.balance, host.block_timeout, host.graceful_timeout) == ("false", "shared", 9.0, 5.0)


def test_a_socket_takes_the_place_of_the_servers_own_address(plan, venv):
    assert plan('command = "uvicorn a:b --port 1"\nsocket = "127.0.0.1:2"\n').spec.host.bind == ("127.0.0.1:2",)


# -- what is run as it is -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('command = "uvicorn a:b"\nadopt = false\n', "adopt = false"),
        ('command = "uvicorn a:b --reload"\n', "--reload is for development"),
        ('command = "uvicorn a:b --fd 3"\n', "--fd names a descriptor"),
        ('command = "uvicorn a:b --port 0"\n', "--port 0 is no port"),
        ('command = "uvicorn --version"\n', "it prints something"),
        ('command = "uvicorn a:b --port 800{instance}"\ninstances = 2\n', "{instance} makes every instance"),
        ('command = "uvicorn a:b"\ntype = "oneshot"\n', "it is no service"),
        ('command = "cd /x && exec uvicorn a:b"\n', "a shell reads the command line"),
        ("command = \"sh -c 'exec uvicorn a:b --port $PORT'\"\nenv.PORT = '80'\n", "a shell reads the command line"),
        ('command = "newrelic-admin run-program uvicorn a:b"\n', "it is started through newrelic-admin"),
        ('command = "nice -n 5 uvicorn a:b"\n', "it is started through nice"),
        ('command = "env -i uvicorn a:b"\n', "it is started by env -i"),
        ('command = "uv run --with x uvicorn a:b"\n', "uv run is told --with"),
    ],
)
def test_why_a_command_is_run_as_it_is(plan, venv, text, reason):
    made = plan(text)
    assert made.spec.host is None
    assert made.untouched.startswith(reason)
    assert made.spec.instances == (2 if "instances" in text else 1)


def test_what_is_no_server_is_nobodys_business(plan):
    made = plan('command = "node server.js"\n')
    assert (made.spec.host, made.untouched) == (None, "")


def test_settings_of_workers_do_nothing_for_a_command_of_its_own(compiled, venv):
    text = '[processes.web]\ncommand = "uvicorn a:b --reload"\npreload = false\ntimeout = "5s"\n'
    found = compiled(text, probes=Knows(**ALL)).warnings
    assert [(item.code, item.line) for item in found] == [("OX158", 2), ("OX157", 3), ("OX157", 4)]
    assert "this command runs Uvicorn (--reload is for development" in found[1].message
    text = '[processes.web]\ncommand = "sleep 1"\ntimeout = "5s"\n'
    (only,) = compiled(text).warnings
    assert only.hint == "for a service write stop_timeout, or timeout_secs under health_check"
    assert compiled('[processes.j]\ncommand = "x"\nschedule = "@daily"\ntimeout = "5s"\n').warnings == ()


# -- interpreters ---------------------------------------------------------------------------------------------------


def test_the_script_names_its_interpreter(plan, script, tmp_path):
    path = script(tmp_path / "v/bin/uvicorn", "#!/somewhere/bin/python3.12\n")
    host = plan(f'command = "{path} a:b"\n').spec.host
    assert host.python == "/somewhere/bin/python3.12"


def test_options_of_the_interpreter_are_kept(plan, venv, tmp_path):
    host = plan('command = ".venv/bin/python -O -X dev -um uvicorn a:b"\n').spec.host
    assert (host.python, host.python_options) == (f"{tmp_path}/.venv/bin/python", ("-O", "-X", "dev", "-u"))


def test_variables_before_the_program_are_kept(plan, venv):
    spec = plan('command = "env UVICORN_PORT=77 uvicorn a:b"\nenv = { A = "1" }\n').spec
    assert spec.host.bind == ("127.0.0.1:77",)
    assert spec.env == (("A", "1"), ("UVICORN_PORT", "77"))


@pytest.mark.parametrize("line", ["uv run uvicorn a:b", "uv run python -m uvicorn a:b", "poetry run uvicorn a:b"])
def test_a_project_runner_means_the_environment_of_the_project(plan, venv, line):
    made = plan(f'command = "{line}"\n')
    assert made.spec.host.python == venv
    assert made.spec.host.argv == ("a:b",)
    assert any("up to date" in note for note in made.notes) == line.startswith("uv")


def test_a_project_runner_without_an_environment_there_is_run_as_it_is(plan, tmp_path):
    made = plan('command = "poetry run uvicorn a:b"\n')
    assert made.spec.host is None
    assert f"poetry would use is not {tmp_path}/.venv" in made.untouched


def test_a_wrapper_script_of_that_name_is_run_as_it_is(plan, script, tmp_path):
    script(tmp_path / "bin/uvicorn", "#!/bin/bash\n")
    made = plan('command = "uvicorn a:b"\n', environ={"PATH": str(tmp_path / "bin")})
    assert made.untouched.startswith(f"{tmp_path}/bin/uvicorn names no Python interpreter")
    named = plan('command = "uvicorn a:b"\npython = "/v/bin/python"\n', environ={"PATH": str(tmp_path / "bin")})
    assert named.spec.host.python == "/v/bin/python"


def test_what_the_interpreter_has_decides(plan, venv):
    made = plan('command = "uvicorn a:b"\n', Knows(gunicorn="27.0.1"))
    assert made.untouched == f"uvicorn is no package of {venv}, which its first line names"
    old = plan('command = "uvicorn a:b"\n', Knows((3, 9, 2), uvicorn="0.20"))
    assert old.untouched == f"{venv} is Python 3.9.2, and Oxherd's workers need 3.10"


def test_an_interpreter_that_does_not_answer_is_found_out_when_it_is_run(plan, venv):
    silent = Knows()
    silent.answer = None
    made = plan('command = "uvicorn a:b"\n', silent)
    assert (made.spec.host.engines, made.remarks) == ((), ())
