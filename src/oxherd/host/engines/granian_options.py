"""Granian's settings: from its own command line and GRANIAN_* variables, or from ``server_options``.

Both go through granian's own click command, so that names, types and choices are granian's and its errors are its own.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib.metadata
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import granian._imports as imports
import granian.cli
from granian._internal import get_import_components, load_env, prepare_import
from granian.constants import Interfaces

from .base import EngineError, Job

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SUPPORTED", "Prepared", "Proxy", "check_version", "prepare", "read_command", "read_options"]

# The adapter calls what granian keeps to itself; each minor version is looked at before it is let in.
SUPPORTED = "2.8"

# What belongs to the supervisor, and what of the oxfile does it.
_ELSEWHERE = {
    "app": "`app =`",
    "host": "`bind =` of the process",
    "port": "`bind =` of the process",
    "uds": '`bind = "unix:/path"` of the process',
    "uds_permissions": "`umask =` of the process",
    "interface": "`interface =`, which is found by looking at the app",
    "workers": "`workers =` of the process",
    "backlog": "`backlog =` of the process",
    "factory": '`app = "module:create_app()"`',
    "working_dir": "`working_dir =` of the process",
    "env_files": "`env_file =` of the process",
    "log_level": "`log_level =` of the process",
    "ssl_certificate": "`ssl_certfile =` of the process",
    "ssl_keyfile": "`ssl_keyfile =` of the process",
    "reload": "`watch = true`",
    "workers_lifetime": "`max_lifetime =` of the process",
    "workers_max_rss": "`max_memory_mb =` of the process",
    "workers_kill_timeout": "`graceful_timeout =` of the process",
    "respawn_failed_workers": "nothing: workers that fail are always replaced",
    "respawn_interval": "nothing: a worker is replaced when its successor is ready",
    "metrics_enabled": "nothing: Oxherd's own metrics count the same",
    "process_name": "nothing: workers are named by stack, process and slot",
    "pid_file": "nothing: `oxherd status` knows the pids",
}
_OF_PROXY = ("proxy_headers", "forwarded_allow_ips")

# Of a command line, what would change how it serves and cannot be had here.
_NOT_HOSTED = {
    "reload": "it is for development; `watch = true` in the oxfile restarts on changes",
    "metrics_enabled": "granian's own exporter counts in its main process, which is not there; Oxherd has metrics",
}


@dataclasses.dataclass(frozen=True)
class Proxy:
    """Whose X-Forwarded-* headers are believed: addresses, networks, or "*"."""

    trusted: str = "127.0.0.1"


@dataclasses.dataclass(frozen=True)
class Prepared(Job):
    """A job with what granian's server is made of; its command parses for milliseconds, once for all workers of a zygote.

    Attributes:
        arguments: Of granian's server.
        proxy: The proxies to believe, None for nobody.
    """

    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    proxy: Proxy | None = None


def prepare(job: Job) -> Prepared:
    """Return the job with its options read; see `engines.base.Loader`.

    Raises:
        EngineError: Granian is one this adapter does not know, or refuses them.
    """
    if isinstance(job, Prepared):
        return job
    check_version()
    if job.source == "command":
        job = read_command(job)
    arguments, proxy = read_options(job)
    return Prepared(**job.common(), arguments=arguments, proxy=proxy)


def check_version() -> str:
    """Return granian's version.

    Raises:
        EngineError: It is one this adapter does not know.
    """
    found = importlib.metadata.version("granian")
    if not re.match(rf"{re.escape(SUPPORTED)}\.", found):
        raise EngineError(
            f"granian {found} is installed in {sys.executable}; Oxherd hosts granian {SUPPORTED}.x."
            f" Type: {sys.executable} -m pip install 'granian>={SUPPORTED},<{_next(SUPPORTED)}',"
            " or run granian itself with `command =` and `adopt = false`"
        )
    return found


def _next(version: str) -> str:
    major, minor = version.split(".")
    return f"{major}.{int(minor) + 1}"


def read_command(job: Job) -> Job:
    """Return the job with what granian's own parser makes of its command line; its server's arguments become options.

    Raises:
        EngineError: Granian refuses them, or they ask for what cannot be hosted.
    """
    given, arguments = _parsed(list(job.argv), environ=True)
    for name, why in _NOT_HOSTED.items():
        if given[name]:
            raise EngineError(f"granian is told --{_dashed(name)}, which cannot be hosted: {why}")
    interface = arguments["interface"]
    if interface is Interfaces.RSGI:
        raise EngineError(
            "granian is told to serve by RSGI, its default; Oxherd's workers speak ASGI and WSGI."
            " Add --interface asgi (or wsgi), or run granian itself with `adopt = false`"
        )
    if arguments["env_files"]:
        if imports.dotenv is None:
            raise EngineError(
                f"granian --env-files needs dotenv; type: {sys.executable} -m pip install 'granian[dotenv]'"
            )
        load_env(arguments["env_files"])
    path, name = get_import_components(arguments.pop("target"))
    return dataclasses.replace(
        job,
        target=f"{prepare_import(path)}:{name or 'app'}",
        factory=arguments["factory"],
        interface="wsgi" if interface is Interfaces.WSGI else "asgi",
        options=arguments,
        backlog=arguments["backlog"],
        ssl_certfile=job.ssl_certfile or _text(arguments["ssl_cert"]),
        ssl_keyfile=job.ssl_keyfile or _text(arguments["ssl_key"]),
        keepalive=arguments["http1_settings"].header_read_timeout / 1000
        if _is_given("--http1-header-read-timeout", job.argv)
        else job.keepalive,
    )


def _is_given(option: str, argv: tuple[str, ...]) -> bool:
    variable = "GRANIAN_" + option[2:].replace("-", "_").upper()
    return variable in os.environ or any(word == option or word.startswith(f"{option}=") for word in argv)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def read_options(job: Job) -> tuple[dict[str, Any], Proxy | None]:
    """Return the arguments of granian's server, without those that are the supervisor's, and the proxies to believe.

    Raises:
        EngineError: An option is none of granian's, has a value it refuses, or belongs elsewhere.
    """
    if job.source == "command":
        return dict(job.options), None
    options = dict(job.options)
    proxy = _proxy(options)
    words = [job.target or "app"]
    for name, value in options.items():
        words += _words(name, value)
    arguments = _parsed(words, environ=False)[1]
    if "http1_header_read_timeout" not in options:
        # The one timer there is: for a request's headers, for a connection's first request and for its next one.
        arguments["http1_settings"].header_read_timeout = max(1, int(job.keepalive * 1000))
    return arguments, proxy


def _words(name: str, value: object) -> list[str]:
    """Return an option of the oxfile as words of granian's command line."""
    if name in _ELSEWHERE:
        raise EngineError(f"server_options.{name} is not granian's to set here; use {_ELSEWHERE[name]}")
    known = {one.name: one for one in granian.cli.cli.params if isinstance(one, click.Option) and one.name}
    option = known.get(name) or next((one for one in known.values() if f"--{_dashed(name)}" in one.opts), None)
    if option is None:
        near = difflib.get_close_matches(name, [one for one in (*known, *_OF_PROXY) if one not in _ELSEWHERE], 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise EngineError(f"server_options.{name} is no option of granian {SUPPORTED}{hint}")
    if option.is_flag:
        if not isinstance(value, bool):
            raise EngineError(f"server_options.{name} is {value!r}, expected true or false")
        return [option.opts[0]] if value else list(option.secondary_opts[:1])
    values = value if option.multiple and isinstance(value, list) else [value]
    return [word for one in values for word in (option.opts[0], str(one))]


def _proxy(options: dict[str, Any]) -> Proxy | None:
    on, trusted = options.pop("proxy_headers", False), options.pop("forwarded_allow_ips", Proxy.trusted)
    if not isinstance(on, bool):
        raise EngineError(f"server_options.proxy_headers is {on!r}, expected true or false")
    if not isinstance(trusted, str):
        raise EngineError(
            f'server_options.forwarded_allow_ips is {trusted!r}, expected text, as in "127.0.0.1,10.0.0.0/8" or "*"'
        )
    return Proxy(trusted) if on else None


def _parsed(words: list[str], *, environ: bool) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """Return what the command line says, and the arguments of the server that granian's command makes of it."""
    caught: dict[str, Any] = {}

    class Caught:
        def __init__(self, target: str, **arguments: Any) -> None:
            caught.update(arguments, target=target)

        def serve(self) -> None:
            """Not yet, and not so."""

    command, server = granian.cli.cli, granian.cli.Server
    granian.cli.Server = Caught
    try:
        with command.make_context("granian", words, auto_envvar_prefix="GRANIAN" if environ else None) as context:
            command.invoke(context)
            return dict(context.params), caught
    except click.ClickException as error:
        raise EngineError(f"granian: {error.format_message()}") from error
    except click.exceptions.Exit as error:
        raise EngineError(f"granian refused its options and exited with {error.exit_code}") from error
    finally:
        granian.cli.Server = server


def _dashed(name: str) -> str:
    return name.replace("_", "-")
