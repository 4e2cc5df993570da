"""How a process and the listeners of the supervisor come together: the `HostSpec` of a spec, made when it is compiled."""

from __future__ import annotations

from oxherd.config import problems
from oxherd.config.model import HostSpec, HostWay, LogFormat, ProcessType
from oxherd.programs.caller import Caller
from oxherd.programs.describing import Question
from oxherd.programs.footing import footing
from oxherd.programs.interpreter import find_interpreter
from oxherd.programs.servers import reader_of
from oxherd.programs.servers.reading import Reading
from oxherd.programs.settling import Plan, Remark, settled
from oxherd.records import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from oxherd.config.model import AppSpec, ProcessSpec
    from oxherd.programs.describing import Description
    from oxherd.programs.footing import Footing
    from oxherd.programs.probes import Installed, Prober
    from oxherd.programs.program import Program
    from oxherd.programs.servers.reading import Line

__all__ = ["OLDEST_PYTHON", "plan_app", "plan_command"]

# A worker's own part runs on this Python and newer.
OLDEST_PYTHON = (3, 10)
# What may serve an app whose interface is not known before it is imported.
_ANY_ENGINE = ("uvicorn", "gunicorn", "granian", "hypercorn")


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
    installed = (
        None
        if spec.disabled
        else probes.installed(
            found.path, Caller(environ={**environ, **dict(spec.env)}, user=spec.user, group=spec.group)
        )
    )
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
    return settled(
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
    reader = reader_of(program.name)
    if reader is None or spec.command is None:
        return _by_itself(spec, program, "")
    why_not = _why_untouched(spec)
    if why_not:
        return _by_itself(spec, program, why_not)
    standing = footing(spec, spec.command, program, environ)
    seen = {**environ, **dict(spec.env), **dict(standing.env)}
    caller = Caller(environ=seen, user=spec.user, group=spec.group)
    line = reader(_reading(spec, program, standing, seen, lambda question: probes.described(question, caller)))
    if line.why_not:
        return _by_itself(spec, program, line.why_not)
    if line.way is HostWay.PASSED:
        return _passed(spec, standing, line)
    installed = None if spec.disabled else probes.installed(standing.python, caller)
    engine = str(line.fields["engine"])
    remarks = tuple(_missing(engine, standing.python, installed, strict=strict))
    if line.otherwise is not None and installed is not None and installed.version < OLDEST_PYTHON:
        return _passed(spec, standing, line.otherwise)
    if remarks and standing.there:
        # Whatever the program of the command line is, it is not that engine on a Python we know: let it run.
        return _by_itself(spec, program, _unknown_program(engine, standing.python, installed))
    host = replace(
        line.onto(spec.host or HostSpec()),
        python=standing.python,
        python_options=standing.options,
        engines=installed.engines if installed is not None else (),
    )
    host = _oxfile_first(spec, host, line)
    grace = spec.host.graceful_timeout if spec.host is not None and "graceful_timeout" in spec.set_keys else None
    changed = replace(
        spec,
        env=_env(spec, standing),
        user=spec.user or line.user,
        group=spec.group or line.group,
    )
    return settled(
        changed,
        host,
        workers=line.workers,
        workers_from=line.workers_from,
        graceful=line.graceful if grace is None else grace,
        graceful_from=line.graceful_from if grace is None else "graceful_timeout",
        interpreter=standing.reason,
        remarks=remarks,
        notes=(*standing.notes, *line.notes),
    )


def _passed(spec: ProcessSpec, standing: Footing, line: Line) -> Plan:
    host = line.onto(HostSpec())
    host = replace(host, overlap=host.overlap and not spec.singleton)
    return Plan(spec=replace(spec, host=host, env=_env(spec, standing)), notes=line.notes)


def _env(spec: ProcessSpec, standing: Footing) -> tuple[tuple[str, str], ...]:
    """Return the variables of the oxfile with those that the command line sets."""
    return tuple(sorted({**dict(spec.env), **dict(standing.env)}.items()))


def _reading(
    spec: ProcessSpec,
    program: Program,
    standing: Footing,
    seen: Mapping[str, str],
    ask: Callable[[Question], Description | None],
) -> Reading:
    question = Question(
        engine=program.name,
        python=standing.python,
        options=standing.options,
        args=program.args,
        cwd=spec.working_dir,
    )
    return Reading(
        args=program.args,
        head=standing.head,
        environ=seen,
        working_dir=spec.working_dir,
        socket=spec.socket,
        footing=standing,
        describe=lambda: None if spec.disabled else ask(question),
    )


def _oxfile_first(spec: ProcessSpec, host: HostSpec, line: Line) -> HostSpec:
    """Return the hosting with what the oxfile itself says of the workers before what the command line says."""
    draft = spec.host
    if draft is not None:
        if "timeout" in spec.set_keys:
            host = replace(host, block_timeout=draft.block_timeout)
        if "max_requests" in spec.set_keys:
            jitter = draft.max_requests_jitter
            host = replace(host, max_requests=draft.max_requests, max_requests_jitter=jitter)
        if "max_lifetime" in spec.set_keys:
            host = replace(host, max_lifetime=draft.max_lifetime)
    if line.preload and "preload" not in spec.set_keys:
        host = replace(host, preload="true")
    return host


def _why_untouched(spec: ProcessSpec) -> str:
    """Return why a server that could be hosted is not, before its command line is read."""
    if not spec.adopt:
        return "adopt = false"
    if spec.type is not ProcessType.SERVICE:
        return "it is no service: its end is part of what it does"
    if _differs_by_instance(spec):
        return "{instance} makes every instance another command, so that they share no address"
    return ""


def _differs_by_instance(spec: ProcessSpec) -> bool:
    words = spec.command.argv if spec.command is not None else ()
    return any("{instance}" in text for text in (*words, spec.working_dir))


def _unknown_program(engine: str, python: str, installed: Installed | None) -> str:
    if installed is not None and installed.version < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        return f"{python} is Python {installed.version_text}, and Oxherd's workers need {oldest}"
    return f"{engine} is no package of {python}, which its first line names"


def _by_itself(spec: ProcessSpec, program: Program, untouched: str) -> Plan:
    """Return the plan of a command that runs as it is written: with a listener to inherit, or none."""
    host: HostSpec | None = None
    overlap = spec.type is ProcessType.SERVICE and not spec.singleton and not _differs_by_instance(spec)
    if spec.socket is not None:
        host = HostSpec(way=HostWay.PASSED, engine=program.name, bind=(spec.socket,), balance="shared", overlap=overlap)
    elif program.overlaps and overlap and spec.adopt:
        # Nothing to pass: the new one may come before the old one goes, which is all there is to say.
        host = HostSpec(way=HostWay.PASSED, engine=program.name, overlap=True)
    return Plan(spec=replace(spec, host=host), untouched=untouched)
