"""Granian's own server, never started, for what it makes of its arguments; and its lifespan."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from granian.asgi import LifespanProtocol
from granian.constants import Interfaces, RuntimeModes, TaskImpl
from granian.log import LogLevels
from granian.server.mp import MPServer
from granian.utils.proxies import wrap_asgi_with_proxy_headers, wrap_wsgi_with_proxy_headers

from .base import EngineError
from .granian_options import prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .base import App, Job

__all__ = ["Lifespan", "blocking_of", "mode_of", "server_of"]

# How many threads of granian's own blocking pool (files), its default.
_BLOCKING = 512


class Lifespan(LifespanProtocol):  # type: ignore[misc]
    """Granian's, that keeps what the app said of its failure."""

    said = ""

    def _handle_startup_failed(self, message: Mapping[str, Any]) -> None:
        super()._handle_startup_failed(message)
        self.said = str(message.get("message") or "")

    # Granian's table names its own method.
    _event_handlers = {  # noqa: RUF012 - as in the class it is of
        **LifespanProtocol._event_handlers,  # noqa: SLF001
        "lifespan.startup.failed": _handle_startup_failed,
    }

    def why(self) -> tuple[str, str]:
        """Return why the startup failed, in a line and in full."""
        lines = self.said.strip().splitlines()
        return lines[-1] if lines else (repr(self.exc) if self.exc else "the app's startup failed"), self.said


def server_of(job: Job, app: App) -> tuple[Any, Callable[..., Any]]:
    """Return granian's server, never to be started, for what it makes of its arguments; and the app to call."""
    prepared = prepare(job)
    arguments = {name: value for name, value in prepared.arguments.items() if name != "target"}
    if job.source == "app" or arguments.get("interface") is not Interfaces.ASGINL:
        arguments["interface"] = Interfaces.WSGI if app.interface == "wsgi" else Interfaces.ASGI
    if job.log_level is not None:
        arguments["log_level"] = LogLevels(job.log_level.lower())
    for name, given in (("ssl_cert", job.ssl_certfile), ("ssl_key", job.ssl_keyfile)):
        arguments[name] = None if given is None else _existing(name, given)
    try:
        server = MPServer(app.label, **arguments)
    except (OSError, ValueError, TypeError) as error:
        raise EngineError(f"granian refuses its options: {type(error).__name__}: {error}") from error
    if server.interface != Interfaces.WSGI and server.blocking_threads > 1:
        raise EngineError("server_options.blocking_threads is for WSGI apps; granian takes 1 for ASGI")
    if sys.version_info >= (3, 12):
        server.task_impl = TaskImpl.asyncio
    # At the handler: what granian's runtime says comes from loggers below this one.
    for handler in logging.getLogger("_granian").handlers:
        handler.addFilter(_is_news)
    call = app.call
    if prepared.proxy is not None:
        wrap = wrap_wsgi_with_proxy_headers if app.interface == "wsgi" else wrap_asgi_with_proxy_headers
        call = wrap(call, trusted_hosts=prepared.proxy.trusted)
    return server, call


def _existing(name: str, given: str) -> Any:
    path = Path(given)
    if not path.exists():
        raise EngineError(f"{name}file {given} is not there")
    return path


def _is_news(record: logging.LogRecord) -> bool:
    # Said by granian for every listener; here those come and go.
    return not record.getMessage().startswith(("Started worker-", "Stopping worker-"))


def mode_of(server: Any) -> Any:
    """Return the runtime."""
    # "auto" is the several-threaded runtime for both interfaces, as in granian's own serve().
    return RuntimeModes.mt if server.runtime_mode == RuntimeModes.auto else server.runtime_mode


def blocking_of(server: Any) -> int:
    """Return how many threads the runtime has for what blocks in it."""
    return int(server.runtime_blocking_threads or _BLOCKING)
