"""Every key of the table is read, in both dialects, and reaches the model."""

from __future__ import annotations

import dataclasses

import pytest

from oxherd.config import keys
from oxherd.config.keys import Since
from oxherd.config.model import AppSpec, DependencyCondition, LogFormat, ProcessType, WatchSpec
from oxherd.core.restart import RestartMode

MEGA = 1 << 20


def field(path: str):
    """A reader of ``stop.timeout`` of a spec."""

    def read(spec):
        value = spec
        for part in path.split("."):
            value = getattr(value, part)
        return value

    return read


# key, value as written, where it lands, what is expected there, and what has to stand beside it
PROCESS = [
    ("command", '"run it"', "command.argv", ("run", "it"), ""),
    ("working_dir", '"/srv"', "working_dir", "/srv", ""),
    ("cwd", '"/srv"', "working_dir", "/srv", ""),
    ("instances", "3", "instances", 3, ""),
    ("env_file", '"/nowhere"', "env_files", (), ""),
    ("restart_on_exit", "true", "restart.mode", RestartMode.ALWAYS, ""),
    ("restart_on_exit", "false", "restart.mode", RestartMode.NEVER, ""),
    ("restart", '"never"', "restart.mode", RestartMode.NEVER, ""),
    ("restart_delay_ms", "1500", "restart.delay", 1.5, ""),
    ("restart_delay_max_ms", "60000", "restart.delay_max", 60.0, ""),
    ("max_restarts", "0", "restart.max_restarts", 0, ""),
    ("stop_signal", '"INT"', "stop.signal", 2, ""),
    ("stop_timeout_ms", "250", "stop.timeout", 0.25, ""),
    ("stop_timeout", '"1m30s"', "stop.timeout", 90.0, ""),
    ("start_delay_ms", "500", "start_delay", 0.5, ""),
    ("depends_on", "[]", "depends_on", (), ""),
    ("singleton", "true", "singleton", True, ""),
    ("type", '"oneshot"', "type", ProcessType.ONESHOT, ""),
    ("disabled", "true", "disabled", True, ""),
    ("namespace", '"ns"', "namespace", "ns", ""),
    ("user", '"www-data"', "user", "www-data", ""),
    ("user", "33", "user", "33", ""),
    ("group", '"www-data"', "group", "www-data", ""),
    ("umask", '"027"', "umask", 0o27, ""),
    ("nice", "-5", "nice", -5, ""),
    ("watch", '"/a"', "watch.paths", ("/a",), ""),
    ("watch", "false", "watch", None, ""),
    ("watch_extensions", '[".py", "html"]', "watch.extensions", (".py", ".html"), "watch = true"),
    ("watch_ignore", '["*.log"]', "watch.ignore", ("*.log",), "watch = true"),
    ("watch_delay_ms", "100", "watch.delay", 0.1, "watch = true"),
    ("log_file", '"/l"', "logs.file", "/l", ""),
    ("error_log_file", '"/l"', "logs.error_file", "/l", ""),
    ("log_date_format", '"HH:mm"', "logs.date_format", "%H:%M", ""),
    ("log_format", '"json"', "logs.format", LogFormat.JSON, ""),
    ("schedule", '"0  4 * * *"', "schedule.cron", "0 4 * * *", ""),
    ("run_once", "true", "type", ProcessType.ONESHOT, ""),
    ("run_once", "true", "type", ProcessType.SCHEDULED, 'schedule = "@daily"'),
    ("timeout", '"30m"', "schedule.timeout", 1800.0, 'schedule = "@daily"'),
    ("catch_up", "true", "schedule.catch_up", True, 'schedule = "@daily"'),
    ("on_failure", '"alert"', "schedule.on_failure", "alert", 'schedule = "@daily"'),
    ("cron_restart", '"0 0 2 * * *"', "schedule.restart_cron", "0 0 2 * * *", ""),
    ("timezone", '"Europe/Prague"', "schedule.timezone", "Europe/Prague", 'cron_restart = "@daily"'),
    ("pre_start", '"make"', "pre_start.argv", ("make",), ""),
    ("pre_reload", '"make"', "pre_reload.argv", ("make",), ""),
    ("python", '"/v/bin/python"', "python", "/v/bin/python", ""),
    ("socket", '"127.0.0.1:80"', "socket", "127.0.0.1:80", ""),
    ("adopt", "false", "adopt", False, ""),
    ("max_memory_mb", "5", "limits.memory", 5 * MEGA, ""),
    ("ready_timeout", '"5s"', "ready_timeout", 5.0, ""),
    ("restart_policy", '"on_failure"', "restart.mode", RestartMode.ON_FAILURE, ""),
    ("restart_policy", '"always"', "restart.mode", RestartMode.ALWAYS, ""),
    ("crash_restart_limit", "3", "restart.max_restarts", 3, ""),
    ("crash_restart_limit", "0", "restart.max_restarts", 10, ""),
    ("crash_restart_limit", "3", "restart.max_restarts", 3, "max_restarts = 0"),
    ("crash_restart_limit", "30", "restart.max_restarts", 2, "max_restarts = 2"),
    ("restart_delay_secs", "2", "restart.delay", 2.0, ""),
    ("start_delay_secs", "2", "start_delay", 2.0, ""),
    ("stop_timeout_secs", "2", "stop.timeout", 2.0, ""),
    ("health_cmd", '"ok"', "health.command.argv", ("ok",), ""),
    ("health_interval_secs", "7", "health.interval", 7.0, 'health_cmd = "ok"'),
    ("health_timeout_secs", "7", "health.timeout", 7.0, 'health_cmd = "ok"'),
    ("health_max_failures", "7", "health.unhealthy_threshold", 7, 'health_cmd = "ok"'),
    ("wait_ready", "true", "health.command.argv", ("ok",), 'health_cmd = "ok"'),
    ("ready_timeout_secs", "9", "ready_timeout", 9.0, ""),
    ("pre_reload_cmd", '"make"', "pre_reload.argv", ("make",), ""),
    ("instance_var", '"N"', "instance_var", "N", "instances = 2"),
    ("start_order", "-5", "name", "p", ""),
    ("ignore_watch", '["a.*"]', "watch.ignore_regex", ("a.*",), "watch = true"),
    ("watch_delay_secs", "3", "watch.delay", 3.0, "watch = true"),
    ("max_cpu_percent", "80.5", "limits.cpu_percent", 80.5, ""),
    ("max_cpu_percent", "0", "limits.cpu_percent", None, ""),
    ("cgroup_enforce", "true", "limits.hard", True, ""),
    ("deny_gpu", "false", "env", (), ""),
    ("reuse_port", "true", "env", (("OXMGR_REUSEPORT", "1"), ("SO_REUSEPORT", "1")), ""),
    ("unified_logs", "true", "logs.error_file", None, ""),
    ("cluster_mode", "true", "instances", 1, ""),
    ("cluster_instances", "4", "instances", 1, "cluster_mode = true"),
    ("git_repo", '"r"', "git.repo", "r", ""),
    ("git_ref", '"r"', "git.ref", "r", ""),
    ("pull_secret", '"r"', "git.secret", "r", ""),
]
APP = [
    ("app", '"main:create_app()"', "app.target", "main:create_app()"),
    ("bind", '"0.0.0.0:80"', "app.bind", ("0.0.0.0:80",)),
    ("bind", '["[::1]:80", "unix:/run/a.sock"]', "app.bind", ("[::1]:80", "unix:/run/a.sock")),
    ("workers", "4", "app.workers", 4),
    ("workers", '"auto"', "app.workers", None),
    ("server", '"granian"', "app.server", "granian"),
    (
        "server_options",
        '{ proxy_headers = true, paths = ["a"] }',
        "app.server_options",
        (("paths", ("a",)), ("proxy_headers", True)),
    ),
    ("ssl_certfile", '"/c"', "app.ssl_certfile", "/c"),
    ("ssl_keyfile", '"/k"', "app.ssl_keyfile", "/k"),
    ("access_log", "true", "app.access_log", True),
    ("access_log", '"/log"', "app.access_log", "/log"),
    ("access_log", '"json"', "app.access_log", "json"),
    ("log_level", '"debug"', "app.log_level", "debug"),
    ("preload", "true", "app.preload", "true"),
    ("preload", '"auto"', "app.preload", "auto"),
    ("balance", '"shared"', "app.balance", "shared"),
    ("max_requests", "1000", "app.max_requests", 1000),
    ("max_requests_jitter", "50", "app.max_requests_jitter", 50),
    ("max_lifetime", '"1d"', "app.max_lifetime", 86400.0),
    ("max_memory_mb", "5", "app.max_memory", 5 * MEGA),
    ("timeout", '"60s"', "app.timeout", 60.0),
    ("graceful_timeout", '"60s"', "app.graceful_timeout", 60.0),
    ("keepalive", '"2s"', "app.keepalive", 2.0),
]
TABLES = [
    ("health_check", "endpoint", '"http://h:1/x?y"', "health.endpoint", "http://h:1/x?y", ""),
    ("health", "url", '"https://h/"', "health.endpoint", "https://h/", 'type = "http"'),
    ("health_check", "tcp", '"localhost:5432"', "health.tcp", "localhost:5432", 'type = "tcp"'),
    ("health_check", "command", '"a | b"', "health.command.shell", True, ""),
    ("health", "type", '"command"', "health.command.argv", ("ok",), 'command = "ok"'),
    ("health_check", "interval_secs", "5", "health.interval", 5.0, 'tcp = "h:1"'),
    ("health", "interval", '"10s"', "health.interval", 10.0, 'tcp = "h:1"'),
    ("health_check", "timeout_secs", "0.5", "health.timeout", 0.5, 'tcp = "h:1"'),
    ("health", "timeout", '"2s"', "health.timeout", 2.0, 'tcp = "h:1"'),
    ("health_check", "initial_delay_secs", "0", "health.grace", 0.0, 'tcp = "h:1"'),
    ("health", "initial_delay", '"1m"', "health.grace", 60.0, 'tcp = "h:1"'),
    ("health_check", "healthy_threshold", "2", "health.healthy_threshold", 2, 'tcp = "h:1"'),
    ("health_check", "unhealthy_threshold", "9", "health.unhealthy_threshold", 9, 'tcp = "h:1"'),
    ("health_check", "readiness", '"http://h/r"', "health.readiness", "http://h/r", 'tcp = "h:1"'),
    ("limits", "memory_mb", "5", "limits.memory", 5 * MEGA, ""),
    ("limits", "memory_mb", "0", "limits.memory", None, ""),
    ("limits", "memory", '"1.5G"', "limits.memory", 1536 * MEGA, ""),
    ("resource_limits", "max_memory_mb", "5", "limits.memory", 5 * MEGA, ""),
    ("limits", "cpu_percent", "150", "limits.cpu_percent", 150.0, ""),
    ("limits", "cpu", '"200%"', "limits.cpu_percent", 200.0, ""),
    ("resource_limits", "max_cpu_percent", "50", "limits.cpu_percent", 50.0, ""),
    ("limits", "cpu_window_secs", "30", "limits.cpu_window", 30.0, "cpu_percent = 5"),
    ("limits", "nofile", "1024", "limits.nofile", 1024, ""),
    ("resource_limits", "max_open_files", "65536", "limits.nofile", 65536, ""),
    ("limits", "pids", "10", "limits.pids", 10, ""),
    ("limits", "hard", "true", "limits.hard", True, "pids = 1"),
    ("logs", "max_size_mb", "0", "logs.max_bytes", 0, ""),
    ("logs", "max_files", "0", "logs.max_files", 0, ""),
    ("logs", "compress", "false", "logs.compress", False, ""),
    ("logs", "stdout", '"/o"', "logs.file", "/o", ""),
    ("logs", "stderr", '"/e"', "logs.error_file", "/e", ""),
    ("logs", "combined", '"/c"', "logs.file", "/c", ""),
    ("logs", "combined", '"/c"', "logs.file", "/o", 'stdout = "/o"'),
    ("logs", "log_date_format", '"%H"', "logs.date_format", "%H", ""),
    ("logs", "log_format", '"json"', "logs.format", LogFormat.JSON, ""),
    ("webhook", "enabled", "true", "webhook.enabled", True, ""),
    ("webhook", "port", "9001", "webhook.port", 9001, ""),
    ("webhook", "secret", '"s"', "webhook.secret", "s", ""),
    ("webhook", "branch", '"main"', "webhook.branch", "main", ""),
    ("webhook", "on_push", '["git pull", "echo $HOME"]', "webhook.on_push", ("git pull", "echo $HOME"), ""),
]


