"""Wrappers that count what an app answers, and tell its clients to go while their worker drains.

On the path of every request, so each does as little as can be done.
"""

from __future__ import annotations

import _thread
import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, MutableMapping

    from .meters import Meters
    from .tally import Tally

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
    AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]
    AsgiLog = Callable[[Scope, int, float], None]
    WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Any]
    WsgiLog = Callable[[dict[str, Any], int, float], None]

__all__ = ["CLOSE", "Draining", "Flight", "count_asgi", "count_wsgi", "tally_asgi"]

CLOSE = (b"connection", b"close")


class Draining:
    """Whether a worker is a lame duck: its answers then say ``Connection: close``.

    Attributes:
        on: Set by the engine when its drain begins.
    """

    __slots__ = ("on",)

    def __init__(self) -> None:
        """Not draining."""
        self.on = False


class Flight:
    """One HTTP request of an ASGI app while it is answered; stands for it in a tally's table.

    Its attributes are set by who makes it: a constructor would be a tenth of what counting costs.

    Attributes:
        scope: Its own.
        sending: The server's ``send``.
        draining: Adds ``Connection: close`` while it is on.
        status: Of its answer; 0 before that begins.
        whole: Whether the answer was given to its end.
    """

    __slots__ = ("draining", "scope", "sending", "status", "whole")

    scope: Scope
    sending: Send
    draining: Draining
    status: int
    whole: bool

    @property
    def text(self) -> str:
        """Return "GET /path"."""
        return str(self.scope["method"]) + " " + str(self.scope["path"])

    # No coroutine of its own: the server's is what the app awaits.
    def send(self, message: MutableMapping[str, Any]) -> Awaitable[None]:
        """Pass a message on to the server."""
        if self.status:
            if not message.get("more_body"):
                # A second start is the app's mistake, and no answer.
                self.whole = message["type"] != "http.response.start"
        elif message["type"] == "http.response.start":
            self.status = message["status"]
            if self.draining.on and self.scope["http_version"][0] == "1":
                message = {**message, "headers": [*message.get("headers", ()), CLOSE]}
        return self.sending(message)

    def failed(self, error: BaseException) -> None:
        """The app raised."""
        if isinstance(error, asyncio.CancelledError):
            self.whole = False
        elif not self.status:
            # The server answers in the app's place.
            self.status, self.whole = 500, True


