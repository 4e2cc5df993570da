"""The one table of every key an oxfile may hold.

The reader, the JSON Schema and ``docs/reference/oxfile.md`` are all made of this table. A `Key` says under which name a
key is written and which setting it stands for (``canonical``): several spellings of one setting share the canonical
name. Both dialects share the keys: ``[[apps]]`` takes those of ``[processes.NAME]`` and the other way round.
"""

from __future__ import annotations

from enum import Enum

from oxherd.config import kinds
from oxherd.config.kinds import Kind, choice, fraction, integer, length, megabytes
from oxherd.records import dataclass

__all__ = [
    "APP_ONLY",
    "DEPLOY",
    "EXCLUSIVE",
    "HEALTH",
    "HOSTED_ONLY",
    "LIMITS",
    "LOGS",
    "PROCESS",
    "SUBTABLES",
    "TOP",
    "WEBHOOK",
    "Key",
    "Section",
    "Since",
]


class Since(Enum):
    """Whether the feature behind a key works already, or the key is accepted, checked and not active yet."""

    ACTIVE = "active"
    LATER = "later"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key of one table.

    Attributes:
        name: As it is written.
        canonical: The setting it stands for, relative to the process: ``stop_timeout``, ``health_check.interval``.
        kind: What it takes.
        default: Its default, for people.
        meaning: One line for the reference.
        since: Whether the feature is active.
        published: Whether it comes from the ``[[apps]]`` dialect.
    """

    name: str
    canonical: str
    kind: Kind
    default: str
    meaning: str
    since: Since = Since.ACTIVE
    published: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A table of keys.

    Attributes:
        title: Its header as users write it.
        meaning: What it is for.
        keys: By their name.
    """

    title: str
    meaning: str
    keys: dict[str, Key]


MS = length(0.001, "int (ms)")
SECS = length(1.0, "int (s)")
POSITIVE_SECS = length(1.0, "int (s)", low=0.001)
COUNT = integer(0)
POSITIVE = integer(1)


def _keys(*keys: Key) -> dict[str, Key]:
    return {key.name: key for key in keys}


def _key(name: str, canonical: str, kind: Kind, default: str, meaning: str) -> Key:
    return Key(name=name, canonical=canonical or name, kind=kind, default=default, meaning=meaning)


def _later(name: str, canonical: str, kind: Kind, default: str, meaning: str) -> Key:
    return Key(name=name, canonical=canonical or name, kind=kind, default=default, meaning=meaning, since=Since.LATER)


def _apps(name: str, canonical: str, kind: Kind, default: str, meaning: str) -> Key:
    return Key(name=name, canonical=canonical or name, kind=kind, default=default, meaning=meaning, published=True)


def _apps_later(name: str, canonical: str, kind: Kind, default: str, meaning: str) -> Key:
    return Key(
        name=name,
        canonical=canonical or name,
        kind=kind,
        default=default,
        meaning=meaning,
        since=Since.LATER,
        published=True,
    )


# The rows below are a table; the formatter would make ten lines of each.
# fmt: off
_RESTART = choice("always", "on-failure", "never", on_failure="on-failure")

