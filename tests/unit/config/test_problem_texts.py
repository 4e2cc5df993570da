"""Every text of every problem, in one table: what people read is changed on purpose or not at all.

Each row is an oxfile (or a file beside it) and the exact rendering of the problem it makes.
"""

from __future__ import annotations

import pytest

from oxherd.config import problems
from oxherd.config.oxfile import load
from oxherd.config.problems import Place, show
from oxherd.errors import ConfigError, Severity
from oxherd.programs.compiled import compile_stack
from oxherd.programs.probes import Installed

WEB = '[processes.web]\ncommand = "run"\n'

ERRORS = [
    (
        "OX101",
        "[processes.web]\ncommand = run it\n",
        'oxfile.toml:2: this is not valid TOML: invalid value [OX101]\n    hint:     put text in quotes: key = "value"',
    ),
    (
        "OX102",
        WEB + "max_restart = 3\n",
        (
            'oxfile.toml:3: processes.web.max_restart: unknown key "max_restart" [OX102]\n'
            '    hint:     did you mean "max_restarts"?'
        ),
    ),
    (
        "OX102",
        WEB + "[processes.web.limits]\nmemory_md = 3\n",
        (
            'oxfile.toml:4: processes.web.limits.memory_md: unknown key "memory_md" [OX102]\n'
            "    expected: one of cpu, cpu_percent, cpu_window_secs, hard, max_cpu_percent, max_memory_mb, max_open_files, "
            "memory, memory_mb, nofile, pids\n"
            '    hint:     did you mean "memory_mb"?'
        ),
    ),
    (
        "OX102",
        WEB + "memory_mb = 512\n",
        (
            'oxfile.toml:3: processes.web.memory_mb: unknown key "memory_mb" [OX102]\n'
            "    hint:     memory_mb belongs into [processes.NAME.limits]"
        ),
    ),
    (
        "OX102",
        "restart_on_exit = true\n" + WEB,
        (
            'oxfile.toml:1: restart_on_exit: unknown key "restart_on_exit" [OX102]\n'
            "    expected: one of apps, defaults, deploy, logging, name, processes, version, webhook\n"
            "    hint:     restart_on_exit belongs into a process: put it under [processes.NAME]"
        ),
    ),
    (
        "OX103",
        WEB + 'restart_delay_ms = "2000"\n',
        (
            "oxfile.toml:3: processes.web.restart_delay_ms: wrong type [OX103]\n"
            '    found:    "2000" (a string)\n'
            "    expected: a number of milliseconds\n"
            "    hint:     write restart_delay_ms = 2000 without quotes"
        ),
    ),
    (
        "OX103",
        WEB + "stop_timeout = 45\n",
        (
            "oxfile.toml:3: processes.web.stop_timeout: wrong type [OX103]\n"
            "    found:    45 (an integer)\n"
            '    expected: a duration such as "30s", "5m" or "250ms"\n'
            "    hint:     put it in quotes and give the unit, or use stop_timeout_ms"
        ),
    ),
    (
        "OX103",
        WEB + 'restart_on_exit = "yes"\n',
        (
            "oxfile.toml:3: processes.web.restart_on_exit: wrong type [OX103]\n"
            '    found:    "yes" (a string)\n'
            "    expected: true or false\n"
            "    hint:     write restart_on_exit = true without quotes"
        ),
    ),
    (
        "OX103",
        '[processes.web]\ncommand = ["uvicorn", "main:app", "a b"]\n',
        (
            "oxfile.toml:2: processes.web.command: wrong type [OX103]\n"
            '    found:    ["uvicorn", "main:app", "a b"] (an array)\n'
            "    expected: a command line\n"
            "    hint:     write it as one string: command = \"uvicorn main:app 'a b'\""
        ),
    ),
    (
        "OX102",
        '[processes.web]\ncomand = "run"\n',
        'oxfile.toml:2: processes.web.comand: unknown key "comand" [OX102]\n    hint:     did you mean "command"?',
    ),
    (
        "OX103",
        "[processes]\nweb = 1\n",
        (
            "oxfile.toml:2: processes.web: wrong type [OX103]\n"
            "    found:    1 (an integer)\n"
            "    expected: a table\n"
            "    hint:     write [processes.web] as a header of its own"
        ),
    ),
    (
        "OX103",
        WEB + "[processes.web.env]\nVERSION = 3.10\n",
        (
            "oxfile.toml:4: processes.web.env.VERSION: wrong type [OX103]\n"
            "    found:    a float (its value is not shown)\n"
            "    expected: a string, an integer or a boolean\n"
            '    hint:     write VERSION = "…" in quotes'
        ),
    ),
    (
        "OX103",
        'apps = { name = "a" }\n',
        (
            "oxfile.toml:1: apps: wrong type [OX103]\n"
            "    found:    a table with the keys name\n"
            "    expected: an array of tables\n"
            "    hint:     write [[apps]] with two brackets on each side, once for each app"
        ),
    ),
    (
        "OX104",
        WEB + "instances = 0\n",
        (
            "oxfile.toml:3: processes.web.instances: this value is not accepted [OX104]\n"
            "    found:    0 (an integer)\n"
            '    expected: an integer of 1 or more, or "max"'
        ),
    ),
    (
        "OX104",
        WEB + "restart_delay_ms = -1\n",
        (
            "oxfile.toml:3: processes.web.restart_delay_ms: this value is not accepted [OX104]\n"
            "    found:    -1 (an integer)\n"
            "    expected: a number of milliseconds"
        ),
    ),
    (
        "OX104",
        WEB + 'stop_signal = "SIGFOO"\n',
        (
            "oxfile.toml:3: processes.web.stop_signal: this value is not accepted [OX104]\n"
            '    found:    "SIGFOO" (a string)\n'
            "    expected: a signal such as SIGTERM, SIGINT, SIGQUIT or HUP"
        ),
    ),
    (
        "OX104",
        WEB + 'stop_signal = "SIGTREM"\n',
        (
            "oxfile.toml:3: processes.web.stop_signal: this value is not accepted [OX104]\n"
            '    found:    "SIGTREM" (a string)\n'
            "    expected: a signal such as SIGTERM, SIGINT, SIGQUIT or HUP\n"
            '    hint:     did you mean "SIGTERM"?'
        ),
    ),
    (
        "OX104",
        WEB + 'restart = "on-failur"\n',
        (
            "oxfile.toml:3: processes.web.restart: this value is not accepted [OX104]\n"
            '    found:    "on-failur" (a string)\n'
            '    expected: "always", "on-failure" or "never"\n'
            '    hint:     did you mean "on-failure"?'
        ),
    ),
    (
        "OX104",
        '[processes."my web"]\ncommand = "run"\n',
        (
            'oxfile.toml:1: processes."my web": this value is not accepted [OX104]\n'
            '    found:    "my web" (a string)\n'
            "    expected: letters, digits, dots, hyphens and underscores, beginning with a letter or digit, 64 at most"
        ),
    ),
    (
        "OX104",
        WEB + '[processes.web.env]\nTOKEN = "abc${def"\n',
        (
            "oxfile.toml:4: processes.web.env.TOKEN: this value is not accepted [OX104]\n"
            "    found:    a string (its value is not shown)\n"
            "    expected: a reference such as ${NAME} or ${NAME:-default}; a literal dollar sign is $$"
        ),
    ),
    (
        "OX105",
        "[processes.web]\ninstances = 2\n",
        (
            'oxfile.toml:1: processes.web: "command" is missing [OX105]\n'
            '    expected: command = "…" (any program), or app = "module:attribute" (an ASGI or WSGI app)\n'
            '    hint:     add command = "uvicorn main:app --port 8000", or whatever is to be run'
        ),
    ),
    (
        "OX105",
        WEB + "[processes.web.health_check]\ninterval_secs = 5\n",
        (
            'oxfile.toml:4: processes.web.health_check.interval_secs: "endpoint" is missing [OX105]\n'
            '    expected: endpoint = "http://…", tcp = "host:port" or command = "…"\n'
            '    hint:     add endpoint = "http://localhost:8000/health"'
        ),
    ),
    (
        "OX105",
        'name = "empty"\n',
        (
            "oxfile.toml:1: no process is described [OX105]\n"
            "    expected: at least one [processes.NAME] table with a command or an app\n"
            '    hint:     add [processes.web] with command = "…", or let "oxherd init" write a first oxfile'
        ),
    ),
    (
        "OX105",
        WEB + "wait_ready = true\n",
        (
            'oxfile.toml:3: processes.web.wait_ready: "health_cmd" is missing [OX105]\n'
            "    expected: a health check to wait for\n"
            '    hint:     add health_cmd = "…", or a health_check'
        ),
    ),
    (
        "OX105",
        WEB + 'type = "scheduled"\n',
        (
            'oxfile.toml:3: processes.web.type: "schedule" is missing [OX105]\n'
            '    expected: cron fields such as "0 4 * * *"'
        ),
    ),
    (
        "OX106",
        WEB + 'app = "main:app"\n',
        (
            "oxfile.toml:3: processes.web.app: a process has a command or an app, not both [OX106]\n"
            "    expected: one of the two\n"
            "    hint:     remove app to run the command as it is, or remove command to let Oxherd serve the app"
        ),
    ),
    (
        "OX106",
        WEB + "workers = 4\n",
        (
            "oxfile.toml:3: processes.web.workers: workers is for app processes, and this one runs a command [OX106]\n"
            '    hint:     give it to the program on its command line, or write app = "module:attribute" instead of command'
        ),
    ),
    (
        "OX106",
        WEB + 'stop_timeout_ms = 1\nstop_timeout = "1ms"\n',
        (
            "oxfile.toml:4: processes.web.stop_timeout: stop_timeout_ms (line 3) and stop_timeout are two spellings of one "
            "setting [OX106]\n"
            "    expected: one of them\n"
            "    hint:     remove one of the two"
        ),
    ),
    (
        "OX106",
        WEB + '[[apps]]\nname = "b"\ncommand = "run"\n',
        (
            "oxfile.toml:3: apps: [processes.NAME] and [[apps]] are two ways to say the same thing, and this file uses both "
            "[OX106]\n"
            "    expected: one of the two in a file\n"
            "    hint:     write every process as [processes.NAME], or every one as [[apps]]"
        ),
    ),
    (
        "OX106",
        WEB + 'log_file = "/var/log/a.log"\n[processes.b]\ncommand = "x"\nlog_file = "/var/log/a.log"\n',
        (
            "oxfile.toml:6: processes.b.log_file: two processes write the same log file; each would rotate it under the "
            "other [OX106]\n"
            "    found:    /var/log/a.log, which web writes too\n"
            "    expected: a file of its own for every process\n"
            '    hint:     give each process its own log_file; "oxherd logs" shows them merged in the order of time'
        ),
    ),
    (
        "OX106",
        '[processes.a]\napp = "m:a"\nbind = "0.0.0.0:80"\n[processes.b]\napp = "m:b"\nbind = "127.0.0.1:80"\n',
        (
            "oxfile.toml:6: processes.b.bind: 127.0.0.1:80 is taken: a binds 0.0.0.0:80 [OX106]\n"
            "    expected: an address of its own\n"
            "    hint:     give one of the two another port"
        ),
    ),
    (
        "OX106",
        WEB + '[processes.web.health_check]\ntcp = "h:1"\nendpoint = "http://h/"\n',
        (
            "oxfile.toml:5: processes.web.health_check.endpoint: a health check has one target, and this one has endpoint "
            "and tcp [OX106]\n"
            "    expected: one of endpoint, tcp and command\n"
            "    hint:     keep one"
        ),
    ),
    (
        "OX106",
        WEB + 'schedule = "0 4 * * *"\nrun_once = false\n',
        (
            "oxfile.toml:4: processes.web.run_once: schedule makes a job of this process, and run_once says that it is a "
            "service [OX106]\n"
            "    hint:     write cron_restart to restart a service by the clock, or remove one of the two"
        ),
    ),
    (
        "OX106",
        WEB + 'depends_on = { db = "completed" }\n[processes.db]\ncommand = "x"\n',
        (
            "oxfile.toml:3: processes.web.depends_on: db is a service, which never completes [OX106]\n"
            "    expected: a oneshot or a job\n"
            '    hint:     write db = "ready", or give db type = "oneshot"'
        ),
    ),
    (
        "OX107",
        WEB + 'depends_on = ["redys"]\n[processes.redis]\ncommand = "x"\n',
        (
            'oxfile.toml:3: processes.web.depends_on: there is no process "redys" [OX107]\n'
            "    expected: one of redis\n"
            '    hint:     did you mean "redis"?'
        ),
    ),
    (
        "OX108",
        WEB + 'depends_on = ["b"]\n[processes.b]\ncommand = "x"\ndepends_on = ["web"]\n',
        (
            "oxfile.toml:3: processes.web.depends_on: the processes depend on each other in a circle, so none of them could "
            "ever start [OX108]\n"
            "    found:    web -> b -> web\n"
            "    expected: dependencies without a circle\n"
            "    hint:     remove one depends_on of the circle"
        ),
    ),
    (
        "OX109",
        '[processes.web]\ncommand = "run --port ${PORT}"\n',
        (
            "oxfile.toml:2: processes.web.command: the variable PORT has no value [OX109]\n"
            "    found:    ${PORT}\n"
            "    expected: a variable of the caller's environment, of an env_file or of this process's env\n"
            "    hint:     set it (PORT=… oxherd start), or give a default: ${PORT:-value}; a literal dollar sign is $$"
        ),
    ),
    (
        "OX112",
        WEB + "[processes.web.profiles.dev]\ninstances = 2\n",
        (
            'oxfile.toml: no process has a profile "prod" [OX112]\n'
            "    expected: one of dev\n"
            "    hint:     add [processes.NAME.profiles.prod], or leave the profile out"
        ),
    ),
    (
        "OX113",
        '[[apps]]\nname = "a"\ncommand = "x"\n[[apps]]\nname = "a"\ncommand = "y"\n',
        (
            'oxfile.toml:4: apps[1]: the name "a" is used twice [OX113]\n'
            "    found:    the first one is in line 1\n"
            "    expected: a name of its own for every process\n"
            "    hint:     rename one of them; for several copies of one process write instances = 2"
        ),
    ),
    (
        "OX114",
        '[processes.beat]\ncommand = "celery -A tasks beat"\ninstances = 2\n',
        (
            "oxfile.toml:3: processes.beat.instances: Celery beat must never run twice [OX114]\n"
            "    found:    instances = 2\n"
            "    expected: instances = 1\n"
            "    hint:     remove instances; two schedulers would send every task twice"
        ),
    ),
    (
        "OX114",
        WEB + "singleton = true\ninstances = 2\n",
        (
            "oxfile.toml:4: processes.web.instances: a process with singleton = true must never run twice [OX114]\n"
            "    found:    instances = 2\n"
            "    expected: instances = 1\n"
            "    hint:     remove instances; two schedulers would send every task twice"
        ),
    ),
]

