"""Every setting of a spec under its canonical name, as text for people."""

from __future__ import annotations

from oxherd.config.redact import redact_text, redact_value
from oxherd.units import format_bytes, format_seconds, signal_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from oxherd.config.model import AppSpec, HostSpec, ProcessSpec, ScheduleSpec

__all__ = ["spec_settings"]

# Seconds beyond which a worker may as well block for ever.
_NEVER = 10.0**8


def _yes(value: object) -> str:
    return "true" if value else "false"


def _time(seconds: float | None) -> str:
    return "none" if seconds is None else format_seconds(seconds)


def _size(count: int | None) -> str:
    return "no limit" if count is None else format_bytes(count)


def _or(value: object, otherwise: str) -> str:
    return otherwise if value is None else str(value)


def _list(words: Iterable[str]) -> str:
    return ", ".join(words) or "none"


def spec_settings(spec: ProcessSpec) -> tuple[tuple[str, str], ...]:
    """Return canonical name and shown value of every setting that applies to this process; env is apart."""
    rows = [
        *_run(spec),
        *_lifecycle(spec),
        *_health(spec),
        *_limits(spec),
        *_logs(spec),
        *_watch(spec),
    ]
    if spec.schedule is not None:
        rows += _schedule(spec.schedule)
    if spec.app is not None:
        rows += _app(spec.app)
    elif spec.host is not None and spec.hosted:
        rows += _workers(spec.host)
    return tuple(rows)


def _run(spec: ProcessSpec) -> list[tuple[str, str]]:
    target = ("command", redact_text(spec.command.text)) if spec.command is not None else ("app", "")
    if spec.app is not None:
        target = ("app", spec.app.target)
    return [
        target,
        ("type", spec.type.value),
        ("working_dir", spec.working_dir),
        ("instances", str(spec.instances)),
        ("singleton", _yes(spec.singleton)),
        ("disabled", _yes(spec.disabled)),
        ("namespace", _or(spec.namespace, "none")),
        ("env_file", _list(spec.env_files)),
        ("instance_var", _or(spec.instance_var, "none")),
        ("python", _or(spec.python, "found")),
        ("user", _or(spec.user, "yours")),
        ("group", _or(spec.group, "the user's")),
        ("umask", "inherited" if spec.umask is None else f"{spec.umask:03o}"),
        ("nice", _or(spec.nice, "inherited")),
        ("socket", _or(spec.socket, "none")),
        ("adopt", _yes(spec.adopt)),
    ]


def _lifecycle(spec: ProcessSpec) -> list[tuple[str, str]]:
    restart = spec.restart
    return [
        ("depends_on", _list(f"{name} ({condition.value})" for name, condition in spec.depends_on)),
        ("start_delay", format_seconds(spec.start_delay)),
        ("ready_timeout", _time(spec.ready_timeout)),
        ("restart", restart.mode.value),
        ("restart_delay", format_seconds(restart.delay)),
        ("restart_delay_max", format_seconds(restart.delay_max)),
        ("max_restarts", str(restart.max_restarts) if restart.max_restarts else "no end"),
        ("stop_signal", signal_name(spec.stop.signal)),
        ("stop_timeout", format_seconds(spec.stop.timeout)),
        ("pre_start", redact_text(spec.pre_start.text) if spec.pre_start else "none"),
        ("pre_reload", redact_text(spec.pre_reload.text) if spec.pre_reload else "none"),
    ]


def _health(spec: ProcessSpec) -> list[tuple[str, str]]:
    health = spec.health
    if health is None:
        return [("health_check", "none")]
    if health.endpoint is not None:
        target = ("health_check.endpoint", redact_text(health.endpoint))
    elif health.tcp is not None:
        target = ("health_check.tcp", health.tcp)
    else:
        target = ("health_check.command", redact_text(health.command.text) if health.command else "")
    rows = [
        target,
        ("health_check.interval", format_seconds(health.interval)),
        ("health_check.timeout", format_seconds(health.timeout)),
        ("health_check.initial_delay", format_seconds(health.grace)),
        ("health_check.healthy_threshold", str(health.healthy_threshold)),
        ("health_check.unhealthy_threshold", str(health.unhealthy_threshold)),
    ]
    if health.readiness is not None:
        rows.append(("health_check.readiness", redact_text(health.readiness)))
    return rows