PROCESS = Section(
    title="[processes.NAME]",
    meaning="One process: a command, or an app that Oxherd's own workers serve. The same keys may stand in "
    "[defaults], in [processes.NAME.profiles.PROFILE], and in [[apps]] with name.",
    keys=_keys(
        _key("command", "", kinds.COMMAND, "this or `app`", "What is run; exec'd directly, through `/bin/sh -c` only where it needs a shell"),
        _key("working_dir", "", kinds.PATH, "the oxfile's folder", "Where it is run; relative to the oxfile's folder"),
        _key("cwd", "working_dir", kinds.PATH, "", "Another spelling of `working_dir`"),
        _key("instances", "", kinds.INSTANCES, "1", 'Number of copies; "max" is one for each CPU this process may use. `{instance}` in command, env and log files is the number of the copy, from 0'),
        _key("env_file", "", kinds.PATHS, "none", "Files of NAME=value lines; env wins over them, a later file over an earlier one"),
        _key("restart_on_exit", "restart", kinds.BOOL, "", "true: restart always; false: never; not set: on failure"),
        _key("restart", "", _RESTART, "on-failure", "Which exits are followed by a restart; never for scheduled jobs"),
        _key("restart_delay_ms", "restart_delay", MS, "0", "Wait before the first restart; doubles with jitter. 0: the first restart at once, then from 100 ms"),
        _key("restart_delay_max_ms", "restart_delay_max", MS, "30000", "Ceiling of the doubling delay"),
        _key("max_restarts", "", COUNT, "10", "Failures in a row before the process counts as crashed; a stable run resets; 0 is without end"),
        _key("stop_signal", "", kinds.SIGNAL, "SIGTERM", "The signal that asks the main process to go"),
        _key("stop_timeout_ms", "stop_timeout", MS, "10000", "Time to go before everything the process started is killed. `[[apps]]`: 5 s; Celery workers: 5 min; servers with a drain of their own: that and a little"),
        _key("stop_timeout", "", kinds.DURATION, "", 'The same as a duration, such as "45s"'),
        _key("start_delay_ms", "start_delay", MS, "0", "Wait before the first start"),
        _key("depends_on", "", kinds.DEPENDS, "none", 'Processes that come first: ["db"], or { db = "ready" } with started, ready or completed. In a list: completed for a oneshot, ready for all else'),
        _key("singleton", "", kinds.BOOL, "false", "Never two at a time, not during a reload either; known for celery beat"),
        _key("type", "", choice("service", "oneshot", "scheduled"), "service", "oneshot: it is done when it ends"),
        _key("disabled", "", kinds.BOOL, "false", "Leave this process out"),
        _key("namespace", "", kinds.TEXT, "none", "A label for a group of processes"),
        _key("user", "", kinds.USER, "yours", "Drop privileges to this user; needs root"),
        _key("group", "", kinds.USER, "the user's", "Drop privileges to this group; needs root"),
        _key("umask", "", kinds.UMASK, "inherited", 'File creation mask, as an octal string such as "022"'),
        _key("nice", "", integer(-20, 19), "inherited", "Niceness; below 0 needs privileges"),
        _key("watch", "", kinds.WATCH, "off", "Restart when these files change; true is the working directory. For development"),
        _key("watch_extensions", "", kinds.EXTENSIONS, "all", "Watch only these extensions"),
        _key("watch_ignore", "", kinds.STRINGS, "none", 'Globs that are not watched, such as "*.log"'),
        _key("watch_delay_ms", "watch_delay", MS, "500", "Quiet time after a change before the restart"),
        _key("log_file", "logs.file", kinds.PATH, "Oxherd's own", "File for stdout, and for stderr unless error_log_file is set"),
        _key("error_log_file", "logs.error_file", kinds.PATH, "same as stdout", "File for stderr"),
        _key("log_date_format", "logs.date_format", kinds.DATE_FORMAT, "none", 'Prefix of every line: "YYYY-MM-DD HH:mm:ss.SSS" or strftime'),
        _key("log_format", "logs.format", choice("text", "json"), "text", "Lines as they come, or wrapped in JSON objects"),
        _key("schedule", "", kinds.CRON, "none", "Run as a job at these times: 5 cron fields, or 6 with the seconds first; never overlaps itself"),
        _key("run_once", "", kinds.BOOL, "", 'With schedule: it is a job, which schedule implies. Without: the same as type = "oneshot"'),
        _key("timeout", "", kinds.POSITIVE_DURATION, "none; workers 30s", "Scheduled jobs: a run that takes longer is stopped. Workers: one that is blocked for longer is replaced"),
        _key("catch_up", "", kinds.BOOL, "false", "Make up, once, for a run missed while Oxherd was down"),
        _key("on_failure", "", choice("alert"), "none", "alert: a failed run is recorded as an alert event"),
        _key("cron_restart", "", kinds.CRON, "none", "Restart by the clock, instance after instance"),
        _key("timezone", "", kinds.TIMEZONE, "local time", "Time zone of schedule and cron_restart"),
        _key("pre_start", "", kinds.COMMAND, "none", "Run once before the first start of a generation; failing aborts"),
        _key("pre_reload", "", kinds.COMMAND, "none", "Run once before a reload changes anything; failing aborts"),
        _key("python", "", kinds.TEXT, "found", "Interpreter, as a path or a name on PATH; bare program names are looked for beside it first"),
        _key("socket", "", kinds.ADDRESS, "none", "Hold this address and pass it as LISTEN_FDS"),
        _key("adopt", "", kinds.BOOL, "true", "false: run a recognised command untouched"),
        _key("app", "", kinds.TARGET, "this or `command`", "The app to serve, ASGI or WSGI; factories are called"),
        _key("bind", "", kinds.ADDRESSES, "127.0.0.1:8000", "App processes: addresses, held by the supervisor"),
        _key("workers", "", kinds.WORKERS, "1", 'App processes: number of workers; "auto" is the number of usable CPUs'),
        _key("server", "", choice("uvicorn", "granian", "gunicorn", "hypercorn"), "the best installed", "App processes: the engine; without it uvicorn for ASGI, gunicorn for WSGI where it is installed"),
        _key("ssl_certfile", "", kinds.PATH, "none", "App processes: TLS certificate"),
        _key("ssl_keyfile", "", kinds.PATH, "none", "App processes: TLS key"),
        _key("access_log", "", kinds.ACCESS_LOG, "false", "App processes: access log, to the log or to a file"),
        _key("log_level", "", choice("critical", "error", "warning", "info", "debug", "trace"), "the engine's", "App processes: log level of the engine"),
        _key("preload", "", kinds.PRELOAD, '"auto"', "Workers: import the app once and fork"),
        _key("balance", "", choice("slots", "shared"), "slots", "Workers: a listener for each worker, or one for all"),
        _key("max_requests", "", POSITIVE, "no limit", "Workers: recycle a worker after so many requests"),
        _key("max_requests_jitter", "", COUNT, "0", "Workers: up to so many requests more, at random"),
        _key("max_lifetime", "", kinds.POSITIVE_DURATION, "no limit", "Workers: recycle a worker after this time"),
        _key("graceful_timeout", "", kinds.DURATION, "stop timeout", "Workers: time to drain"),
        _key("keepalive", "", kinds.DURATION, "5s", "App processes: idle time of a kept connection"),
        _key("max_memory_mb", "max_memory", megabytes(), "no limit", "Commands: the same as limits.memory_mb. App processes: recycle a worker over it"),
        _apps("restart_policy", "restart", _RESTART, "on_failure", "Another spelling of `restart`"),
        _apps("crash_restart_limit", "", COUNT, "0", "With max_restarts the stricter of the two applies; 0 is off"),
        _apps("restart_delay_secs", "restart_delay", SECS, "0", "restart_delay_ms in seconds"),
        _apps("start_delay_secs", "start_delay", SECS, "0", "start_delay_ms in seconds"),
        _apps("stop_timeout_secs", "stop_timeout", SECS, "5", "stop_timeout_ms in seconds"),
        _apps("health_cmd", "health_check.command", kinds.COMMAND, "none", "health_check.command"),
        _apps("health_interval_secs", "health_check.interval", POSITIVE_SECS, "30", "health_check.interval_secs"),
        _apps("health_timeout_secs", "health_check.timeout", POSITIVE_SECS, "5", "health_check.timeout_secs"),
        _apps("health_max_failures", "health_check.unhealthy_threshold", POSITIVE, "3", "health_check.unhealthy_threshold"),
        _apps("wait_ready", "", kinds.BOOL, "true", "Oxherd always waits for the health check; true demands that there is one"),
        _apps("ready_timeout_secs", "ready_timeout", POSITIVE_SECS, "none", "Time to become ready"),
        _key("ready_timeout", "", kinds.POSITIVE_DURATION, "none", "The same as a duration"),
        _apps("pre_reload_cmd", "pre_reload", kinds.COMMAND, "none", "Another spelling of `pre_reload`"),
        _apps("instance_var", "", kinds.VARIABLE, "none", "One more variable that holds the number of the copy"),
        _apps("start_order", "", integer(-1_000_000, 1_000_000), "0", "Lower ones come first among processes that do not depend on each other"),
        _apps("ignore_watch", "", kinds.PATTERNS, "none", "Regular expressions of paths that are not watched"),
        _apps("watch_delay_secs", "watch_delay", SECS, "0.5", "watch_delay_ms in seconds"),
        _apps("max_cpu_percent", "limits.cpu", fraction(0), "no limit", "limits.cpu_percent; 0 is no limit"),
        _apps("cgroup_enforce", "limits.hard", kinds.BOOL, "false", "limits.hard"),
        _apps("deny_gpu", "", kinds.BOOL, "false", "Hide GPUs: empty CUDA_VISIBLE_DEVICES and the like, unless env sets them"),
        _apps("reuse_port", "", kinds.BOOL, "false", "Set OXMGR_REUSEPORT=1 and SO_REUSEPORT=1, which the app has to read"),
        _apps("unified_logs", "", kinds.BOOL, "true", "stderr goes where stdout goes, which is so unless error_log_file is set"),
        _apps("cluster_mode", "", kinds.BOOL, "false", "For node scripts elsewhere; a warning names `instances`"),
        _apps("cluster_instances", "", POSITIVE, "", "Goes with cluster_mode"),
        _apps_later("git_repo", "git.repo", kinds.TEXT, "none", "Where a deploy pulls from"),
        _apps_later("git_ref", "git.ref", kinds.TEXT, "none", "Branch, tag or commit"),
        _apps_later("pull_secret", "git.secret", kinds.TEXT, "none", "Secret of the pull webhook"),
    ),
)

