"""The frozen model that every oxfile, in either dialect, becomes.

One value of this model says everything there is to know of a stack before it runs: the supervisor, the CLI, the
exporters and the tests read it and nothing writes it. Times are seconds (float), sizes are bytes (int), signals are
numbers. Equality is by value, which is what ``oxherd apply`` compares to find out what changed.

The model is imported by the supervisor, so it imports almost nothing.
"""

from __future__ import annotations

from enum import Enum

from oxherd.core.fleet import DependencyCondition
from oxherd.core.restart import RestartPolicy
from oxherd.records import dataclass

__all__ = [
    "AppSpec",
    "Command",
    "DependencyCondition",
    "DeploySpec",
    "GitSpec",
    "HealthSpec",
    "HostSpec",
    "HostWay",
    "LimitSpec",
    "LogFormat",
    "LogSpec",
    "Oxfile",
    "ProcessKind",
    "ProcessSpec",
    "ProcessType",
    "ScheduleSpec",
    "StopSpec",
    "WatchSpec",
    "WebhookSpec",
]


class ProcessKind(Enum):
    """Who runs the program: it runs itself (command), or Oxherd's workers serve it (app)."""

    COMMAND = "command"
    APP = "app"


class ProcessType(Enum):
    """What the end of the program means: a service goes on, a oneshot is done, a job runs by the clock."""

    SERVICE = "service"
    ONESHOT = "oneshot"
    SCHEDULED = "scheduled"


class LogFormat(Enum):
    """How a captured line is written: as it came, or wrapped in a JSON object."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command line that was read once: exec'd directly, or by ``/bin/sh -c`` where it needs a shell.

    Attributes:
        text: What the user wrote.
        argv: What is exec'd; for a shell command ``("/bin/sh", "-c", text)``.
        shell: Whether a shell reads it.
    """

    text: str
    argv: tuple[str, ...]
    shell: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StopSpec:
    """How a process is asked to go, and how long it may take before everything it started is killed."""

    signal: int = 15
    timeout: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthSpec:
    """A health check: exactly one of ``endpoint`` (http or https URL), ``tcp`` (host:port) and ``command``.

    ``grace`` is the time after a start in which failures do not count; it is not a wait. ``readiness`` is a second
    URL whose failure takes a worker out of the accept set without a restart.
    """

    endpoint: str | None = None
    tcp: str | None = None
    command: Command | None = None
    interval: float = 30.0
    timeout: float = 5.0
    grace: float = 10.0
    healthy_threshold: int = 1
    unhealthy_threshold: int = 3
    readiness: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSpec:
    """Limits over the whole process tree of an instance. ``cpu_percent`` 200 is two cores, sustained for the window."""

    memory: int | None = None
    cpu_percent: float | None = None
    cpu_window: float = 60.0
    nofile: int | None = None
    pids: int | None = None
    hard: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSpec:
    """Where output goes and how files rotate. ``file`` None is Oxherd's own file under the state directory.

    ``date_format`` is a strftime format (moment-style tokens are translated when the oxfile is read); where it is set
    every line gets that prefix. ``max_bytes`` 0 switches rotation off.
    """

    file: str | None = None
    error_file: str | None = None
    date_format: str | None = None
    format: LogFormat = LogFormat.TEXT
    max_bytes: int = 100 * 1024 * 1024
    max_files: int = 5
    compress: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchSpec:
    """Restart on file changes, for development.

    ``ignore`` are globs, ``ignore_regex`` regular expressions; ``extensions`` start with a dot.
    """

    paths: tuple[str, ...]
    extensions: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    ignore_regex: tuple[str, ...] = ()
    delay: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleSpec:
    """Cron, in 5 or 6 fields (seconds first), in local time unless ``timezone`` names another.

    Attributes:
        cron: When a scheduled job runs; None for a process that is not a job.
        restart_cron: When a service is restarted by the clock (``cron_restart``).
        timezone: An IANA name, or None for local time.
        timeout: Seconds after which a run of the job is stopped, or None.
        catch_up: Whether a run missed while the supervisor was down is made up for, once.
        on_failure: "alert" records a failed run as an alert event; None only as an exit.
    """

    cron: str | None = None
    restart_cron: str | None = None
    timezone: str | None = None
    timeout: float | None = None
    catch_up: bool = False
    on_failure: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AppSpec:
    """What Oxherd's own workers need to serve an app, for processes with ``app``.

    ``workers`` None is as many as there are CPUs to use; ``server`` "auto" is what fits the app and is installed.
    ``access_log`` is True, False, "text", "json" or a path.
    """

    target: str
    bind: tuple[str, ...] = ("127.0.0.1:8000",)
    workers: int | None = 1
    server: str = "auto"
    server_options: tuple[tuple[str, object], ...] = ()
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    access_log: str | bool = False
    log_level: str | None = None
    preload: str = "auto"
    balance: str = "slots"
    max_requests: int | None = None
    max_requests_jitter: int = 0
    max_lifetime: float | None = None
    max_memory: int | None = None
    timeout: float = 30.0
    graceful_timeout: float | None = None
    keepalive: float = 5.0


