"""The events of a supervisor as a test sees them: everything since it began, and a wait for what is to come."""

from __future__ import annotations

import select
import socket
from typing import TYPE_CHECKING, Any

from oxherd import __version__
from oxherd.control.protocol import LineBuffer, decode_line, request_line
from support.waiting import Expiry

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["EventStream"]

Event = dict[str, Any]


class EventStream:
    """A follower of the control socket's ``events``.

    Args:
        path: The control socket.

    Attributes:
        seen: Every event so far, those of before the connection included.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.seen: list[Event] = []
        self.closed = False
        self._buffer = LineBuffer()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._socket.sendall(
            request_line(identity=1, version=__version__, verb="events", args={"last": 1000, "follow": True})
        )
        # The supervisor's own start is always among them: once something has come, the earlier events have.
        expiry = Expiry()
        while not self.seen and not self.closed and not expiry.over:
            self.take(expiry.left)

    def take(self, seconds: float = 0.0) -> bool:
        """Take what has come, waiting at most so long for something; return whether there was anything."""
        readable, _, _ = select.select([self._socket], [], [], seconds)
        if not readable or self.closed:
            return False
        data = self._socket.recv(1 << 20)
        if not data:
            self.closed = True
            return False
        for line in self._buffer.feed(data):
            message = decode_line(line)
            if "progress" in message:
                self.seen.append(message["progress"])  # type: ignore[arg-type]
        return True

    def matching(self, *kinds: str, after: int = 0, **fields: object) -> list[Event]:
        """Return the events so far of some kinds (any, without one) with these fields, from a position on."""
        _ = self.position  # without a look at what has come, "there is none" would say nothing
        return [
            event
            for event in self.seen[after:]
            if (not kinds or event["kind"] in kinds) and all(event.get(key) == value for key, value in fields.items())
        ]

    def wait(
        self,
        *kinds: str,
        after: int = 0,
        count: int = 1,
        where: Callable[[Event], bool] | None = None,
        **fields: object,
    ) -> Event:
        """Wait for an event and return it.

        Args:
            kinds: Any of these.
            after: Position in `seen` from which events count; `position` tells the present one.
            count: Wait for so many of them and return the last.
            where: A further condition.
            fields: Values the event must have.

        Raises:
            AssertionError: It did not come within the deadline, or the supervisor hung up.
        """
        expiry = Expiry()
        while True:
            found = [event for event in self.matching(*kinds, after=after, **fields) if where is None or where(event)]
            if len(found) >= count:
                return found[count - 1]
            assert not self.closed, f"the supervisor hung up before {kinds} {fields} came"
            assert not expiry.over, f"{kinds} {fields} came {len(found)} times, not {count}: {self.tail()}"
            self.take(expiry.left)

    @property
    def position(self) -> int:
        """The number of events that have come; what comes from now on lies behind it."""
        while self.take():
            continue
        return len(self.seen)

    def tail(self, count: int = 30) -> str:
        """Return the last events as text."""
        return "".join(f"\n    {event['time']:.3f} {event['text']}" for event in self.seen[-count:])

    def close(self) -> None:
        """Hang up."""
        self._socket.close()
