"""uvicorn's HTTP by httptools, which counts what it answers at no price.

What wraps an app needs a coroutine of its own around each request, and a ``send``. uvicorn has both already, in the object
that stands for a request and its answer, so that is what counts here; and it takes itself out of the set of running tasks
when it has ended, which saves the callback that uvicorn has the loop make. Together a request costs what it costs in
plain uvicorn.

It leans on what uvicorn keeps to itself; where that is not as it is known, there is nothing here, and the app is wrapped.
"""

from __future__ import annotations

from time import monotonic
from types import FunctionType
from typing import TYPE_CHECKING, Any

from ..counting import CLOSE

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, MutableMapping

    from ..counting import AsgiLog, Draining
    from ..tally import Tally

__all__ = ["counted"]

_KNOWN = "uvicorn.protocols.http.httptools_impl"
_CYCLE = "RequestResponseCycle"


def counted(protocol: type[Any], tally: Tally, draining: Draining, log: AsgiLog | None = None) -> type[Any] | None:
    """Return a protocol that does the same and counts, None where it is not one that can.

    Args:
        protocol: What uvicorn would serve with.
        tally: What counts; its requests in flight have a ``text``.
        draining: Adds ``Connection: close`` to every answer while it is on.
        log: Called when a request is over, with scope, status (0: no whole answer) and seconds.
    """
    complete = getattr(protocol, "on_headers_complete", None)
    if (
        protocol.__module__ != _KNOWN
        or not isinstance(complete, FunctionType)
        or _CYCLE not in complete.__code__.co_names
        or not hasattr(protocol, "_start_asgi_task")
    ):
        return None
    cycle = _counting(complete.__globals__[_CYCLE], tally, draining, log)

    class Counted(protocol):  # type: ignore[misc]
        """The protocol; its requests are those that count."""

        def _start_asgi_task(self, cycle: Any, app: Any) -> None:
            cycle.among = self.tasks
            cycle.task = self.loop.create_task(cycle.run_asgi(app))
            self.tasks.add(cycle)

    # The same code, with another class by that name: uvicorn has no other place to say which.
    Counted.on_headers_complete = FunctionType(
        complete.__code__,
        {**complete.__globals__, _CYCLE: cycle},
        complete.__name__,
        complete.__defaults__,
        complete.__closure__,
    )
    # What is known of the one holds for the other.
    Counted.__module__ = protocol.__module__
    return Counted


def _counting(base: type[Any], tally: Tally, draining: Draining, log: AsgiLog | None) -> type[Any]:
    flying, fine, over = tally.flying, tally.fine.append, tally.over.append
    run, send = base.run_asgi, base.send

    class Cycle(base):  # type: ignore[misc]
        """A request and its answer; in uvicorn's set of tasks it stands for its task, of which that is only ever cancelled.

        Attributes:
            status: Of the answer; 0 before that begins.
            given: Whether the app has given its answer to the end though nobody is there any more.
            cancelled: Whether uvicorn did not want to wait for it.
            task: What answers it.
            among: The set it is in.
        """

        status = 0
        given = cancelled = False
        task: asyncio.Task[None]
        among: set[Any]

        @property
        def text(self) -> str:
            """Return "GET /path"."""
            return str(self.scope["method"]) + " " + str(self.scope["path"])

        def cancel(self, msg: Any = None) -> bool:
            """See `asyncio.Task.cancel`."""
            self.cancelled = True
            return self.task.cancel(msg)

        # No coroutine of its own: uvicorn's is what the app awaits.
        def send(self, message: MutableMapping[str, Any]) -> Awaitable[None]:
            """Note what is answered; see `RequestResponseCycle.send`."""
            if not self.response_started and message["type"] == "http.response.start":
                self.status = message["status"]
                if draining.on:
                    message = {**message, "headers": [*message.get("headers", ()), CLOSE]}
            elif self.disconnected:
                # uvicorn drops it; a client that has read all it needs may well be the first to hang up.
                self.given = not message.get("more_body")
            return send(self, message)  # type: ignore[no-any-return]

        async def run_asgi(self, app: Any) -> None:
            """Answer, and count it; see `RequestResponseCycle.run_asgi`."""
            flying[self] = started = monotonic()
            try:
                await run(self, app)
            finally:
                seconds = monotonic() - started
                del flying[self]
                self.among.discard(self)
                status = self.status
                if not (self.response_complete or self.given) or self.cancelled:
                    status = 0
                if status == 200:
                    fine(seconds)
                else:
                    over((status, seconds))
                if log is not None:
                    log(self.scope, status, seconds)

    return Cycle