HEALTH = Section(
    title="[processes.NAME.health_check]",
    meaning="Exactly one of endpoint (or url), tcp and command. [processes.NAME.health] takes the same keys.",
    keys=_keys(
        _key("endpoint", "health_check.endpoint", kinds.URL, "", "URL; any answer of 2xx or 3xx passes"),
        _key("url", "health_check.endpoint", kinds.URL, "", "Another spelling of `endpoint`"),
        _key("tcp", "health_check.tcp", kinds.TCP, "", "An address that has to accept a connection"),
        _key("command", "health_check.command", kinds.COMMAND, "", "A command that has to exit with 0"),
        _key("type", "health_check.type", choice("http", "tcp", "command"), "", "Says which of the three it is; checked, never needed"),
        _key("interval_secs", "health_check.interval", POSITIVE_SECS, "30", "Time between two checks; while starting every 100 ms"),
        _key("interval", "health_check.interval", kinds.POSITIVE_DURATION, "", "The same as a duration"),
        _key("timeout_secs", "health_check.timeout", POSITIVE_SECS, "5", "A check that takes longer has failed"),
        _key("timeout", "health_check.timeout", kinds.POSITIVE_DURATION, "", "The same as a duration"),
        _key("initial_delay_secs", "health_check.initial_delay", SECS, "10", "After a start, failures do not count for so long; it is no wait"),
        _key("initial_delay", "health_check.initial_delay", kinds.DURATION, "", "The same as a duration"),
        _key("healthy_threshold", "health_check.healthy_threshold", POSITIVE, "1", "Passes in a row that make it healthy"),
        _key("unhealthy_threshold", "health_check.unhealthy_threshold", POSITIVE, "3", "Failures in a row that restart it"),
        _key("readiness", "health_check.readiness", kinds.URL, "none", "URL whose failure takes a worker out of rotation without a restart"),
    ),
)