@pytest.mark.parametrize("dialect", ["processes", "apps"])
@pytest.mark.parametrize("row", PROCESS, ids=lambda row: f"{row[0]}={row[1]}")
def test_a_key_of_a_command_process(one, dialect, row):
    """Every key may stand in both dialects and means the same."""
    key, value, path, expected, beside = row
    header = "[processes.p]" if dialect == "processes" else '[[apps]]\nname = "p"'
    command = "" if key == "command" else 'command = "x"\n'
    assert field(path)(one(f"{header}\n{command}{beside}\n{key} = {value}\n")) == expected


@pytest.mark.parametrize(("key", "value", "path", "expected"), APP)
def test_a_key_of_an_app_process(read, key, value, path, expected):
    app = "" if key == "app" else 'app = "main:app"\n'
    other = {"ssl_certfile": "ssl_keyfile", "ssl_keyfile": "ssl_certfile"}.get(key)
    beside = f'{other} = "/x"\n' if other else ""
    loaded = read(f"[processes.p]\n{app}{key} = {value}\n{beside}")
    assert field(path)(loaded.oxfile.process("p")) == expected
    assert loaded.inactive == ()


@pytest.mark.parametrize("where", ["process", "profile", "defaults"])
@pytest.mark.parametrize("row", TABLES, ids=lambda row: f"{row[0]}.{row[1]}={row[2]}")
def test_a_key_of_a_sub_table(one, where, row):
    table, key, value, path, expected, beside = row
    pair = f"{beside}\n{key} = {value}\n"
    text, profile = f'[processes.p]\ncommand = "x"\n[processes.p.{table}]\n{pair}', None
    if where == "profile":
        text, profile = f'[processes.p]\ncommand = "x"\n[processes.p.profiles.q.{table}]\n{pair}', "q"
    elif where == "defaults":
        text = f'[defaults.{table}]\n{pair}[processes.p]\ncommand = "x"\n'
    assert field(path)(one(text, profile=profile)) == expected


