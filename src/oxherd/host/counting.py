"""Wrappers that count what an app answers, and tell its clients to go while their worker drains.

On the path of every request, so each does as little as can be done.
"""

from __future__ import annotations

import _thread
import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, MutableMapping

    from .meters import Meters
    from .tally import Tally

    T = TypeVar("T")

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
    AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]
    AsgiLog = Callable[[Scope, int, float], None]
    WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Any]
    WsgiLog = Callable[[dict[str, Any], int, float], None]

__all__ = ["Draining", "Flight", "count_asgi", "count_wsgi", "tally_asgi"]

_CLOSE = (b"connection", b"close")


class Draining:
    """Whether a worker is a lame duck: its answers then say ``Connection: close``.

    Attributes:
        on: Set by the engine when its drain begins.
    """

    __slots__ = ("on",)

    def __init__(self) -> None:
        """Not draining."""
        self.on = False


def count_asgi(app: AsgiApp, meters: Meters, draining: Draining | None = None, log: AsgiLog | None = None) -> AsgiApp:
    """Return an ASGI 3 app that does the same and is counted.

    HTTP requests alone are counted; lifespan and websockets pass through untouched.

    Args:
        app: The app.
        meters: What counts.
        draining: Adds ``Connection: close`` to every answer while it is on; None where the engine does that itself.
        log: Called when a request is over, with scope, status (0: no whole answer) and seconds.
    """
    enter = meters.enter

    def begin(scope: Scope, now: float) -> int:
        return enter(scope["method"] + " " + scope["path"], now)

    return _counted(app, begin, meters.leave, draining or Draining(), log)


class Flight:
    """Stands for one request in a tally's table."""

    __slots__ = ("scope",)

    scope: Scope

    @property
    def text(self) -> str:
        """Return "GET /path"."""
        return str(self.scope["method"]) + " " + str(self.scope["path"])


def tally_asgi(app: AsgiApp, tally: Tally, draining: Draining, log: AsgiLog | None = None) -> AsgiApp:
    """Return what `count_asgi` returns at half its price, for an engine that flushes the tally with every tick.

    Args:
        app: The app.
        tally: What counts; its requests in flight are `Flight`.
        draining: Adds ``Connection: close`` to every answer while it is on.
        log: Called when a request is over, with scope, status (0: no whole answer) and seconds.
    """
    flying, fine, over = tally.flying, tally.fine.append, tally.over.append

    def begin(scope: Scope, now: float) -> Flight:
        flight = Flight()
        flight.scope = scope
        flying[flight] = now
        return flight

    def end(flight: Flight, status: int, started: float, now: float) -> None:
        del flying[flight]
        if status == 200:
            fine(now - started)
        else:
            over((status, now - started))

    return _counted(app, begin, end, draining, log)


def _counted(
    app: AsgiApp,
    begin: Callable[[Scope, float], T],
    end: Callable[[T, int, float, float], None],
    draining: Draining,
    log: AsgiLog | None,
) -> AsgiApp:
    """Return an app whose requests are told of: ``begin(scope, now)``, and ``end`` with what that returned."""

    async def counted(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await app(scope, receive, send)
        status = 0
        whole = False

        # No coroutine of its own: the server's is what the app awaits.
        def sending(message: MutableMapping[str, Any]) -> Awaitable[None]:
            nonlocal status, whole
            if message["type"] == "http.response.start":
                status = message["status"]
                if draining.on and scope["http_version"][0] == "1":
                    message = {**message, "headers": [*message.get("headers", ()), _CLOSE]}
            elif not message.get("more_body"):
                whole = True
            return send(message)

        started = monotonic()
        entry = begin(scope, started)
        try:
            await app(scope, receive, sending)
        except asyncio.CancelledError:
            whole = False
            raise
        except BaseException:
            if not status:
                # The server answers in the app's place.
                status, whole = 500, True
            raise
        finally:
            now = monotonic()
            if not whole:
                status = 0
            end(entry, status, started, now)
            if log is not None:
                log(scope, status, now - started)

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
