"""How a process and the listeners of the supervisor come together: the `HostSpec` of a spec, made when it is compiled."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from oxherd.config import problems
from oxherd.config.cpus import usable_cpus
from oxherd.config.model import HostSpec, HostWay, LogFormat, ProcessType
from oxherd.core.restart import RestartMode
from oxherd.programs.footing import footing
from oxherd.programs.hosting import url_of_bind
from oxherd.programs.interpreter import find_interpreter
from oxherd.programs.probes import Caller
from oxherd.programs.servers import reader_of
from oxherd.units import format_seconds, signal_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from oxherd.config.model import AppSpec, HealthSpec, ProcessSpec, StopSpec
    from oxherd.config.problems import Place
    from oxherd.errors import Problem
    from oxherd.programs.probes import Installed, Prober
    from oxherd.programs.program import Program
    from oxherd.programs.servers.line import Line

__all__ = ["GRACE_MARGIN", "OLDEST_PYTHON", "Plan", "Remark", "plan_app", "plan_command"]

# Seconds between the end of the graceful time and the SIGKILL of the stop timeout, in which a worker ends by itself.
GRACE_MARGIN = 2.0
# Seconds more than the keep-alive time for which a leaving worker listens on idle connections: one of them that ends by
# itself ends before, and a request that was under way when it was told to go still arrives.
_LINGER_MARGIN = 2.0
# A worker's own part runs on this Python and newer.
OLDEST_PYTHON = (3, 10)
# What may serve an app whose interface is not known before it is imported.
_ANY_ENGINE = ("uvicorn", "gunicorn", "granian", "hypercorn")


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """A problem that was found; it becomes one of the oxfile where its place is known.

    Attributes:
        keys: The canonical keys it may stand at, the best first.
        problem: Makes the problem of its place.
    """

    keys: tuple[str, ...]
    problem: Callable[[Place], Problem]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What was made of one process.

    Attributes:
        spec: The process, with ``host`` where it has one.
        notes: For people.
        origins: Where settings come from that were changed, by their canonical name.
        remarks: What is wrong.
        interpreter: Why that interpreter; "" where there is none.
        workers_from: Where the number of workers comes from; "" where it is a default.
        untouched: Why a known server is run as its command says; "" where that is not so.
    """

    spec: ProcessSpec
    notes: tuple[str, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[Remark, ...] = ()
    interpreter: str = ""
    workers_from: str = ""
    untouched: str = ""


# -- apps -----------------------------------------------------------------------------------------------------------


def plan_app(spec: ProcessSpec, environ: Mapping[str, str], probes: Prober, *, strict: bool) -> Plan:
    """Return the plan of an app process.

    Args:
        spec: A process with an app.
        environ: The caller's environment.
        probes: Whoever knows what an interpreter has.
        strict: Whether an engine that is missing is an error.
    """
    app = spec.app
    assert app is not None
    found = find_interpreter(spec, environ)
    installed = None if spec.disabled else probes.installed(found.path, _caller(spec, environ))
    options = dict(app.server_options)
    factory = bool(options.pop("factory", False)) or app.target.endswith("()")
    host = HostSpec(
        way=HostWay.HOSTED,
        engine=app.server,
        engines=installed.engines if installed is not None else (),
        python=found.path,
        target=app.target.removesuffix("()"),
        bind=app.bind,
        factory=factory,
        options=tuple(sorted(options.items())),
        preload=app.preload,
        balance=app.balance,
        tls=app.ssl_certfile is not None,
        ssl_certfile=app.ssl_certfile,
        ssl_keyfile=app.ssl_keyfile,
        access_log=_access_log(app, spec),
        log_level=app.log_level,
        block_timeout=app.timeout,
        keepalive=app.keepalive,
        max_requests=app.max_requests,
        max_requests_jitter=app.max_requests_jitter,
        max_lifetime=app.max_lifetime,
        max_memory=app.max_memory,
    )
    remarks = tuple(_missing(host.engine, found.path, installed, strict=strict))
    return _settled(
        spec,
        host,
        workers=app.workers,
        workers_from='workers = "auto"' if app.workers is None else "",
        graceful=app.graceful_timeout,
        graceful_from="graceful_timeout",
        interpreter=found.reason,
        remarks=remarks,
    )


def _access_log(app: AppSpec, spec: ProcessSpec) -> str | bool:
    if app.access_log is True:
        return "json" if spec.logs.format is LogFormat.JSON else "text"
    return app.access_log


def _missing(engine: str, python: str, installed: Installed | None, *, strict: bool) -> list[Remark]:
    """Say which engine is missing, if it is known that one is."""
    if installed is None:
        return []
    if installed.version < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        return [
            Remark(
                keys=("python", "app"),
                problem=lambda place: problems.old_python(
                    place, python, installed.version_text, oldest, refused=strict
                ),
            )
        ]
    wanted = _ANY_ENGINE if engine == "auto" else (engine,)
    if any(name in installed.packages for name in wanted):
        return []
    name = "uvicorn" if engine == "auto" else engine
    return [
        Remark(
            keys=("server", "app", "command"),
            problem=lambda place: problems.engine_missing(place, name, python, refused=strict),
        )
    ]


# -- commands -------------------------------------------------------------------------------------------------------


def plan_command(
    spec: ProcessSpec, program: Program, environ: Mapping[str, str], probes: Prober, *, strict: bool
) -> Plan:
    """Return the plan of a command process.

    Args:
        spec: A process with a command.
        program: What its command was recognised as.
        environ: The caller's environment.
        probes: Whoever knows what an interpreter has.
        strict: Whether an engine that is missing is an error.
    """
    command = spec.command
    reader = reader_of(program.name)
    draft, spec = spec.host, dataclasses.replace(spec, host=None)
    if command is None or reader is None:
        return Plan(spec=spec)
    why_not = _why_untouched(spec)
    if why_not:
        return Plan(spec=spec, untouched=why_not)
    standing = footing(spec, command, program, environ)
    if standing.why_not:
        return Plan(spec=spec, untouched=standing.why_not)
    seen = {**environ, **dict(spec.env), **dict(standing.env)}
    line = reader(program.args, seen, spec.working_dir)
    if line.why_not:
        return Plan(spec=spec, untouched=line.why_not)
    installed = None if spec.disabled else probes.installed(standing.python, _caller(spec, seen))
    engine = str(line.fields["engine"])
    remarks = tuple(_missing(engine, standing.python, installed, strict=strict))
    if remarks and standing.there:
        # Whatever the program of the command line is, it is not that engine on a Python we know: let it run.
        return Plan(spec=spec, untouched=_unknown_program(engine, standing.python, installed))
    host = line.onto(draft or HostSpec())
    host = dataclasses.replace(
        host,
        python=standing.python,
        python_options=standing.options,
        engines=installed.engines if installed is not None else (),
        bind=(spec.socket,) if spec.socket is not None else host.bind,
    )
    spec = dataclasses.replace(spec, env=tuple(sorted({**dict(spec.env), **dict(standing.env)}.items())))
    return _settled(
        spec,
        host,
        workers=line.workers,
        workers_from=line.workers_from,
        graceful=_drafted_grace(spec, draft, line),
        graceful_from=line.graceful_from or "graceful_timeout",
        interpreter=standing.reason,
        remarks=remarks,
        notes=(*standing.notes, *line.notes),
    )


def _why_untouched(spec: ProcessSpec) -> str:
    """Return why a server that could be hosted is not, before its command line is read."""
    assert spec.command is not None
    if not spec.adopt:
        return "adopt = false"
    if spec.type is not ProcessType.SERVICE:
        return "it is no service: its end is part of what it does"
    if any("{instance}" in text for text in (*spec.command.argv, spec.working_dir)):
        return "{instance} makes every instance another command, so that they share no address"
    return ""


def _unknown_program(engine: str, python: str, installed: Installed | None) -> str:
    if installed is not None and installed.version < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        return f"{python} is Python {installed.version_text}, and Oxherd's workers need {oldest}"
    return f"{engine} is no package of {python}, which its first line names"


def _drafted_grace(spec: ProcessSpec, draft: HostSpec | None, line: Line) -> float | None:
    """Return the graceful time: the oxfile's own goes before that of the command line."""
    if draft is not None and "graceful_timeout" in spec.set_keys:
        return draft.graceful_timeout
    return line.graceful


def _caller(spec: ProcessSpec, environ: Mapping[str, str]) -> Caller:
    return Caller(environ={**environ, **dict(spec.env)}, user=spec.user, group=spec.group)


# -- what both have in common ---------------------------------------------------------------------------------------


def _settled(
    spec: ProcessSpec,
    host: HostSpec,
    *,
    workers: int | None,
    workers_from: str,
    graceful: float | None,
    graceful_from: str,
    interpreter: str,
    remarks: tuple[Remark, ...],
    notes: tuple[str, ...] = (),
) -> Plan:
    """Return the plan of a hosted process: slots, times, restarts and health settled."""
    count = usable_cpus() if workers is None else workers
    said: list[str] = list(notes)
    origins: dict[str, str] = {}
    more = list(remarks)
    if count != 1:
        origins["instances"] = workers_from or "workers"
        if spec.instances != 1:
            said.append(f"{spec.instances} instances of {count} workers each are {spec.instances * count} workers")
    stop, grace = _times(spec, graceful, graceful_from, origins, more)
    if stop.signal != type(stop)().signal:
        said.append(f"a worker is asked to go by SIGTERM; stop_signal {signal_name(stop.signal)} is not used")
        stop = dataclasses.replace(stop, signal=type(stop)().signal)
    restart = spec.restart
    if restart.mode is RestartMode.ON_FAILURE:
        restart = dataclasses.replace(restart, mode=RestartMode.ALWAYS)
        origins["restart"] = "a worker that ends by itself has failed, whatever its exit code"
    host = dataclasses.replace(
        host,
        graceful_timeout=grace,
        linger=min(host.keepalive + _LINGER_MARGIN, grace),
        boot_timeout=host.boot_timeout if spec.ready_timeout is None else spec.ready_timeout,
        balance="shared" if all(bind.startswith("unix:") for bind in host.bind) else host.balance,
    )
    changed = dataclasses.replace(
        spec,
        host=host,
        instances=spec.instances * count,
        stop=stop,
        restart=restart,
        health=_health(spec.health, host),
    )
    return Plan(
        spec=changed,
        notes=tuple(said),
        origins=origins,
        remarks=tuple(more),
        interpreter=interpreter,
        workers_from=workers_from,
    )


def _times(
    spec: ProcessSpec,
    graceful: float | None,
    graceful_from: str,
    origins: dict[str, str],
    remarks: list[Remark],
) -> tuple[StopSpec, float]:
    """Return stop timeout and graceful time: the worker ends by itself before the stop timeout kills it."""
    stop = spec.stop
    margin = min(GRACE_MARGIN, stop.timeout / 2)
    if graceful is None:
        return stop, stop.timeout - margin
    if graceful + GRACE_MARGIN <= stop.timeout:
        return stop, graceful
    if "stop_timeout" not in spec.set_keys:
        origins["stop_timeout"] = f"{graceful_from} and {format_seconds(GRACE_MARGIN)}"
        return dataclasses.replace(stop, timeout=graceful + GRACE_MARGIN), graceful
    if graceful > stop.timeout:
        message = f"{graceful_from} is more than the stop timeout ({format_seconds(stop.timeout)}), which ends it"
        hint = f'write stop_timeout = "{graceful + GRACE_MARGIN:g}s"'
        remarks.append(
            Remark(
                keys=("graceful_timeout", "stop_timeout"),
                problem=lambda place: problems.no_effect(place, message, hint=hint),
            )
        )
    return stop, min(graceful, stop.timeout - margin)


def _health(health: HealthSpec | None, host: HostSpec) -> HealthSpec | None:
    """Return the health check with paths completed to URLs of the first listener."""
    if health is None:
        return None
    endpoint, readiness = (
        url_of_bind(host.bind[0], url, tls=host.tls) if url is not None and url.startswith("/") else url
        for url in (health.endpoint, health.readiness)
    )
    return dataclasses.replace(health, endpoint=endpoint, readiness=readiness)