def test_the_tables_above_hold_every_key():
    """A key that is added is added here too."""
    app_keys = {key for key, *_ in APP} - {"server_options"}
    assert {key for key, *_ in PROCESS} | app_keys == set(keys.PROCESS.keys)
    written = {(table.replace("resource_limits", "limits"), key) for table, key, *_ in TABLES}
    written = {("health_check" if table == "health" else table, key) for table, key in written}
    for name, section in (("health_check", keys.HEALTH), ("limits", keys.LIMITS), ("logs", keys.LOGS)):
        assert {key for table, key in written if table == name} == set(section.keys)
    assert {key for table, key in written if table == "webhook"} == set(keys.WEBHOOK.keys)


def test_keys_of_later_features():
    """These are accepted and checked, and explain names them."""
    later = {key.name for key in keys.PROCESS.keys.values() if key.since is Since.LATER}
    assert later == {"git_repo", "git_ref", "pull_secret"}
    assert keys.HEALTH.keys["readiness"].since is Since.ACTIVE
    assert keys.PROCESS.keys["pre_reload"].since is Since.ACTIVE


def test_every_field_of_an_app_has_a_key():
    """Each is either for apps alone, or for the workers of a hosted command too."""
    fields = {field.name for field in dataclasses.fields(AppSpec)} - {"target", "max_memory"}
    assert fields == keys.APP_ONLY | keys.HOSTED_ONLY