def count_asgi(app: AsgiApp, meters: Meters, draining: Draining | None = None, log: AsgiLog | None = None) -> AsgiApp:
    """Return an ASGI 3 app that does the same and is counted.

    HTTP requests alone are counted; lifespan and websockets pass through untouched.

    Args:
        app: The app.
        meters: What counts.
        draining: Adds ``Connection: close`` to every answer while it is on; None where the engine does that itself.
        log: Called when a request is over, with scope, status (0: no whole answer) and seconds.
    """
    enter, leave = meters.enter, meters.leave
    draining = draining or Draining()

    async def counted(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await app(scope, receive, send)
        flight = Flight()
        flight.scope, flight.sending, flight.draining = scope, send, draining
        flight.status, flight.whole = 0, False
        started = monotonic()
        entry = enter(scope["method"] + " " + scope["path"], started)
        try:
            await app(scope, receive, flight.send)
        except BaseException as error:
            flight.failed(error)
            raise
        finally:
            now = monotonic()
            status = flight.status if flight.whole else 0
            leave(entry, status, started, now)
            if log is not None:
                log(scope, status, now - started)

    return counted


def tally_asgi(app: AsgiApp, tally: Tally, draining: Draining, log: AsgiLog | None = None) -> AsgiApp:
    """Return what `count_asgi` returns at half its price, for an engine that flushes the tally with every tick.

    Args:
        app: The app.
        tally: What counts; its requests in flight are `Flight`.
        draining: Adds ``Connection: close`` to every answer while it is on.
        log: Called when a request is over, with scope, status (0: no whole answer) and seconds.
    """
    flying, fine, over = tally.flying, tally.fine.append, tally.over.append

    async def counted(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await app(scope, receive, send)
        flight = Flight()
        flight.scope, flight.sending, flight.draining = scope, send, draining
        flight.status, flight.whole = 0, False
        flying[flight] = started = monotonic()
        try:
            await app(scope, receive, flight.send)
        except BaseException as error:
            flight.failed(error)
            raise
        finally:
            seconds = monotonic() - started
            del flying[flight]
            if flight.status == 200 and flight.whole:
                fine(seconds)
            else:
                over((flight.status if flight.whole else 0, seconds))
            if log is not None:
                log(scope, flight.status if flight.whole else 0, seconds)

    return counted


def count_wsgi(app: WsgiApp, meters: Meters, draining: Draining | None = None, log: WsgiLog | None = None) -> WsgiApp:
    """Return a WSGI app that does the same and is counted, from any thread.

    A request lasts until the server has closed the iterable.

    Args:
        app: The app.
        meters: What counts.
        draining: Adds ``Connection: close`` to every answer while it is on; None where the engine does that itself.
        log: Called when a request is over, with environ, status (0: no whole answer) and seconds.
    """
    lock = _thread.allocate_lock()

    def counted(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        request = _WsgiRequest(environ, meters, lock, log)

        def starting(status: str, headers: list[tuple[str, str]], *args: Any) -> Any:
            request.status = int(status[:3])
            if draining is not None and draining.on:
                headers = [*headers, ("Connection", "close")]
            return start_response(status, headers, *args)

        try:
            result = app(environ, starting)
        except BaseException:
            request.status = 500
            request.over()
            raise
        wrapper = environ.get("wsgi.file_wrapper")
        if isinstance(wrapper, type) and isinstance(result, wrapper):
            # The server looks for its own class, to send the file without reading it.
            return _watched_file(result, request)
        return _Watched(result, request)

    return counted


class _WsgiRequest:
    """One request that is being answered."""

    __slots__ = ("entry", "environ", "lock", "log", "meters", "started", "status")

    def __init__(self, environ: dict[str, Any], meters: Meters, lock: _thread.LockType, log: WsgiLog | None) -> None:
        self.environ = environ
        self.meters: Meters | None = meters
        self.lock = lock
        self.log = log
        self.status = 0
        self.started = monotonic()
        text = environ.get("REQUEST_METHOD", "") + " " + environ.get("PATH_INFO", "")
        with lock:
            self.entry = meters.enter(text, self.started)

    def over(self) -> None:
        """Count it, once."""
        meters, self.meters = self.meters, None
        if meters is None:
            return
        now = monotonic()
        with self.lock:
            # Servers that answer one request after the other tick but now and then.
            meters.turn(now)
            meters.leave(self.entry, self.status, self.started, now)
        if self.log is not None:
            self.log(self.environ, self.status, now - self.started)


class _Watched:
    """An iterable whose end is noticed."""

    __slots__ = ("_iterable", "_iterator", "_request")

    def __init__(self, iterable: Any, request: _WsgiRequest) -> None:
        self._iterable = iterable
        self._iterator: Iterator[bytes] | None = None
        self._request = request

    def __iter__(self) -> _Watched:
        self._iterator = iter(self._iterable)
        return self

    def __next__(self) -> bytes:
        if self._iterator is None:
            self._iterator = iter(self._iterable)
        try:
            return next(self._iterator)
        except StopIteration:
            raise
        except BaseException:
            self._request.status = 0
            raise

    def close(self) -> None:
        """Close what is watched; the request is over then."""
        try:
            close = getattr(self._iterable, "close", None)
            if close is not None:
                close()
        finally:
            self._request.over()


def _watched_file(file: Any, request: _WsgiRequest) -> Any:
    close = getattr(file, "close", None)

    def closing() -> None:
        try:
            if close is not None:
                close()
        finally:
            request.over()

    try:
        file.close = closing
    except AttributeError:
        # A class that lets nothing be set; the request ends here for the meters.
        request.over()
    return file
