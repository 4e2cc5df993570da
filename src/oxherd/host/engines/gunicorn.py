"""gunicorn's worker classes, hosted: under their own configuration and hooks, without gunicorn's arbiter.

The hooks of a configuration and when they are called here:

========================  ==============================================================================================
``on_starting``           before the app is imported: once a generation in the zygote, or in each worker that is exec'd
``when_ready``            in each worker, before it is made; a failure is logged
``pre_fork``              in each worker (there is no other process that could), before ``post_fork``; a failure is logged
``post_fork``             in each worker, before the app starts
``post_worker_init``      in each worker, as by gunicorn
``pre_request``,          as by gunicorn
``post_request``
``worker_int``            in a worker that is told to stop quickly
``worker_abort``          in a worker that gets SIGABRT, or whose sync request outlasts the graceful time
``worker_exit``           in a worker that ends, as by gunicorn
``child_exit``            in a worker, after ``worker_exit``; never for one that was killed
``ssl_context``           as by gunicorn
========================  ==============================================================================================

``nworkers_changed``, ``on_reload``, ``on_exit`` and ``pre_exec`` tell of the arbiter and are never called.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from gunicorn import __version__
from gunicorn.errors import AppImportError

from ..access import opened
from ..target import TargetError, interface_of, own_traceback
from ..target import find as find_app
from .base import App, EngineError, Job, StartupError
from .gunicorn_apps import AsgiApp, WsgiApp, any_app
from .gunicorn_hosting import AnyParent, Beat, Course, gunicorn_socket
from .gunicorn_options import Prepared, has_asgi_worker, prepare, worker_class

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping
    from types import ModuleType

    from ..meters import Meters
    from .base import Told

__all__ = ["Gunicorn", "find", "make", "prepare"]

# Who hosts a worker class: the class it is made of, by the module that hosts it, and the interface it serves.
_HOSTS = (
    ("gunicorn.workers.gthread", "ThreadWorker", "gunicorn_threads", "wsgi"),
    ("gunicorn.workers.ggevent", "GeventWorker", "gunicorn_gevent", "wsgi"),
    ("gunicorn.workers.sync", "SyncWorker", "gunicorn_sync", "wsgi"),
    ("gunicorn.workers.gasgi", "ASGIWorker", "gunicorn_asgi", "asgi"),
    ("uvicorn_worker", "UvicornWorker", "gunicorn_uvicorn", "asgi"),
    ("uvicorn_worker._workers", "UvicornWorker", "gunicorn_uvicorn", "asgi"),
    ("uvicorn.workers", "UvicornWorker", "gunicorn_uvicorn", "asgi"),
)
_OTHER = ("gunicorn_other", "auto")


def find(job: Job) -> App:
    """Import the app as gunicorn does; see `engines.base.Loader`.

    Raises:
        TargetError: It cannot be imported, or is none.
    """
    prepared = prepare(job)
    app = _found(prepared)
    if not prepared.unforkable:
        with contextlib.suppress(EngineError):  # the worker says so
            _import_early(prepared, app)
    return app


def _import_early(prepared: Prepared, app: App) -> None:
    """Import what each worker would after its fork: that takes longer than the fork, and here its pages are shared."""
    importlib.import_module("gunicorn.glogging")
    _, host, _ = _hosting(prepared, app)
    if hasattr(host, "import_early"):
        host.import_early(prepared.cfg)


def _found(prepared: Prepared) -> App:
    host, interface = _host_of(worker_class(prepared.cfg))
    _, _, attr = prepared.target.partition(":")
    if prepared.source == "app":
        return find_app(prepared.target, factory=prepared.factory, interface=prepared.interface)
    if attr.isidentifier() and host != _OTHER[0] and not prepared.cfg.paste:
        return find_app(prepared.target, interface=interface)
    try:
        call = prepared.application.load()
    except AppImportError as error:
        raise TargetError(str(error)) from error
    except Exception as error:
        raise TargetError(f"importing {prepared.target} failed: {error!r}", own_traceback(error)) from error
    return App(call=call, interface=interface, label=prepared.target)


def make(job: Job, app: App, meters: Meters, told: Told) -> Gunicorn:
    """Return the engine of one worker; see `engines.base.Loader`.

    Raises:
        EngineError: It cannot serve this app.
    """
    prepared = prepare(job)
    base, host, serves = _hosting(prepared, app)
    looks = interface_of(app.call) if prepared.source == "command" else app.interface
    if serves != "auto" and looks in {"asgi", "wsgi"} and looks != serves:
        better = "asgi or uvicorn_worker.UvicornWorker" if looks == "asgi" else "gthread"
        raise EngineError(
            f"{app.label} is an {looks.upper()} app, and the worker class {prepared.cfg.worker_class_str} serves"
            f" {serves.upper()}; use worker_class {better}"
        )
    return Gunicorn(job=prepared, app=app, hosted=host.hosted(base), serves=serves, meters=meters, told=told)


def _hosting(prepared: Prepared, app: App) -> tuple[type[Any], ModuleType, str]:
    """Return the worker class, the module that hosts it, and the interface that it serves."""
    cfg = prepared.cfg
    if app.interface == "asgi" and not prepared.application.has_worker_class:
        cfg.set("worker_class", _asgi_worker())
    base = worker_class(cfg)
    host, serves = _host_of(base)
    try:
        return base, importlib.import_module(f".{host}", __package__), serves
    except ImportError as error:
        raise EngineError(f"the worker class {cfg.worker_class_str} cannot be used: {error}") from error


def _asgi_worker() -> str:
    if has_asgi_worker():
        return "asgi"
    try:
        importlib.import_module("uvicorn_worker")
    except ImportError as error:
        raise EngineError(
            f"gunicorn {__version__} has no worker for ASGI apps that can be hosted; type:"
            f" {sys.executable} -m pip install -U 'gunicorn>=27', or uvicorn-worker"
        ) from error
    return "uvicorn_worker.UvicornWorker"


def _host_of(hosted: type[Any]) -> tuple[str, str]:
    for base in hosted.__mro__:
        for module, name, host, interface in _HOSTS:
            if (base.__module__, base.__name__) == (module, name):
                return host, interface
    return _OTHER


class Gunicorn:
    """gunicorn in one worker; see `engines.base.Engine`."""

    def __init__(self, *, job: Prepared, app: App, hosted: type[Any], serves: str, meters: Meters, told: Told) -> None:
        """Nothing is made yet."""
        self._job = job
        self._course = course = Course(job, meters, told)
        self._hosted = hosted
        self._worker: Any = None
        log = opened(job)
        match serves:
            case "wsgi":
                # gevent's own server knows no lame duck; those of gunicorn pass over what an app says of connections.
                course.app = WsgiApp(app.call, meters, closing=course.duck, log=log and log.wsgi)
            case "asgi":
                closing = None if getattr(hosted, "says_close", False) else course.duck
                course.app = AsgiApp(app.call, meters, course.failed, closing=closing, log=log and log.asgi)
                course.tally = course.app.tally
            case _:
                course.app = any_app(app.call, interface_of(app.call), meters, course.duck)
        course.app.is_tls = bool(job.cfg.is_ssl)
        job.application.callable = course.app

    def run(self, private: socket.socket) -> int:
        """Serve until drained or stopped; see `engines.base.Engine`."""
        job, cfg, server = self._job, self._job.cfg, self._job.server
        server.pid, server.worker_class = os.getppid(), self._hosted
        log = server.log
        if hasattr(self._hosted, "check_config"):
            self._hosted.check_config(cfg, log)
        self._course.app.private_path = private.getsockname()
        listener = gunicorn_socket(private, cfg, log)
        server.LISTENERS = [listener]
        worker = self._hosted(1, AnyParent(os.getppid()), [listener], job.application, cfg.timeout / 2, cfg, log)
        worker.tmp.close()
        worker.tmp = Beat(lambda: None)
        worker.course, worker.plain, worker.pid = self._course, _without_tls(cfg), os.getpid()
        self._worker = worker
        server.WORKERS = {worker.pid: worker}
        server.call("when_ready")
        server.call("pre_fork", worker)
        try:
            return self._live(worker, server, log)
        finally:
            worker.tmp.close()
            server.call("worker_exit", worker)
            server.call("child_exit", worker)
            self._course.end()

    def _live(self, worker: Any, server: Any, log: Any) -> int:
        code = 0
        log.info("Booting worker with pid: %s", worker.pid)
        try:
            self._job.cfg.post_fork(server, worker)
            worker.init_process()
        except (EngineError, StartupError):
            raise
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        except Exception as error:
            log.exception("Exception in worker process")
            if not self._course.started:
                raise StartupError(f"the worker failed before it served: {error!r}", own_traceback(error)) from error
            raise
        log.info("Worker exiting (pid: %s)", worker.pid)
        if self._course.draining:
            self._course.announce()
        if self._course.draining or self._course.stopping:
            return 0
        if not self._course.started:
            reason = self._course.reason.strip()
            last = reason.splitlines()[-1] if reason else "the worker ended before it served; its log has the reason"
            raise StartupError(f"the app's startup failed: {last}", reason)
        return code

    def accept(self, key: str, listener: socket.socket) -> None:
        """Accept on one more listener; see `engines.base.Engine`."""
        self._course.wait()
        self._worker.attach(key, listener)

    def release(self, key: str) -> None:
        """Accept on a listener no more; see `engines.base.Engine`."""
        # A worker that has ended has closed them all.
        with contextlib.suppress(EngineError):
            self._course.wait()
            self._worker.detach(key)

    def drain(self) -> None:
        """Become a lame duck; see `engines.base.Engine`."""
        if not self._course.started:
            self._course.stopping = True
            raise SystemExit(0)
        self._worker.drain()

    def stop(self) -> None:
        """Stop quickly; see `engines.base.Engine`."""
        if not self._course.started:
            self._course.stopping = True
            raise SystemExit(0)
        if not self._course.stopping:
            self._course.stopping = True
            self._course.duck.on = True
            self._job.cfg.worker_int(self._worker)
        self._worker.halt()

    def connections(self) -> int:
        """Return how many client connections are open, private ones left out."""
        return int(self._worker.count()) if self._course.started else 0

    def facts(self) -> Mapping[str, str]:
        """Return the version, the worker class and, where there is one, the loop."""
        return {
            "engine_version": __version__,
            "worker_class": self._job.cfg.worker_class_str,
            "loop": getattr(self._worker, "loop_name", ""),
        }


def _without_tls(cfg: Any) -> Any:
    """Return the configuration for the private listener, which never speaks TLS: a copy where clients do."""
    if not cfg.is_ssl:
        # A copy would be a megabyte in each worker: whatever it touches, the zygote's page is its own from then on.
        return cfg
    # Not `copy.copy`: before gunicorn 24 a configuration without attributes asks itself for ever for the first.
    plain = object.__new__(type(cfg))
    vars(plain).update(vars(cfg))
    plain.settings = dict(cfg.settings)
    for name in ("certfile", "keyfile"):
        plain.settings[name] = copy.copy(cfg.settings[name])
        plain.set(name, None)
    return plain
