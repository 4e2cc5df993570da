"""Connections without waiting, and the probe that asks for nothing more: does the port answer."""

from __future__ import annotations

import errno
import os
import socket

from oxherd.core.endpoint import Address
from oxherd.daemon.probe import Outcome, trouble_of
from oxherd.daemon.resolver import known_addresses
from oxherd.system.listeners import within_reach
from oxherd.units import format_seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oxherd.daemon.probe import Done
    from oxherd.daemon.resolver import Resolver, SocketAddress
    from oxherd.system.loop import Loop, Timer

__all__ = ["Dial", "TcpProbe", "phrase"]

# Seconds until a unix socket whose backlog is full is tried again; unlike TCP the kernel does not queue the attempt.
_UNIX_RETRY = 0.05


def phrase(error: OSError) -> str:
    """Return "connection refused" for an error of a socket."""
    text = os.strerror(error.errno) if error.errno else str(error)
    return text[:1].lower() + text[1:]


class Dial:
    """Connects to the first of the addresses that answers.

    Args:
        loop: The loop.
        resolver: Looks names up.
        address: Where to.
        opened: Called with the connected non-blocking socket, which is the caller's from then on.
        failed: Called with the outcome when no address answers.
    """

    def __init__(
        self,
        loop: Loop,
        resolver: Resolver,
        address: Address,
        *,
        opened: Callable[[socket.socket], None],
        failed: Done,
    ) -> None:
        """Connect to nothing yet."""
        self._loop = loop
        self._resolver = resolver
        self._address = address
        self._opened = opened
        self._failed = failed
        self._socket: socket.socket | None = None
        self._timer: Timer | None = None
        self._ticket: object | None = None
        self._left: list[SocketAddress] = []
        self._reason = ""  # the first one: of localhost what 127.0.0.1 said
        self.resolving = False

    def start(self) -> None:
        """Begin; the answer comes later, from the loop."""
        known = known_addresses(self._address)
        if known is not None:
            self._left = known
            self._timer = self._loop.call_later(0.0, self._next)
            return
        self.resolving = True
        try:
            self._ticket = self._resolver.ask(self._address, self._resolved)
        except (OSError, RuntimeError) as error:
            reason = phrase(error) if isinstance(error, OSError) else "there can be no more threads"
            outcome = Outcome(None, f"could not look up {self._address.host}: {reason}")
            self._timer = self._loop.call_later(0.0, lambda: self._failed(outcome))

    def cancel(self) -> None:
        """Stop trying and close what is half open; idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._ticket is not None:
            self._resolver.forget(self._ticket)
            self._ticket = None
        self._close()

    def _resolved(self, addresses: list[SocketAddress], reason: str) -> None:
        self._ticket = None
        self.resolving = False
        if addresses:
            self._left = addresses
            self._next()
        else:
            self._failed(Outcome(passed=False, detail=f"could not look up {self._address.host}: {reason}"))

    def _next(self) -> None:
        """Try the next address; with none left it has failed."""
        self._timer = None
        while self._left:
            family, sockaddr = self._left.pop(0)
            try:
                attempt = socket.socket(family, socket.SOCK_STREAM)
            except OSError as error:
                if trouble_of(error):
                    self._failed(Outcome(None, f"could not open a socket: {phrase(error)}"))
                    return
                self._reason = self._reason or phrase(error)  # no IPv6 on this machine
                continue
            attempt.setblocking(False)
            self._socket = attempt
            if self._connect(attempt, family, sockaddr):
                return
        self._failed(Outcome(passed=False, detail=self._reason or "no address"))

    def _connect(self, attempt: socket.socket, family: int, sockaddr: object) -> bool:
        """Begin to connect; False when this address has failed already."""
        number = _begin_to_connect(attempt, sockaddr)
        if number in {0, errno.EINPROGRESS}:
            self._loop.watch_write(attempt.fileno(), self._writable)
            return True
        self._close()
        if number == errno.EAGAIN and family == socket.AF_UNIX:
            self._left.insert(0, (family, sockaddr))  # type: ignore[arg-type]
            self._timer = self._loop.call_later(_UNIX_RETRY, self._next)
            return True
        error = OSError(number, os.strerror(number))
        # Without IPv6 ::1 "cannot be assigned"; of IPv4 the same error says that no ephemeral port is free.
        if trouble_of(error) and family != socket.AF_INET6:
            outcome = Outcome(None, f"could not connect: {phrase(error)}")
            self._timer = self._loop.call_later(0.0, lambda: self._failed(outcome))
            return True
        self._reason = self._reason or phrase(error)
        return False

    def _writable(self) -> None:
        attempt = self._socket
        assert attempt is not None
        self._loop.unwatch(attempt.fileno())
        number = attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number == 0 and _is_itself(attempt):
            number = errno.ECONNREFUSED
        if number == 0:
            self._socket = None
            self._opened(attempt)
            return
        self._close()
        self._reason = self._reason or phrase(OSError(number, os.strerror(number)))
        self._next()

    def _close(self) -> None:
        if self._socket is not None:
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()
            self._socket = None


def _begin_to_connect(attempt: socket.socket, sockaddr: object) -> int:
    """Return the errno of connect(2), 0 where it has worked at once."""
    if not isinstance(sockaddr, str):
        return attempt.connect_ex(sockaddr)  # type: ignore[arg-type]
    try:
        with within_reach(sockaddr) as short:
            return attempt.connect_ex(short)
    except OSError as error:  # its directory cannot be opened
        return error.errno or errno.EINVAL


def _is_itself(attempt: socket.socket) -> bool:
    """Whether a connection has met itself.

    A connect to a port of the ephemeral range on which nobody listens can be given that very port as its own, and the
    kernel then connects the socket to itself: the probe of a dead program would pass.
    """
    try:
        return attempt.family != socket.AF_UNIX and attempt.getsockname() == attempt.getpeername()
    except OSError:
        return False


class TcpProbe:
    """Passes when a connection opens.

    Args:
        loop: The loop.
        resolver: Looks names up.
        address: Where to.
        done: Called once with the outcome.
        private: Path of a unix socket to connect to instead.
    """

    def __init__(
        self, loop: Loop, resolver: Resolver, address: Address, done: Done, *, private: str | None = None
    ) -> None:
        """Connect to nothing yet."""
        self._loop = loop
        self._address = address if private is None else Address(path=private)
        self._done = done
        self._started = loop.now()
        self._dial = Dial(loop, resolver, self._address, opened=self._opened, failed=self._failed)

    @property
    def missing(self) -> str:
        """What has not come yet."""
        return (
            f"no address for {self._address.host}" if self._dial.resolving else f"no connection to {self._address.text}"
        )

    def start(self) -> None:
        """Begin to connect."""
        self._dial.start()

    def cancel(self) -> None:
        """Give up."""
        self._dial.cancel()

    def _opened(self, connection: socket.socket) -> None:
        connection.close()
        took = format_seconds(self._loop.now() - self._started)
        self._done(Outcome(passed=True, detail=f"connected to {self._address.text} in {took}"))

    def _failed(self, outcome: Outcome) -> None:
        self._done(Outcome(outcome.passed, f"{self._address.text}: {outcome.detail}"))
