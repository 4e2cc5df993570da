"""gunicorn's options: of its own command line, its configuration file and its environment, or of ``server_options``."""

from __future__ import annotations

import contextlib
import difflib
import io
import math
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gunicorn import SERVER_SOFTWARE, __version__
from gunicorn.app.wsgiapp import WSGIApplication
from gunicorn.config import get_default_config_file

from .base import EngineError, Job
from .gunicorn_hosting import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Prepared", "has_asgi_worker", "notes", "prepare", "read_command", "unsupported", "worker_class"]

# Settings that are keys of the oxfile, or have no meaning without an arbiter.
_OURS = {
    "bind": "bind",
    "workers": "workers",
    "backlog": "backlog",
    "reuse_port": "balance",
    "reload": "watch",
    "reload_engine": "watch",
    "reload_extra_files": "watch",
    "preload_app": "preload",
    "max_requests": "max_requests",
    "max_requests_jitter": "max_requests_jitter",
    "timeout": "timeout",
    "graceful_timeout": "graceful_timeout",
    "keepalive": "keepalive",
    "accesslog": "access_log",
    "loglevel": "log_level",
    "certfile": "ssl_certfile",
    "keyfile": "ssl_keyfile",
    "user": "user",
    "group": "group",
    "umask": "umask",
    "raw_env": "env",
    "chdir": "working_dir",
    "wsgi_app": "app",
    "paste": None,
    "daemon": None,
    "pidfile": None,
    "print_config": None,
    "check_config": None,
    "spew": None,
}
# What needs gunicorn's own arbiter: setting, and what to say of it.
_ARBITER_ONLY = {
    "dirty_apps": "dirty workers are children of gunicorn's arbiter",
    "print_config": "--print-config prints and serves nothing",
    "check_config": "--check-config checks and serves nothing",
    "spew": "--spew traces every line that is run",
}
_ASGI_WORKER = "gunicorn.workers.gasgi"
_DEFAULT_THREADS = 4


@dataclass(frozen=True)
class Prepared(Job):
    """A job with gunicorn's own application object, which has its configuration, and the server its hooks see.

    Attributes:
        unforkable: Why the app must be imported in each worker, "" where a zygote can do it for all.
    """

    application: Any = None
    server: Any = None
    unforkable: str = ""

    @property
    def cfg(self) -> Any:
        """The configuration."""
        return self.application.cfg


class _Command(WSGIApplication):  # type: ignore[misc]
    """gunicorn's own application, which does not end the process when its options are wrong."""

    has_worker_class = True
    config_file: str | None = None

    def load_config_from_file(self, filename: str) -> Any:
        self.config_file = filename
        return super().load_config_from_file(filename)

    def do_load_config(self) -> None:
        self.load_default_config()
        self.load_config()
        _validate(self.cfg)


class _Options(WSGIApplication):  # type: ignore[misc]
    """An application whose options are those of an app process: a configuration file, and `server_options` over it."""

    def __init__(self, job: Job) -> None:
        self._job = job
        super().__init__(prog="gunicorn")

    def do_load_config(self) -> None:
        job = self._job
        self.load_default_config()
        self.app_uri = job.target
        self.cfg.set("default_proc_name", job.target)
        path = job.options.get("config") or get_default_config_file()
        given = {*job.options, *(self.load_config_from_file(path) if path else ())}
        self.has_worker_class = "worker_class" in given
        for name, value in job.options.items():
            if name != "config":
                self._set(name, value)
        # Its access log is Oxherd's, the same on every engine.
        _set_all(self.cfg, keepalive=math.ceil(job.keepalive), accesslog=None)
        if job.log_level:
            self.cfg.set("loglevel", job.log_level)
        if job.ssl_certfile:
            _set_all(self.cfg, certfile=job.ssl_certfile, keyfile=job.ssl_keyfile)
        if not self.has_worker_class:
            self.cfg.set("worker_class", "gthread")
        if "threads" not in given and self.cfg.worker_class_str == "gthread":
            self.cfg.set("threads", _DEFAULT_THREADS)
        _validate(self.cfg)

    def _set(self, name: str, value: Any) -> None:
        settings = self.cfg.settings
        if name in _OURS:
            key = _OURS[name]
            raise EngineError(f"server_options.{name} is Oxherd's to set" + (f"; use the key {key}" if key else ""))
        if name not in settings:
            near = difflib.get_close_matches(name, [one for one in settings if one not in _OURS], 1)
            hint = f"did you mean {near[0]}?" if near else "`gunicorn --help` lists what there is"
            raise EngineError(f"gunicorn {__version__} has no option {name!r}; {hint}")
        try:
            self.cfg.set(name, value)
        except Exception as error:
            raise EngineError(f"server_options.{name} = {value!r}: {error}") from error


def prepare(job: Job) -> Prepared:
    """Read gunicorn's options; see `engines.base.Loader`.

    What gunicorn does before it loads an app happens here, in its order: directory, search path, environment, the hook
    ``on_starting``. It runs once a generation where a zygote imports the app, and once a worker where none does.

    Raises:
        EngineError: They are wrong, or cannot be had without gunicorn's arbiter.
    """
    if isinstance(job, Prepared):
        return job
    is_command = job.source == "command"
    application = read_command(job.argv) if is_command else _read_options(job)
    cfg = application.cfg
    _look_for_certificate(cfg)
    if texts := unsupported(cfg):
        raise EngineError("; ".join(texts) + "; run it yourself with `adopt = false`")
    os.environ["SERVER_SOFTWARE"] = SERVER_SOFTWARE
    os.environ.update(cfg.env)
    for path in (cfg.pythonpath or "").split(","):
        if path and os.path.abspath(path) not in sys.path:
            sys.path.insert(0, os.path.abspath(path))
    changes: dict[str, Any] = {}
    if is_command:
        changes = {
            "target": _target(cfg, application.app_uri),
            "keepalive": float(cfg.keepalive),
            "ssl_certfile": cfg.certfile,
            "ssl_keyfile": cfg.keyfile,
        }
    if cfg.max_requests and not job.max_requests:
        changes |= {"max_requests": cfg.max_requests, "max_requests_jitter": cfg.max_requests_jitter}
    _hand_over(cfg, job)
    unforkable = _patch(cfg)
    server = Server(application)
    if server.has("on_starting"):
        cfg.on_starting(server)
    return Prepared(**{**job.common(), **changes}, application=application, server=server, unforkable=unforkable)


