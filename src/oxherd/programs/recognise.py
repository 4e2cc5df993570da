"""Which well-known program a command line runs: a table of rows, one for each program.

A row reads the arguments of its program and fills in a `Program`. What no row knows is `GENERIC`.
"""

from __future__ import annotations

from oxherd.programs.arguments import Options, option_names, unwrap
from oxherd.programs.program import GENERIC, Advice, Bind, Program
from oxherd.programs.shellwords import program_of_shell
from oxherd.records import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oxherd.config.model import Command

__all__ = [
    "CELERY_DRAIN",
    "DAPHNE_VALUED",
    "GRANIAN_VALUED",
    "GUNICORN_VALUED",
    "HYPERCORN_VALUED",
    "UVICORN_VALUED",
    "addresses",
    "recognise",
]

# Seconds a Celery worker is given to finish its tasks: a warm shutdown takes as long as the longest task.
CELERY_DRAIN = 300.0

# Seconds added to a drain time the program itself keeps, so that it ends by itself and is not killed on the last metre.
_MARGIN = 5.0

_WEB_DRAIN = "SIGTERM: stops accepting, answers what it has, exits"


def _reloads(option: str) -> Advice:
    return Advice(
        message=f"{option} starts the program again by itself, behind its supervisor's back",
        hint=f'remove {option}; for development write watch = true under the process, or watch = ["src"]',
    )


def _daemon(option: str) -> Advice:
    return Advice(
        message=f"{option} sends the program to the background, where it looks like an exit",
        hint=f"remove {option}: Oxherd keeps the program in its foreground and in the background of everything else",
    )


def recognise(command: Command) -> Program:
    """Return what is known of the program a command runs.

    Args:
        command: A command line that was read; a shell command is looked into as far as its last command.
    """
    argv, behind_shell = command.argv, False
    while (script := program_of_shell(argv)) is not None:
        argv, behind_shell = script.argv, behind_shell or not script.replaced
    name, args, wrapper = unwrap(argv)
    row = _ROWS.get(name)
    program = row(args) if row is not None else None
    if program is None:
        return GENERIC
    return _placed(program, args, wrapper, behind_shell=behind_shell)


def _placed(program: Program, args: tuple[str, ...], wrapper: str, *, behind_shell: bool) -> Program:
    return replace(program, args=args, wrapper=wrapper, behind_shell=behind_shell)


def _tcp(
    host: str | None, port: str | None, default_host: str = "127.0.0.1", default_port: str = "8000"
) -> tuple[Bind, ...]:
    number = port or default_port
    if not number.isdigit() or int(number) > 65535:
        return ()
    return (Bind(host=(host or default_host).strip("[]"), port=int(number)),)


def addresses(texts: list[str]) -> tuple[Bind, ...]:
    """Return the addresses that gunicorn and hypercorn read in ``--bind``; descriptors are left out."""
    binds: list[Bind] = []
    for text in texts:
        if text.startswith("unix:"):
            binds.append(Bind(path=text.removeprefix("unix:").removeprefix("//")))
        elif not text.startswith("fd:"):
            host, colon, port = text.rpartition(":")
            # ":8000" means every address; "host" alone means the usual port.
            binds += _tcp((host or "0.0.0.0") if colon else text, port if colon else None)  # noqa: S104 - what it says
    return tuple(binds)


def _drain_time(seconds: float | None) -> float | None:
    """Return a stop timeout that lets the program's own drain time run out, where that is above the usual ten seconds."""
    return seconds + _MARGIN if seconds is not None and seconds + _MARGIN > 10 else None