WARNINGS = [
    (
        "OX151",
        WEB + 'working_dir = "/nowhere/at/all"\n',
        (
            "oxfile.toml:3: processes.web.working_dir: this path is not there (yet) [OX151]\n"
            "    found:    /nowhere/at/all\n"
            "    hint:     it has to be there when the process starts"
        ),
    ),
    (
        "OX152",
        WEB + "cluster_mode = true\n",
        (
            "oxfile.toml:3: processes.web.cluster_mode: cluster_mode forks node scripts inside one process; Oxherd runs this "
            "command once, as it is written [OX152]\n"
            "    expected: instances\n"
            '    hint:     write instances = 4 (or instances = "max") to run copies; each one\'s number is in OXHERD_INSTANCE'
        ),
    ),
    (
        "OX153",
        '[processes.web]\ncommand = "a && b"\n',
        (
            "oxfile.toml:2: processes.web.command: this command is run through /bin/sh -c, because of && [OX153]\n"
            "    hint:     quote it if it is meant literally; end a list of commands with exec so that signals reach the program"
        ),
    ),
    (
        "OX155",
        WEB + 'env_file = "/nowhere/.env"\n',
        (
            "oxfile.toml:3: processes.web.env_file: this env_file is not there (yet) [OX155]\n"
            "    found:    /nowhere/.env\n"
            "    hint:     it has to be there when the process starts; the path is relative to the oxfile's folder"
        ),
    ),
    (
        "OX157",
        WEB + 'depends_on = ["db"]\n[processes.db]\ncommand = "x"\ndisabled = true\n',
        (
            "oxfile.toml:3: processes.web.depends_on: db is disabled, so web does not wait for it [OX157]\n"
            "    hint:     remove it from depends_on, or enable db"
        ),
    ),
    (
        "OX157",
        WEB + "limits = { pids = 5 }\n",
        (
            "oxfile.toml:3: processes.web.limits.pids: a limit on pids is enforced by a cgroup only [OX157]\n"
            "    hint:     add hard = true"
        ),
    ),
    (
        "OX157",
        WEB + 'timezone = "UTC"\n',
        (
            "oxfile.toml:3: processes.web.timezone: timezone has no effect without schedule or cron_restart [OX157]\n"
            "    hint:     add schedule, or remove it"
        ),
    ),
    (
        "OX158",
        '[processes.web]\ncommand = "gunicorn app:app -D"\n',
        (
            "oxfile.toml:2: processes.web.command: -D sends the program to the background, where it looks like an exit [OX158]\n"
            "    hint:     remove -D: Oxherd keeps the program in its foreground and in the background of everything else"
        ),
    ),
    (
        "OX158",
        "[processes.web]\ncommand = \"bash -c 'source v/settings && uvicorn main:app'\"\n",
        (
            "oxfile.toml:2: processes.web.command: a shell stands between Oxherd and Uvicorn: a stop reaches the shell, not "
            "the program [OX158]\n"
            "    hint:     write exec before the last command of the line, or use the program's full path without a shell"
        ),
    ),
    (
        "OX159",
        "[processes.web]\ncommand = \"bash -c 'run ${PORT}'\"\n",
        (
            "oxfile.toml:2: processes.web.command: nothing sets the variable PORT; the shell will read it as empty [OX159]\n"
            "    hint:     set PORT under env, or give a default: ${PORT:-value}"
        ),
    ),
]


