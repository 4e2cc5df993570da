"""Listening sockets as the supervisor makes them, and the private ones its workers are probed through.

A public listener is made once and kept for the life of its process, so that what waits in its queue is never lost. Its
options are set before bind(2), and what it accepts inherits them:

* ``IPPROTO_TCP`` by name: asyncio switches Nagle off only for sockets whose protocol it knows;
* ``TCP_NODELAY`` on the listener itself: engines that get a descriptor do not set it, and a keep-alive request then costs
  the 40 ms of a delayed acknowledgement;
* ``SO_REUSEADDR``, since connections of the time before are still there after a restart;
* ``IPV6_V6ONLY``, so that ``[::]:80`` and ``0.0.0.0:80`` are two addresses on every machine;
* ``SO_REUSEPORT`` where several listeners share an address. It lets *any* program of the same user share it, silently and
  with half of the connections; hence `claim`, which proves that nobody is there, comes first.

A listener is bound and not listening until somebody says so (`oxherd.system.listener_set`): until then the kernel refuses
connections, and the others of its address get them.

Unix sockets have mode 0666, as uvicorn makes them: whoever may enter the directory may connect. They are removed when
they are closed, if the path still is what was made.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct

from oxherd.core.endpoint import Address
from oxherd.system.identity import read_file
from oxherd.system.listener_errors import foreign_socket, in_use, listen_error, not_understood, path_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "BACKLOG",
    "Address",
    "claim",
    "close_private",
    "open_listener",
    "open_private",
    "parse_bind",
    "queue_length",
    "same_address",
    "sweep_private",
    "within_reach",
]

# Connections that wait for accept(2); the kernel cuts it to net.core.somaxconn, 4096.
BACKLOG = 2048
# sun_path holds 108 bytes with its end, unix(7).
_PATH_MAX = 107
_SOCKET_MODE = 0o666
_PRIVATE_BACKLOG = 128
_EVERY = "0.0.0.0"  # noqa: S104 - what the user wrote for "every address"
# struct tcp_info, linux/tcp.h: of a listening socket tcpi_unacked is the length of its queue.
_TCP_INFO_UNACKED = 24
# linux/sock_diag.h, linux/unix_diag.h.
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_UDIAG_SHOW_RQLEN = 0x10
_UNIX_DIAG_RQLEN = 4
_DIAG_HEADERS = 32  # struct nlmsghdr and struct unix_diag_msg


# -- addresses --------------------------------------------------------------------------------------------------------


def parse_bind(text: str) -> Address:
    """Read ``host:port``, ``[v6]:port``, ``:port``, a bare port, ``*:port`` or ``unix:/path``.

    The host of the result is a number in its shortest spelling, so that equal addresses are equal. ``:8000`` and ``*``
    are every IPv4 address (as for gunicorn), ``localhost`` and a bare port are 127.0.0.1. A name is looked up in
    ``/etc/hosts`` and nowhere else: a name server may take seconds to answer, and the supervisor waits for nobody.

    Raises:
        ListenError: OX486, it is no address; or OX484, the path of a unix socket is too long.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        path = "/" + path.lstrip("/") if path.startswith("//") else path
        if not path.startswith("/") or "\0" in path or path.endswith("/"):
            raise not_understood(text, "the path of a unix socket has to be absolute")
        address = Address(path=path)
        if len(os.fsencode(path)) > _PATH_MAX:
            raise path_error(address, errno.ENAMETOOLONG)
        return address
    host, colon, port = text.removeprefix("tcp://").rstrip("/").rpartition(":")
    if not colon:
        if not port.isdigit():
            raise not_understood(text, "the port is missing")
        host = "localhost"
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise not_understood(text, f'"{port}" is no port from 1 to 65535')
    if host.startswith("[") and host.endswith("]"):
        return Address(host=_number6(text, host[1:-1]), port=int(port))
    if ":" in host:
        raise not_understood(text, "an IPv6 address stands in brackets")
    return Address(host=_number(text, host), port=int(port))


