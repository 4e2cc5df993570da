"""An oxfile is read whole: the promised file, every dialect, every layer, and every mistake at once."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oxherd.config import keys
from oxherd.config.model import HealthSpec, LimitSpec, ProcessKind, StopSpec
from oxherd.config.oxfile import load
from oxherd.core.restart import RestartMode, RestartPolicy
from oxherd.errors import ConfigError, Problem, Severity

PROMISED = """\
[processes.web]
command = "/var/www/myapp/venv/bin/uvicorn main:app --host 0.0.0.0 --port 8000 --workers 4"
working_dir = "/var/www/myapp"
restart_on_exit = true
restart_delay_ms = 2000
max_restarts = 15
stop_timeout_ms = 30000
[processes.web.env]
DATABASE_URL = "postgresql+asyncpg://user:pass@localhost/myapp"
[processes.web.health_check]
endpoint = "http://localhost:8000/health"
interval_secs = 30
initial_delay_secs = 15
unhealthy_threshold = 3
healthy_threshold = 2
[processes.web.limits]
memory_mb = 1024
[processes.web.logs]
max_size_mb = 200
max_files = 7
compress = true

[processes.worker]
command = "/var/www/myapp/venv/bin/celery -A tasks worker --loglevel=info --concurrency=4"
working_dir = "/var/www/myapp"
restart_on_exit = true
[processes.worker.limits]
memory_mb = 512

[processes.beat]
command = "/var/www/myapp/venv/bin/celery -A tasks beat --loglevel=info"
working_dir = "/var/www/myapp"
restart_on_exit = true
instances = 1
"""


def test_the_promised_file_becomes_the_model(read):
    """The file every reader of the documentation starts from, unmodified."""
    loaded = read(PROMISED)
    web, worker, beat = loaded.oxfile.processes
    assert [web.name, worker.name, beat.name] == ["web", "worker", "beat"]
    assert web.command.argv[-2:] == ("--workers", "4")
    assert not web.command.shell
    assert web.working_dir == "/var/www/myapp"
    assert web.restart == RestartPolicy(mode=RestartMode.ALWAYS, delay=2.0, max_restarts=15)
    assert web.stop == StopSpec(timeout=30.0)
    assert web.env == (("DATABASE_URL", "postgresql+asyncpg://user:pass@localhost/myapp"),)
    assert web.health == HealthSpec(endpoint="http://localhost:8000/health", grace=15.0, healthy_threshold=2)
    assert web.limits == LimitSpec(memory=1024 << 20)
    assert (web.logs.max_bytes, web.logs.max_files, web.logs.compress) == (200 << 20, 7, True)
    assert worker.limits.memory == 512 << 20
    assert beat.instances == 1
    assert loaded.inactive == ()
    assert loaded.oxfile.dialect == "processes"


def test_every_setting_says_where_it_comes_from(read):
    origins = read(PROMISED).origins["web"]
    assert origins["command"] == "oxfile.toml:2"
    assert origins["restart"] == "oxfile.toml:4"
    assert origins["health_check.initial_delay"] == "oxfile.toml:13"
    assert origins["env.DATABASE_URL"] == "oxfile.toml:9"
    assert "health_check.timeout" not in origins


def test_paths_that_are_not_there_are_warnings(read):
    """A file is written before it is deployed."""
    warnings = read(PROMISED).warnings
    assert {(w.code, w.severity) for w in warnings} == {("OX151", Severity.WARNING)}
    assert [w.line for w in warnings if "web" in w.key] == [3]


PUBLISHED = """\
version = 1
[defaults]
restart_policy = "on_failure"
max_restarts = 20
stop_signal = "SIGINT"
stop_timeout_secs = 8
health_interval_secs = 20
namespace = "platform"
env = { TZ = "UTC", LEVEL = "info" }

[[apps]]
name = "db"
command = "pg_ctl run"
start_order = 5
health_cmd = "pg_isready -q"

