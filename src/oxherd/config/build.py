"""From the effective settings of a process to its frozen spec, with every default in place."""

from __future__ import annotations

import shutil

from oxherd.config import problems
from oxherd.config.build_app import absolute_bind, build_app, build_hosting
from oxherd.config.coerce import as_float, as_int, as_seconds, as_text, as_words
from oxherd.config.cpus import usable_cpus
from oxherd.config.desugar import restart_mode
from oxherd.config.effective import absolute
from oxherd.config.keys import APP_ONLY
from oxherd.config.model import (
    Command,
    DependencyCondition,
    GitSpec,
    HealthSpec,
    LimitSpec,
    LogFormat,
    LogSpec,
    ProcessKind,
    ProcessSpec,
    ProcessType,
    ScheduleSpec,
    StopSpec,
    WatchSpec,
    WebhookSpec,
)
from oxherd.core.restart import RestartMode, RestartPolicy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oxherd.config.effective import Effective

__all__ = ["build_process", "build_webhook"]

# The published dialect gives a process five seconds to go.
_PUBLISHED_STOP_TIMEOUT = 5.0

# What hides GPUs from the common runtimes.
_NO_GPU = {
    "CUDA_VISIBLE_DEVICES": "",
    "HIP_VISIBLE_DEVICES": "",
    "NVIDIA_VISIBLE_DEVICES": "none",
    "ROCR_VISIBLE_DEVICES": "",
}
_REUSE_PORT = {"OXMGR_REUSEPORT": "1", "SO_REUSEPORT": "1"}

# A setting that does nothing without one of the others.
_NEEDS = {
    "watch_extensions": ("watch",),
    "watch_ignore": ("watch",),
    "ignore_watch": ("watch",),
    "watch_delay": ("watch",),
    "catch_up": ("schedule",),
    "on_failure": ("schedule",),
    "timezone": ("schedule", "cron_restart"),
    "max_requests_jitter": ("max_requests",),
    "limits.cpu_window": ("limits.cpu",),
    "instance_var": ("instances",),
}
_HEALTH_TARGETS = ("endpoint", "tcp", "command")


def build_process(settings: Effective) -> ProcessSpec:
    """Return the spec of one process; what contradicts itself is reported on the way."""
    get = settings.values.get
    _check_target(settings)
    _check_company(settings)
    kind = ProcessKind.APP if "app" in settings.values else ProcessKind.COMMAND
    type_ = _type(settings)
    working_dir = as_text(get("working_dir")) or settings.around.folder
    instances = get("instances", 1)
    return ProcessSpec(
        name=settings.name,
        kind=kind,
        type=type_,
        command=_command(get("command")),
        app=build_app(settings, type_) if kind is ProcessKind.APP else None,
        host=build_hosting(settings, type_) if kind is ProcessKind.COMMAND else None,
        working_dir=working_dir,
        instances=usable_cpus() if instances == "max" else as_int(instances, 1),
        env=_env(settings),
        env_files=settings.env_files,
        instance_var=as_text(get("instance_var")),
        depends_on=_depends(settings),
        singleton=bool(get("singleton", False)),
        disabled=bool(get("disabled", False)),
        namespace=as_text(get("namespace")),
        start_delay=as_float(get("start_delay"), 0.0),
        ready_timeout=as_seconds(get("ready_timeout")),
        restart=_restart(settings, type_),
        stop=_stop(settings),
        health=_health(settings, kind),
        limits=_limits(settings, kind),
        logs=_logs(settings),
        watch=_watch(settings, working_dir),
        schedule=_schedule(settings, type_),
        pre_start=_command(get("pre_start")),
        pre_reload=_command(get("pre_reload")),
        webhook=build_webhook(settings),
        git=_git(settings),
        adopt=bool(get("adopt", True)),
        socket=None if get("socket") is None else absolute_bind(str(get("socket")), settings),
        python=_python(settings),
        user=as_text(get("user")),
        group=as_text(get("group")),
        umask=None if get("umask") is None else as_int(get("umask"), 0),
        nice=None if get("nice") is None else as_int(get("nice"), 0),
        set_keys=tuple(sorted(settings.values)),
    )


