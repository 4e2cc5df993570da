"""``uvicorn ...``: hosted, with its own arguments read by its own parser in the worker.

What has to be known before that is read here: addresses, number of workers, times. The order of uvicorn holds: the
command line, then ``UVICORN_*``, then ``WEB_CONCURRENCY`` for the workers, then the default.
"""

from __future__ import annotations

from oxherd.config.model import HostWay
from oxherd.programs.arguments import without
from oxherd.programs.program import Bind
from oxherd.programs.recognise import UVICORN_VALUED
from oxherd.programs.servers.reading import Line, absolute_bind, passed, untouched
from oxherd.programs.servers.switches import Switches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oxherd.programs.servers.reading import Reading

__all__ = ["read_uvicorn"]

_DEFAULT_PORT = "8000"
_DEFAULT_KEEPALIVE = 5.0
_DEFAULT_BACKLOG = 2048


def read_uvicorn(reading: Reading) -> Line:
    """Read a command line of uvicorn."""
    if reading.footing.behind_shell:
        return untouched(reading.footing.why_not)
    own = Switches(reading.args, UVICORN_VALUED, reading.environ, "UVICORN")
    why_not = _why_not(own, bound=reading.socket is None)
    if why_not:
        return untouched(why_not)
    bind = reading.socket or absolute_bind(_bind(own), reading.working_dir)
    if reading.footing.why_not:
        return _with_descriptor(reading, bind, reading.footing.why_not)
    certificate, key = own.text("ssl-certfile"), own.text("ssl-keyfile")
    graceful = own.number("timeout-graceful-shutdown")
    keepalive = own.number("timeout-keep-alive")
    workers, workers_from = _workers(own)
    fields: dict[str, object] = {
        "way": HostWay.HOSTED,
        "engine": "uvicorn",
        "argv": reading.args or tuple(filter(None, [reading.environ.get("UVICORN_APP")])),
        "bind": (bind,),
        "factory": own.flag("factory"),
        "interface": _interface(own.text("interface")),
        "backlog": own.number("backlog") or _DEFAULT_BACKLOG,
        "tls": certificate is not None or key is not None,
        "ssl_certfile": reading.path(certificate),
        "ssl_keyfile": reading.path(key),
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
        otherwise=_with_descriptor(reading, bind, "its Python is too old for Oxherd's workers"),
    )


def _with_descriptor(reading: Reading, bind: str, why: str) -> Line:
    """Return uvicorn run by itself; it takes one descriptor, so there is no second one for probes."""
    kept = without(reading.args, UVICORN_VALUED, "--host", "--port", "--uds")
    line = passed(reading, "uvicorn", ("--fd", "{fd:0}", *kept), (bind,))
    return Line(fields=line.fields, notes=(f"run by itself, with its listener as a descriptor: {why}",))


def _why_not(own: Switches, *, bound: bool) -> str:
    if own.options.has("--help", "--version"):
        return "it prints something and exits"
    if own.flag("reload"):
        return "--reload is for development: uvicorn starts the app again by itself"
    if own.text("fd") is not None:
        return "--fd names a descriptor that somebody else has opened for it"
    port = own.text("port") or _DEFAULT_PORT
    if bound and not own.text("uds") and (not port.isdigit() or not 0 < int(port) < 65536):
        return f"--port {port} is no port that can be held for it"
    return ""


def _bind(own: Switches) -> Bind:
    uds = own.text("uds")
    if uds:
        return Bind(path=uds)
    # --host "" is every address, which click tells from no --host at all.
    everywhere = "0.0.0.0" if own.options.has("--host") else "127.0.0.1"  # noqa: S104 - it is what uvicorn binds
    host = (own.text("host") or everywhere).strip("[]")
    return Bind(host=host, port=int(own.text("port") or _DEFAULT_PORT))


def _workers(own: Switches) -> tuple[int | None, str]:
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