@pytest.mark.parametrize(
    ("key", "value", "path", "expected"),
    [
        ("preload", "false", "host.preload", "false"),
        ("balance", '"shared"', "host.balance", "shared"),
        ("timeout", '"1m"', "host.block_timeout", 60.0),
        ("graceful_timeout", '"1m"', "host.graceful_timeout", 60.0),
        ("max_requests", "1000", "host.max_requests", 1000),
        ("max_lifetime", '"1d"', "host.max_lifetime", 86400.0),
    ],
)
def test_a_key_for_the_workers_of_a_command(one, key, value, path, expected):
    """Whether its server is one that is hosted is not for the reader to say."""
    assert field(path)(one(f'[processes.p]\ncommand = "x"\n{key} = {value}\n')) == expected


def test_a_command_without_such_keys_has_nothing_of_it(one):
    assert one('[processes.p]\ncommand = "x"\n').host is None


def test_every_key_has_a_meaning_and_a_type():
    for section in (keys.TOP, keys.PROCESS, keys.HEALTH, keys.LIMITS, keys.LOGS, keys.WEBHOOK, keys.DEPLOY):
        for name, key in section.keys.items():
            assert key.name == name
            assert key.meaning
            assert key.kind.types
            assert key.kind.expected
            assert key.kind.schema


