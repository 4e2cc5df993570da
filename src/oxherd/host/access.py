"""The access log of app processes: the same lines on every engine, as text or as JSON."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from .engines.base import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

    from .engines.base import Job

__all__ = ["AccessLog", "opened"]


class AccessLog:
    """Writes a line when a request is over; from any thread, each line whole.

    Args:
        setting: "text" and "json" go to stdout, an absolute path to that file, as text.
    """

    def __init__(self, setting: str) -> None:
        """Open the file, if it is one, and open it anew at every SIGUSR1, unless the app uses that itself.

        Raises:
            OSError: It cannot be opened.
        """
        self._is_json = setting == "json"
        self._path = setting if os.path.isabs(setting) else None
        self._fd = 1
        if self._path is not None:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
            if signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL:
                signal.signal(signal.SIGUSR1, self._reopen)

    def asgi(self, scope: Mapping[str, Any], status: int, seconds: float) -> None:
        """Write the line of an ASGI request; status 0 is one without a whole answer."""
        client = scope.get("client")
        self._write(
            client=client[0] if client else "-",
            method=scope["method"],
            target=_target(quote(scope["path"]), scope.get("query_string", b"").decode("latin-1")),
            version=scope["http_version"],
            status=status,
            seconds=seconds,
        )

    def wsgi(self, environ: Mapping[str, Any], status: int, seconds: float) -> None:
        """Write the line of a WSGI request; status 0 is one without a whole answer."""
        path = quote(environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", ""), encoding="latin-1")
        self._write(
            client=environ.get("REMOTE_ADDR") or "-",
            method=environ.get("REQUEST_METHOD", "-"),
            target=_target(path, environ.get("QUERY_STRING", "")),
            version=environ.get("SERVER_PROTOCOL", "HTTP/1.1").rpartition("/")[2],
            status=status,
            seconds=seconds,
        )

    def _write(self, *, client: str, method: str, target: str, version: str, status: int, seconds: float) -> None:
        if self._is_json:
            line = json.dumps(
                {
                    "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                    "client": client,
                    "method": method,
                    "path": target,
                    "status": status,
                    "seconds": round(seconds, 6),
                }
            )
        else:
            line = f'{client} "{method} {target} HTTP/{version}" {status} {seconds * 1000:.1f} ms'
        # One write a line, and not through sys.stdout: the app may have put anything there. A log that nobody reads or
        # a full disk must not fail the request.
        with contextlib.suppress(OSError):
            os.write(self._fd, line.encode("utf-8", "replace") + b"\n")

    def _reopen(self, _signal: int, _frame: FrameType | None) -> None:
        assert self._path is not None
        with contextlib.suppress(OSError):  # the old one goes on being written
            new = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
            os.dup2(new, self._fd, inheritable=False)
            os.close(new)


def _target(path: str, query: str) -> str:
    return f"{path}?{query}" if query else path


def opened(job: Job) -> AccessLog | None:
    """Return the access log a job asks for; None where there is none, or where it is the engine's own affair.

    Raises:
        EngineError: It cannot be opened.
    """
    if not isinstance(job.access_log, str) or job.source != "app":
        return None
    try:
        return AccessLog(job.access_log)
    except OSError as error:
        raise EngineError(f"access_log: {job.access_log} cannot be opened: {error.strerror}") from error
