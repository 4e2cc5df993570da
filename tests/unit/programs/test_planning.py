"""How a process and the listeners of the supervisor come together."""

from __future__ import annotations

import os

import pytest

from oxherd.config.cpus import usable_cpus
from oxherd.config.model import HostWay
from oxherd.core.restart import RestartMode
from oxherd.programs.describing import Description
from oxherd.programs.probes import Installed


class Knows:
    """Knows what every interpreter has, and what gunicorn makes of its configuration, without asking."""

    def __init__(self, version=(3, 12, 1), **packages: str) -> None:
        self.answer = Installed(version=version, packages=packages)
        self.description = None
        self.asked: list[object] = []

    def installed(self, python, _caller):
        self.asked.append(python)
        return self.answer

    def described(self, question, caller):
        self.asked.append((question, caller))
        return self.description


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


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ("newrelic-admin run-program uvicorn", "it is started through newrelic-admin"),
        ("nice -n 5 uvicorn", "it is started through nice"),
        ("env -i uvicorn", "it is started by env -i"),
        ("uv run --with x uvicorn", "uv run is told --with"),
        ("poetry run uvicorn", "the environment that poetry would use is not /"),
    ],
)
def test_what_wraps_a_server_keeps_it_from_being_hosted(plan, head, reason):
    """It runs by itself then, with the listener as a descriptor, so that a reload still loses none."""
    made = plan(f'command = "{head} a:b --host 0.0.0.0 --port=80 --workers 2"\n')
    host = made.spec.host
    assert (host.way, host.engine, host.bind, made.spec.instances) == (HostWay.PASSED, "uvicorn", ("0.0.0.0:80",), 1)
    assert host.argv == (*head.split(), "--fd", "{fd:0}", "a:b", "--workers", "2")
    assert (host.balance, host.overlap, made.spec.restart.mode) == ("shared", True, RestartMode.ON_FAILURE)
    assert any(f"as a descriptor: {reason}" in note for note in made.notes)


def test_a_wrapper_script_of_that_name_runs_by_itself(plan, script, tmp_path):
    script(tmp_path / "bin/uvicorn", "#!/bin/bash\n")
    made = plan('command = "uvicorn a:b"\n', environ={"PATH": str(tmp_path / "bin")})
    assert made.spec.host.way is HostWay.PASSED
    assert any(f"{tmp_path}/bin/uvicorn names no Python interpreter" in note for note in made.notes)
    named = plan('command = "uvicorn a:b"\npython = "/v/bin/python"\n', environ={"PATH": str(tmp_path / "bin")})
    assert named.spec.host.python == "/v/bin/python"


def test_what_the_interpreter_has_decides(plan, venv):
    made = plan('command = "uvicorn a:b"\n', Knows(gunicorn="27.0.1"))
    assert made.untouched == f"uvicorn is no package of {venv}, which its first line names"
    old = plan('command = "uvicorn a:b"\n', Knows((3, 9, 2), uvicorn="0.20"))
    assert old.spec.host.way is HostWay.PASSED
    assert any("its Python is too old" in note for note in old.notes)
    old = plan('command = "granian --interface asgi a:b"\n', Knows((3, 9, 2), granian="2.8.0"))
    assert old.untouched == f"{venv} is Python 3.9.2, and Oxherd's workers need 3.10"


def test_an_interpreter_that_does_not_answer_is_found_out_when_it_is_run(plan, venv):
    silent = Knows()
    silent.answer = None
    made = plan('command = "uvicorn a:b"\n', silent)
    assert (made.spec.host.engines, made.remarks) == ((), ())


# -- gunicorn -------------------------------------------------------------------------------------------------------

SAYS = {
    "ok": True,
    "bind": ["127.0.0.1:8000"],
    "workers": 1,
    "worker_class": "sync",
    "threads": 1,
    "timeout": 30,
    "graceful_timeout": 30,
    "keepalive": 2,
    "backlog": 2048,
    "max_requests": 0,
    "max_requests_jitter": 0,
    "certfile": None,
    "keyfile": None,
    "preload_app": False,
    "reload": False,
    "user": os.geteuid(),
    "group": os.getegid(),
    "pidfile": None,
    "daemon": False,
    "config_file": None,
    "target": "a:b",
    "version": "27.0.1",
    "unsupported": [],
}