[[apps]]
name = "api"
command = "node server.js"
cwd = "./services/api"
depends_on = ["db"]
start_order = 1
instances = 2
instance_var = "INSTANCE_ID"
restart_delay_secs = 2
start_delay_secs = 3
crash_restart_limit = 3
health_cmd = "curl -fsS http://127.0.0.1:3000/health"
health_timeout_secs = 3
health_max_failures = 4
wait_ready = true
ready_timeout_secs = 45
watch = ["src", "package.json"]
ignore_watch = ["target/", "\\\\.log$"]
watch_delay_secs = 2
max_memory_mb = 512
max_cpu_percent = 80.0
cgroup_enforce = true
deny_gpu = true
reuse_port = true
log_date_format = "%Y-%m-%d %H:%M:%S"
unified_logs = true
cron_restart = "0 0 2 * * *"
pre_reload_cmd = "make build"
cluster_mode = true
cluster_instances = 4
git_repo = "git@example.org:org/api.git"
git_ref = "main"
pull_secret = "s"
[apps.logs]
combined = "logs/api.log"
[apps.env]
LEVEL = "warn"
HOME_DIR = "$HOME/x"
[apps.profiles.prod]
instances = 4
restart_policy = "always"
[apps.profiles.prod.env]
LEVEL = "error"
[apps.profiles.dev]
disabled = true

