"""Where a probe goes: health check URLs and ``host:port`` addresses, read without a URL library.

Pure. Accepted URLs: ``http://host:port/path?query``, ``https://...``, ``http+unix://%2Frun%2Fapp.sock/path`` and
``unix:/run/app.sock:/path``. A user and password in the URL become an Authorization header and are never shown.
"""

from __future__ import annotations

from oxherd.records import dataclass

__all__ = ["Address", "Endpoint", "parse_address", "parse_endpoint"]

_URL = 'a URL such as "http://localhost:8000/health" or "unix:/run/app.sock:/health"'
_ADDRESS = 'an address such as "localhost:5432", "[::1]:5432" or "unix:/run/app.sock"'
_SECRET_WORDS = ("token", "secret", "key", "pass", "auth", "sig")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~:/?#[]@!$&'()*+,;=%")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Something to connect to: a host and port, or the path of a unix socket.

    Attributes:
        host: Name or number, without brackets; empty for a unix socket.
        port: TCP port; 0 for a unix socket.
        path: Path of the unix socket, or empty.
    """

    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def text(self) -> str:
        """The address as people write it."""
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A health check URL.

    Attributes:
        tls: Whether to speak TLS.
        address: What to connect to.
        target: Path and query, as they stand in the request line.
        host_header: Value of the Host header.
        userinfo: ``user:password``, percent-decoded, or None.
        shown: The URL without its password, for texts.
    """

    tls: bool
    address: Address
    target: str
    host_header: str
    userinfo: str | None
    shown: str


def parse_endpoint(text: str) -> Endpoint:
    """Read a health check URL.

    Raises:
        ValueError: It is none; the text says what is accepted.
    """
    if text.startswith("unix:"):
        path, _, target = text.removeprefix("unix:").partition(":")
        return _endpoint(Address(path=_socket_path(path)), target=target, shown=f"unix:{path}:{_veiled(target)}")
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in {"http", "https", "http+unix", "https+unix"}:
        raise ValueError(_URL)
    cut = min((index for index in map(rest.find, "/?#") if index >= 0), default=len(rest))
    authority, target = rest[:cut], rest[cut:].partition("#")[0]
    userinfo, at, host = authority.rpartition("@")
    who = f"{userinfo.partition(':')[0]}:***@" if at else ""
    shown = f"{scheme}://{who}{host}{_veiled(target)}"
    tls = scheme.startswith("https")
    if scheme.endswith("+unix"):
        address = Address(path=_socket_path(_unquote(host)))
        return _endpoint(address, target=target, shown=shown, tls=tls)
    name, port = _host_port(host, _URL, default=443 if tls else 80)
    credentials = _unquote(userinfo) if at else None
    return _endpoint(
        Address(host=name, port=port), target=target, shown=shown, tls=tls, host_header=host, userinfo=credentials
    )


def parse_address(text: str) -> Address:
    """Read ``host:port``, ``[v6]:port``, ``:port``, a bare port, or ``unix:/path``; a ``tcp://`` before it is allowed.

    Raises:
        ValueError: It is none; the text says what is accepted.
    """
    if text.startswith("unix:"):
        return Address(path=_socket_path(text.removeprefix("unix:"), _ADDRESS))
    bare = text.removeprefix("tcp://").rstrip("/")
    name, port = _host_port(f":{bare}" if _is_number(bare) else bare, _ADDRESS, default=0)
    return Address(host=name, port=port)


def _endpoint(
    address: Address,
    *,
    target: str,
    shown: str,
    tls: bool = False,
    host_header: str = "localhost",
    userinfo: str | None = None,
) -> Endpoint:
    if not target.startswith("/"):
        target = f"/{target}"
    quoted = "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in target.encode())
    return Endpoint(tls=tls, address=address, target=quoted, host_header=host_header, userinfo=userinfo, shown=shown)


def _veiled(target: str) -> str:
    """Return a path and query with the values of secret parameters hidden: ``/health?token=***``."""
    path, mark, query = target.partition("?")
    parameters = []
    for parameter in query.split("&"):
        name, equals, _ = parameter.partition("=")
        secret = equals and any(word in name.lower() for word in _SECRET_WORDS)
        parameters.append(f"{name}=***" if secret else parameter)
    return f"{path}{mark}{'&'.join(parameters)}"


def _socket_path(path: str, expected: str = _URL) -> str:
    # sun_path holds 108 bytes with its end, unix(7).
    if not path.startswith("/") or len(path.encode()) > 107 or "\0" in path:
        raise ValueError(expected)
    return path


def _host_port(text: str, expected: str, *, default: int) -> tuple[str, int]:
    """Split ``host:port``; a missing host is localhost, a missing port the default (0: it must not miss)."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or ":" not in host or (rest and not rest.startswith(":")):
            raise ValueError(expected)
        port = rest[1:]
    else:
        host, _, port = text.partition(":")
    if any(char <= " " or char in "/\\@?#[]\x7f" for char in host):
        raise ValueError(expected)
    number = default if not port else int(port) if _is_number(port) else 0
    if not 0 < number < 65536:
        raise ValueError(expected)
    return host or "localhost", number


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5


def _unquote(text: str) -> str:
    """Decode ``%2F``.

    Raises:
        ValueError: What follows a percent sign is no byte of UTF-8.
    """
    first, *rest = text.split("%")
    out = first.encode()
    for part in rest:
        try:
            out += bytes.fromhex(part[:2]) + part[2:].encode()
        except ValueError:
            raise ValueError(_URL) from None
    try:
        return out.decode()
    except UnicodeDecodeError:
        raise ValueError(_URL) from None