@pytest.fixture
def here(write, tmp_path, monkeypatch):
    def _here(text: str, **options: int) -> str:
        write(text, **options)
        monkeypatch.chdir(tmp_path)
        return "oxfile.toml"

    return _here


@pytest.mark.parametrize(("code", "text", "rendered"), ERRORS)
def test_the_text_of_an_error(here, code, text, rendered):
    profile = "prod" if code == "OX112" else None
    with pytest.raises(ConfigError) as caught:
        compile_stack(here(text), profile=profile, environ={})
    (problem,) = [problem for problem in caught.value.problems if problem.severity == Severity.ERROR]
    assert problem.code == code
    assert problem.render() == rendered


@pytest.mark.parametrize(("code", "text", "rendered"), WARNINGS)
def test_the_text_of_a_warning(here, code, text, rendered):
    (warning,) = compile_stack(here(text), environ={}).warnings
    assert warning.code == code
    assert warning.severity == Severity.WARNING
    assert warning.render() == rendered


class Knows:
    """Knows what every interpreter has, without asking it."""

    def __init__(self, version=(3, 12, 1), **packages: str) -> None:
        self.answer = Installed(version=version, packages=packages)

    def installed(self, _python, _caller):
        return self.answer


APP = '[processes.web]\napp = "main:app"\nserver = "granian"\npython = "/usr/bin/env"\n'
# Code at a start, code where the file alone is validated, what the interpreter has, the text after the code.
INSTALLED = [
    (
        "OX115",
        "OX160",
        Knows(uvicorn="0.54.0"),
        "oxfile.toml:3: processes.web.server: granian is not installed in the interpreter that is to serve the app",
        (
            "    found:    /usr/bin/env\n"
            "    expected: an interpreter with granian\n"
            '    hint:     /usr/bin/env -m pip install granian; or write python = "…" with the interpreter of the app'
        ),
    ),
    (
        "OX115",
        "OX160",
        Knows((3, 8, 10), granian="1.0"),
        "oxfile.toml:4: processes.web.python: Oxherd's workers do not run on the Python of this app",
        (
            "    found:    /usr/bin/env, Python 3.8.10\n"
            "    expected: Python 3.10 or newer\n"
            "    hint:     make the virtual environment anew with a newer Python, or serve the app by a command of its own"
        ),
    ),
]