def _python(settings: Effective) -> str | None:
    """Return the interpreter, absolute; a bare name such as python3.12 is looked for on PATH first."""
    written = as_text(settings.values.get("python"))
    if written is None:
        return None
    environ = {**settings.around.environ, **settings.env}
    on_path = shutil.which(written, path=environ.get("PATH", "")) if "/" not in written else None
    return on_path or absolute(written, settings.around.folder, environ)


def _command(value: object) -> Command | None:
    return value if isinstance(value, Command) else None


def _check_target(settings: Effective) -> None:
    """A process has a command or an app."""
    has = [key for key in ("command", "app") if settings.setting(key) is not None]
    if not has and not any(settings.told(key) for key in ("command", "app")):
        expected = 'command = "…" (any program), or app = "module:attribute" (an ASGI or WSGI app)'
        hint = 'add command = "uvicorn main:app --port 8000", or whatever is to be run'
        settings.report(problems.missing_key(settings.place, "command", expected=expected, hint=hint))
    if len(has) > 1:
        message = "a process has a command or an app, not both"
        hint = "remove app to run the command as it is, or remove command to let Oxherd serve the app"
        settings.report(problems.conflict(settings.place_of("app"), message, expected="one of the two", hint=hint))
    if "app" in has:
        return
    for canonical in sorted(APP_ONLY):
        if settings.local(canonical):
            message = f"{canonical} is for app processes, and this one runs a command"
            hint = 'give it to the program on its command line, or write app = "module:attribute" instead of command'
            settings.report(problems.conflict(settings.place_of(canonical), message, hint=hint))


def _check_company(settings: Effective) -> None:
    """Report settings that do nothing without another one."""
    for canonical, needed in _NEEDS.items():
        if settings.local(canonical) and not any(other in settings.values for other in needed):
            message = f"{canonical} has no effect without {' or '.join(needed)}"
            hint = f"add {needed[0]}, or remove it"
            settings.report(problems.no_effect(settings.place_of(canonical), message, hint=hint))
    if settings.values.get("cluster_mode"):
        settings.report(problems.cluster_mode(settings.place_of("cluster_mode")))


def _type(settings: Effective) -> ProcessType:
    get = settings.values.get
    written = get("type")
    if "schedule" in settings.values:
        if written == "service" or get("run_once") is False:
            other = "type" if written == "service" else "run_once"
            message = f"schedule makes a job of this process, and {other} says that it is a service"
            hint = "write cron_restart to restart a service by the clock, or remove one of the two"
            settings.report(problems.conflict(settings.place_of(other), message, hint=hint))
        return ProcessType.SCHEDULED
    if written == "scheduled":
        settings.report(
            problems.missing_key(settings.place_of("type"), "schedule", expected='cron fields such as "0 4 * * *"')
        )
    return ProcessType.ONESHOT if written == "oneshot" or get("run_once") else ProcessType.SERVICE


def _restart(settings: Effective, type_: ProcessType) -> RestartPolicy:
    get = settings.values.get
    # A failed job waits for its next time; running it again at once is not what a schedule says.
    default = "never" if type_ is ProcessType.SCHEDULED else "on-failure"
    mode = RestartMode(restart_mode(get("restart", default)))
    limits = [count for count in (as_int(get("max_restarts", 10), 10), as_int(get("crash_restart_limit"), 0)) if count]
    if get("max_restarts") == 0 and not get("crash_restart_limit"):
        limits = []
    return RestartPolicy(
        mode=mode,
        delay=as_float(get("restart_delay"), 0.0),
        delay_max=as_float(get("restart_delay_max"), 30.0),
        max_restarts=min(limits, default=0),
    )


def _stop(settings: Effective) -> StopSpec:
    get = settings.values.get
    timeout = _PUBLISHED_STOP_TIMEOUT if settings.around.dialect == "apps" else StopSpec().timeout
    return StopSpec(
        signal=as_int(get("stop_signal"), StopSpec().signal), timeout=as_float(get("stop_timeout"), timeout)
    )


