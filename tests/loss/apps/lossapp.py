"""What the apps of the loss suite have in common: what release they are, and in what way it is broken.

The directory ``LOSS_DIR`` holds what a deployment would change: ``release.json`` is read once, when this module is
imported, as code would be; ``unready`` is looked at by every readiness check.
"""

from __future__ import annotations

import json
import os
import threading
import time
import zlib
from pathlib import Path
from urllib.parse import parse_qs

__all__ = [
    "GENERATION",
    "MODE",
    "answer_headers",
    "checksum",
    "exit_soon",
    "health",
    "is_ready",
    "on_import",
    "on_startup",
    "query",
    "token",
]

DIRECTORY = Path(os.environ.get("LOSS_DIR", "."))


def _release() -> dict[str, str]:
    try:
        return dict(json.loads((DIRECTORY / "release.json").read_text()))
    except FileNotFoundError:
        return {}


_RELEASE = _release()
GENERATION = _RELEASE.get("generation", "1")
# "", or how it is broken: import, startup, health, hang, hang-startup, exit
MODE = _RELEASE.get("mode", "")


def on_import() -> None:
    """Break while being imported, if that is the way."""
    match MODE:
        case "import":
            raise RuntimeError(f"release {GENERATION} is broken: the import")
        case "hang":
            threading.Event().wait()


def on_startup() -> None:
    """Break at the start of the app in its worker, if that is the way."""
    match MODE:
        case "startup":
            raise RuntimeError(f"release {GENERATION} is broken: the startup")
        case "exit":
            exit_soon()


def exit_soon() -> None:
    """End with code 3 a second from now."""
    timer = threading.Timer(1.0, os._exit, (3,))
    timer.daemon = True
    timer.start()


def health() -> int:
    """Return the status of the health check."""
    return 500 if MODE == "health" else 200


def is_ready() -> bool:
    """Whether this worker is ready: unless ``unready`` names it, or all."""
    try:
        unready = (DIRECTORY / "unready").read_text().split()
    except FileNotFoundError:
        return True
    return "all" not in unready and os.environ.get("OXHERD_INSTANCE", "0") not in unready


def answer_headers() -> list[tuple[str, str]]:
    """Return what every answer says of who gave it."""
    return [("x-pid", str(os.getpid())), ("x-generation", GENERATION)]


def query(text: str) -> dict[str, str]:
    """Return the parameters of a query string."""
    return {key: values[-1] for key, values in parse_qs(text).items()}


def token(parameters: dict[str, str]) -> bytes:
    """Return what the client wants to hear."""
    return parameters.get("n", "").encode()


def checksum(body: bytes) -> bytes:
    """Return what proves that a body has come whole."""
    return f"{len(body)} {zlib.crc32(body):08x}".encode()


def block(seconds: float) -> None:
    """Keep the thread, which is the event loop where there is one."""
    time.sleep(seconds)