UVICORN_VALUED = option_names(
    "--host --port --uds --fd --reload-dir --reload-include --reload-exclude --reload-delay --workers --env-file "
    "--log-config --log-level --loop --http --ws --ws-max-size --ws-max-queue --ws-ping-interval --ws-ping-timeout "
    "--ws-per-message-deflate "
    "--lifespan --interface --root-path --forwarded-allow-ips --limit-concurrency --backlog --limit-max-requests "
    "--limit-max-requests-jitter --timeout-keep-alive --timeout-graceful-shutdown --timeout-worker-healthcheck "
    "--ssl-keyfile --ssl-certfile --ssl-keyfile-password --ssl-version --ssl-cert-reqs --ssl-ca-certs --ssl-ciphers "
    "--header --app-dir --h11-max-incomplete-event-size"
)


def _uvicorn(args: tuple[str, ...]) -> Program:
    options = Options(args, UVICORN_VALUED)
    uds = options.last("--uds")
    binds: tuple[Bind, ...] = ()
    if uds:
        binds = (Bind(path=uds),)
    elif not options.has("--fd"):
        binds = _tcp(options.last("--host"), options.last("--port"))
    return Program(
        name="uvicorn",
        title="Uvicorn",
        drains=_WEB_DRAIN,
        default_stop_timeout=_drain_time(options.number("--timeout-graceful-shutdown")),
        binds=binds,
        advice=(_reloads("--reload"),) if options.has("--reload") else (),
    )


GUNICORN_VALUED = option_names(
    "-c --config -b --bind --backlog -w --workers -k --worker-class --threads --worker-connections --max-requests "
    "--max-requests-jitter -t --timeout --graceful-timeout --keep-alive --limit-request-line --limit-request-fields "
    "--limit-request-field_size --reload-engine --reload-extra-file --chdir -e --env -p --pid --worker-tmp-dir -u --user "
    "-g --group -m --umask --access-logfile --access-logformat --error-logfile --log-file --log-level --logger-class "
    "--log-config --log-config-json --log-syslog-to --log-syslog-prefix --log-syslog-facility --statsd-host "
    "--statsd-prefix --dogstatsd-tags -n --name --pythonpath --paste --paste-global --forwarded-allow-ips "
    "--proxy-allow-from --keyfile --certfile --ssl-version --cert-reqs --ca-certs --ciphers"
)


def _gunicorn(args: tuple[str, ...]) -> Program:
    options = Options(args, GUNICORN_VALUED)
    said = options.every("-b", "--bind")
    # A configuration file may say anything; without one gunicorn's default applies.
    binds = addresses(said) if said else () if options.has("-c", "--config") else _tcp(None, None)
    graceful = options.number("--graceful-timeout")
    advice = [_daemon(option) for option in ("-D", "--daemon") if options.has(option)]
    return Program(
        name="gunicorn",
        title="Gunicorn",
        drains=_WEB_DRAIN,
        default_stop_timeout=_drain_time(30.0 if graceful is None else graceful),
        binds=binds,
        advice=(*advice, *([_reloads("--reload")] if options.has("--reload") else [])),
        notes=(
            f"gunicorn gives its workers {30 if graceful is None else graceful:g} s to finish (--graceful-timeout)",
        ),
    )


HYPERCORN_VALUED = option_names(
    "--access-log --access-logfile --access-logformat --backlog -b --bind --ca-certs --certfile --cert-reqs --ciphers "
    "-c --config --error-log --error-logfile --log-file --graceful-timeout --group -g --insecure-bind --keep-alive "
    "--keyfile --keyfile-password --log-config --log-level --max-requests --max-requests-jitter -p --pid --quic-bind "
    "--read-timeout --root-path --server-name --statsd-host --statsd-prefix -m --umask -u --user -k --worker-class -w "
    "--workers --websocket-ping-interval"
)


def _hypercorn(args: tuple[str, ...]) -> Program:
    options = Options(args, HYPERCORN_VALUED)
    said = options.every("-b", "--bind")
    return Program(
        name="hypercorn",
        title="Hypercorn",
        drains=_WEB_DRAIN,
        default_stop_timeout=_drain_time(options.number("--graceful-timeout")),
        binds=addresses(said) if said else () if options.has("-c", "--config") else _tcp(None, None),
        advice=(_reloads("--reload"),) if options.has("--reload") else (),
    )


