"""What uvicorn makes of a command line and of UVICORN_*; see `describe`."""

from __future__ import annotations

import os
from typing import Any

import click
import uvicorn
from uvicorn.main import main

from .base import EngineError

__all__ = ["describe"]


def describe(argv: tuple[str, ...]) -> dict[str, Any]:
    """Return what a command line comes to.

    Raises:
        EngineError: uvicorn refuses it.
    """
    try:
        context = main.make_context("uvicorn", list(argv), auto_envvar_prefix="UVICORN")
    except click.ClickException as error:
        raise EngineError(error.format_message()) from error
    except click.exceptions.Exit as error:
        raise EngineError(f"uvicorn {' '.join(argv)} prints something and serves nothing") from error
    given = context.params
    return {
        "bind": [_bind(given)],
        "workers": _workers(given),
        "graceful_timeout": given.get("timeout_graceful_shutdown"),
        "keepalive": given["timeout_keep_alive"],
        "backlog": given["backlog"],
        "max_requests": given.get("limit_max_requests") or 0,
        "max_requests_jitter": given.get("limit_max_requests_jitter") or 0,
        "certfile": given.get("ssl_certfile"),
        "keyfile": given.get("ssl_keyfile"),
        "reload": bool(given.get("reload")),
        "target": given["app"],
        "version": uvicorn.__version__,
    }


def _bind(given: dict[str, Any]) -> str:
    if given.get("fd") is not None:
        return f"fd://{given['fd']}"
    if given.get("uds"):
        return f"unix:{os.path.abspath(given['uds'])}"
    host = given["host"]
    return f"[{host}]:{given['port']}" if ":" in host else f"{host}:{given['port']}"


def _workers(given: dict[str, Any]) -> int:
    workers = given.get("workers")
    if workers is None:
        # As uvicorn.Config has it.
        try:
            workers = int(os.environ.get("WEB_CONCURRENCY") or 1)
        except ValueError as error:
            raise EngineError(f"WEB_CONCURRENCY={os.environ['WEB_CONCURRENCY']!r} is no number") from error
    return int(workers)
