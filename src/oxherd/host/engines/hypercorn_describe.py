"""What hypercorn makes of a command line and its configuration file; see `describe`."""

from __future__ import annotations

import contextlib
import io
import sys
from importlib.metadata import version
from typing import Any

import hypercorn.__main__ as command

from .base import EngineError

__all__ = ["describe"]


def describe(argv: tuple[str, ...]) -> dict[str, Any]:
    """Return what a command line comes to.

    Raises:
        EngineError: hypercorn refuses it.
    """
    configs: list[Any] = []

    def noted(config: Any) -> int:
        configs.append(config)
        return 0

    said = io.StringIO()
    # An empty list of arguments it takes for none, and reads these.
    sys.argv = ["hypercorn", *argv]
    run, command.run = command.run, noted
    try:
        with contextlib.redirect_stderr(said):
            command.main()
    except SystemExit as error:
        text = said.getvalue().strip() or f"hypercorn {' '.join(argv)} prints something and serves nothing"
        raise EngineError(text) from error
    finally:
        command.run = run
    config = configs[0]
    return {
        "bind": list(config.bind),
        "workers": config.workers,
        "worker_class": config.worker_class,
        "graceful_timeout": config.graceful_timeout,
        "keepalive": config.keep_alive_timeout,
        "backlog": config.backlog,
        "max_requests": getattr(config, "max_requests", None) or 0,
        "max_requests_jitter": getattr(config, "max_requests_jitter", None) or 0,
        "certfile": config.certfile,
        "keyfile": config.keyfile,
        "reload": bool(config.use_reloader),
        "user": config.user,
        "group": config.group,
        "pidfile": config.pid_path,
        "config_file": _config_file(argv),
        "target": config.application_path,
        "version": version("hypercorn"),
        "unsupported": ["insecure_bind serves a second protocol"] if config.insecure_bind else [],
    }


def _config_file(argv: tuple[str, ...]) -> str | None:
    for place, argument in enumerate(argv):
        if argument in {"-c", "--config"}:
            return argv[place + 1]
        if argument.startswith("--config="):
            return argument.partition("=")[2]
    return None
