"""Who holds an address: the question after "address already in use".

The kernel lists listening sockets by inode (``/proc/net/tcp``, proc(5)); the inode is found again among the descriptors
of processes. Every server says in its own words that its address was taken; `address_in_use` reads them.
"""

from __future__ import annotations

import os
import re
import socket
import struct

from oxherd.records import dataclass
from oxherd.system.identity import pids, read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

__all__ = ["Holder", "address_in_use", "holder_of"]

_LISTEN = b"0A"
_TITLE_MAX = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A process that holds an address.

    Attributes:
        pid: Its pid, 0 where only its user is known.
        name: The name of its program, or "a process of user NAME".
        cmdline: Its command line, shortened, "" where only its user is known.
    """

    pid: int
    name: str
    cmdline: str

    @property
    def text(self) -> str:
        """Return ``nginx (pid 12)``."""
        return f"{self.name} (pid {self.pid})" if self.pid else self.name


@dataclass(frozen=True, slots=True)
class _Socket:
    """One line of a table of the kernel."""

    host: str
    inode: bytes
    uid: int
    listening: bool


def holder_of(host: str, port: int) -> list[Holder]:
    """Return the processes that hold an address.

    Args:
        host: An IP address, a name, "" for any; with port 0 the path of a unix socket, ``unix:`` before it or not.
        port: The TCP port, or 0.

    Returns:
        One holder for each process; empty where nobody holds it or there is no ``/proc``. Only root sees the
        processes of others: of them the user is told.
    """
    if port:
        found = [one for one in _tcp_sockets(port) if _same(host, one.host)]
        # A connection that happens to use the port as its own end is a holder as well, if nobody listens.
        found = [one for one in found if one.listening] or found
    else:
        found = list(_unix_sockets(host.removeprefix("unix:")))
    inodes = {one.inode for one in found}
    holders = list(_processes_with(inodes)) if inodes else []
    return holders or [_of_user(uid) for uid in dict.fromkeys(one.uid for one in found) if uid >= 0]


def _tcp_sockets(port: int) -> Iterator[_Socket]:
    for path, family in (("/proc/net/tcp", socket.AF_INET), ("/proc/net/tcp6", socket.AF_INET6)):
        wanted = b":%04X" % port
        for line in (read_file(path) or b"").split(b"\n")[1:]:
            fields = line.split()
            if len(fields) > 9 and fields[1].endswith(wanted) and fields[9] != b"0":
                host = _address(family, fields[1].split(b":")[0])
                yield _Socket(host, fields[9], int(fields[7]), fields[3] == _LISTEN)


def _address(family: int, text: bytes) -> str:
    """Return the address of ``0100007F``: words of 32 bits, each in the byte order of the machine."""
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    return socket.inet_ntop(family, struct.pack(f"={len(words)}I", *words)).removeprefix("::ffff:")


def _same(wanted: str, held: str) -> bool:
    any_address = {"", "*", "0.0.0.0", "::"}  # noqa: S104 - compared with, not bound to
    wanted = wanted.strip("[]").removeprefix("::ffff:")
    if wanted in any_address or held in any_address:
        return True
    # A name would need DNS, which may block. "localhost" is known; any other could be any address of the machine.
    if wanted == "localhost":
        return held == "::1" or held.startswith("127.")
    return wanted == held or not all(char in "0123456789abcdefABCDEF.:" for char in wanted)


def _unix_sockets(path: str) -> Iterator[_Socket]:
    wanted = os.fsencode(path)
    for line in (read_file("/proc/net/unix") or b"").split(b"\n")[1:]:
        fields = line.split(None, 7)
        if len(fields) == 8 and fields[7] == wanted:
            yield _Socket(path, fields[6], -1, listening=True)


def _processes_with(inodes: Collection[bytes]) -> Iterator[Holder]:
    links = {f"socket:[{inode.decode()}]" for inode in inodes}
    for pid in pids():
        folder = f"/proc/{pid}/fd"
        try:
            if any(_link(f"{folder}/{fd}") in links for fd in os.listdir(folder)):
                yield _holder(pid)
        except OSError:  # gone, or somebody else's
            continue


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _holder(pid: int) -> Holder:
    name = (read_file(f"/proc/{pid}/comm") or b"?").decode(errors="replace").rstrip("\n")
    words = (read_file(f"/proc/{pid}/cmdline") or b"").rstrip(b"\0").split(b"\0")
    return Holder(pid=pid, name=name, cmdline=b" ".join(words).decode(errors="replace")[:_TITLE_MAX])


def _of_user(uid: int) -> Holder:
    import pwd  # noqa: PLC0415 - only where the process itself cannot be seen

    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    return Holder(pid=0, name=f"a process of user {user}", cmdline="")


# -- what servers say -------------------------------------------------------------------------------------------------

_IN_USE = (
    "address already in use",
    "address in use",
    "addrinuse",
    "port is already in use",
    "was already in use",
    "is in use by another program",
    "connection in use",
    "only one usage of each socket address",
)
# In this order: the more exact pattern comes first. Group 1 is the host or path, group 2 the port.
_ADDRESSES = (
    r"\(\s*['\"]([^'\"]*)['\"]\s*,\s*(\d{1,5})",  # Python: ('127.0.0.1', 8000), ('::1', 8000, 0, 0)
    r"unix:(/[^\s,;]*)()",  # nginx, gunicorn
    r"['\"](/[^'\"]+)['\"]()",  # a path in quotes
    r"in use:? (/\S+)()",  # Node: address already in use /run/app.sock
    r"\[([0-9a-fA-F:.]*:[0-9a-fA-F:.]*)\]:(\d{1,5})",  # [::1]:8000
    r"\"([0-9a-fA-F.:]+)\" port (\d{1,5})",  # Ruby: for "0.0.0.0" port 3000
    r"(::(?:[0-9a-fA-F]+)?):(\d{1,5})\b",  # Node: :::3000, ::1:3000
    r"([A-Za-z0-9][A-Za-z0-9.-]*|\*):(\d{2,5})\b",  # 0.0.0.0:80, *:6379, localhost:80
    r"(?:^|\s)():(\d{2,5})\b",  # Go: listen tcp :8080
    r"()\b[Pp]ort[ :=]+(\d{1,5})\b",  # Port 5000 is in use, running on port 5432
)
# PostgreSQL names the address in the line that complains, and the port in the hint after it.
_HOST_ALONE = r"[\"']([0-9.]{7,15}|[0-9a-fA-F:]*:[0-9a-fA-F:.]*)[\"']"
# The lines around the complaint in which an address still belongs to it.
_AFTER, _BEFORE = 6, 3


def address_in_use(lines: Sequence[bytes]) -> tuple[str, int] | None:
    """Find "address already in use" in the last lines a program wrote.

    Args:
        lines: The lines, oldest first.

    Returns:
        None if no line says so; else host and port, ("", 0) where the address is not printed, and the path with
        port 0 for a unix socket. A host that is not printed is "".
    """
    texts = [line.decode("utf-8", "replace") for line in lines]
    complaints = [at for at, text in enumerate(texts) if any(words in text.lower() for words in _IN_USE)]
    if not complaints:
        return None
    # The last complaint is the one it ended with. What is said in one breath is surer than what stands nearby.
    for at in reversed(complaints):
        found = _address_in(texts[at])
        if found is not None:
            return found
    at = complaints[-1]
    host = re.search(_HOST_ALONE, texts[at])
    for text in (*texts[at + 1 : at + 1 + _AFTER], *reversed(texts[max(0, at - _BEFORE) : at])):
        found = _address_in(text)
        if found is not None:
            return (found[0] or (host.group(1) if host else ""), found[1])
    return (host.group(1) if host else "", 0)


def _address_in(text: str) -> tuple[str, int] | None:
    plain = _without_clutter(text)
    for pattern in _ADDRESSES:
        match = re.search(pattern, plain)
        if match and int(match.group(2) or 0) < 65536:
            return match.group(1).removeprefix("*"), int(match.group(2) or 0)
    return None


def _without_clutter(text: str) -> str:
    """Take away what looks like an address and is none: times, dates and the places of a traceback."""
    text = re.sub(r"\d{4}[-/]\d\d[-/]\d\d[T ]?", " ", text)
    text = re.sub(r"\b\d{1,2}:\d\d:\d\d([.,]\d+)?", " ", text)
    return "" if re.match(r"\s+(File \"|at |\^)", text) else text