def same_address(sock: socket.socket, address: Address) -> bool:
    """Whether a socket is bound to an address."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return bool(address.path) and name == address.path
    return not address.path and name[:2] == (address.host.partition("%")[0], address.port)


def _number(text: str, host: str) -> str:
    if host in {"", "*"}:
        return _EVERY
    if host.lower().rstrip(".") == "localhost":
        return "127.0.0.1"
    number = _canonical(socket.AF_INET, host) or next(_hosts(host.lower().rstrip(".")), "")
    if not number:
        raise not_understood(text, f'"{host}" is no number, and /etc/hosts does not know it')
    return number


def _number6(text: str, host: str) -> str:
    number, percent, zone = host.partition("%")
    canonical = _canonical(socket.AF_INET6, number)
    if not canonical:
        raise not_understood(text, f'"{host}" is no IPv6 address')
    return f"{canonical}{percent}{zone}"


def _canonical(family: int, host: str) -> str:
    try:
        return socket.inet_ntop(family, socket.inet_pton(family, host))
    except (OSError, ValueError):
        return ""


def _hosts(name: str) -> Iterator[str]:
    """Return the addresses ``/etc/hosts`` has for a name; hosts(5)."""
    for line in (read_file("/etc/hosts") or b"").decode(errors="replace").splitlines():
        number, *names = line.partition("#")[0].split() or [""]
        if name in (one.lower() for one in names):
            canonical = _canonical(socket.AF_INET, number) or _canonical(socket.AF_INET6, number)
            if canonical:
                yield canonical


# -- public listeners -------------------------------------------------------------------------------------------------


def open_listener(address: Address, *, reuse_port: bool) -> socket.socket:
    """Make a listener: bound, not listening, non-blocking, close-on-exec.

    Args:
        address: Where; of `parse_bind`.
        reuse_port: Whether other listeners of ours share the address. Ignored for a unix socket.

    Raises:
        ListenError: It cannot be; says why, who has the address, and what to do.
    """
    try:
        sock = _socket(address)
    except OSError as error:
        raise listen_error(address, error) from None
    try:
        if address.path:
            _bind_path(sock, address.path)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(_sockaddr(address))
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise listen_error(address, error) from None
    return sock


def _bind_path(sock: socket.socket, path: str) -> None:
    """Bind a unix socket that everybody may connect to.

    By the umask and not by chmod(2) afterwards: whoever may write to the directory could put a link in its place
    meanwhile, and root would open another file to all. Nothing else makes files in the meantime: there is one thread
    that does.
    """
    previous = os.umask(0o777 & ~_SOCKET_MODE)
    try:
        sock.bind(path)
    finally:
        os.umask(previous)


def claim(address: Address) -> None:
    """Prove that nobody else has an address, before the first listener of ours is bound to it.

    A unix socket that nobody answers on is removed, if it is a socket and ours.

    Raises:
        ListenError: Somebody has it (OX481 says who), or it cannot be bound to for another reason.
    """
    if address.path:
        _claim_path(address)
        return
    try:
        _bind_alone(address, reuse_address=True)
        # A socket that is bound and does not listen yet is in the way of this one only, and so are connections that
        # are still dying. Those are listed, the former is not.
        _bind_alone(address, reuse_address=False)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or not _dying(address):
            raise listen_error(address, error) from None


def _bind_alone(address: Address, *, reuse_address: bool) -> None:
    with _socket(address) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse_address)
        probe.bind(_sockaddr(address))


def _dying(address: Address) -> bool:
    """Whether connections of a port that nobody listens on are what keeps it."""
    wanted = b":%04X" % address.port
    states = [
        line.split()[3]
        for path in ("/proc/net/tcp", "/proc/net/tcp6")
        for line in (read_file(path) or b"").split(b"\n")[1:]
        if len(line.split()) > 9 and line.split()[1].endswith(wanted)
    ]
    return bool(states) and b"0A" not in states


def _socket(address: Address) -> socket.socket:
    if address.path:
        return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return sock


def _sockaddr(address: Address) -> tuple[str, int] | tuple[str, int, int, int]:
    host, _, zone = address.host.partition("%")
    if ":" not in host:
        return (host, address.port)
    try:
        scope = int(zone) if zone.isdigit() else socket.if_nametoindex(zone) if zone else 0
    except OSError:  # without an errno of its own
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV)) from None
    return (host, address.port, 0, scope)


def _claim_path(address: Address) -> None:
    try:
        found = os.lstat(address.path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise path_error(address, error.errno or 0) from None
    if not stat.S_ISSOCK(found.st_mode):
        raise path_error(address, errno.EEXIST)
    if _answered(address):
        raise in_use(address)
    if found.st_uid != os.geteuid():
        raise foreign_socket(address, found.st_uid)
    try:
        os.unlink(address.path)
    except OSError as error:
        raise path_error(address, error.errno or 0) from None


def _answered(address: Address) -> bool:
    """Whether anybody has a unix socket: listens on it, or has bound it and will."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(address.path)
        except OSError as error:
            # EACCES says nothing of whether it is used; the owner, which is looked at next, is another user then.
            if error.errno not in {errno.ECONNREFUSED, errno.ENOENT, errno.EACCES}:
                return True
        else:
            return True
    wanted = os.fsencode(address.path)
    lines = (line.split(None, 7) for line in (read_file("/proc/net/unix") or b"").split(b"\n")[1:])
    # State 01 is unconnected: accepted connections, which outlive their listener, bear its path as well.
    return any(len(fields) == 8 and fields[7] == wanted and fields[5] == b"01" for fields in lines)


