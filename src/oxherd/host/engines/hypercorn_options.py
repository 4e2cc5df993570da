"""Hypercorn's settings: from its own command line and configuration file, or from ``server_options``."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import io
import os
import sys
from pathlib import Path
from typing import Any

import hypercorn.__main__ as command
from hypercorn.config import Config

from .base import EngineError, Job

__all__ = ["Proxy", "config_of", "names", "read_command"]

# What belongs to the supervisor, and what of the oxfile does it.
_ELSEWHERE = {
    "bind": "`bind =` of the process",
    "insecure_bind": "`bind =` of a second process",
    "workers": "`workers =` of the process",
    "certfile": "`ssl_certfile =` of the process",
    "keyfile": "`ssl_keyfile =` of the process",
    "use_reloader": "`watch = true`",
    "max_requests": "`max_requests =` of the process",
    "max_requests_jitter": "`max_requests_jitter =` of the process",
    "graceful_timeout": "`graceful_timeout =` of the process",
    "application_path": "`app =`",
    "keep_alive_timeout": "`keepalive =` of the process",
    "backlog": "`backlog =` of the process",
    "loglevel": "`log_level =` of the process",
    "accesslog": "`access_log =` of the process",
    "pid_path": "nothing: `oxherd status` knows the pids",
    "daemon": "nothing: `oxherd start` goes into the background",
    "user": "`user =` of the process",
    "group": "`group =` of the process",
    "umask": "`umask =` of the process",
}

# Of a command line they are read, as far as they mean something here, or have no effect; these cannot be served at all.
_NOT_HOSTED = {
    "quic_bind": "HTTP/3 comes over UDP, and Oxherd's workers take TCP and unix sockets only",
    "insecure_bind": "Oxherd's workers serve one kind of listener, with TLS or without",
}


@dataclasses.dataclass(frozen=True)
class Proxy:
    """How headers of a proxy are read, see hypercorn.middleware.ProxyFixMiddleware."""

    mode: str = "legacy"
    hops: int = 1


def names() -> list[str]:
    """Return the settings hypercorn's Config has."""
    plain = [
        name
        for name in vars(Config)
        if not name.startswith("_")
        and not callable(getattr(Config, name))
        and name not in {"log", "ssl_enabled", "cert_reqs"}
    ]
    return sorted({*plain, "logger_class"})


def read_command(job: Job) -> Job:
    """Return the job with what hypercorn's own parser makes of its command line; the settings become its options.

    Raises:
        EngineError: Hypercorn refuses them, or they ask for what cannot be hosted.
    """
    config = _parsed(job.argv)
    for name, why in _NOT_HOSTED.items():
        if getattr(config, name):
            raise EngineError(
                f"hypercorn is told `{name.replace('_', '-')}`, which cannot be hosted: {why}."
                " Leave it out, or run hypercorn itself with `adopt = false`"
            )
    mode, module, app = _application(config.application_path)
    return dataclasses.replace(
        job,
        target=f"{module}:{app}",
        interface=mode,
        options={
            name.lstrip("_"): value for name, value in vars(config).items() if name not in {"_log", "_quic_addresses"}
        },
        max_requests=config.max_requests or job.max_requests,
        max_requests_jitter=config.max_requests_jitter or job.max_requests_jitter,
        ssl_certfile=job.ssl_certfile or config.certfile,
        ssl_keyfile=job.ssl_keyfile or config.keyfile,
        keepalive=config.keep_alive_timeout if "keep_alive_timeout" in vars(config) else job.keepalive,
        log_level=job.log_level or config.loglevel,
    )


def _parsed(argv: tuple[str, ...]) -> Any:
    caught: list[Any] = []
    said = io.StringIO()
    run, argv_before = command.run, sys.argv

    def catch(config: Any) -> int:
        caught.append(config)
        return 0

    # Its main() reads the command line and the file, and hands what it made of them to run(), which is us.
    command.run, sys.argv = catch, ["hypercorn", *argv]
    try:
        with contextlib.redirect_stderr(said):
            command.main(list(argv))
    except SystemExit as error:
        raise EngineError(_last_line(said.getvalue()) or f"hypercorn exited with {error.code}") from error
    except Exception as error:
        raise EngineError(f"hypercorn cannot read its configuration: {type(error).__name__}: {error}") from error
    finally:
        command.run, sys.argv = run, argv_before
    return caught[0]


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""