@pytest.mark.parametrize(
    "pair",
    [
        "restart_on_exit = true\nrestart = 'always'",
        "restart_on_exit = false\nrestart_policy = 'never'",
        "restart = 'on-failure'\nrestart_policy = 'on_failure'",
    ],
)
def test_spellings_of_the_restart_policy_may_agree(one, pair):
    assert one(f'[processes.p]\ncommand = "x"\n{pair}').name == "p"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("restart_on_exit = true", 'restart = "on-failure"'),
        ("stop_timeout_ms = 1000", "stop_timeout_secs = 1"),
        ('cwd = "/a"', 'working_dir = "/a"'),
        ("start_delay_ms = 1", "start_delay_secs = 1"),
        ('log_file = "/a"', 'logs.stdout = "/b"'),
        ("limits.memory_mb = 1", "resource_limits.max_memory_mb = 1"),
        ("limits.memory_mb = 1", 'limits.memory = "1M"'),
        ("health_check.interval_secs = 1", 'health.interval = "1s"'),
        ('health_cmd = "x"', 'health_check.command = "x"'),
        ("max_memory_mb = 1", "limits.memory_mb = 1"),
        ('error_log_file = "/e"', "unified_logs = true"),
    ],
)
def test_two_spellings_of_one_setting_are_a_conflict(refused, first, second):
    text = f'[processes.p]\ncommand = "x"\nhealth_check.tcp = "h:1"\n{first}\n{second}'
    codes = [code for code, _, _ in refused(text)]
    assert codes
    assert set(codes) == {"OX106"}