@pytest.fixture
def says():
    """A prober to which gunicorn says this of its configuration."""

    def _says(error: str = "", **values) -> Knows:
        probes = Knows(**ALL)
        probes.description = Description(error=error) if error else Description(values={**SAYS, **values})
        return probes

    return _says


def test_gunicorn_is_asked_what_its_configuration_comes_to(plan, says, venv, tmp_path):
    probes = says(
        bind=["0.0.0.0:80", "unix:run.sock"],
        workers=3,
        worker_class="gthread",
        timeout=20,
        graceful_timeout=40,
        keepalive=7,
        backlog=64,
        max_requests=100,
        max_requests_jitter=9,
        certfile="c.pem",
        keyfile="/k.pem",
        preload_app=True,
        config_file="/srv/gunicorn.conf.py",
        pidfile="/run/g.pid",
    )
    made = plan('command = "gunicorn -c conf.py a:b"\n', probes)
    host = made.spec.host
    assert (host.way, host.engine, host.argv, host.python) == (
        HostWay.HOSTED,
        "gunicorn",
        ("-c", "conf.py", "a:b"),
        venv,
    )
    assert (host.bind, host.target) == (("0.0.0.0:80", f"unix:{tmp_path}/run.sock"), "a:b")
    assert (made.spec.instances, made.workers_from) == (3, "gunicorn's configuration")
    assert (host.block_timeout, host.graceful_timeout, made.spec.stop.timeout) == (20.0, 40.0, 42.0)
    assert (host.keepalive, host.linger, host.backlog) == (7.0, 9.0, 64)
    assert (host.max_requests, host.max_requests_jitter, host.preload) == (100, 9, "true")
    assert (host.tls, host.ssl_certfile, host.ssl_keyfile) == (True, f"{tmp_path}/c.pem", "/k.pem")
    assert "its worker class is gthread" in made.notes
    assert any("/run/g.pid is not written" in note for note in made.notes)
    question, caller = probes.asked[0]
    assert (question.engine, question.args, question.cwd) == ("gunicorn", ("-c", "conf.py", "a:b"), str(tmp_path))
    assert caller.user is None


def test_the_oxfile_goes_before_gunicorns_configuration(plan, says, venv):
    made = plan(
        'command = "gunicorn a:b"\npreload = false\ntimeout = "5s"\nmax_requests = 7\nmax_lifetime = "1h"\nuser = "me"\n'
        'graceful_timeout = "6s"\nsocket = "127.0.0.1:9"\n',
        says(preload_app=True, timeout=50, max_requests=100, user="www-data", group="www-data", graceful_timeout=60),
    )
    host = made.spec.host
    assert (host.preload, host.block_timeout, host.max_requests, host.max_lifetime) == ("false", 5.0, 7, 3600.0)
    assert (made.spec.user, made.spec.group, host.graceful_timeout, host.bind) == (
        "me",
        "www-data",
        6.0,
        ("127.0.0.1:9",),
    )


def test_gunicorn_may_block_for_ever(plan, says, venv):
    assert plan('command = "gunicorn a:b"\n', says(timeout=0)).spec.host.block_timeout > 10**8


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"error": "unrecognized arguments: --wrkers"}, "gunicorn was asked what its configuration comes to: unrec"),
        ({"reload": True}, "reload is for development"),
        ({"bind": ["fd://3"]}, "it binds fd://3, which cannot be held"),
        ({"bind": []}, "it binds nothing"),
    ],
)
def test_why_gunicorn_is_run_as_it_is(plan, says, venv, values, reason):
    made = plan('command = "gunicorn a:b"\n', says(**values))
    assert made.spec.host is None
    assert made.untouched.startswith(reason)


def test_workers_that_cannot_be_hosted_get_descriptors(plan, says, venv):
    """gunicorn takes a descriptor only where all of its addresses are some."""
    probes = says(bind=["127.0.0.1:1", "unix:/a"], unsupported=["tornado workers cannot be hosted"])
    made = plan('command = "gunicorn -b 127.0.0.1:1 --bind=unix:/a -k tornado a:b"\n', probes)
    host = made.spec.host
    assert (host.way, host.bind, host.overlap) == (HostWay.PASSED, ("127.0.0.1:1", "unix:/a"), True)
    binds = ("--bind", "fd://{fd:0}", "--bind", "fd://{fd:1}", "--bind", "fd://{private}")
    assert host.argv == (venv.replace("python", "gunicorn"), *binds, "-k", "tornado", "a:b")
    assert any("tornado workers cannot be hosted" in note for note in made.notes)


