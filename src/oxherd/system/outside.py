"""What a program does with a listener, seen and changed from outside: for programs that are run as they are.

Nearly every server waits with epoll(7), and the kernel tells in ``/proc/PID/fdinfo`` which descriptors an epoll watches
(proc(5)). A listener that is among them is accepted from: "has begun to accept" and "has stopped" can be seen without a
word from the program.

It can also be made to stop. The kernel knows what an epoll watches by open file *and* number, so the listener is taken out
by somebody who has the epoll and has the listener under the program's own number. Both are borrowed with pidfd_getfd(2),
by a thread that has unshared its table of descriptors (unshare(2), CLONE_FILES): in a table of its own it may put the
listener under any number without harm to what the supervisor has there, and all of it is gone with the thread. It has to
be this process: where Yama guards ptrace, only an ancestor of the program may do it.

The program notices nothing. It goes on with the connections it has, and new ones stay in the queue for whoever else has the
listener. One more connection may be accepted, of a wake-up that was under way.
"""

from __future__ import annotations

import errno
import os
import socket
import struct

from oxherd.records import dataclass
from oxherd.system.borrow import Libc, borrow
from oxherd.system.identity import SCARCE, read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from oxherd.core.endpoint import Address

__all__ = ["Look", "Stopped", "accepting", "established", "listener_inode", "look", "stop_accepting"]