def read_command(argv: tuple[str, ...]) -> Any:
    """Return gunicorn's application for a command line, its configuration file and GUNICORN_CMD_ARGS.

    The configuration file, being Python, is run. The directory may change.

    Raises:
        EngineError: gunicorn refuses them; the text is gunicorn's.
    """
    sys.argv = ["gunicorn", *argv]
    with _errors_of_gunicorn():
        return _Command("%(prog)s [OPTIONS] [APP_MODULE]", prog="gunicorn")


def worker_class(cfg: Any) -> type[Any]:
    """Return the worker class of a configuration.

    Raises:
        EngineError: It is not there.
    """
    try:
        found: type[Any] = cfg.worker_class
    except (RuntimeError, ImportError, AttributeError) as error:
        # gunicorn's text has a whole traceback in it.
        why = str(error).partition("\n")[0].strip().rstrip(":")
        raise EngineError(f"the worker class {cfg.settings['worker_class'].get()!r} cannot be used: {why}") from error
    return found


def unsupported(cfg: Any) -> list[str]:
    """Return why a configuration cannot be hosted; empty where it can."""
    settings = cfg.settings
    texts = [text for name, text in _ARBITER_ONLY.items() if name in settings and settings[name].get()]
    if any(base.__module__ == _ASGI_WORKER for base in worker_class(cfg).__mro__) and not has_asgi_worker():
        texts.append(f"the asgi worker of gunicorn {__version__} cannot be hosted; that of 27 or newer can")
    return texts


def has_asgi_worker() -> bool:
    """Tell whether gunicorn has an ASGI worker whose connections can be told to close one by one: since 27."""
    try:
        from gunicorn.asgi.protocol import ASGIProtocol  # noqa: PLC0415 - before 24 there is none
    except ImportError:
        return False
    return hasattr(ASGIProtocol, "_will_close")


def notes(cfg: Any) -> list[str]:
    """Return what a configuration asks for that has no effect, or another one, without gunicorn's arbiter."""
    told = {
        "reload": "reload has no effect; use `watch`",
        "daemon": "daemon has no effect: Oxherd's supervisor is the one in the background",
        "pidfile": "pidfile is not written: there is no process that all workers belong to",
        "reuse_port": "reuse_port has no effect: Oxherd has a listener for each worker",
    }
    texts = [text for name, text in told.items() if cfg.settings[name].get()]
    for hook in ("on_reload", "on_exit", "pre_exec", "nworkers_changed"):
        setting = cfg.settings[hook]
        if setting.get() is not setting.default:
            texts.append(f"the hook {hook} is never called: what it tells of is the supervisor's to do")
    return texts


def _read_options(job: Job) -> Any:
    with _errors_of_gunicorn():
        return _Options(job)


@contextlib.contextmanager
def _errors_of_gunicorn() -> Iterator[None]:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            yield
    except EngineError:
        raise
    except SystemExit as error:
        if not error.code:
            raise EngineError(f"gunicorn {' '.join(sys.argv[1:])} prints something and serves nothing") from error
        raise EngineError(said.getvalue().strip() or f"gunicorn exited with {error.code!r}") from error
    except Exception as error:
        text = f"{said.getvalue()}\n{error}".strip()
        raise EngineError(f"gunicorn {__version__} refuses its options: {text}") from error
    sys.stderr.write(said.getvalue())


def _validate(cfg: Any) -> None:
    # Newer ones alone: settings against each other.
    if hasattr(type(cfg), "validate"):
        cfg.validate()


def _look_for_certificate(cfg: Any) -> None:
    for name in ("certfile", "keyfile"):
        path = getattr(cfg, name)
        if path and not os.path.exists(path):
            raise EngineError(f'{name} "{path}" does not exist')


def _patch(cfg: Any) -> str:
    """Patch the standard library for a worker class of gevent's, before the app is imported as gunicorn does.

    Returns:
        Why the app cannot be imported in a zygote: its loop is there then, and a fork does not survive it whole.
    """
    if not any(base.__module__ == "gunicorn.workers.ggevent" for base in worker_class(cfg).__mro__):
        return ""
    from gevent import monkey  # noqa: PLC0415 - for its worker classes alone

    monkey.patch_all()
    return "gevent patches the standard library before the app is imported"


def _hand_over(cfg: Any, job: Job) -> None:
    """Take from a configuration what is Oxherd's to do."""
    _set_all(
        cfg,
        max_requests=0,  # the replacement comes first, so it is not the worker that decides
        max_requests_jitter=0,
        reload=False,
        daemon=False,
        pidfile=None,
        reuse_port=False,
        preload_app=False,
        backlog=job.backlog,
        graceful_timeout=max(1, math.ceil(job.graceful_timeout)),
    )


def _set_all(cfg: Any, **values: Any) -> None:
    for name, value in values.items():
        cfg.set(name, value)


def _target(cfg: Any, uri: str) -> str:
    if cfg.paste:
        return uri
    module, colon, attr = uri.partition(":")
    return f"{module}:{attr}" if colon else f"{module}:application"