DAPHNE_VALUED = option_names(
    "-p --port -b --bind --websocket_timeout --websocket_connect_timeout -u --unix-socket --fd -e --endpoint -v "
    "--verbosity -t --http-timeout --access-log --log-fmt --ping-interval --ping-timeout --application-close-timeout "
    "--root-path --proxy-headers-host --proxy-headers-port -s --server-name"
)


def _daphne(args: tuple[str, ...]) -> Program:
    options = Options(args, DAPHNE_VALUED)
    path = options.last("-u", "--unix-socket")
    binds: tuple[Bind, ...] = ()
    if path:
        binds = (Bind(path=path),)
    elif not options.has("--fd", "-e", "--endpoint"):
        binds = _tcp(options.last("-b", "--bind"), options.last("-p", "--port"))
    return Program(name="daphne", title="Daphne", drains="SIGTERM: closes its connections and exits", binds=binds)


GRANIAN_VALUED = option_names(
    "--host --port --uds --uds-permissions --http --ws --interface --workers --blocking-threads --runtime-threads "
    "--runtime-blocking-threads --runtime-mode --loop --task-impl --backlog --backpressure --http1-buffer-size "
    "--log-level --log-config --access-log-fmt --ssl-certificate --ssl-keyfile --ssl-keyfile-password --url-path-prefix "
    "--respawn-interval --workers-lifetime --workers-kill-timeout --working-dir --env-files --static-path-route "
    "--static-path-mount --reload-paths --reload-ignore-dirs --process-name --pid-file --workers-max-rss"
)


def _granian(args: tuple[str, ...]) -> Program:
    options = Options(args, GRANIAN_VALUED)
    uds = options.last("--uds")
    return Program(
        name="granian",
        title="Granian",
        drains=_WEB_DRAIN,
        default_stop_timeout=_drain_time(options.number("--workers-kill-timeout")),
        binds=(Bind(path=uds),) if uds else _tcp(options.last("--host"), options.last("--port")),
        advice=(_reloads("--reload"),) if options.has("--reload") else (),
    )


def _flask(args: tuple[str, ...]) -> Program | None:
    options = Options(args, option_names("-A --app -e --env-file -h --host -p --port --cert --key --extra-files"))
    if "run" not in options.words:
        return None
    return Program(
        name="flask-run",
        title="Flask's development server",
        drains="dies of its stop signal; requests in flight are lost",
        binds=_tcp(options.last("-h", "--host"), options.last("-p", "--port"), default_port="5000"),
        advice=(
            Advice(
                message="flask run is a development server: one request at a time matters to nobody there",
                hint='for production write app = "module:app" instead of command: Oxherd serves it with its own workers',
            ),
        ),
    )


def _manage(args: tuple[str, ...]) -> Program | None:
    options = Options(args, frozenset({"--settings", "--pythonpath", "-v", "--verbosity"}))
    if not options.words or options.words[0] not in ("runserver", "runserver_plus"):
        return None
    host, colon, port = (options.words[1] if len(options.words) > 1 else "").rpartition(":")
    return Program(
        name="django-runserver",
        title="Django's development server",
        drains="dies of its stop signal; requests in flight are lost",
        binds=_tcp(host if colon else None, port),
        advice=(
            Advice(
                message="runserver is a development server, and restarts itself when files change",
                hint='for production write app = "project.wsgi:application" instead of command; else add --noreload',
            ),
        ),
    )


_CELERY_GLOBAL = option_names("-A --app -b --broker --result-backend --loader --config --workdir")
_CELERY_VALUED = _CELERY_GLOBAL | option_names(
    "-n --hostname -s --schedule --schedule-filename -S --scheduler --statedb --loglevel -l --logfile -f --pidfile --uid --gid "
    "--umask --executable -c --concurrency -P --pool --time-limit --soft-time-limit --max-tasks-per-child "
    "--max-memory-per-child -Q --queues -X --exclude-queues -I --include --autoscale -O --optimization "
    "--prefetch-multiplier --max-interval --port --address --basic-auth --auth --persistent --db --url-prefix"
)