def _application(path: str) -> tuple[str, str, str]:
    """Return interface, module and app of hypercorn's ``[asgi:|wsgi:]path.to.module[:app]``; as its load_application."""
    mode = "auto"
    if path.count(":") == 2:
        mode, _, path = path.partition(":")
        if mode not in {"asgi", "wsgi"}:
            raise EngineError(
                f"hypercorn: the application {mode}:{path} begins with a mode that is neither asgi nor wsgi"
            )
    module, _, app = path.partition(":")
    found = Path(module).resolve()
    sys.path.insert(0, str(found.parent))
    return mode, found.with_suffix("").name if found.is_file() else found.name, app or "app"


def config_of(job: Job) -> tuple[Any, Proxy | None]:
    """Return hypercorn's Config for a job, and how to read a proxy's headers (None: not at all).

    Raises:
        EngineError: An option is none of hypercorn's, is of another type, or belongs elsewhere.
    """
    options = dict(job.options)
    proxy = None
    if job.source == "app":
        proxy = _proxy(options)
        for name, value in options.items():
            _check(name, value)
    config = Config.from_mapping(options)
    config.use_reloader = False
    if "keep_alive_timeout" not in options:
        config.keep_alive_timeout = job.keepalive
    # The recycling of a worker is the supervisor's, who has a successor ready first.
    config.max_requests = None
    if job.log_level:
        config.loglevel = job.log_level.upper()
    config.certfile, config.keyfile = job.ssl_certfile, job.ssl_keyfile
    if config.worker_class not in {"asyncio", "uvloop"}:
        raise EngineError(
            f"hypercorn's worker_class is {config.worker_class!r}; Oxherd's workers host asyncio and uvloop."
            " For trio run hypercorn itself, with `command =` and `adopt = false`"
        )
    for name, path in (("ssl_certfile", config.certfile), ("ssl_keyfile", config.keyfile)):
        if path is not None and not os.path.exists(path):
            raise EngineError(f"{name} {path} is not there")
    return config, proxy


def _check(name: str, value: object) -> None:
    if name in _ELSEWHERE:
        raise EngineError(f"server_options.{name} is not hypercorn's to set here; use {_ELSEWHERE[name]}")
    if name in _NOT_HOSTED:
        raise EngineError(f"server_options.{name}: {_NOT_HOSTED[name]}")
    known = names()
    if name not in known:
        near = difflib.get_close_matches(name, [*known, "proxy_headers", "proxy_mode", "proxy_trusted_hops"], 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise EngineError(f"server_options.{name} is no option of hypercorn{hint}")
    default = getattr(Config, name)
    if isinstance(default, property):
        default = ""
    if default is None or isinstance(default, type):
        return
    fits = (int, float) if isinstance(default, float | int) and not isinstance(default, bool) else (type(default),)
    if not isinstance(value, fits) or (isinstance(value, bool) and not isinstance(default, bool)):
        raise EngineError(
            f"server_options.{name} is {value!r}, hypercorn expects {type(default).__name__}, as in {default!r}"
        )


def _proxy(options: dict[str, Any]) -> Proxy | None:
    on = options.pop("proxy_headers", False)
    mode, hops = options.pop("proxy_mode", "legacy"), options.pop("proxy_trusted_hops", 1)
    if not isinstance(on, bool):
        raise EngineError(f"server_options.proxy_headers is {on!r}, expected true or false")
    if mode not in {"legacy", "modern"}:
        raise EngineError(
            f"server_options.proxy_mode is {mode!r}, expected legacy (X-Forwarded-*) or modern (Forwarded)"
        )
    if not isinstance(hops, int) or isinstance(hops, bool) or hops < 1:
        raise EngineError(f"server_options.proxy_trusted_hops is {hops!r}, expected how many proxies there are, from 1")
    return Proxy(mode, hops) if on else None
