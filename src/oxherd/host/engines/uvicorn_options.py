"""uvicorn's options: of its own command line, or of ``server_options``."""

from __future__ import annotations

import copy
import difflib
import inspect
import sys
from dataclasses import dataclass
from typing import Any

import uvicorn

from .base import EngineError, Job

__all__ = ["Prepared", "prepare"]

# Arguments of uvicorn.Config that are the oxfile's own keys, or have no meaning here.
_OURS = {
    "app": "app",
    "host": "bind",
    "port": "bind",
    "uds": "bind",
    "fd": "bind",
    "factory": 'app = "module:create_app()"',
    "workers": "workers",
    "reload": "watch",
    "reload_dirs": "watch",
    "reload_includes": "watch",
    "reload_excludes": "watch_ignore",
    "reload_delay": "watch_delay_ms",
    "env_file": "env_file",
    "access_log": "access_log",
    "log_level": "log_level",
    "backlog": "backlog",
    "limit_max_requests": "max_requests",
    "limit_max_requests_jitter": "max_requests_jitter",
    "timeout_keep_alive": "keepalive",
    "timeout_graceful_shutdown": "graceful_timeout",
    "timeout_worker_healthcheck": "timeout",
    "ssl_certfile": "ssl_certfile",
    "ssl_keyfile": "ssl_keyfile",
    "callback_notify": None,
    "timeout_notify": None,
}
# Not uvicorn's: the threads of a2wsgi, which runs WSGI apps.
_THREADS = "threads"


@dataclass(frozen=True)
class Prepared(Job):
    """A job with uvicorn's own configuration, made before the app is imported as uvicorn does: logging is set up by it."""

    config: Any = None
    threads: int = 10


def prepare(job: Job) -> Job:
    """Read uvicorn's options; see `engines.base.Loader`.

    Raises:
        EngineError: They are wrong.
    """
    if job.source == "command":
        values, changes = _read_command(job)
    else:
        values, changes = _read_options(job)
    threads = values.pop(_THREADS, 10)
    try:
        config = uvicorn.Config(_nothing, **values)
        _warm(config)
    except Exception as error:  # whatever uvicorn raises, it is what it thinks of its options
        said = f"{type(error).__name__}: {error}"
        raise EngineError(f"uvicorn {uvicorn.__version__} does not take these options: {said}") from error
    except SystemExit as error:
        raise EngineError(
            f"uvicorn {uvicorn.__version__} does not take these options; its log has the reason"
        ) from error
    return Prepared(**{**job.common(), **changes}, config=config, threads=int(threads))


def _read_options(job: Job) -> tuple[dict[str, Any], dict[str, Any]]:
    takes = [name for name in inspect.signature(uvicorn.Config.__init__).parameters if name != "self"]
    own = [name for name in takes if name not in _OURS]
    for name in job.options:
        if name == _THREADS:
            continue
        if name in _OURS:
            key = _OURS[name]
            raise EngineError(f"server_options.{name} is Oxherd's to set" + (f"; use the key {key}" if key else ""))
        if name not in takes:
            near = difflib.get_close_matches(name, own, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(own))}"
            raise EngineError(f"uvicorn {uvicorn.__version__} has no option {name!r}; {hint}")
    values: dict[str, Any] = {
        "timeout_keep_alive": job.keepalive,
        "backlog": job.backlog,
        "access_log": False,
        "log_level": job.log_level,
        "ssl_certfile": job.ssl_certfile,
        "ssl_keyfile": job.ssl_keyfile,
        **job.options,
    }
    if isinstance(values.get("headers"), dict):
        values["headers"] = list(values["headers"].items())
    return values, {}


def _read_command(job: Job) -> tuple[dict[str, Any], dict[str, Any]]:
    import click  # noqa: PLC0415 - uvicorn's own dependency, needed for a command alone
    from uvicorn.config import LOGGING_CONFIG  # noqa: PLC0415
    from uvicorn.main import main  # noqa: PLC0415

    try:
        context = main.make_context("uvicorn", list(job.argv), auto_envvar_prefix="UVICORN")
    except click.ClickException as error:
        raise EngineError(f"uvicorn: {error.format_message()}") from error
    except click.exceptions.Exit as error:
        raise EngineError(f"uvicorn {' '.join(job.argv)} prints something and serves nothing") from error
    given = dict(context.params)
    if given.get("reload"):
        raise EngineError("uvicorn --reload is for development; take it off, and use `watch` of the oxfile instead")
    sys.path.insert(0, given.pop("app_dir", None) or "")
    if given.get("env_file"):
        _load_env_file(given["env_file"])
    changes: dict[str, Any] = {
        "target": given.pop("app"),
        "factory": bool(given.pop("factory", False)),
        "interface": {"wsgi": "wsgi", "asgi3": "asgi", "asgi2": "asgi"}.get(given["interface"], "auto"),
        "backlog": given["backlog"],
        "keepalive": float(given["timeout_keep_alive"]),
        "ssl_certfile": given.get("ssl_certfile"),
        "ssl_keyfile": given.get("ssl_keyfile"),
    }
    if given.pop("limit_max_requests", None):
        changes["max_requests"] = context.params["limit_max_requests"]
        changes["max_requests_jitter"] = context.params.get("limit_max_requests_jitter") or 0
    if (graceful := given.pop("timeout_graceful_shutdown", None)) is not None:
        changes["graceful_timeout"] = min(job.graceful_timeout, float(graceful))
    # As uvicorn.main.main does on its way to Config.
    given["log_config"] = LOGGING_CONFIG if given.get("log_config") is None else given["log_config"]
    given["headers"] = [tuple(header.split(":", 1)) for header in given.get("headers") or ()]
    takes = inspect.signature(uvicorn.Config.__init__).parameters
    unknown_here = {"host", "port", "uds", "fd", "workers", "env_file", "limit_max_requests_jitter"}
    return {
        name: value
        for name, value in given.items()
        if name in takes and name not in unknown_here and not name.startswith("reload")
    }, changes


def _load_env_file(path: str) -> None:
    try:
        from dotenv import load_dotenv  # noqa: PLC0415 - needed for --env-file alone
    except ImportError as error:
        raise EngineError(
            f"uvicorn --env-file needs python-dotenv; type: {sys.executable} -m pip install python-dotenv"
        ) from error
    load_dotenv(dotenv_path=path)


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    """Stand for the app until it is there."""


def _warm(config: Any) -> None:
    """Import what serving needs, so that a zygote has it, and check what only loading checks: certificates, classes."""
    trial = copy.copy(config)
    trial.app, trial.interface = _nothing, "asgi3"
    trial.load()
    if hasattr(trial, "get_loop_factory"):
        trial.get_loop_factory()