_EPOLL = "anon_inode:[eventpoll]"
_ESTABLISHED = b"01"
_UNIX_CONNECTED = b"03"
_DENIED = frozenset({errno.EACCES, errno.EPERM})


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was seen of a listener in some processes.

    Attributes:
        watching: Epolls that watch it, as (pid, descriptor of the epoll, number the listener has there).
        epolls: How many epolls there are at all.
        denied: Whether a process could not be looked into.
    """

    watching: tuple[tuple[int, int, int], ...] = ()
    epolls: int = 0
    denied: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """What came of an attempt to make a program stop accepting.

    Attributes:
        count: Epolls that watch the listener no more.
        reason: Why it may go on accepting, for people; "" where it does not.
    """

    count: int
    reason: str = ""


# -- seeing -----------------------------------------------------------------------------------------------------------


def listener_inode(sock: socket.socket) -> int:
    """Return what a listener is known by in every process that has it."""
    return os.fstat(sock.fileno()).st_ino


def look(pids: Iterable[int], inode: int) -> Look:
    """Look for a listener in the epolls of some processes; about a tenth of a millisecond a process.

    Args:
        pids: The whole tree of the program; a process that is gone counts for nothing.
        inode: Of `listener_inode`.

    Raises:
        OSError: There are no descriptors or no memory to look.
    """
    watching: list[tuple[int, int, int]] = []
    epolls, denied = 0, False
    for pid in pids:
        try:
            numbers = list(_epolls(pid))
        except OSError as error:
            if error.errno in SCARCE:
                raise
            denied = denied or error.errno in _DENIED
            continue
        epolls += len(numbers)
        watching += ((pid, number, watched) for number in numbers for watched in _watched(pid, number, inode))
    return Look(watching=tuple(watching), epolls=epolls, denied=denied)


def accepting(pids: Iterable[int], inode: int) -> bool | None:
    """Whether a program accepts from a listener.

    Args:
        pids: The whole tree of the program; a process that is gone counts for nothing.
        inode: Of `listener_inode`.

    Returns:
        None where it cannot be told: the processes may not be looked into, or none of them has an epoll, because the
        program has not come so far yet, or because it waits with select(2) or poll(2). A program that waits so and has
        an epoll for something else (gunicorn's sync workers) never seems to accept.
    """
    seen = look(pids, inode)
    if seen.watching:
        return True
    return None if seen.denied or not seen.epolls else False


def _epolls(pid: int) -> Iterator[int]:
    folder = f"/proc/{pid}/fd"
    for name in os.listdir(folder):
        try:
            target = os.readlink(f"{folder}/{name}")
        except FileNotFoundError:  # closed meanwhile
            continue
        if target == _EPOLL:
            yield int(name)


def _watched(pid: int, number: int, inode: int) -> Iterator[int]:
    for line in (read_file(f"/proc/{pid}/fdinfo/{number}", insist=True) or b"").split(b"\n"):
        if line.startswith(b"tfd:"):
            words = line.replace(b":", b" ").split()
            fields = dict(zip(words[::2], words[1::2], strict=False))
            if int(fields.get(b"ino", b"0"), 16) == inode:
                yield int(fields[b"tfd"])


# -- stopping ---------------------------------------------------------------------------------------------------------


def stop_accepting(pids: Iterable[int], inode: int) -> Stopped:
    """Make a program stop accepting from a listener while it goes on with the connections it has.

    Blocks for a few milliseconds. It cannot be taken back; another process that gets the listener can accept from it.
    It is done to those that accept now: a worker that begins to afterwards has to be stopped by another call.

    Args:
        pids: The whole tree of the program; a process that is gone counts for nothing.
        inode: Of `listener_inode`.

    Returns:
        How often it was taken out of an epoll, and why the program may go on accepting.
    """
    members = tuple(pids)
    seen = look(members, inode)
    if not seen.watching:
        return Stopped(count=0, reason=_why_nothing(seen))
    count, trouble = _in_a_table_of_its_own(seen.watching, inode)
    # An epoll that two processes share is listed by both and emptied once: what counts is that nobody watches any more.
    left = look(members, inode)
    if left.denied:
        return Stopped(count=count, reason=_why_nothing(left))
    if left.watching:
        reason = "it watches the listener again" if trouble is None else _why_not(trouble)
        return Stopped(count=count, reason=reason)
    return Stopped(count=count)


def _why_nothing(seen: Look) -> str:
    if seen.denied:
        return "its processes may not be looked into: they run as another user"
    if not seen.epolls:
        return "it does not wait with epoll (but with select or poll), or has not begun to accept"
    return "no epoll of it watches this listener: it waits with select or poll, or does not accept from it"


def _why_not(trouble: OSError) -> str:
    if trouble.errno in _DENIED:
        return (
            "its descriptors may not be borrowed: ptrace is not permitted (another user, Yama, a container without "
            "CAP_SYS_PTRACE)"
        )
    if trouble.errno == errno.ENOSYS:
        return "this kernel has no pidfd_getfd (Linux 5.6)"
    return f"its descriptors could not be borrowed: {trouble.strerror}"


def _in_a_table_of_its_own(watching: tuple[tuple[int, int, int], ...], inode: int) -> tuple[int, OSError | None]:
    """Run `_unregister` in a thread with its own table of descriptors; return its count and what was in the way."""
    import gc  # noqa: PLC0415 - like threading and ctypes, only where a program is stopped this way
    import signal  # noqa: PLC0415
    import threading  # noqa: PLC0415

    counts: list[int] = []
    troubles: list[OSError] = []

    def work() -> None:
        libc = Libc()
        try:
            libc.unshare()
        except OSError as error:
            troubles.append(error)
            return
        for pid, epoll, number in watching:
            try:
                counts.append(_unregister(libc, pid, epoll, number, inode))
            except ProcessLookupError:
                continue
            except OSError as error:
                troubles.append(error)

    # In that table a number may stand for something else than in the supervisor's. So nothing else may run there: no
    # handler that writes to the wake-up pipe, no collector that closes a socket of the supervisor.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    collecting = gc.isenabled()
    gc.disable()
    try:
        thread = threading.Thread(target=work, name="outside")
        thread.start()
        thread.join()
    except RuntimeError:  # no room for another thread
        troubles.append(OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)))
    finally:
        if collecting:
            gc.enable()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return sum(counts), troubles[0] if troubles else None


def _unregister(libc: Libc, pid: int, epoll: int, number: int, inode: int) -> int:
    """Take one listener out of one epoll; return 1, or 0 where it is not in it any more."""
    import select  # noqa: PLC0415

    pidfd = os.pidfd_open(pid)
    borrowed = libc.getfd(pidfd, epoll)
    listener = borrow(libc, pid, pidfd, number, inode)
    # Neither of them may lie where the listener has to go; the pidfd is not needed any more.
    while number in {borrowed, listener}:
        borrowed, listener = os.dup(borrowed), os.dup(listener)
    os.dup2(listener, number)
    with select.epoll.fromfd(borrowed) as watcher:
        try:
            watcher.unregister(number)
        except FileNotFoundError:
            return 0
    return 1


# -- draining ---------------------------------------------------------------------------------------------------------


def established(pids: Iterable[int], addresses: Iterable[Address]) -> int:
    """Return how many connections to some addresses a program still has.

    A connection that the client has closed does not count, whether the program has noticed or not.

    Args:
        pids: The whole tree of the program.
        addresses: Of its listeners; 0.0.0.0 and [::] are every address of their port.

    Raises:
        OSError: There are no descriptors or no memory to look.
    """
    wanted = tuple(addresses)
    held = {inode for pid in pids for inode in _sockets(pid)}
    if not held:
        return 0
    found = [*_tcp(wanted, "/proc/net/tcp", socket.AF_INET), *_tcp(wanted, "/proc/net/tcp6", socket.AF_INET6)]
    return len(held & {*found, *_unix(wanted)})


def _sockets(pid: int) -> Iterator[bytes]:
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)
    except OSError as error:
        if error.errno in SCARCE:
            raise
        return  # gone, or somebody else's
    for name in names:
        try:
            target = os.readlink(f"{folder}/{name}")
        except OSError:
            continue
        if target.startswith("socket:["):
            yield target[8:-1].encode()


def _tcp(addresses: tuple[Address, ...], path: str, family: int) -> Iterator[bytes]:
    version = 6 if family == socket.AF_INET6 else 4
    names = {_name(family, one.host, one.port) for one in addresses if _version(one) == version}
    if not names:
        return
    every = {one.port for one in addresses if one.host in {"0.0.0.0", "::"} and _version(one) == version}  # noqa: S104
    for line in (read_file(path, insist=True) or b"").split(b"\n")[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[3] == _ESTABLISHED:
            port = int(fields[1].rpartition(b":")[2], 16)
            if fields[1] in names or port in every:
                yield fields[9]


def _version(address: Address) -> int:
    return 0 if address.path else 6 if ":" in address.host else 4


def _name(family: int, host: str, port: int) -> bytes:
    """Return ``0100007F:1F40``: words of 32 bits in the byte order of the machine."""
    packed = socket.inet_pton(family, host.partition("%")[0])
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return b"".join(b"%08X" % word for word in words) + b":%04X" % port


def _unix(addresses: tuple[Address, ...]) -> Iterator[bytes]:
    names = {os.fsencode(one.path) for one in addresses if one.path}
    if not names:
        return
    for line in (read_file("/proc/net/unix", insist=True) or b"").split(b"\n")[1:]:
        fields = line.split(None, 7)
        if len(fields) == 8 and fields[7] in names and fields[5] == _UNIX_CONNECTED:
            yield fields[6]
