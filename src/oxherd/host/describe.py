"""What a server makes of a command line: asked in the app's interpreter, without importing the app.

One JSON object comes on standard input: ``engine``, ``argv`` (without the program's name), ``cwd`` and, if the environment
is another one, ``env``. One goes to standard output, on a line of its own: ``ok`` and what `engines` say, see `VALUES`, or
``ok: false`` and ``error``. A configuration file may be a program, and print: that goes to standard error.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from typing import Any

from .engines.base import EngineError

__all__ = ["VALUES", "describe", "main"]

# What every answer has; what an engine does not know of is None, or empty. Times in seconds.
VALUES: dict[str, Any] = {
    "bind": [],  # as the engine writes them: host:port, unix:/path, fd://3
    "workers": 1,
    "worker_class": None,
    "threads": None,
    "timeout": None,
    "graceful_timeout": None,
    "keepalive": None,
    "backlog": None,
    "max_requests": 0,
    "max_requests_jitter": 0,
    "certfile": None,
    "keyfile": None,
    "preload_app": False,
    "reload": False,
    "user": None,
    "group": None,
    "pidfile": None,
    "daemon": False,
    "config_file": None,
    "target": "",
    "version": "",
    "unsupported": [],  # why it cannot be hosted
    "notes": [],  # what has no effect where it is
}

_WHO = {"gunicorn": "gunicorn_describe", "uvicorn": "uvicorn_describe", "hypercorn": "hypercorn_describe"}


def main() -> int:
    """Answer the question on standard input; returns the exit code, which is 0 where there is an answer."""
    # Whatever the configuration prints, or a program it starts.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    answer = describe(json.load(sys.stdin))
    with answers:
        answers.write(json.dumps(answer, default=str) + "\n")
    # At once: a configuration may have started threads.
    sys.stderr.flush()
    os._exit(0)


def describe(question: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to a question; see above."""
    engine = str(question.get("engine"))
    if engine not in _WHO:
        return {"ok": False, "error": f"{engine!r} cannot be asked; {', '.join(_WHO)} can"}
    try:
        if question.get("env") is not None:
            os.environ.clear()
            os.environ.update(question["env"])
        if question.get("cwd"):
            os.chdir(question["cwd"])
        asked = importlib.import_module(f".engines.{_WHO[engine]}", __package__)
        return {"ok": True, **VALUES, **asked.describe(tuple(question.get("argv", ())))}
    except EngineError as error:
        return {"ok": False, "error": str(error)}
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != engine:
            return {"ok": False, "error": _said(error)}
        return {"ok": False, "error": f"{engine} is not installed in {sys.executable}"}
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a configuration is a program and may do anything
        return {"ok": False, "error": _said(error)}


def _said(error: BaseException) -> str:
    traceback.print_exception(error)
    return traceback.format_exception_only(type(error), error)[-1].strip()