LIMITS = Section(
    title="[processes.NAME.limits]",
    meaning="Over the whole process tree of an instance; over it: graceful restart. "
    "[processes.NAME.resource_limits] takes the same keys.",
    keys=_keys(
        _key("memory_mb", "limits.memory", megabytes(), "no limit", "Resident memory in megabytes; 0 is no limit"),
        _key("memory", "limits.memory", kinds.SIZE, "", 'The same as a size, such as "512M"'),
        _key("max_memory_mb", "limits.memory", megabytes(), "", "Another spelling of `memory_mb`"),
        _key("cpu_percent", "limits.cpu", fraction(0), "no limit", "CPU over the window; 200 is two cores; 0 is no limit"),
        _key("cpu", "limits.cpu", kinds.PERCENT, "", 'The same as a share, such as "200%"'),
        _key("max_cpu_percent", "limits.cpu", fraction(0), "", "Another spelling of `cpu_percent`"),
        _key("cpu_window_secs", "limits.cpu_window", POSITIVE_SECS, "60", "How long the CPU has to be over its limit"),
        _key("nofile", "limits.nofile", POSITIVE, "inherited", "Open files a process"),
        _key("max_open_files", "limits.nofile", POSITIVE, "", "Another spelling of `nofile`"),
        _key("pids", "limits.pids", POSITIVE, "no limit", "Number of processes and threads"),
        _key("hard", "limits.hard", kinds.BOOL, "false", "Let the kernel enforce memory, cpu and pids through a cgroup"),
    ),
)