def _celery(args: tuple[str, ...]) -> Program | None:
    words = Options(args, _CELERY_GLOBAL).words
    verb = next((word for word in words if word in _CELERY_VERBS), "")
    return _CELERY_VERBS[verb](Options(args, _CELERY_VALUED)) if verb else None


def _celery_worker(options: Options) -> Program:
    embedded = options.has("-B", "--beat")
    return Program(
        name="celery-worker",
        title="Celery worker with an embedded beat" if embedded else "Celery worker",
        drains="SIGTERM to its main process only: takes no new task, finishes the ones it has, exits",
        singleton=embedded,
        # Two of one pid file or state file would fight for it.
        overlaps=not embedded and not options.has("--pidfile", "--statedb"),
        default_stop_timeout=CELERY_DRAIN,
        advice=_celery_background(options),
        notes=("its pool processes never get the stop signal themselves: that would lose their tasks",),
    )


def _celery_beat(options: Options) -> Program:
    return Program(
        name="celery-beat",
        title="Celery beat",
        drains="SIGTERM: saves its schedule and exits",
        singleton=True,
        advice=_celery_background(options),
        notes=("a second beat would send every task twice, so there is never more than one",),
    )


def _celery_background(options: Options) -> tuple[Advice, ...]:
    return tuple(_daemon(option) for option in ("-D", "--detach") if options.has(option))


def _celery_multi(options: Options) -> Program:
    del options
    hint = 'write command = "celery -A APP worker", and instances = N with -n worker{instance}@%h for N of them'
    return Program(
        name="celery-multi",
        title="Celery multi",
        drains="starts workers in the background and exits",
        advice=(Advice(message="celery multi is a process manager of its own and leaves at once", hint=hint),),
    )


def _celery_flower(options: Options) -> Program:
    binds = _tcp(options.last("--address"), options.last("--port"), "0.0.0.0", "5555")  # noqa: S104 - its default
    return Program(name="celery-flower", title="Flower", drains="SIGTERM: exits", binds=binds)


_CELERY_VERBS: dict[str, Callable[[Options], Program]] = {
    "worker": _celery_worker,
    "beat": _celery_beat,
    "multi": _celery_multi,
    "flower": _celery_flower,
}


def _rq(args: tuple[str, ...]) -> Program | None:
    if "worker" not in args and "worker-pool" not in args:
        return None
    return Program(
        name="rq-worker",
        title="RQ worker",
        drains="SIGTERM: finishes the job it has, exits",
        overlaps=True,
        default_stop_timeout=CELERY_DRAIN,
    )


def _dramatiq(args: tuple[str, ...]) -> Program:
    return Program(
        name="dramatiq",
        title="Dramatiq",
        drains="SIGTERM: finishes the messages it has, exits",
        default_stop_timeout=CELERY_DRAIN,
        advice=(_reloads("--watch"),) if any(word.partition("=")[0] == "--watch" for word in args) else (),
    )


def _huey(args: tuple[str, ...]) -> Program:
    del args
    return Program(
        name="huey",
        title="Huey consumer",
        drains="SIGINT: finishes the tasks it has, exits; SIGTERM would interrupt them",
        default_stop_timeout=CELERY_DRAIN,
        default_stop_signal=2,
    )


_ROWS: dict[str, Callable[[tuple[str, ...]], Program | None]] = {
    "uvicorn": _uvicorn,
    "gunicorn": _gunicorn,
    "hypercorn": _hypercorn,
    "daphne": _daphne,
    "granian": _granian,
    "flask": _flask,
    "manage.py": _manage,
    "django-admin": _manage,
    "django": _manage,
    "celery": _celery,
    "rq": _rq,
    "dramatiq": _dramatiq,
    "huey_consumer": _huey,
    "huey_consumer.py": _huey,
    "huey.bin.huey_consumer": _huey,
}