def test_two_arbiters_of_one_pid_file_do_not_overlap(plan, says, venv):
    made = plan('command = "gunicorn -p g.pid a:b"\n', says(unsupported=["x"]))
    assert not made.spec.host.overlap


@pytest.mark.parametrize(
    ("line", "environ", "bind", "workers"),
    [
        ("gunicorn a:b", {}, ("127.0.0.1:8000",), 1),
        ("gunicorn a:b -w 3 -b :80", {}, ("0.0.0.0:80",), 3),
        ("gunicorn a:b", {"PORT": "81", "WEB_CONCURRENCY": "2"}, ("0.0.0.0:81",), 2),
        ("gunicorn a:b", {"GUNICORN_CMD_ARGS": "--bind 127.0.0.1:82 -w 4"}, ("127.0.0.1:82",), 4),
        ("gunicorn a:b -b 127.0.0.1:83", {"GUNICORN_CMD_ARGS": "-b 127.0.0.1:82"}, ("127.0.0.1:83",), 1),
    ],
)
def test_where_gunicorn_cannot_be_asked_its_command_line_has_to_do(plan, line, environ, bind, workers):
    made = plan(f'command = "{line}"\n', environ=environ)
    assert (made.spec.host.way, made.spec.host.bind, made.spec.instances) == (HostWay.HOSTED, bind, workers)


def test_a_wrapped_gunicorn_gets_descriptors_where_its_addresses_are_known(plan, tmp_path):
    made = plan('command = "newrelic-admin run-program gunicorn a:b -b 127.0.0.1:1"\n')
    assert (made.spec.host.way, made.spec.host.bind) == (HostWay.PASSED, ("127.0.0.1:1",))
    (tmp_path / "gunicorn.conf.py").write_text("")
    made = plan('command = "newrelic-admin run-program gunicorn a:b"\n')
    assert made.spec.host is None
    assert "its addresses are in its configuration file" in made.untouched


# -- granian, hypercorn, daphne -------------------------------------------------------------------------------------


def test_granian_is_hosted(plan, venv, tmp_path):
    made = plan(
        'command = "granian --interface asginl --host 0.0.0.0 --workers 2 --workers-kill-timeout 20 --workers-lifetime 2h '
        '--workers-max-rss 300 --ssl-certificate c.pem --factory a:b"\n',
        environ={"GRANIAN_PORT": "81", "GRANIAN_BACKLOG": "99"},
    )
    host = made.spec.host
    assert (host.way, host.engine, host.bind, host.interface) == (HostWay.HOSTED, "granian", ("0.0.0.0:81",), "asgi")
    assert (made.spec.instances, made.workers_from) == (2, "--workers 2")
    assert (host.graceful_timeout, made.spec.stop.timeout) == (20.0, 25.0)
    assert (host.max_lifetime, host.max_memory, host.backlog) == (7200.0, 300 << 20, 99)
    assert (host.tls, host.ssl_certfile, host.factory) == (True, f"{tmp_path}/c.pem", True)


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ("a:b", "its interface is rsgi"),
        ("--interface wsgi --reload a:b", "--reload is for development"),
        ("--interface wsgi --metrics a:b", "--metrics is an exporter"),
        ("--interface wsgi --port 0 a:b", "--port 0 is no port"),
        ("--version", "it prints something"),
    ],
)
def test_why_granian_is_run_as_it_is(plan, venv, args, reason):
    made = plan(f'command = "granian {args}"\n')
    assert made.spec.host is None
    assert made.untouched.startswith(reason)


