"""Why an address cannot be listened on: what the kernel said, what it means here, and what a person can do about it."""

from __future__ import annotations

import errno
import os

from oxherd.errors import ListenError
from oxherd.system.identity import read_file
from oxherd.system.portholders import holder_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oxherd.core.endpoint import Address

__all__ = ["CATALOGUE", "foreign_socket", "in_use", "listen_error", "not_understood", "path_error"]

CATALOGUE = {
    "OX481": "Somebody else listens there",
    "OX482": "A port that only root may use",
    "OX483": "An address this machine does not have",
    "OX484": "A unix socket that cannot be made there",
    "OX485": "Nothing is left to make a socket of",
    "OX486": "An address that cannot be read",
}

_PRIVILEGED = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
_SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_EXPECTED = 'an address such as "127.0.0.1:8000", "[::1]:8000" or "unix:/run/app.sock"'


def listen_error(address: Address, error: OSError) -> ListenError:
    """Return what to tell a person about an address that the kernel refused.

    Args:
        address: Where it should have been.
        error: What the kernel said to socket(2), bind(2) or listen(2).
    """
    number = error.errno or 0
    if number == errno.EADDRINUSE:
        return in_use(address)
    if number in _SCARCE:
        return ListenError(
            f"cannot listen on {address.text}: {_said(number)}",
            hint="raise the limit of open files of the supervisor (LimitNOFILE=, ulimit -n), or free memory",
            code="OX485",
        )
    if address.path:
        return path_error(address, number)
    if number == errno.EACCES:
        return _privileged(address)
    if number in {errno.EADDRNOTAVAIL, errno.ENODEV}:
        return ListenError(
            f"cannot listen on {address.text}: this machine has no address {address.host}",
            hint="`ip address` lists what it has; 0.0.0.0 (or [::]) is every one of them",
            code="OX483",
        )
    if number in {errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT}:
        return ListenError(
            f"cannot listen on {address.text}: IPv6 is switched off on this machine",
            hint="write the IPv4 address: 127.0.0.1 instead of [::1], 0.0.0.0 instead of [::]",
            code="OX483",
        )
    return ListenError(f"cannot listen on {address.text}: {_said(number)}", hint="see bind(2)")


def in_use(address: Address) -> ListenError:
    """Return the error of an address that somebody else has; says who, as far as that can be seen."""
    try:
        holders = holder_of(address.path or address.host, address.port)
    except OSError:  # no descriptors to look with: the address is in use all the same
        holders = []
    who = " and ".join(holder.text for holder in holders[:3])
    one = holders[0] if holders else None
    hint = f"bind to another {'path' if address.path else 'port'}"
    if one is not None and one.pid:
        hint = f"stop it (it runs `{one.cmdline}`), or {hint}"
    elif one is None and not address.path:
        hint = f"`ss -ltnp sport = :{address.port}` as root may show who has it; or {hint}"
    return ListenError(f"{address.text} is in use{f' by {who}' if who else ''}", hint=hint, code="OX481")


def not_understood(text: str, reason: str) -> ListenError:
    """Return the error of an address that cannot be read."""
    return ListenError(f'cannot listen on "{text}": {reason}', hint=f"expected {_EXPECTED}", code="OX486")


def path_error(address: Address, number: int) -> ListenError:
    """Return the error of a unix socket that could not be made, by what its directory is like."""
    folder = os.path.dirname(address.path)
    user = _user()
    match number:
        case errno.ENAMETOOLONG:
            length = len(os.fsencode(address.path))
            return ListenError(
                f"cannot listen on {address.text}: the path has {length} bytes, and a unix socket's at most 107",
                hint="put the socket into a directory with a short name, such as /run/NAME",
                code="OX484",
            )
        case errno.ENOENT:
            return ListenError(
                f"cannot listen on {address.text}: there is no directory {folder}",
                hint=f"make it: mkdir -p {folder}",
                code="OX484",
            )
        case errno.ENOTDIR:
            return ListenError(
                f"cannot listen on {address.text}: {folder} is no directory",
                hint="name a path in a directory",
                code="OX484",
            )
        case errno.EACCES | errno.EPERM | errno.EROFS:
            why = "is on a read-only file system" if number == errno.EROFS else f"may not be written to by {user}"
            return ListenError(
                f"cannot listen on {address.text}: {folder} {why}",
                hint=f"name a directory {user} may write to",
                code="OX484",
            )
        case errno.EEXIST:
            return ListenError(
                f"cannot listen on {address.text}: the path is there already, and is no socket",
                hint="move it away, or name another path",
                code="OX484",
            )
        case _:
            return ListenError(
                f"cannot listen on {address.text}: {_said(number)}", hint="name another path", code="OX484"
            )


def foreign_socket(address: Address, uid: int) -> ListenError:
    """Return the error of a unix socket that nobody seems to use and that is not ours to remove."""
    return ListenError(
        f"cannot listen on {address.text}: a socket of {_name(uid)} is there already",
        hint=f"if nobody uses it any more, remove it: rm {address.path}",
        code="OX484",
    )


def _privileged(address: Address) -> ListenError:
    first = (read_file(_PRIVILEGED) or b"1024").decode().strip()
    if not first.isdigit() or address.port >= int(first):
        return ListenError(
            f"cannot listen on {address.text}: permission denied",
            hint="a security policy (SELinux, AppArmor, seccomp) seems to forbid it; see its log",
            code="OX482",
        )
    return ListenError(
        f"cannot listen on {address.text}: ports below {first} are for root, and the supervisor runs as {_user()}",
        hint=(
            f"bind to a port from {first} on (behind nginx, 8000), or give the supervisor CAP_NET_BIND_SERVICE "
            "(systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE; else setcap cap_net_bind_service=+ep on its Python), "
            "or run it as root"
        ),
        code="OX482",
    )


def _user() -> str:
    return _name(os.geteuid())


def _name(uid: int) -> str:
    import pwd  # noqa: PLC0415 - only for the text of an error

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _said(number: int) -> str:
    text = os.strerror(number) if number else "the kernel refused"
    return text[:1].lower() + text[1:]