[deploy.production]
user = "ubuntu"
host = ["192.0.2.13", "192.0.2.14"]
repo = "git@example.org:org/api.git"
ref = "origin/main"
path = "/var/www/api"
pre-setup = "echo a"
post_deploy = "oxherd apply"
"""


def test_the_published_dialect_becomes_the_same_model(read, folder):
    loaded = read(PUBLISHED, profile="prod")
    api, db = loaded.oxfile.processes
    assert [api.name, db.name] == ["api", "db"], "start_order puts api first"
    assert api.working_dir == f"{folder}/services/api"
    assert api.restart == RestartPolicy(mode=RestartMode.ALWAYS, delay=2.0, max_restarts=3)
    assert api.stop == StopSpec(signal=signal.SIGINT, timeout=8.0)
    assert api.instances == 4
    assert api.instance_var == "INSTANCE_ID"
    assert (api.start_delay, api.ready_timeout, api.namespace) == (3.0, 45.0, "platform")
    assert api.health.command.argv[0] == "curl"
    assert (api.health.interval, api.health.timeout, api.health.unhealthy_threshold) == (20.0, 3.0, 4)
    assert api.watch.paths == (f"{api.working_dir}/src", f"{api.working_dir}/package.json")
    assert api.watch.ignore_regex == ("target/", "\\.log$")
    assert api.watch.delay == 2.0
    assert api.limits == LimitSpec(memory=512 << 20, cpu_percent=80.0, hard=True)
    assert api.logs.file == f"{folder}/logs/api.log"
    assert api.logs.date_format == "%Y-%m-%d %H:%M:%S"
    assert api.schedule.restart_cron == "0 0 2 * * *"
    assert api.pre_reload.text == "make build"
    assert api.git.repo == "git@example.org:org/api.git"
    env = dict(api.env)
    assert (env["LEVEL"], env["TZ"], env["HOME_DIR"]) == ("error", "UTC", "/home/me/x")
    assert (env["CUDA_VISIBLE_DEVICES"], env["SO_REUSEPORT"], env["OXMGR_REUSEPORT"]) == ("", "1", "1")
    assert loaded.oxfile.dialect == "apps"
    assert dict(loaded.oxfile.deploys[0].options)["host"] == ("192.0.2.13", "192.0.2.14")
    assert dict(loaded.oxfile.deploys[0].options)["pre_setup"] == "echo a"
    assert loaded.origins["api"]["instances"].endswith("(profile prod)")


def test_cluster_mode_is_a_warning_that_names_instances(read):
    (warning,) = [w for w in read(PUBLISHED).warnings if w.code == "OX152"]
    assert "instances" in warning.hint


def test_a_profile_can_leave_a_process_out(read):
    loaded = read(PUBLISHED, profile="dev")
    assert [process.disabled for process in loaded.oxfile.processes] == [True, False]


def test_the_published_dialect_stops_after_five_seconds(read):
    loaded = read('version = 1\n[[apps]]\nname = "a"\ncommand = "run"\n')
    assert loaded.oxfile.process("a").stop.timeout == 5.0


def test_what_is_not_active_yet_is_named(read):
    loaded = read(PUBLISHED)
    assert set(loaded.inactive) == {
        ("api", "git.repo"),
        ("api", "git.ref"),
        ("api", "git.secret"),
        ("", "deploy.production"),
    }


FIVE = """\
name = "shop"
[processes.web]
command = "uvicorn main:app"
restart_delay_ms = "2000"
instances = 0
colour = "red"
[processes.web.health_check]
interval_secs = 30
[processes.worker]
comand = "celery -A tasks worker"
depends_on = ["wep"]
"""


def test_every_mistake_is_told_at_once_and_in_order(refused):
    """Nobody wants to learn of five mistakes one by one."""
    assert refused(FIVE) == [
        ("OX103", 4, "processes.web.restart_delay_ms"),
        ("OX104", 5, "processes.web.instances"),
        ("OX102", 6, "processes.web.colour"),
        ("OX105", 8, "processes.web.health_check.interval_secs"),
        ("OX102", 10, "processes.worker.comand"),
        ("OX107", 11, "processes.worker.depends_on"),
    ]


def test_the_file_is_named_as_the_user_named_it(write, monkeypatch, tmp_path):
    write(FIVE)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        load("oxfile.toml", environ={})
    assert {problem.file for problem in caught.value.problems} == {"oxfile.toml"}
    assert caught.value.problems[0].where() == "oxfile.toml:4: processes.web.restart_delay_ms"
    assert caught.value.exit_code == 2


def test_names_of_stacks(read, write, folder):
    assert read('[processes.a]\ncommand = "x"').oxfile.name == os.path.basename(folder)
    assert read('name = "shop"\n[processes.a]\ncommand = "x"').oxfile.name == "shop"
    loaded = load(write('[processes.a]\ncommand = "x"', "sub/oxfile.toml"), environ={})
    assert (loaded.oxfile.name, loaded.oxfile.path) == ("sub", f"{folder}/sub/oxfile.toml")


def test_one_process_has_every_default(one, folder):
    """What is not written is what the model says."""
    spec = one('[processes.a]\ncommand = "run it"')
    assert spec.working_dir == folder
    assert spec.kind is ProcessKind.COMMAND
    assert (spec.restart, spec.stop, spec.limits) == (RestartPolicy(), StopSpec(), LimitSpec())
    assert (spec.health, spec.watch, spec.schedule, spec.app, spec.webhook, spec.git) == (None,) * 6
    assert spec.set_keys == ("command",)


@pytest.mark.parametrize(
    ("text", "line", "hint"),
    [
        ("[processes.a]\ncommand = uvicorn main:app", 2, "quotes"),
        ('[processes.a]\ncommand: "x"', 2, "equals sign"),
        ('[processes.a]\ncommand = "x"\nwatch = True', 3, "lower case"),
        ('[processes.a]\ncommand = "x"\ncommand = "y"', 3, "twice"),
        ('[processes.a]\ncommand = "x"\n[processes.a]\n', 3, "twice"),
        ('[processes.a]\ncommand = "x', 2, "not closed"),
        ('[processes.a]\ncommand = "\\d"', 2, "backslash"),
        ('[processes.a]\nenv = {\n  A = "1"\n}', 2, "one line"),
        ("[processes.a\ncommand = 1", 1, ""),
        (f"x = {'9' * 5000}", 1, ""),
        (f"x = {'[' * 5000}", 0, ""),
    ],
)
def test_what_is_no_toml_has_its_line_and_a_hint(the_problem, text, line, hint):
    problem = the_problem(text)
    assert problem.code == "OX101"
    assert problem.line == line
    assert hint in problem.hint


def test_bytes_that_are_no_utf8_have_their_line(tmp_path):
    path = tmp_path / "oxfile.toml"
    path.write_bytes(b'[processes.a]\ncommand = "\xff"\n')
    with pytest.raises(ConfigError) as caught:
        load(str(path), environ={})
    assert [(p.code, p.line) for p in caught.value.problems] == [("OX101", 2)]


def test_a_byte_order_mark_and_windows_line_ends_are_no_mistake(tmp_path):
    path = tmp_path / "oxfile.toml"
    path.write_bytes('\ufeff[processes.a]\r\ncommand = "x"\r\n'.encode())
    assert load(str(path), environ={}).origins["a"]["command"] == "oxfile.toml:2"


def test_a_file_that_cannot_be_read_says_why(tmp_path):
    for path, reason in ((tmp_path / "none.toml", "no such file"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigError) as caught:
            load(str(path), environ={})
        (problem,) = caught.value.problems
        assert problem.code == "OX111"
        assert reason in problem.message


def test_an_unknown_profile_is_refused(the_problem):
    problem = the_problem('[processes.a]\ncommand = "x"\n[processes.a.profiles.prod]\ninstances = 2', profile="prd")
    assert (problem.code, problem.hint) == ("OX112", 'did you mean "prod"?')


def test_a_mistake_in_a_profile_nobody_asked_for_is_told_today(refused):
    text = '[processes.a]\ncommand = "x"\n[processes.a.profiles.prod]\ninstances = 0\nstop_timeout = "soon"'
    assert [code for code, _, _ in refused(text)] == ["OX104", "OX104"]


def test_the_layers_come_in_their_order(read):
    text = """