def _limits(spec: ProcessSpec) -> list[tuple[str, str]]:
    limits = spec.limits
    cpu = "no limit" if limits.cpu_percent is None else f"{limits.cpu_percent:g} %"
    return [
        ("limits.memory", _size(limits.memory)),
        ("limits.cpu", cpu),
        ("limits.cpu_window", format_seconds(limits.cpu_window)),
        ("limits.nofile", _or(limits.nofile, "inherited")),
        ("limits.pids", _or(limits.pids, "no limit")),
        ("limits.hard", _yes(limits.hard)),
    ]


def _logs(spec: ProcessSpec) -> list[tuple[str, str]]:
    logs = spec.logs
    return [
        ("logs.file", _or(logs.file, "Oxherd's own")),
        ("logs.error_file", _or(logs.error_file, "same as stdout")),
        ("logs.date_format", _or(logs.date_format, "none")),
        ("logs.format", logs.format.value),
        ("logs.max_size", format_bytes(logs.max_bytes) if logs.max_bytes else "no rotation"),
        ("logs.max_files", str(logs.max_files)),
        ("logs.compress", _yes(logs.compress)),
    ]


def _watch(spec: ProcessSpec) -> list[tuple[str, str]]:
    watch = spec.watch
    if watch is None:
        return [("watch", "off")]
    return [
        ("watch", _list(watch.paths)),
        ("watch_extensions", ", ".join(watch.extensions) or "all"),
        ("watch_ignore", _list(watch.ignore)),
        ("ignore_watch", _list(watch.ignore_regex)),
        ("watch_delay", format_seconds(watch.delay)),
    ]


def _schedule(schedule: ScheduleSpec) -> list[tuple[str, str]]:
    rows = [("timezone", schedule.timezone or "local time")]
    if schedule.restart_cron is not None:
        rows.insert(0, ("cron_restart", schedule.restart_cron))
    if schedule.cron is not None:
        rows.insert(0, ("schedule", schedule.cron))
        rows += [
            ("timeout", _time(schedule.timeout)),
            ("catch_up", _yes(schedule.catch_up)),
            ("on_failure", schedule.on_failure or "none"),
        ]
    return rows


def _workers(host: HostSpec) -> list[tuple[str, str]]:
    """Return the settings of the workers of a command that may stand in the oxfile."""
    return [
        ("preload", host.preload),
        ("balance", host.balance),
        ("max_requests", _or(host.max_requests, "no limit")),
        ("max_requests_jitter", str(host.max_requests_jitter)),
        ("max_lifetime", _time(host.max_lifetime)),
        ("timeout", "never" if host.block_timeout > _NEVER else format_seconds(host.block_timeout)),
        ("graceful_timeout", format_seconds(host.graceful_timeout)),
    ]


def _app(app: AppSpec) -> list[tuple[str, str]]:
    return [
        ("bind", _list(app.bind)),
        ("workers", "auto" if app.workers is None else str(app.workers)),
        ("server", app.server),
        ("server_options", _list(f"{name} = {redact_value(name, str(value))}" for name, value in app.server_options)),
        ("ssl_certfile", _or(app.ssl_certfile, "none")),
        ("ssl_keyfile", _or(app.ssl_keyfile, "none")),
        ("access_log", app.access_log if isinstance(app.access_log, str) else _yes(app.access_log)),
        ("log_level", app.log_level or "the engine's"),
        ("preload", app.preload),
        ("balance", app.balance),
        ("max_requests", _or(app.max_requests, "no limit")),
        ("max_requests_jitter", str(app.max_requests_jitter)),
        ("max_lifetime", _time(app.max_lifetime)),
        ("max_memory", _size(app.max_memory)),
        ("timeout", format_seconds(app.timeout)),
        (
            "graceful_timeout",
            "inside the stop timeout" if app.graceful_timeout is None else format_seconds(app.graceful_timeout),
        ),
        ("keepalive", format_seconds(app.keepalive)),
    ]