@pytest.mark.parametrize(
    ("args", "bind", "argv"),
    [
        ("a:b", ("127.0.0.1:8000",), "--bind fd://{fd:0} --bind fd://{private} a:b"),
        ("-w 2 -b 0.0.0.0:80 a:b", ("0.0.0.0:80",), "--bind fd://{fd:0} --bind fd://{private} -w 2 a:b"),
        (
            "--bind [::1]:1 --bind unix:/a a:b",
            ("[::1]:1", "unix:/a"),
            "--bind fd://{fd:0} --bind fd://{fd:1} --bind fd://{private} a:b",
        ),
    ],
)
def test_hypercorn_gets_descriptors(plan, venv, args, bind, argv):
    made = plan(f'command = "hypercorn {args}"\n')
    host = made.spec.host
    assert (host.way, host.engine, host.bind, host.overlap) == (HostWay.PASSED, "hypercorn", bind, True)
    assert " ".join(host.argv[1:]) == argv


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ("--quic-bind 127.0.0.1:4 a:b", "--quic-bind makes a listener of another kind"),
        ("-c hypercorn.toml a:b", "its addresses are in its configuration file"),
        ("--bind fd://3 a:b", "--bind names a descriptor"),
        ("--reload a:b", "--reload is for development"),
    ],
)
def test_why_hypercorn_is_run_as_it_is(plan, venv, args, reason):
    made = plan(f'command = "hypercorn {args}"\n')
    assert made.spec.host is None
    assert made.untouched.startswith(reason)


def test_hypercorn_with_a_configuration_file_and_a_socket_of_the_oxfile(plan, venv):
    host = plan('command = "hypercorn -c h.toml a:b"\nsocket = "127.0.0.1:7"\n').spec.host
    assert host.bind == ("127.0.0.1:7",)
    assert host.argv[1:] == ("--bind", "fd://{fd:0}", "--bind", "fd://{private}", "-c", "h.toml", "a:b")


def test_daphne_gets_a_descriptor_and_a_path_for_probes(plan, venv):
    host = plan('command = "daphne -b 0.0.0.0 -p 81 -v 2 a:b"\n').spec.host
    assert (host.way, host.engine, host.bind) == (HostWay.PASSED, "daphne", ("0.0.0.0:81",))
    assert host.argv[1:] == ("--fd", "{fd:0}", "-u", "{private_path}", "-v", "2", "a:b")


@pytest.mark.parametrize("args", ["-u /run/d.sock a:b", "-b ::1 a:b", "-e ssl:443 a:b", "--fd 3 a:b", "-p 0 a:b"])
def test_what_daphne_cannot_take_is_run_as_it_is(plan, venv, args):
    made = plan(f'command = "daphne {args}"\n')
    assert made.spec.host is None
    assert made.untouched


# -- sockets and overlap --------------------------------------------------------------------------------------------


def test_any_command_may_be_given_a_socket(plan, tmp_path):
    made = plan('command = "node server.js"\nsocket = "unix:run.sock"\n')
    host = made.spec.host
    assert (host.way, host.engine, host.argv, host.bind) == (
        HostWay.PASSED,
        "generic",
        (),
        (f"unix:{tmp_path}/run.sock",),
    )
    assert (host.overlap, host.balance) == (True, "shared")


@pytest.mark.parametrize(
    "text",
    [
        'command = "node server.js"\nsingleton = true\n',
        'command = "node server.js {instance}"\n',
        'command = "node server.js"\ntype = "oneshot"\n',
    ],
)
def test_a_socket_is_no_reason_to_run_two_at_a_time(plan, text):
    assert not plan(text + 'socket = "127.0.0.1:1"\n').spec.host.overlap


def test_untouched_is_untouched_and_a_socket_is_a_socket(plan, venv):
    made = plan('command = "uvicorn a:b"\nadopt = false\nsocket = "127.0.0.1:1"\n')
    assert (made.spec.host.way, made.spec.host.argv, made.untouched) == (HostWay.PASSED, (), "adopt = false")


def test_a_celery_worker_may_overlap_its_successor(plan):
    host = plan('command = "celery -A t worker"\n').spec.host
    assert (host.way, host.engine, host.bind, host.argv, host.overlap) == (
        HostWay.PASSED,
        "celery-worker",
        (),
        (),
        True,
    )


@pytest.mark.parametrize(
    "text",
    [
        'command = "celery -A t beat"\n',
        'command = "celery -A t worker -B"\n',
        'command = "celery -A t worker --pidfile c.pid"\n',
        'command = "celery -A t worker -n w{instance}@%h"\n',
        'command = "celery -A t worker"\nadopt = false\n',
        'command = "celery -A t worker"\nsingleton = true\n',
        'command = "node server.js"\n',
    ],
)
def test_what_never_overlaps(plan, text):
    assert plan(text).spec.host is None