# -- queues -----------------------------------------------------------------------------------------------------------


def queue_length(sock: socket.socket) -> int | None:
    """Return how many connections wait in the queue of a listening socket, None where the kernel does not say."""
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return 0
    if sock.family == socket.AF_UNIX:
        return _unix_queue_length(os.fstat(sock.fileno()).st_ino)
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_UNACKED + 4)
    return int(struct.unpack_from("=I", info, _TCP_INFO_UNACKED)[0])


def _unix_queue_length(inode: int) -> int | None:
    """Ask sock_diag(7), which answers within the call; there is no other way for unix sockets."""
    query = struct.pack("=BBHIIIII", socket.AF_UNIX, 0, 0, 0xFFFFFFFF, inode, _UDIAG_SHOW_RQLEN, 0xFFFFFFFF, 0xFFFFFFFF)
    head = struct.pack("=IHHII", 16 + len(query), _SOCK_DIAG_BY_FAMILY, 1, 0, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as diag:
            diag.setblocking(False)
            diag.send(head + query)
            answer = diag.recv(4096)
    except OSError:  # a kernel without the module
        return None
    if struct.unpack_from("=H", answer, 4)[0] != _SOCK_DIAG_BY_FAMILY:
        return None
    at = _DIAG_HEADERS
    while at + 4 <= len(answer):
        length, kind = struct.unpack_from("=HH", answer, at)
        if kind == _UNIX_DIAG_RQLEN:
            return int(struct.unpack_from("=I", answer, at + 4)[0])
        at += max(4, (length + 3) & ~3)
    return None


# -- private listeners ------------------------------------------------------------------------------------------------


class within_reach:  # noqa: N801 - read as a verb: with within_reach(path) as short
    """A path of any length as one that fits into a socket address, for as long as the block lasts.

    A directory that is open has a short name of its own, ``/proc/self/fd/7``.

    Args:
        path: Absolute path; its last part has at most 80 bytes.
    """

    __slots__ = ("_fd", "_path")

    def __init__(self, path: str) -> None:
        """Open nothing yet."""
        self._path = path
        self._fd = -1

    def __enter__(self) -> str:
        """Return the path, or a short one.

        Raises:
            OSError: The directory cannot be opened.
        """
        if len(os.fsencode(self._path)) <= _PATH_MAX:
            return self._path
        folder, name = os.path.split(self._path)
        self._fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._fd}/{name}"

    def __exit__(self, *_exc: object) -> None:
        """Close the directory."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def open_private(directory: str, name: str) -> tuple[socket.socket, str]:
    """Make a listening unix socket that only this user can reach.

    Args:
        directory: Where it is made; 0700 and the supervisor's own, so a file of that name is what an earlier
            supervisor left behind.
        name: Its file name.

    Returns:
        The socket, non-blocking and close-on-exec, and its path, which may be longer than a socket address can be:
        connect with `within_reach`.

    Raises:
        ListenError: It cannot be made.
    """
    path = os.path.join(directory, name)
    address = Address(path=path)
    try:
        sock = _socket(address)
    except OSError as error:
        raise listen_error(address, error) from None
    try:
        _unlink_socket(path)
        with within_reach(path) as short:
            sock.bind(short)
        sock.listen(_PRIVATE_BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise listen_error(address, error) from None
    return sock, path


def close_private(sock: socket.socket, path: str) -> None:
    """Close a private listener and remove its file; one that is gone already is no error."""
    sock.close()
    _unlink_socket(path)


def sweep_private(directory: str) -> None:
    """Remove the files of private listeners that nobody listens on any more: a supervisor that was killed left them."""
    try:
        names = os.listdir(directory)
    except OSError:
        return
    for name in names:
        path = os.path.join(directory, name)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, within_reach(path) as short:
            probe.setblocking(False)
            try:
                probe.connect(short)
            except ConnectionRefusedError:
                _unlink_socket(path)
            except OSError:
                continue  # somebody listens and is busy, or it is no socket of ours


def _unlink_socket(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