@pytest.mark.parametrize(
    "pair",
    [
        'command = ""',
        'command = "\'open"',
        "instances = 1.5",
        "instances = true",
        'instances = "many"',
        "max_restarts = -1",
        "nice = 20",
        'umask = "999"',
        "umask = 22",
        'umask = "1777"',
        'schedule = "61 * * * *"',
        'schedule = "* * * *"',
        'cron_restart = "0 0 31 2 *"',
        'timezone = "Mars/Olympus"',
        'ignore_watch = ["("]',
        "watch_ignore = [1]",
        'stop_timeout = "30"',
        'stop_timeout = "-1s"',
        "stop_timeout_ms = inf",
        "stop_timeout_ms = nan",
        "stop_timeout_ms = 1" + "0" * 400,
        'log_date_format = "no time"',
        'instance_var = "1x"',
        "user = -1",
        'user = ""',
        'socket = "8000"',
        'socket = "h:99999"',
        'depends_on = { db = "up" }',
        "depends_on = [1]",
        "health_check.interval_secs = 0",
        'health_check.interval = "0s"',
        'health_check.endpoint = "localhost:8000"',
        'health_check.endpoint = "/health"',
        'health_check.tcp = "localhost"',
        "health_check.healthy_threshold = 0",
        'limits.memory = "many"',
        'limits.memory = "0"',
        'limits.memory = "9' + "9" * 400 + 'G"',
        'limits.cpu = "-5%"',
        "limits.cpu_percent = -1",
        "limits.nofile = 0",
        "logs.max_size_mb = -1",
        "webhook.port = 0",
        "webhook.port = 65536",
        "timeout = '0s'",
    ],
)
def test_values_that_are_refused(refused, pair):
    """Wrong types and wrong values both name the key that holds them."""
    text = "[processes.p]\n" + ("" if pair.startswith("command") else 'command = "x"\n') + pair
    (problem,) = refused(text)
    assert problem[0] in {"OX103", "OX104"}
    assert problem[2] == f"processes.p.{pair.partition(' =')[0]}"


def test_max_instances_are_the_usable_cpus(one, monkeypatch):
    monkeypatch.setattr("oxherd.config.build.usable_cpus", lambda: 6)
    assert one('[processes.p]\ncommand = "x"\ninstances = "max"').instances == 6


def test_watch_true_is_the_working_directory(one):
    spec = one('[processes.p]\ncommand = "x"\ncwd = "/srv"\nwatch = true')
    assert spec.watch == WatchSpec(paths=("/srv",))


def test_a_scheduled_job_is_not_restarted_and_a_list_means_completed_for_a_oneshot(read):
    loaded = read(
        '[processes.migrate]\ncommand = "x"\ntype = "oneshot"\n'
        '[processes.job]\ncommand = "x"\nschedule = "@hourly"\n'
        '[processes.db]\ncommand = "x"\n'
        '[processes.web]\ncommand = "x"\ndepends_on = ["migrate", "db", "job"]\n'
        '[processes.late]\ncommand = "x"\ndepends_on = { migrate = "started", job = "completed" }\n'
    ).oxfile
    assert loaded.process("job").restart.mode is RestartMode.NEVER
    assert loaded.process("migrate").restart.mode is RestartMode.ON_FAILURE
    assert loaded.process("web").depends_on == (
        ("migrate", DependencyCondition.COMPLETED),
        ("db", DependencyCondition.READY),
        ("job", DependencyCondition.STARTED),
    )
    assert dict(loaded.process("late").depends_on)["job"] is DependencyCondition.COMPLETED


def test_gpus_are_hidden_unless_env_says_otherwise(one):
    spec = one('[processes.p]\ncommand = "x"\ndeny_gpu = true\nenv = { CUDA_VISIBLE_DEVICES = "0" }')
    env = dict(spec.env)
    assert env["CUDA_VISIBLE_DEVICES"] == "0"
    assert env["NVIDIA_VISIBLE_DEVICES"] == "none"


def test_set_keys_are_canonical(one):
    """apply and explain compare canonical names, whatever the spelling."""
    spec = one(
        '[processes.p]\ncommand = "x"\nstop_timeout_secs = 1\nhealth.url = "http://h/"\nresource_limits.max_open_files = 9'
    )
    assert spec.set_keys == ("command", "health_check.endpoint", "limits.nofile", "stop_timeout")
