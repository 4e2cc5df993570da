"""``uvicorn ...``: hosted, with its own arguments read by its own parser in the worker.

What has to be known before that is read here: addresses, number of workers, times. The order of uvicorn holds: the
command line, then ``UVICORN_*``, then ``WEB_CONCURRENCY`` for the workers, then the default.
"""

from __future__ import annotations

import os

from oxherd.config.model import HostWay
from oxherd.programs.arguments import Options
from oxherd.programs.program import Bind
from oxherd.programs.recognise import UVICORN_VALUED
from oxherd.programs.servers.line import Line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["read_uvicorn"]

_DEFAULT_PORT = "8000"
_DEFAULT_KEEPALIVE = 5.0
_DEFAULT_BACKLOG = 2048
_TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})


class _Arguments:
    """The options of one command line over its variables."""

    def __init__(self, args: tuple[str, ...], environ: Mapping[str, str]) -> None:
        self.options = Options(args, UVICORN_VALUED)
        self.environ = environ

    def text(self, name: str) -> str | None:
        """Return the value of ``--name`` or of ``UVICORN_NAME``, which click leaves out where it is empty."""
        said = self.options.last(f"--{name}")
        return said if said is not None else self.environ.get(f"UVICORN_{name.replace('-', '_').upper()}") or None

    def number(self, name: str) -> int | None:
        text = self.text(name)
        return int(text) if text is not None and text.strip().isdigit() else None

    def flag(self, name: str) -> bool:
        return self.options.has(f"--{name}") or (self.text(name) or "").lower() in _TRUE

    def where(self, name: str) -> str:
        """Return how people find the value: ``--workers 4`` or ``UVICORN_WORKERS=4``."""
        if self.options.has(f"--{name}"):
            return f"--{name} {self.options.last(f'--{name}')}"
        variable = f"UVICORN_{name.replace('-', '_').upper()}"
        return f"{variable}={self.environ.get(variable)}"


def read_uvicorn(args: tuple[str, ...], environ: Mapping[str, str], working_dir: str) -> Line:
    """Read a command line of uvicorn.

    Args:
        args: Its arguments, without its name.
        environ: The variables it would see.
        working_dir: The directory it would run in, absolute.
    """
    own = _Arguments(args, environ)
    why_not = _why_not(own)
    if why_not:
        return Line(why_not=why_not)
    certificate, key = own.text("ssl-certfile"), own.text("ssl-keyfile")
    graceful = own.number("timeout-graceful-shutdown")
    keepalive = own.number("timeout-keep-alive")
    workers, workers_from = _workers(own)
    fields: dict[str, object] = {
        "way": HostWay.HOSTED,
        "engine": "uvicorn",
        "argv": args or tuple(filter(None, [environ.get("UVICORN_APP")])),
        "bind": (_bind(own, working_dir),),
        "factory": own.flag("factory"),
        "interface": _interface(own.text("interface")),
        "backlog": own.number("backlog") or _DEFAULT_BACKLOG,
        "tls": certificate is not None or key is not None,
        "ssl_certfile": _path(certificate, working_dir),
        "ssl_keyfile": _path(key, working_dir),
        "keepalive": _DEFAULT_KEEPALIVE if keepalive is None else float(keepalive),
    }
    if own.number("limit-max-requests"):
        fields["max_requests"] = own.number("limit-max-requests")
        fields["max_requests_jitter"] = own.number("limit-max-requests-jitter") or 0
    return Line(
        fields=fields,
        workers=workers,
        workers_from=workers_from,
        graceful=None if graceful is None else float(graceful),
        graceful_from="" if graceful is None else own.where("timeout-graceful-shutdown"),
    )


def _why_not(own: _Arguments) -> str:
    if own.options.has("--help", "--version"):
        return "it prints something and exits"
    if own.flag("reload"):
        return "--reload is for development: uvicorn starts the app again by itself"
    if own.text("fd") is not None:
        return "--fd names a descriptor that somebody else has opened for it"
    port = own.text("port") or _DEFAULT_PORT
    if not own.text("uds") and (not port.isdigit() or not 0 < int(port) < 65536):
        return f"--port {port} is no port that can be held for it"
    return ""


def _bind(own: _Arguments, working_dir: str) -> str:
    uds = own.text("uds")
    if uds:
        return Bind(path=os.path.normpath(os.path.join(working_dir, uds))).text()
    # --host "" is every address, which click tells from no --host at all.
    everywhere = "0.0.0.0" if own.options.has("--host") else "127.0.0.1"  # noqa: S104 - it is what uvicorn binds
    host = (own.text("host") or everywhere).strip("[]")
    return Bind(host=host, port=int(own.text("port") or _DEFAULT_PORT)).text()


def _workers(own: _Arguments) -> tuple[int | None, str]:
    """Return the number of workers and where it comes from; 0 is as many as there are CPUs to use."""
    said = own.number("workers")
    origin = own.where("workers") if said is not None else ""
    if said is None and own.environ.get("WEB_CONCURRENCY", "").strip().isdigit():
        said = int(own.environ["WEB_CONCURRENCY"])
        origin = f"WEB_CONCURRENCY={said}"
    if said is None:
        return 1, ""
    return (said or None), origin


def _interface(said: str | None) -> str:
    return "wsgi" if said == "wsgi" else "asgi" if said in ("asgi2", "asgi3") else "auto"


def _path(path: str | None, working_dir: str) -> str | None:
    return None if path is None else os.path.normpath(os.path.join(working_dir, path))
