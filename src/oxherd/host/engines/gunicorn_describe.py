"""What gunicorn makes of a command line, its configuration file and GUNICORN_CMD_ARGS; see `describe`."""

from __future__ import annotations

from typing import Any

from gunicorn import __version__

from .gunicorn_options import notes, read_command, unsupported

__all__ = ["describe"]

_AS_THEY_ARE = (
    "workers",
    "threads",
    "timeout",
    "graceful_timeout",
    "keepalive",
    "backlog",
    "max_requests",
    "max_requests_jitter",
    "certfile",
    "keyfile",
    "preload_app",
    "reload",
    "pidfile",
    "daemon",
)


def describe(argv: tuple[str, ...]) -> dict[str, Any]:
    """Return what a command line comes to.

    Raises:
        EngineError: gunicorn refuses it.
    """
    application = read_command(argv)
    cfg = application.cfg
    return {
        **{name: getattr(cfg, name) for name in _AS_THEY_ARE},
        "bind": list(cfg.settings["bind"].get()),
        "worker_class": cfg.worker_class_str,
        "user": cfg.uid,
        "group": cfg.gid,
        "config_file": application.config_file,
        "target": application.app_uri,
        "version": __version__,
        "unsupported": unsupported(cfg),
        "notes": notes(cfg),
    }
