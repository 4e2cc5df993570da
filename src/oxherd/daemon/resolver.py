"""Addresses of a name without waiting for the name server in the loop.

Numbers and ``localhost`` need no lookup: they are never asked of a name server, so that a probe of this machine works
when DNS does not. Every other name is looked up by a short-lived thread, one for a name at a time; a name server that
hangs holds up the probes that need it and nothing else.
"""

from __future__ import annotations

import os
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oxherd.core.endpoint import Address
    from oxherd.system.loop import Loop

    SocketAddress = tuple[int, str | tuple[str, int] | tuple[str, int, int, int]]
    Lookup = Callable[[str, int], list[SocketAddress]]
    Answer = Callable[[list[SocketAddress], str], None]

__all__ = ["Resolver", "known_addresses", "look_up"]


def known_addresses(address: Address) -> list[SocketAddress] | None:
    """Return (family, sockaddr) of what needs no lookup, or None for a name that does."""
    if address.path:
        return [(socket.AF_UNIX, address.path)]
    if address.host.lower().rstrip(".") == "localhost":
        return [(socket.AF_INET, ("127.0.0.1", address.port)), (socket.AF_INET6, ("::1", address.port, 0, 0))]
    host, _, zone = address.host.partition("%")
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        if family == socket.AF_INET:
            return [(family, (host, address.port))]
        return [(family, (host, address.port, 0, _scope(zone)))]
    return None


def _scope(zone: str) -> int:
    """Return the interface number of ``fe80::1%eth0``; 0 where it has none, which the kernel then refuses."""
    try:
        return int(zone) if zone.isdigit() else socket.if_nametoindex(zone) if zone else 0
    except OSError:
        return 0


def look_up(host: str, port: int) -> list[SocketAddress]:
    """Ask the system's resolver; blocks.

    Raises:
        OSError: There is no such name, or no answer.
        UnicodeError: It cannot be a name.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(family, sockaddr) for family, _, _, _, sockaddr in found]  # type: ignore[misc]


class _Question:
    """One lookup under way and everybody who waits for it."""

    __slots__ = ("addresses", "error", "read_fd", "waiting", "write_fd")

    def __init__(self) -> None:
        self.read_fd, self.write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.waiting: dict[object, Answer] = {}
        self.addresses: list[SocketAddress] = []
        self.error = "the lookup ended without an answer"


class Resolver:
    """Looks names up in threads and answers in the loop.

    Args:
        loop: Where answers are given.
        lookup: Does the blocking part, in a thread.
    """

    def __init__(self, loop: Loop, lookup: Lookup = look_up) -> None:
        """Ask nothing yet."""
        self._loop = loop
        self._lookup = lookup
        self._questions: dict[tuple[str, int], _Question] = {}
        self._answering: dict[object, Answer] = {}

    def ask(self, address: Address, answer: Answer) -> object:
        """Look a name up; ``answer`` gets the addresses, or none and the reason, later and from the loop.

        Returns:
            A ticket for `forget`.

        Raises:
            OSError: There are no descriptors for the pipe.
            RuntimeError: There can be no more threads.
        """
        asked = (address.host, address.port)
        ticket = object()
        question = self._questions.get(asked)
        if question is None:
            question = self._begin(*asked)
            self._questions[asked] = question
        question.waiting[ticket] = answer
        return ticket

    def forget(self, ticket: object) -> None:
        """Give no answer to the holder of this ticket. The thread goes on until the resolver returns."""
        self._answering.pop(ticket, None)
        for question in self._questions.values():
            question.waiting.pop(ticket, None)

    def _begin(self, host: str, port: int) -> _Question:
        import threading  # noqa: PLC0415 - only where a probe goes to a name

        question = _Question()
        thread = threading.Thread(target=_work, args=(question, self._lookup, host, port), daemon=True)
        try:
            thread.start()
        except RuntimeError:
            os.close(question.read_fd)
            os.close(question.write_fd)
            raise
        self._loop.watch_read(question.read_fd, lambda: self._answered(host, port))
        return question

    def _answered(self, host: str, port: int) -> None:
        question = self._questions.pop((host, port))
        self._loop.unwatch(question.read_fd)
        os.close(question.read_fd)
        # One by one: an answer may make another one unwanted.
        self._answering.update(question.waiting)
        for ticket in question.waiting:
            answer = self._answering.pop(ticket, None)
            if answer is not None:
                answer(question.addresses, question.error)


def _work(question: _Question, lookup: Lookup, host: str, port: int) -> None:
    """Run in the thread. Closing the pipe is what tells the loop, whatever happened, and is the last thing done."""
    try:
        question.addresses = lookup(host, port)
        question.error = "" if question.addresses else "it has no address"
    except OSError as error:
        question.error = (error.strerror or str(error)).lower()
    except UnicodeError:
        question.error = "it cannot be a host name"
    finally:
        os.close(question.write_fd)