@pytest.mark.parametrize("row", INSTALLED, ids=lambda row: row[3][:12])
def test_what_is_not_installed_is_an_error_at_a_start_only(here, row):
    error, warning, probes, head, rest = row
    path = here(APP)
    (found,) = compile_stack(path, environ={}, probes=probes).warnings
    assert found.render() == f"{head} [{warning}]\n{rest}"
    with pytest.raises(ConfigError) as caught:
        compile_stack(path, environ={}, strict_files=True, probes=probes)
    (found,) = caught.value.problems
    assert found.render() == f"{head} [{error}]\n{rest}"


def test_a_missing_env_file_is_an_error_at_a_start(here):
    with pytest.raises(ConfigError) as caught:
        load(here(WEB + 'env_file = ".env"\n'), environ={}, strict_files=True)
    (problem,) = caught.value.problems
    assert problem.code == "OX110"
    assert problem.render().startswith(
        "oxfile.toml:3: processes.web.env_file: the env_file cannot be read: no such file [OX110]"
    )


def test_a_broken_env_file_has_its_own_line(here, write, tmp_path):
    write("A=1\nnonsense\n", ".env")
    with pytest.raises(ConfigError) as caught:
        load(here(WEB + 'env_file = ".env"\n'), environ={})
    (problem,) = caught.value.problems
    assert (problem.code, problem.file, problem.line) == ("OX110", str(tmp_path / ".env"), 2)
    assert problem.message == "the env_file cannot be read: this is not NAME=value"


