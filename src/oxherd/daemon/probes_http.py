"""The HTTP probe: one GET on a connection of its own, read by h11, TLS where the URL says so.

A status of 2xx or 3xx passes; redirects are not followed. Certificates are not verified: a probe asks whether this
program on this machine answers, and the certificate is made out for another name than ``localhost``.
"""

from __future__ import annotations

from oxherd.core.endpoint import Address
from oxherd.daemon.probe import Outcome
from oxherd.daemon.probes_tcp import Dial, phrase
from oxherd.units import format_seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from ssl import SSLSocket

    import h11

    from oxherd.core.endpoint import Endpoint
    from oxherd.daemon.probe import Done
    from oxherd.daemon.resolver import Resolver
    from oxherd.system.loop import Loop

    Step = Callable[[], None]

__all__ = ["HttpProbe"]

# Bytes of an answer that are read. What a longer body says does not change its status.
_MOST = 64 * 1024
# No TLS record is longer, so nothing stays behind, decrypted, that no select would tell of; RFC 8446, section 5.1.
_CHUNK = 16 * 1024


class HttpProbe:
    """Passes when the endpoint answers with 2xx or 3xx.

    Args:
        loop: The loop.
        resolver: Looks names up.
        endpoint: What to ask.
        done: Called once with the outcome.
        private: Path of a unix socket to ask instead, everything else being as the URL says: path, Host, TLS and the
            server's name.
    """

    def __init__(
        self, loop: Loop, resolver: Resolver, endpoint: Endpoint, done: Done, *, private: str | None = None
    ) -> None:
        """Connect to nothing yet."""
        self._loop = loop
        self._endpoint = endpoint
        self._done = done
        self._started = loop.now()
        self._private = private is not None
        address = endpoint.address if private is None else Address(path=private)
        self._dial = Dial(loop, resolver, address, opened=self._opened, failed=self._failed)
        self._socket: socket.socket | None = None
        self._http: h11.Connection | None = None
        self._unsent = b""
        self._received = 0
        self._status: int | None = None

    @property
    def missing(self) -> str:
        """What has not come yet."""
        if self._dial.resolving:
            return f"no address for {self._endpoint.address.host}"
        if self._socket is None:
            return f"no connection to {self._place}"
        if self._status is None:
            return f"no answer from {self._endpoint.shown}"
        return f"HTTP {self._status} from {self._endpoint.shown} but no end of the answer"

    def start(self) -> None:
        """Begin to connect."""
        self._dial.start()

    def cancel(self) -> None:
        """Give up and close."""
        self._dial.cancel()
        if self._socket is not None:
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()
            self._socket = None

    # -- the connection -----------------------------------------------------------------------------------------

    def _opened(self, connection: socket.socket) -> None:
        self._socket = connection
        if not self._endpoint.tls:
            self._request()
            return
        import ssl  # noqa: PLC0415 - a megabyte that only https endpoints pay for

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        try:
            wrapped = context.wrap_socket(
                connection, do_handshake_on_connect=False, server_hostname=self._endpoint.address.host or None
            )
        except (OSError, ValueError) as error:
            # The peer is gone already, or the host is nothing SNI can name.
            self._finish(passed=False, text=str(error))
            return
        self._socket = wrapped
        self._attempt(lambda: self._handshake(wrapped))

    def _handshake(self, wrapped: SSLSocket) -> None:
        wrapped.do_handshake()
        self._request()

    def _attempt(self, step: Step) -> None:
        """Do a step of the conversation, or wait until the socket allows it and do it then."""
        assert self._socket is not None
        number = self._socket.fileno()
        try:
            step()
        except OSError as error:
            # TLS may want to read in order to write; plain sockets say BlockingIOError. ssl may not be imported.
            match type(error).__name__:
                case "SSLWantReadError":
                    self._loop.watch_read(number, lambda: self._attempt(step))
                case "SSLWantWriteError" | "BlockingIOError":
                    self._loop.watch_write(number, lambda: self._attempt(step))
                case _:
                    self._finish(passed=False, text=_tls_reason(error) or phrase(error))

    # -- the request --------------------------------------------------------------------------------------------

    def _request(self) -> None:
        import h11  # noqa: PLC0415 - 0.8 MB that only http endpoints pay for

        headers = [
            ("Host", self._endpoint.host_header),
            ("User-Agent", "oxherd-health-check"),
            ("Accept", "*/*"),
            ("Connection", "close"),
        ]
        if self._endpoint.userinfo is not None:
            import binascii  # noqa: PLC0415 - only where the URL has a password

            encoded = binascii.b2a_base64(self._endpoint.userinfo.encode(), newline=False).decode()
            headers.append(("Authorization", f"Basic {encoded}"))
        http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MOST)
        try:
            request = http.send(h11.Request(method="GET", target=self._endpoint.target, headers=headers))
        except (h11.LocalProtocolError, UnicodeError) as error:
            self._finish(passed=False, text=f"cannot be asked for: {error}")
            return
        http.send(h11.EndOfMessage())
        self._http = http
        self._unsent = request or b""
        self._attempt(self._send)

    def _send(self) -> None:
        assert self._socket is not None
        while self._unsent:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        self._loop.watch_read(self._socket.fileno(), self._readable)

    # -- the answer ---------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(_CHUNK)
        except OSError as error:
            match type(error).__name__:
                case "SSLWantReadError" | "SSLWantWriteError" | "BlockingIOError":
                    return
                case "SSLEOFError":
                    # Many servers end TLS without a goodbye; what they sent before counts.
                    data = b""
                case _:
                    self._finish(passed=False, text=_tls_reason(error) or phrase(error))
                    return
        self._take(data)

    def _take(self, data: bytes) -> None:
        import h11  # noqa: PLC0415 - imported by the request

        assert self._http is not None
        self._received += len(data)
        try:
            self._http.receive_data(data)
            while True:
                event = self._http.next_event()
                if isinstance(event, h11.Response):
                    self._status = event.status_code
                elif isinstance(event, h11.EndOfMessage):
                    self._answered()
                    return
                elif event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                    break
        except h11.RemoteProtocolError as error:
            self._finish(passed=False, text=f"the answer is not HTTP: {error}" if data else self._cut_short())
            return
        if self._received >= _MOST and self._status is not None:
            self._answered()

    def _cut_short(self) -> str:
        if not self._received:
            return "the connection was closed without an answer"
        if self._status is None:
            return "the answer is not HTTP: the connection was closed within its head"
        return f"HTTP {self._status}, but the connection was closed within the answer"

    def _answered(self) -> None:
        status = self._status
        assert status is not None
        took = format_seconds(self._loop.now() - self._started)
        self.cancel()
        self._done(Outcome(200 <= status < 400, f"HTTP {status} from {self._endpoint.shown} in {took}"))

    def _failed(self, outcome: Outcome) -> None:
        self._done(Outcome(outcome.passed, f"{self._place}: {outcome.detail}"))

    @property
    def _place(self) -> str:
        """What could not be connected to; curl to the URL may well work where the worker's own socket does not."""
        return f"{self._endpoint.shown} on the worker's own socket" if self._private else self._endpoint.shown

    def _finish(self, *, passed: bool, text: str) -> None:
        self.cancel()
        self._done(Outcome(passed, f"{self._endpoint.shown}: {text}"))


def _tls_reason(error: OSError) -> str:
    """Return what TLS says in words people can search for, or "" where it is no error of TLS."""
    reason = getattr(error, "reason", None)
    return f"TLS failed: {str(reason).lower().replace('_', ' ')}" if reason else ""
