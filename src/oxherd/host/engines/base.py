"""What a worker asks of an engine, and what an engine tells its worker.

An engine runs in the main thread of a worker until it has drained. Listeners come and go while it runs: `accept` and
`release` are called from the worker's control thread, `drain` and `stop` from a signal handler in the main thread, and
each has to bring its work to wherever the engine does it (its event loop, its poller).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

    from ..meters import Meters

__all__ = ["App", "Engine", "EngineError", "Job", "StartupError", "Told"]


class EngineError(Exception):
    """The engine cannot serve this app with these options. The text says what, where, what was expected, what to do."""


class StartupError(Exception):
    """The app's own startup (its lifespan) failed, and the engine has printed why.

    Attributes:
        text: The last thing that was said, for a person.
        traceback: All that was said.
    """

    def __init__(self, text: str, traceback: str = "") -> None:
        """Say what."""
        super().__init__(text)
        self.text = text
        self.traceback = traceback


@dataclass(frozen=True)
class App:
    """The app, imported.

    Attributes:
        call: The ASGI or WSGI callable, without any wrapper.
        interface: "asgi" or "wsgi".
        label: ``module:attr``, for texts.
    """

    call: Any
    interface: str
    label: str


@dataclass(frozen=True)
class Job:
    """How to serve, as the supervisor wrote it; the field names are those of the ``job`` object. Times in seconds."""

    engine: str
    source: str = "app"
    argv: tuple[str, ...] = ()
    target: str = ""
    factory: bool = False
    interface: str = "auto"
    options: Mapping[str, Any] = field(default_factory=dict)
    cwd: str = "/"
    stack: str = ""
    process: str = ""
    generation: int = 1
    keepalive: float = 5.0
    graceful_timeout: float = 10.0
    linger: float = 7.0
    backlog: int = 2048
    max_requests: int = 0
    max_requests_jitter: int = 0
    access_log: bool | str = False
    log_level: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    preload: bool = True

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Job:
        """Return the job of a JSON object; fields this version does not know are ignored."""
        known = {name: fields[name] for name in cls.__dataclass_fields__ if name in fields}
        known["argv"] = tuple(known.get("argv", ()))
        return cls(**known)

    def common(self) -> dict[str, Any]:
        """Return the fields that the jobs of all engines have, by name: an engine's own kind of job is made of them."""
        return {name: getattr(self, name) for name in Job.__dataclass_fields__}


@dataclass(frozen=True)
class Told:
    """Where an engine tells its worker; callable from any thread.

    Attributes:
        started: The app's startup is over and the private listener is served. Called once.
        draining: The lame duck has begun.
        closed: How many connections were still open, and were closed, when the linger or the graceful time ended.
    """

    started: Callable[[], None]
    draining: Callable[[], None]
    closed: Callable[[int], None]


class Engine(Protocol):
    """One engine in one worker. The module of an engine has ``load`` and ``make``, see `Loader`."""

    def run(self, private: socket.socket) -> int:
        """Start the app, serve the private unix listener, and whatever `accept` brings, until drained or stopped.

        Args:
            private: A listening unix socket; health checks of this very worker come through it.

        Returns:
            The exit code: 0 after a drain, 3 where the app's startup failed (the traceback was printed) and the engine
            cannot tell more than that.

        Raises:
            EngineError: It cannot serve with these options.
            StartupError: The app's startup failed; the engine has printed the traceback and knows what it was.
        """

    def accept(self, key: str, listener: socket.socket) -> None:
        """Begin to accept on one more listener and return when that is so. The engine owns the socket from now on.

        Raises:
            EngineError, OSError: It cannot.
        """

    def release(self, key: str) -> None:
        """Stop accepting on a listener and close this process's descriptor of it; connections stay. Unknown: ignored."""

    def drain(self) -> None:
        """Become a lame duck; idempotent, a second call skips the linger.

        Stop accepting everywhere but on the private listener; answer what is there or comes on connections that exist,
        with ``Connection: close``; after ``job.linger`` close what is silent; after ``job.graceful_timeout`` give up on
        what is in flight (websockets get 1012 after the app had its chance). Then `run` returns 0.
        """

    def stop(self) -> None:
        """Return from `run` as soon as the engine can, without waiting for connections."""

    def connections(self) -> int:
        """Return how many client connections are open, private ones left out where that can be told."""

    def facts(self) -> Mapping[str, str]:
        """Return what `started` reports: ``engine_version``, ``loop`` and the like."""


class Loader(Protocol):
    """What the module of an engine offers beside its class."""

    def prepare(self, job: Job) -> Job:
        """Read the engine's own command line and environment in the app's interpreter (``source == "command"``).

        Returns the job with target, interface, factory and what else the engine's parser says filled in. Called once a
        zygote, before the app is imported; may change ``sys.path``, the directory and the environment as the engine does.

        Raises:
            EngineError: The options are wrong; the text is the engine's own.
        """

    # ``find(job) -> App`` may be there too: an engine whose targets are a language of their own imports them itself.
    # ``FOREIGN_THREADS = True`` may be there: threads of a runtime that is not Python's may call into it when `Engine.run`
    # has returned.

    def make(self, job: Job, app: App, meters: Meters, told: Told) -> Engine:
        """Return the engine of one worker, in the worker (after the fork).

        Raises:
            EngineError: It cannot serve this app with these options.
        """