def test_an_oxfile_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        load("oxfile.toml", environ={})
    assert caught.value.problems[0].render() == (
        "oxfile.toml: the oxfile cannot be read: no such file [OX111]\n"
        "    expected: a readable TOML file\n"
        '    hint:     name the file with --config, or let "oxherd init" write one here'
    )


def test_secrets_that_everybody_may_read(here):
    text = WEB + '[processes.web.env]\nAPI_TOKEN = "t"\nDB = "redis://u:p@h"\nOTHER = "${X:-1}"\nKEY = "$$"\n'
    (warning,) = load(here(text, mode=0o644), environ={}).warnings
    assert warning.render() == (
        "oxfile.toml:4: this file holds secrets and every user of the machine may read it [OX154]\n"
        "    found:    API_TOKEN, DB\n"
        "    hint:     chmod 600 oxfile.toml, or keep the values in an env_file of mode 600"
    )


def test_a_variable_of_an_env_file_without_a_value(here, write, tmp_path):
    write("A=${NONE}\n", ".env")
    loaded = load(here(WEB + 'env_file = ".env"\n'), environ={})
    (warning,) = loaded.warnings
    assert warning.render().startswith(
        f"{tmp_path}/.env:1: A: the variable NONE has no value, so ${{NONE}} is kept as it is written [OX156]"
    )
    assert dict(loaded.oxfile.process("web").env) == {"A": "${NONE}"}


