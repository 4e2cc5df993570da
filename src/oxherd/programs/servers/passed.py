"""Servers that run by themselves and get their listeners as descriptors: hypercorn and daphne.

Each also gets a private listener, so that a probe reaches this very incarnation and no other one.
"""

from __future__ import annotations

from oxherd.programs.arguments import Options, without
from oxherd.programs.recognise import DAPHNE_VALUED, HYPERCORN_VALUED, addresses
from oxherd.programs.servers.reading import Line, absolute_bind, passed, untouched

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oxherd.programs.servers.reading import Reading

__all__ = ["read_daphne", "read_hypercorn"]


def read_hypercorn(reading: Reading) -> Line:
    """Read a command line of hypercorn."""
    options = Options(reading.args, HYPERCORN_VALUED)
    if reading.footing.behind_shell:
        return untouched(reading.footing.why_not)
    if options.has("--help", "-h"):
        return untouched("it prints something and exits")
    if options.has("--reload"):
        return untouched("--reload is for development: hypercorn starts the app again by itself")
    other = next((name for name in ("--quic-bind", "--insecure-bind") if options.has(name)), "")
    if other:
        return untouched(f"{other} makes a listener of another kind, which cannot be held for it")
    said = options.every("-b", "--bind")
    if not said and reading.socket is None and options.has("-c", "--config"):
        return untouched('its addresses are in its configuration file; write them as --bind or as socket = "…"')
    binds = tuple(absolute_bind(bind, reading.working_dir) for bind in addresses(said or ["127.0.0.1:8000"]))
    if reading.socket is None and len(binds) != max(len(said), 1):
        return untouched("--bind names a descriptor that somebody else has opened for it")
    kept = without(reading.args, HYPERCORN_VALUED, "-b", "--bind")
    listeners = [f"fd://{{fd:{index}}}" for index in range(1 if reading.socket is not None else len(binds))]
    flags = [word for listener in (*listeners, "fd://{private}") for word in ("--bind", listener)]
    return passed(reading, "hypercorn", (*flags, *kept), binds, overlap=not options.has("-p", "--pid"))


def read_daphne(reading: Reading) -> Line:
    """Read a command line of daphne."""
    options = Options(reading.args, DAPHNE_VALUED)
    if reading.footing.behind_shell:
        return untouched(reading.footing.why_not)
    if options.has("--help", "-h"):
        return untouched("it prints something and exits")
    if options.has("--fd"):
        return untouched("--fd names a descriptor that somebody else has opened for it")
    if options.has("-e", "--endpoint"):
        return untouched("--endpoint is Twisted's to open")
    host, port = options.last("-b", "--bind") or "127.0.0.1", options.last("-p", "--port") or "8000"
    path = options.last("-u", "--unix-socket")
    bind = reading.socket or (f"unix:{path}" if path else f"{host}:{port}")
    if bind.startswith("unix:") or bind.count(":") > 1:
        return untouched("it takes nothing but an IPv4 listener as a descriptor")
    if not port.isdigit() or not 0 < int(port) < 65536:
        return untouched(f"--port {port} is no port that can be held for it")
    kept = without(reading.args, DAPHNE_VALUED, "-b", "--bind", "-p", "--port", "-u", "--unix-socket")
    return passed(reading, "daphne", ("--fd", "{fd:0}", "-u", "{private_path}", *kept), (bind,))
