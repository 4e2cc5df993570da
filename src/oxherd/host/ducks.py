"""What makes a lame duck of any engine on epoll, whether its own code knows one or not.

An engine that cannot stop accepting while it serves can be made to: the listener is taken out of every epoll set of this
process, epoll(7), so nobody hears of new connections any more, while those that exist go on. The connections wait in
the backlog of the listener, which the supervisor holds too, for whoever else serves it. `restore` puts it back.

How many connections are left is read from this process's own descriptors: an accepted connection has the local name of
the listener it came from.
"""

from __future__ import annotations

import os
import platform
import select
import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["Name", "Registration", "established", "name_of", "registrations", "restore", "silence", "wait_until_gone"]

# An accepted connection is looked for by this: family, address (None: any, the listener is bound to a wildcard), port.
# A unix listener has its path as the address and no port.
Name = tuple[int, "str | bytes | None", int]

_ESTABLISHED = 1  # tcpi_state, the first byte of struct tcp_info, tcp(7)
_WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound to

# Seconds between two looks at the descriptors at the least; with many connections a look itself takes long, and then
# the pause is as many times longer.
_PAUSE = 0.05
_DUTY = 10


@dataclass(frozen=True)
class Registration:
    """A descriptor in an epoll set of this process: what epoll_ctl(2) was given for it."""

    epoll: int
    target: int
    events: int
    data: int


def registrations(listener: int) -> list[Registration]:
    """Return where a descriptor's file is watched by an epoll set of this process, under whatever number."""
    inode = os.fstat(listener).st_ino
    found: list[Registration] = []
    for number, link in _descriptors():
        if link != "anon_inode:[eventpoll]":
            continue
        try:
            with open(f"/proc/self/fdinfo/{number}", encoding="ascii") as lines:
                text = lines.read()
        except OSError:
            continue  # closed meanwhile: nothing is watched there any more
        for line in text.splitlines():
            if not line.startswith("tfd:"):
                continue
            words = line.replace(":", " ").split()
            fields = dict(zip(words[::2], words[1::2], strict=False))
            if int(fields["ino"], 16) == inode:
                found.append(
                    Registration(number, int(fields["tfd"]), int(fields["events"], 16), int(fields["data"], 16))
                )
    return found


def silence(listener: int) -> list[Registration]:
    """Take a listener out of every epoll set of this process; returns what it was registered as, for `restore`.

    One more connection may be accepted after it by an engine that had been told of it before.
    """
    found = registrations(listener)
    gone: list[Registration] = []
    for one in found:
        # A descriptor of our own, so that closing it does not close the engine's.
        with select.epoll.fromfd(os.dup(one.epoll)) as watcher:
            try:
                watcher.unregister(one.target)
            except FileNotFoundError:
                continue  # the same set under a second number (tokio holds two), done a moment ago
        gone.append(one)
    return gone


def restore(registered: Iterable[Registration]) -> None:
    """Put a listener back into the epoll sets it was taken out of, with the events and the data it had there.

    What is watched is whatever has the number now: another listener may have taken it by dup2(2) meanwhile, and the
    engine is none the wiser.

    Raises:
        OSError: An epoll set is gone, or watches the descriptor already.
    """
    for one in registered:
        _register(one)


def _register(one: Registration) -> None:
    # Python and libuv keep the number itself in the lower half; Python leaves the upper half as it was.
    if one.data & 0xFFFFFFFF == one.target:
        with select.epoll.fromfd(os.dup(one.epoll)) as watcher:
            watcher.register(one.target, one.events)
        return
    # What else an engine keeps there (tokio: an address) takes the call itself.
    import ctypes  # noqa: PLC0415 - a megabyte that few need

    class Event(ctypes.Structure):
        # Packed on x86-64 alone, so that it is laid out as on i386, <sys/epoll.h>.
        _pack_ = 1 if platform.machine() in ("x86_64", "AMD64") else 8
        _fields_ = (("events", ctypes.c_uint32), ("data", ctypes.c_uint64))

    libc = ctypes.CDLL(None, use_errno=True)
    event = Event(one.events, one.data)
    if libc.epoll_ctl(one.epoll, 1, one.target, ctypes.byref(event)) != 0:  # 1: EPOLL_CTL_ADD
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def name_of(listener: socket.socket) -> Name:
    """Return what connections accepted from a listener are known by."""
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return (int(listener.family), name, 0)
    host, port = name[:2]
    return (int(listener.family), None if host in _WILDCARDS else host, port)


def established(names: Iterable[Name]) -> int:
    """Return how many connections of this process, accepted from listeners of these names, have a peer that is there."""
    wanted = frozenset(names)
    if not wanted:
        return 0
    return sum(1 for number, link in _descriptors() if link.startswith("socket:") and _is_open(number, wanted))


def _is_open(number: int, wanted: frozenset[Name]) -> bool:
    try:
        # Borrowed, not owned: detached below. Where it was closed meanwhile every call says EBADF.
        connection = socket.socket(fileno=number)
    except OSError:
        return False
    try:
        family = int(connection.family)
        name = connection.getsockname()
        if connection.family == socket.AF_UNIX:
            return (family, name, 0) in wanted and _has_peer(connection)
        if connection.family not in (socket.AF_INET, socket.AF_INET6):
            return False
        host, port = name[:2]
        if (family, host, port) not in wanted and (family, None, port) not in wanted:
            return False
        return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _ESTABLISHED
    except OSError:
        return False
    finally:
        connection.detach()


def _has_peer(connection: socket.socket) -> bool:
    connection.getpeername()  # a listener has none: OSError
    poll = select.poll()
    poll.register(connection.fileno(), 0)
    return not any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll(0))


def wait_until_gone(count: Callable[[], int], until: float, hurry: threading.Event) -> int:
    """Wait until no connection is left; returns how many are when it gives up.

    Args:
        count: Returns how many there are now.
        until: When to give up, CLOCK_MONOTONIC.
        hurry: Ends the waiting at once.
    """
    empty = False
    while True:
        before = time.monotonic()
        left = count()
        # Twice in a row: a connection may be between the engine's accept and the descriptor table when one looks.
        if not left and empty:
            return 0
        empty = not left
        now = time.monotonic()
        if now >= until:
            return left
        if hurry.wait(min(until - now, max(_PAUSE, _DUTY * (now - before)))):
            return count()


def _descriptors() -> Iterator[tuple[int, str]]:
    for text in os.listdir("/proc/self/fd"):
        link = _link(text)
        if link:
            yield int(text), link


def _link(text: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{text}")
    except OSError:
        return ""  # closed meanwhile, among them the one that listed the directory