def _env(settings: Effective) -> tuple[tuple[str, str], ...]:
    env = dict(settings.env)
    for key, variables in (("deny_gpu", _NO_GPU), ("reuse_port", _REUSE_PORT)):
        if settings.values.get(key):
            for name, value in variables.items():
                if name not in env:
                    env[name] = value
                    settings.origins[f"env.{name}"] = f"{key} ({settings.origins[key]})"
    return tuple(sorted(env.items()))


def _depends(settings: Effective) -> tuple[tuple[str, DependencyCondition], ...]:
    value = settings.values.get("depends_on")
    pairs: tuple[Any, ...] = value if isinstance(value, tuple) else ()
    # A bare name means ready; the checks make completed of it where the dependency is a oneshot.
    return tuple((name, DependencyCondition(condition or "ready")) for name, condition in pairs)


def _health(settings: Effective, kind: ProcessKind) -> HealthSpec | None:
    get = settings.values.get
    targets = [name for name in _HEALTH_TARGETS if settings.setting(f"health_check.{name}") is not None]
    place = settings.place_of(*(f"health_check.{name}" for name in targets))
    if len(targets) > 1:
        message = f"a health check has one target, and this one has {' and '.join(targets)}"
        settings.report(problems.conflict(place, message, expected="one of endpoint, tcp and command", hint="keep one"))
    if not targets:
        _check_no_target(settings)
        return None
    written = get("health_check.type")
    if written is not None and {"http": "endpoint"}.get(str(written), str(written)) not in targets:
        message = f'type = "{written}" does not fit {targets[0]}'
        hint = "remove type; the target says what kind of check it is"
        settings.report(problems.conflict(settings.place_of("health_check.type"), message, hint=hint))
    endpoint = as_text(get("health_check.endpoint"))
    if endpoint is not None and endpoint.startswith("/") and kind is ProcessKind.COMMAND:
        expected = 'a URL such as "http://localhost:8000/health"'
        settings.report(problems.bad_value(settings.place_of("health_check.endpoint"), endpoint, expected))
    default = HealthSpec()
    return HealthSpec(
        endpoint=endpoint,
        tcp=as_text(get("health_check.tcp")),
        command=_command(get("health_check.command")),
        interval=as_float(get("health_check.interval"), default.interval),
        timeout=as_float(get("health_check.timeout"), default.timeout),
        grace=as_float(get("health_check.initial_delay"), default.grace),
        healthy_threshold=as_int(get("health_check.healthy_threshold"), default.healthy_threshold),
        unhealthy_threshold=as_int(get("health_check.unhealthy_threshold"), default.unhealthy_threshold),
        readiness=as_text(get("health_check.readiness")),
    )


def _check_no_target(settings: Effective) -> None:
    if any(settings.told(name) for name in ("endpoint", "url", "tcp", "command", "health_cmd")):
        return
    for canonical in settings.layer.settings:
        if canonical.startswith("health_check.") and settings.local(canonical):
            place = settings.place_of(canonical)
            expected = 'endpoint = "http://…", tcp = "host:port" or command = "…"'
            hint = 'add endpoint = "http://localhost:8000/health"'
            settings.report(problems.missing_key(place, "endpoint", expected=expected, hint=hint))
            return
    if settings.values.get("wait_ready") and settings.local("wait_ready"):
        place = settings.place_of("wait_ready")
        hint = 'add health_cmd = "…", or a health_check'
        settings.report(problems.missing_key(place, "health_cmd", expected="a health check to wait for", hint=hint))


