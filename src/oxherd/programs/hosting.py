"""What the supervisor and the CLI ask of a process whose listeners the supervisor holds.

The supervisor imports this, so it imports almost nothing.
"""

from __future__ import annotations

from oxherd.core.endpoint import Address, parse_address, parse_endpoint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oxherd.config.model import ProcessSpec

__all__ = ["private_endpoint", "private_readiness", "same_address", "url_of_bind"]

# Hosts that stand for every address of the machine, where they are bound and where they are asked.
_EVERYWHERE = frozenset({"", "0.0.0.0", "::", "*"})  # noqa: S104 - compared with, never bound
_LOOPBACK = frozenset({"localhost", "ip6-localhost", "::1"})


def private_endpoint(spec: ProcessSpec) -> bool:
    """Return whether the health check asks an address that the process itself serves.

    If so it is asked over the private listener of each incarnation, so that it says something of that very one.
    """
    health = spec.health
    if spec.host is None or health is None:
        return False
    if health.endpoint is not None:
        return _own_url(spec, health.endpoint)
    return health.tcp is not None and _own(spec, parse_address(health.tcp))


def private_readiness(spec: ProcessSpec) -> bool:
    """Return whether the readiness URL is an address that the process itself serves."""
    if spec.host is None or spec.health is None or spec.health.readiness is None:
        return False
    return _own_url(spec, spec.health.readiness)


def _own_url(spec: ProcessSpec, url: str) -> bool:
    return url.startswith("/") or _own(spec, parse_endpoint(url).address)


def _own(spec: ProcessSpec, asked: Address) -> bool:
    assert spec.host is not None
    return any(same_address(bind, asked) for bind in spec.host.bind)


def same_address(bind: str, asked: Address) -> bool:
    """Return whether somebody who asks ``asked`` on this machine reaches what listens on ``bind``."""
    if bind.startswith("unix:"):
        return asked.path == bind.removeprefix("unix:")
    host, _, port = bind.rpartition(":")
    if asked.path or port != str(asked.port):
        return False
    bound, wanted = host.strip("[]").lower(), asked.host.lower().rstrip(".")
    if bound == wanted:
        return True
    local = _is_loopback(wanted) or wanted in _EVERYWHERE
    return local and (bound in _EVERYWHERE or _is_loopback(bound))


def _is_loopback(host: str) -> bool:
    return host in _LOOPBACK or host.startswith("127.")


def url_of_bind(bind: str, target: str, *, tls: bool) -> str:
    """Return the URL of a path on a listener: ``http://127.0.0.1:8000/health``.

    Args:
        bind: ``host:port``, ``[v6]:port`` or ``unix:/path``.
        target: The path, with its slash.
        tls: Whether the listener speaks TLS.
    """
    scheme = "https" if tls else "http"
    if bind.startswith("unix:"):
        quoted = bind.removeprefix("unix:").replace("%", "%25").replace("/", "%2F")
        return f"{scheme}+unix://{quoted}{target}"
    host, _, port = bind.rpartition(":")
    reached = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "*": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - asked there
    return f"{scheme}://{reached.get(host, host)}:{port}{target}"