def test_every_code_of_the_catalogue_is_covered_here():
    """A code without a text in this table is a text nobody has looked at."""
    special = {"OX110", "OX111", "OX154", "OX156"}
    special |= {code for pair in INSTALLED for code in pair[:2]}
    assert {code for code, _, _ in (*ERRORS, *WARNINGS)} | special == set(problems.CATALOGUE)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("x", '"x" (a string)'),
        (True, "true (a boolean)"),
        (3, "3 (an integer)"),
        (2.5, "2.5 (a float)"),
        ([1, "a"], '[1, "a"] (an array)'),
        ({}, "an empty table"),
        ({"a": 1, "b": 2}, "a table with the keys a, b"),
        (10**40, "a very large number (an integer)"),
        ("y" * 90, '"' + "y" * 59 + "… (a string)"),
        ("redis://u:secret@h", '"redis://u:***@h" (a string)'),
    ],
)
def test_values_are_shown_with_their_type(value, shown):
    assert show(value) == shown


def test_values_under_env_are_never_shown():
    place = Place(file="f", line=1, key="processes.web.env.NAME")
    assert "hunter2" not in problems.wrong_type(place, ["hunter2"], "a string").render()
    secret = Place(file="f", line=1, key="processes.web.webhook.secret")
    assert "hunter2" not in problems.bad_value(secret, "hunter2", "x").render()