def _limits(settings: Effective, kind: ProcessKind) -> LimitSpec:
    get = settings.values.get
    memory = get("limits.memory")
    if kind is ProcessKind.COMMAND and settings.rank("max_memory") >= max(0, settings.rank("limits.memory")):
        if settings.rank("max_memory") == settings.rank("limits.memory"):
            message = "max_memory_mb and limits.memory_mb are two spellings of one setting"
            place = settings.place_of("max_memory")
            settings.report(problems.conflict(place, message, expected="one of them", hint="remove one of the two"))
        memory = get("max_memory")
    limits = LimitSpec(
        memory=as_int(memory, 0) or None,
        cpu_percent=as_float(get("limits.cpu"), 0.0) or None,
        cpu_window=as_float(get("limits.cpu_window"), LimitSpec().cpu_window),
        nofile=as_int(get("limits.nofile"), 0) or None,
        pids=as_int(get("limits.pids"), 0) or None,
        hard=bool(get("limits.hard", False)),
    )
    if limits.hard and settings.local("limits.hard") and not (limits.memory or limits.cpu_percent or limits.pids):
        message = "a hard limit has no effect without a memory, cpu or pids limit"
        settings.report(problems.no_effect(settings.place_of("limits.hard"), message, hint="add memory_mb"))
    if limits.pids is not None and not limits.hard and settings.local("limits.pids"):
        message = "a limit on pids is enforced by a cgroup only"
        settings.report(problems.no_effect(settings.place_of("limits.pids"), message, hint="add hard = true"))
    return limits


def _logs(settings: Effective) -> LogSpec:
    get = settings.values.get
    default = LogSpec()
    error_file = as_text(get("logs.error_file"))
    combined = settings.rank("logs.combined") > settings.rank("logs.file")
    if (
        error_file is not None
        and get("unified_logs")
        and settings.rank("unified_logs") >= settings.rank("logs.error_file")
    ):
        if settings.rank("unified_logs") == settings.rank("logs.error_file"):
            message = "unified_logs = true and a file for stderr contradict each other"
            place = settings.place_of("unified_logs")
            settings.report(problems.conflict(place, message, expected="one of the two", hint="remove one of the two"))
        error_file = None
    return LogSpec(
        file=as_text(get("logs.combined" if combined else "logs.file")),
        error_file=error_file,
        date_format=as_text(get("logs.date_format")),
        format=LogFormat(str(get("logs.format", "text"))),
        max_bytes=as_int(get("logs.max_size"), default.max_bytes),
        max_files=as_int(get("logs.max_files"), default.max_files),
        compress=bool(get("logs.compress", default.compress)),
    )


def _watch(settings: Effective, working_dir: str) -> WatchSpec | None:
    get = settings.values.get
    watch = get("watch")
    if not watch:
        return None
    folders = as_words(watch) or (".",)
    return WatchSpec(
        paths=tuple(absolute(path, working_dir, settings.around.environ) for path in folders),
        extensions=as_words(get("watch_extensions")),
        ignore=as_words(get("watch_ignore")),
        ignore_regex=as_words(get("ignore_watch")),
        delay=as_float(get("watch_delay"), WatchSpec(paths=()).delay),
    )


def _schedule(settings: Effective, type_: ProcessType) -> ScheduleSpec | None:
    get = settings.values.get
    if "schedule" not in settings.values and "cron_restart" not in settings.values:
        return None
    job = type_ is ProcessType.SCHEDULED
    if job and "cron_restart" in settings.values and settings.local("cron_restart"):
        message = "schedule runs a job and cron_restart restarts a service; a process is one of the two"
        place = settings.place_of("cron_restart")
        settings.report(problems.conflict(place, message, expected="one of the two", hint="remove one of the two"))
    return ScheduleSpec(
        cron=as_text(get("schedule")),
        restart_cron=None if job else as_text(get("cron_restart")),
        timezone=as_text(get("timezone")),
        timeout=as_seconds(get("timeout")) if job else None,
        catch_up=bool(get("catch_up", False)),
        on_failure=as_text(get("on_failure")),
    )


def build_webhook(settings: Effective) -> WebhookSpec | None:
    """Return the webhook of a process or of the stack, or None."""
    get = settings.values.get
    if not any(key.startswith("webhook.") for key in settings.values):
        return None
    return WebhookSpec(
        enabled=bool(get("webhook.enabled", False)),
        port=as_int(get("webhook.port"), WebhookSpec().port),
        secret=as_text(get("webhook.secret")),
        branch=as_text(get("webhook.branch")),
        on_push=as_words(get("webhook.on_push")),
    )


def _git(settings: Effective) -> GitSpec | None:
    get = settings.values.get
    if not any(key.startswith("git.") for key in settings.values):
        return None
    return GitSpec(repo=as_text(get("git.repo")), ref=as_text(get("git.ref")), secret=as_text(get("git.secret")))