[logging]
max_files = 9
[defaults]
stop_timeout = "1s"
env = { A = "defaults", B = "defaults", C = "defaults" }
[processes.a]
command = "x"
env = { B = "process", C = "process" }
health_check.tcp = "localhost:1"
[processes.a.profiles.prod]
app = "main:app"
stop_timeout_ms = 7000
[processes.a.profiles.prod.env]
C = "profile"
[processes.a.profiles.prod.health_check]
endpoint = "http://localhost/"
"""
    plain = read(text).oxfile.process("a")
    assert (plain.stop.timeout, plain.logs.max_files, plain.health.tcp) == (1.0, 9, "localhost:1")
    assert dict(plain.env) == {"A": "defaults", "B": "process", "C": "process"}
    prod = read(text, profile="prod").oxfile.process("a")
    assert dict(prod.env) == {"A": "defaults", "B": "process", "C": "profile"}
    assert prod.stop.timeout == 7.0
    assert (prod.kind, prod.command) == (ProcessKind.APP, None)
    assert (prod.health.tcp, prod.health.endpoint) == (None, "http://localhost/")


# Any TOML: what is read, or refused with a ConfigError; never anything else.
_NAMES = [
    *keys.TOP.keys,
    *keys.PROCESS.keys,
    *keys.HEALTH.keys,
    *keys.LIMITS.keys,
    *keys.LOGS.keys,
    *keys.WEBHOOK.keys,
    *keys.DEPLOY.keys,
    *keys.SUBTABLES,
    *("env", "profiles", "server_options", "web", "A", "b.c", '"q q"', "prod"),
]
_KEY = st.sampled_from(_NAMES)
_VALUE = st.recursive(
    st.sampled_from(
        [
            '"x"',
            '""',
            '"${A}"',
            '"${A:-b}"',
            '"${"',
            '"$$"',
            '"a | b"',
            '"10s"',
            '"512M"',
            '"h:1"',
            '"http://h/"',
            "0",
            "1",
            "-1",
            "4",
            "99999999999999999999",
            "1e400",
            "inf",
            "nan",
            "0.5",
            "true",
            "false",
            "1979-05-27",
            '"SIGTERM"',
            '"on-failure"',
            '"* * * * *"',
            '"UTC"',
            '"max"',
            '"auto"',
            '"main:app"',
            '"\\u0000"',
            '"web"',
            '"022"',
            '"~"',
            '"~x/y"',
            '"/dev/null"',
            '"{instance}"',
            '"("',
        ]
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.dictionaries(_KEY, inner, max_size=3).map(
            lambda table: "{ " + ", ".join(f"{key} = {value}" for key, value in table.items()) + " }"
        ),
    ),
    max_leaves=4,
)
_PAIRS = st.dictionaries(_KEY, _VALUE, max_size=5).map(
    lambda table: "\n".join(f"{key} = {value}" for key, value in table.items())
)
_HEADERS = st.sampled_from(
    [
        "[processes.web]",
        "[processes.db]",
        "[[apps]]",
        "[defaults]",
        "[logging]",
        "[webhook]",
        "[deploy.x]",
        "[processes.web.env]",
        "[processes.web.health_check]",
        "[processes.web.limits]",
        "[processes.web.profiles.prod]",
        "[apps.env]",
        "[apps.profiles.prod]",
        "[processes]",
        "[processes.web.logs]",
        "[processes.web.webhook]",
    ]
)


def outcome(path: str, **options) -> tuple[tuple[Problem, ...], bool]:
    """What was said of a file, and whether it was accepted."""
    try:
        return load(path, **options).warnings, True
    except ConfigError as error:
        return error.problems, False


@settings(max_examples=5000)
@given(_PAIRS, st.lists(st.tuples(_HEADERS, _PAIRS), max_size=4), st.sampled_from([None, "prod"]))
def test_any_toml_is_read_or_refused(tmp_path_factory, top, tables, profile):
    """Whatever stands in the file, the answer is a model or a list of problems with a text."""
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text("\n".join([top, *(f"{header}\n{pairs}" for header, pairs in tables)]))
    told, accepted = outcome(str(path), profile=profile, environ={"A": "1"})
    assert accepted is not any(problem.severity == Severity.ERROR for problem in told)
    assert all(problem.code and problem.render() for problem in told)


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "text.toml"
    path.write_text(text, errors="surrogatepass")
    with pytest.raises(ConfigError) as caught:
        load(str(path), environ={})
    assert caught.value.problems