class HostWay(Enum):
    """How a process gets the sockets the supervisor holds for it."""

    HOSTED = "hosted"  # Oxherd's own workers serve the app with the engine's parts
    PASSED = "passed"  # the program runs by itself and gets its listeners as descriptors


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSpec:
    """How the supervisor's listeners and the program of a process come together.

    Made when the oxfile is compiled: of ``app``, or of a command line that was recognised. Times in seconds.

    Attributes:
        way: Hosted by Oxherd's workers, or passed to the program.
        engine: uvicorn, gunicorn, granian or hypercorn; "auto" for an app whose interface decides, see `engines`; for a
            passed program the program's name.
        engines: Name and version of what of that the interpreter has, a2wsgi included; empty where it was not asked.
        python: The app's interpreter, absolute; "" for a program that is no Python.
        python_options: Options for the interpreter itself, such as ``-O``.
        target: ``module:attr``; "" where the engine's own parser reads it from ``argv``.
        argv: Hosted: the recognised command's own arguments, its name taken off; empty for ``app``. Passed: the whole
            command line with ``{fd:0}`` for the descriptor of the first listener and so on, ``{private}`` for that of a
            private listener for probes; empty where the command runs as it is and reads ``LISTEN_FDS``.
        bind: Addresses the supervisor holds: ``host:port``, ``[v6]:port``, ``unix:/path``.
        interface: "auto", "asgi" or "wsgi".
        factory: Whether the target is called to get the app.
        options: ``server_options``.
        preload: "auto", "true" or "false".
        balance: "slots" or "shared".
        backlog: Queue of each listener.
        tls: Whether the listeners speak TLS.
        ssl_certfile, ssl_keyfile: Paths, or None.
        access_log: False, "text", "json" or a path.
        log_level: The engine's, or None.
        boot_timeout: Time a worker has until its app has started.
        block_timeout: Time a worker's event loop may stand still before the worker is replaced.
        graceful_timeout: Time requests in flight have when a worker leaves.
        linger: Time a leaving worker waits for silent and idle connections to speak.
        keepalive: Time an idle connection is kept.
        max_requests, max_requests_jitter, max_lifetime, max_memory: When a worker is recycled; None or 0 is never.
        overlap: For a passed program: whether old and new may run side by side.
    """

    way: HostWay = HostWay.HOSTED
    engine: str = "uvicorn"
    engines: tuple[tuple[str, str], ...] = ()
    python: str = ""
    python_options: tuple[str, ...] = ()
    target: str = ""
    argv: tuple[str, ...] = ()
    bind: tuple[str, ...] = ()
    interface: str = "auto"
    factory: bool = False
    options: tuple[tuple[str, object], ...] = ()
    preload: str = "auto"
    balance: str = "slots"
    backlog: int = 2048
    tls: bool = False
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    access_log: str | bool = False
    log_level: str | None = None
    boot_timeout: float = 120.0
    block_timeout: float = 30.0
    graceful_timeout: float = 10.0
    linger: float = 7.0
    keepalive: float = 5.0
    max_requests: int | None = None
    max_requests_jitter: int = 0
    max_lifetime: float | None = None
    max_memory: int | None = None
    overlap: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSpec:
    """A signed push that triggers a deploy."""

    enabled: bool = False
    port: int = 9000
    secret: str | None = None
    branch: str | None = None
    on_push: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GitSpec:
    """Where the code of a process comes from, for deploys by pull."""

    repo: str | None = None
    ref: str | None = None
    secret: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploySpec:
    """One ``[deploy.NAME]`` table, kept as written (keys are checked when it is read)."""

    name: str
    options: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """One process of a stack, with every default in place.

    Attributes:
        name: The table's name.
        kind: Command or app.
        type: Service, oneshot or scheduled job.
        command: The command line; None for an app process.
        app: The app; None for a command process.
        host: How it gets the supervisor's listeners; None for a program that has none or brings its own. Each instance
            is then one worker.
        working_dir: Absolute directory.
        instances: Number of copies, at least 1 ("max" has been resolved).
        env: Every variable the oxfile and its env_files set, in the order of their names. It wins over the caller's.
        env_files: The files that were read, absolute.
        depends_on: Name and condition of each dependency.
        singleton: Never two at a time, not during a reload either.
        start_delay: Seconds before the first start.
        namespace: A label for groups of processes, from the ``[[apps]]`` dialect.
        pre_start: Run once a generation, before its first start; failing aborts.
        pre_reload: Run once a reload, before anything changes; failing aborts.
        program: What the command was recognised as ("celery-worker", "uvicorn", ... or "generic").
        adopt: Whether recognised programs are run in Oxherd's own way.
        socket: An address to hold and to pass as LISTEN_FDS.
        python: The interpreter as written, or None to find one.
        user, group: Names or numbers to drop privileges to.
        umask: Octal value, or None.
        nice: Niceness, or None.
        set_keys: The keys the oxfile spells out, as the canonical spelling; ``explain`` shows the others as defaults.
    """

    name: str
    kind: ProcessKind = ProcessKind.COMMAND
    type: ProcessType = ProcessType.SERVICE
    command: Command | None = None
    app: AppSpec | None = None
    host: HostSpec | None = None
    working_dir: str
    instances: int = 1
    env: tuple[tuple[str, str], ...] = ()
    env_files: tuple[str, ...] = ()
    instance_var: str | None = None
    depends_on: tuple[tuple[str, DependencyCondition], ...] = ()
    singleton: bool = False
    disabled: bool = False
    namespace: str | None = None
    start_delay: float = 0.0
    ready_timeout: float | None = None
    restart: RestartPolicy = RestartPolicy()
    stop: StopSpec = StopSpec()
    health: HealthSpec | None = None
    limits: LimitSpec = LimitSpec()
    logs: LogSpec = LogSpec()
    watch: WatchSpec | None = None
    schedule: ScheduleSpec | None = None
    pre_start: Command | None = None
    pre_reload: Command | None = None
    webhook: WebhookSpec | None = None
    git: GitSpec | None = None
    program: str = "generic"
    adopt: bool = True
    socket: str | None = None
    python: str | None = None
    user: str | None = None
    group: str | None = None
    umask: int | None = None
    nice: int | None = None
    set_keys: tuple[str, ...] = ()

    @property
    def hosted(self) -> bool:
        """Whether Oxherd's own workers serve it."""
        return self.host is not None and self.host.way is HostWay.HOSTED

    @property
    def passed(self) -> bool:
        """Whether it is a program that gets listeners of the supervisor as descriptors."""
        return self.host is not None and self.host.way is HostWay.PASSED and bool(self.host.bind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Oxfile:
    """A whole oxfile.

    Attributes:
        path: Absolute path; the identity of the stack.
        name: ``name =`` or the name of the folder.
        dialect: "processes" or "apps".
        profile: The profile that was applied, or None.
        processes: In the order of the file, or of ``start_order`` where it is set.
        deploys: The ``[deploy.NAME]`` tables.
        webhook: The webhook of the whole stack (top-level ``[webhook]``).
    """

    path: str
    name: str
    dialect: str = "processes"
    profile: str | None = None
    processes: tuple[ProcessSpec, ...] = ()
    deploys: tuple[DeploySpec, ...] = ()
    webhook: WebhookSpec | None = None

    def process(self, name: str) -> ProcessSpec | None:
        """Return the process of that name, or None."""
        return next((process for process in self.processes if process.name == name), None)
