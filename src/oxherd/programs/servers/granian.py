"""``granian ...``: hosted, with its own arguments read by its own parser in the worker."""

from __future__ import annotations

from oxherd import units
from oxherd.config.model import HostWay
from oxherd.programs.program import Bind
from oxherd.programs.recognise import GRANIAN_VALUED
from oxherd.programs.servers.reading import Line, absolute_bind, untouched
from oxherd.programs.servers.switches import Switches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oxherd.programs.servers.reading import Reading

__all__ = ["read_granian"]

_DEFAULT_PORT = "8000"
_DEFAULT_BACKLOG = 1024
_INTERFACES = {"asgi": "asgi", "asginl": "asgi", "wsgi": "wsgi"}


def read_granian(reading: Reading) -> Line:
    """Read a command line of granian."""
    if reading.footing.why_not:
        return untouched(reading.footing.why_not)
    own = Switches(reading.args, GRANIAN_VALUED, reading.environ, "GRANIAN")
    why_not = _why_not(own, bound=reading.socket is None)
    if why_not:
        return untouched(why_not)
    workers = own.number("workers")
    graceful = _seconds(own.text("workers-kill-timeout"))
    certificate, key = own.text("ssl-certificate"), own.text("ssl-keyfile")
    rss = own.number("workers-max-rss")
    fields: dict[str, object] = {
        "way": HostWay.HOSTED,
        "engine": "granian",
        "argv": reading.args,
        "bind": (reading.socket or absolute_bind(_bind(own), reading.working_dir),),
        "factory": own.flag("factory"),
        "interface": _INTERFACES[own.text("interface") or ""],
        "backlog": own.number("backlog") or _DEFAULT_BACKLOG,
        "tls": certificate is not None,
        "ssl_certfile": reading.path(certificate),
        "ssl_keyfile": reading.path(key),
    }
    lifetime = _seconds(own.text("workers-lifetime"))
    if lifetime:
        fields["max_lifetime"] = lifetime
    if rss:
        fields["max_memory"] = rss << 20
    return Line(
        fields=fields,
        workers=workers or 1,
        workers_from=own.where("workers") if workers else "",
        graceful=graceful or None,
        graceful_from=own.where("workers-kill-timeout") if graceful else "",
    )


def _why_not(own: Switches, *, bound: bool) -> str:
    if own.options.has("--help", "--version"):
        return "it prints something and exits"
    if own.flag("reload"):
        return "--reload is for development: granian starts the app again by itself"
    if own.flag("metrics"):
        return "--metrics is an exporter of granian's own main process"
    interface = own.text("interface") or "rsgi"
    if interface not in _INTERFACES:
        return f"its interface is {interface}, and Oxherd's workers speak ASGI and WSGI; add --interface asgi (or wsgi)"
    port = own.text("port") or _DEFAULT_PORT
    if bound and not own.text("uds") and (not port.isdigit() or not 0 < int(port) < 65536):
        return f"--port {port} is no port that can be held for it"
    return ""


def _bind(own: Switches) -> Bind:
    uds = own.text("uds")
    if uds:
        return Bind(path=uds)
    return Bind(host=(own.text("host") or "127.0.0.1").strip("[]"), port=int(own.text("port") or _DEFAULT_PORT))


def _seconds(text: str | None) -> float | None:
    """Return a time as granian takes it: a number of seconds, or ``10m``."""
    if text is None:
        return None
    try:
        return float(text) if text.strip().isdigit() else units.parse_duration(text)
    except ValueError:
        return None  # granian's own parser refuses it in the worker, with its own words
