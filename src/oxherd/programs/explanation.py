"""All that is known of one process before it runs, as plain data: what ``oxherd explain NAME`` shows.

Secrets are redacted here, so that no caller can forget it.
"""

from __future__ import annotations

from oxherd.config.redact import Mask, redact_value, redact_words
from oxherd.errors import UsageError
from oxherd.programs.hosting import private_endpoint, private_readiness
from oxherd.programs.interpreter import Found, find_interpreter, find_program
from oxherd.programs.settings import spec_settings
from oxherd.records import dataclass
from oxherd.units import format_seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from oxherd.config.model import HostSpec, ProcessSpec
    from oxherd.programs.compiled import Compiled
    from oxherd.programs.program import Program
    from oxherd.programs.settling import Plan

__all__ = ["Explained", "Explanation", "HostingExplained", "engine_text", "explanation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """One setting or variable: its name, its value as it may be shown, and where the value comes from."""

    name: str
    value: str
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostingExplained:
    """How a process gets its listeners.

    Attributes:
        way: "hosted": Oxherd's workers serve it; "passed": the program runs by itself and gets descriptors.
        engine: What serves it, with its version where that is known.
        app: What is served.
        binds: The addresses the supervisor holds.
        balance: "slots" or "shared".
        workers: How many; for a passed program its instances.
        workers_from: Where that number comes from.
        preload: What becomes of the import of the app.
        times: What a leaving worker is given, and when one counts as blocked.
        health: "private": the health check asks each incarnation by itself; "as written"; or "none".
        readiness: The same of the readiness URL.
        overlap: Whether old and new may run side by side.
        argv: The command line of a passed program with its placeholders; empty where it is the command's.
    """

    way: str
    engine: str
    app: str
    binds: tuple[str, ...]
    balance: str
    workers: int
    workers_from: str
    preload: str
    times: str
    health: str
    readiness: str
    overlap: bool
    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One process explained.

    Attributes:
        process: Its name.
        program: The stable name of what was recognised.
        title: What people call that.
        drains: What it does with its stop signal.
        binds: The addresses its command line binds.
        argv: What is exec'd; empty for an app process. Passwords in URLs are redacted.
        shell: Whether a shell reads the command.
        executable: The program file, or an empty string where none was found.
        executable_reason: Why that one.
        interpreter: The Python interpreter.
        interpreter_reason: Why that one.
        settings: Every setting with value and origin.
        env: Every variable the oxfile and its env_files set, secrets redacted, with its origin.
        hosting: How it gets its listeners, and what serves it; None for a program without any.
        untouched: Why a known server is run as its command says; "" where that is not so.
        inactive: The keys of this process whose feature is not active yet.
        notes: What its program changed or means.
    """

    process: str
    program: str
    title: str
    drains: str
    binds: tuple[str, ...]
    argv: tuple[str, ...]
    shell: bool
    executable: str
    executable_reason: str
    interpreter: str
    interpreter_reason: str
    settings: tuple[Explained, ...]
    env: tuple[Explained, ...]
    hosting: HostingExplained | None
    untouched: str
    inactive: tuple[str, ...]
    notes: tuple[str, ...]


def explanation(compiled: Compiled, process_name: str, environ: Mapping[str, str] | None = None) -> Explanation:
    """Return everything that is known of one process.

    Args:
        compiled: The compiled oxfile.
        process_name: One of its processes.
        environ: The caller's environment, for PATH; None is an empty one.

    Raises:
        UsageError: There is no such process.
    """
    spec = compiled.oxfile.process(process_name)
    if spec is None:
        names = ", ".join(process.name for process in compiled.oxfile.processes)
        raise UsageError(f'there is no process "{process_name}" in {compiled.oxfile.path}', hint=f"one of {names}")
    origins = compiled.origins[process_name]
    program = compiled.programs[process_name]
    executable = find_program(spec, environ or {})
    interpreter = find_interpreter(spec, environ or {})
    missing = "" if spec.command is None else f"{spec.command.argv[0]} was not found"
    plan = compiled.plans[process_name]
    # A secret that a command line takes from a variable has no name there that would give it away.
    mask = Mask({**(environ or {}), **dict(spec.env)})
    if spec.host is not None and spec.hosted:
        interpreter = Found(path=spec.host.python, reason=plan.interpreter)
    return Explanation(
        process=process_name,
        program=program.name if spec.command is not None else "app",
        title=program.title if spec.command is not None else "an app served by Oxherd's own workers",
        drains=_HOSTED_DRAIN if spec.hosted else program.drains,
        binds=spec.host.bind if spec.host is not None and spec.host.bind else _texts(program),
        argv=_words(spec.command.argv, mask) if spec.command is not None else (),
        shell=spec.command is not None and spec.command.shell,
        executable=executable.path if executable is not None else "",
        executable_reason=executable.reason if executable is not None else missing,
        interpreter=interpreter.path,
        interpreter_reason=interpreter.reason,
        settings=tuple(
            Explained(name=name, value=mask.text(value), origin=_origin(name, origins))
            for name, value in spec_settings(spec)
        ),
        env=tuple(
            Explained(
                name=name, value=mask.text(redact_value(name, value)), origin=origins.get(f"env.{name}", "default")
            )
            for name, value in spec.env
        ),
        hosting=None if spec.host is None else _hosting(spec, spec.host, plan, mask),
        untouched=plan.untouched,
        inactive=tuple(key for name, key in compiled.inactive if name == process_name),
        notes=compiled.notes[process_name],
    )


_HOSTED_DRAIN = "SIGTERM: takes no new connection, answers those it has with Connection: close, then exits"


def _words(argv: tuple[str, ...], mask: Mask) -> tuple[str, ...]:
    return tuple(mask.text(word) for word in redact_words(argv))


def _texts(program: Program) -> tuple[str, ...]:
    return tuple(bind.text() for bind in program.binds)


def _hosting(spec: ProcessSpec, host: HostSpec, plan: Plan, mask: Mask) -> HostingExplained:
    health = spec.health
    asked = health is not None and (health.endpoint is not None or health.tcp is not None)
    return HostingExplained(
        way=host.way.value,
        engine=engine_text(host),
        app=_app_text(host, mask) if spec.hosted else "",
        binds=host.bind,
        balance=host.balance,
        workers=spec.instances,
        workers_from=plan.workers_from,
        preload=_PRELOAD[host.preload] if spec.hosted else "",
        times=_times(host) if spec.hosted else "",
        health=_where(private_endpoint(spec), there=asked or health is not None),
        readiness=_where(private_readiness(spec), there=health is not None and health.readiness is not None),
        overlap=host.overlap if not spec.hosted else not spec.singleton,
        argv=_words(host.argv, mask) if not spec.hosted else (),
    )


_PRELOAD = {
    "auto": "imported once, and workers are forked of it, unless its import leaves something that is not safe to fork",
    "true": "imported once, and workers are forked of it, whatever its import leaves",
    "false": "imported by each worker",
}


def engine_text(host: HostSpec) -> str:
    """Return what serves a process, as people read it: ``uvicorn 0.54.0``; of "auto" what it comes to."""
    versions = dict(host.engines)

    def named(engine: str) -> str:
        return f"{engine} {versions[engine]}".rstrip() if engine in versions else engine

    if host.engine != "auto":
        return named(host.engine)
    asgi = next((name for name in ("uvicorn", "granian", "hypercorn") if name in versions), "")
    wsgi = _for_wsgi(versions)
    if not versions:
        return "the best that is installed; its interpreter could not be asked"
    texts = [f"{named(engine)} if it is {kind}" for engine, kind in ((asgi, "ASGI"), (wsgi, "WSGI")) if engine]
    return ", ".join(texts) or "nothing that is installed"


def _for_wsgi(versions: Mapping[str, str]) -> str:
    """Return what serves a WSGI app: gunicorn's threads, uvicorn through a2wsgi, or granian."""
    if "gunicorn" in versions:
        return "gunicorn"
    if {"uvicorn", "a2wsgi"} <= versions.keys():
        return "uvicorn"
    return next((name for name in ("granian", "hypercorn") if name in versions), "")


def _app_text(host: HostSpec, mask: Mask) -> str:
    target = host.target or " ".join(_words(host.argv, mask))
    return f"{target}(), a factory" if host.factory and host.target else target


def _times(host: HostSpec) -> str:
    return (
        f"a leaving worker listens on idle connections for {format_seconds(host.linger)} and finishes requests within "
        f"{format_seconds(host.graceful_timeout)}; one that is blocked for {_blocked(host)} is replaced"
    )


def _blocked(host: HostSpec) -> str:
    return "ever" if host.block_timeout > 10**8 else format_seconds(host.block_timeout)


def _where(private: bool, *, there: bool) -> str:
    return "private" if private else "as written" if there else "none"


# Where one setting is written under another name, which is then its origin.
_ALSO = {"limits.memory": ("max_memory",), "logs.file": ("logs.combined",), "max_restarts": ("crash_restart_limit",)}


def _origin(name: str, origins: Mapping[str, str]) -> str:
    return next((origins[key] for key in (name, *_ALSO.get(name, ())) if key in origins), "default")