LOGS = Section(
    title="[processes.NAME.logs]",
    meaning="Rotation, at line ends and by rename. Top-level [logging] takes the same keys, for all processes.",
    keys=_keys(
        _key("max_size_mb", "logs.max_size", megabytes(), "100", "Rotate at this size; 0 is never"),
        _key("max_files", "logs.max_files", COUNT, "5", "Rotated files that are kept"),
        _key("compress", "logs.compress", kinds.BOOL, "true", "gzip rotated files"),
        _key("stdout", "logs.file", kinds.PATH, "Oxherd's own", "Another spelling of `log_file`"),
        _key("stderr", "logs.error_file", kinds.PATH, "same as stdout", "Another spelling of `error_log_file`"),
        _apps("combined", "logs.combined", kinds.PATH, "", "One file for both; stdout and stderr win over it"),
        _key("log_date_format", "logs.date_format", kinds.DATE_FORMAT, "none", "As in the process"),
        _key("log_format", "logs.format", choice("text", "json"), "text", "As in the process"),
    ),
)

WEBHOOK = Section(
    title="[processes.NAME.webhook]",
    meaning="A signed push triggers a deploy. Top-level [webhook] is that of the whole stack.",
    keys=_keys(
        _later("enabled", "webhook.enabled", kinds.BOOL, "false", "Listen for pushes"),
        _later("port", "webhook.port", integer(1, 65535), "9000", "Port"),
        _later("secret", "webhook.secret", kinds.TEXT, "none", "Shared secret of the signature"),
        _later("branch", "webhook.branch", kinds.TEXT, "any", "Only pushes to this branch"),
        _later("on_push", "webhook.on_push", kinds.COMMANDS, "none", "Commands, one after the other"),
    ),
)

# Hooks and on_push are lines of shell, on this host or another: they are kept as they are written.
_HOOKS = ("pre_setup", "post_setup", "pre_deploy_local", "pre_deploy", "post_deploy")
DEPLOY = Section(
    title="[deploy.NAME]",
    meaning="Where and how `oxherd deploy NAME` deploys to. Hyphens may stand for underscores.",
    keys=_keys(
        _later("user", "user", kinds.TEXT, "", "User of the ssh login"),
        _later("host", "host", kinds.STRINGS, "", "One host, or several"),
        _later("repo", "repo", kinds.TEXT, "", "Git repository"),
        _later("ref", "ref", kinds.TEXT, "", "Branch, tag or commit"),
        _later("path", "path", kinds.TEXT, "", "Folder on the host"),
        _later("port", "port", integer(1, 65535), "22", "Port of ssh"),
        _later("key", "key", kinds.TEXT, "", "Private key file"),
        *(_later(name, name, kinds.TEXT, "none", f"Command run {name.replace('_', ' ')}") for name in _HOOKS),
    ),
)

TOP = Section(
    title="(top level)",
    meaning="What stands before the first table.",
    keys=_keys(
        _key("name", "name", kinds.TEXT, "the folder's name", "Name of the stack"),
        _key("version", "version", kinds.VERSION, "1", "Version of the format"),
    ),
)

# fmt: on
# The sub-tables of a process and the section each is read with; env, server_options and profiles are read apart.
SUBTABLES = {
    "health_check": HEALTH,
    "health": HEALTH,
    "limits": LIMITS,
    "resource_limits": LIMITS,
    "logs": LOGS,
    "webhook": WEBHOOK,
}

# Settings of which a later layer replaces the others: a profile that names a command takes the app's place.
EXCLUSIVE = (
    frozenset({"command", "app"}),
    frozenset({"health_check.endpoint", "health_check.tcp", "health_check.command"}),
)

# Settings that only mean something for app processes: a command says these to its server.
_APP_ONLY_NAMES = "bind workers server server_options ssl_certfile ssl_keyfile access_log log_level keepalive"
APP_ONLY = frozenset(_APP_ONLY_NAMES.split())

# Settings of Oxherd's own workers, for app processes and for commands of known servers, which have the same workers.
HOSTED_ONLY = frozenset(
    {
        "preload",
        "balance",
        "max_requests",
        "max_requests_jitter",
        "max_lifetime",
        "graceful_timeout",
        "timeout",
    }
)
