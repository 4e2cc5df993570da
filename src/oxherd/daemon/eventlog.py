"""What happened, for ``oxherd events``: the last thousand in memory, all in a bounded file.

A record is a flat JSON object: time (unix seconds), stack, name, instance, incarnation, kind, text and more by kind.
"""

from __future__ import annotations

import collections
import errno
import os

from oxherd import jsons as json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["EventLog"]

_KEPT = 1000
_FILE_MAX = 4 * 1024 * 1024
# What is written at once at the most: a thousand programs that start in one turn must not be a megabyte of events in memory.
_AT_ONCE = 64


class EventLog:
    """Keeps events and tells subscribers.

    Args:
        path: The file; one older generation is kept as ``path.1``.
        wall: Unix time.
        later: Calls back at the end of a turn of the loop. What is told in one turn is written then, all of it at once:
            nobody waits for the file. Without it every event is written as it comes.
    """

    def __init__(
        self, path: str, wall: Callable[[], float], later: Callable[[Callable[[], None]], None] | None = None
    ) -> None:
        """Load the end of the file so that ``oxherd events`` knows the time before a restart."""
        self._path = path
        self._wall = wall
        self._later = later
        self._unwritten: list[dict[str, object]] = []
        self._recent: collections.deque[dict[str, object]] = collections.deque(_load_tail(path), maxlen=_KEPT)
        self._subscribers: list[Callable[[dict[str, object]], None]] = []
        self._fd = -1
        self._size = 0
        self.write_error = ""

    def publish(self, kind: str, text: str, **fields: object) -> None:
        """Record an event and tell every subscriber."""
        event: dict[str, object] = {"time": round(self._wall(), 6), "kind": kind, "text": text, **fields}
        self._recent.append(event)
        self._unwritten.append(event)
        if self._later is None or len(self._unwritten) >= _AT_ONCE:
            self._write()
        elif len(self._unwritten) == 1:
            self._later(self._write)
        for subscriber in tuple(self._subscribers):
            subscriber(event)

    def last(self, count: int, stack: str | None = None) -> list[dict[str, object]]:
        """Return the last ``count`` events, of one stack path or of all."""
        chosen = [event for event in self._recent if stack is None or event.get("stack_path") in {stack, None}]
        return chosen[-count:] if count > 0 else []

    def subscribe(self, callback: Callable[[dict[str, object]], None]) -> Callable[[], None]:
        """Call back for every new event; the returned function ends it."""
        self._subscribers.append(callback)

        def unsubscribe() -> None:
            if callback in self._subscribers:
                self._subscribers.remove(callback)

        return unsubscribe

    def close(self) -> None:
        """Write what is not written yet, and close the file."""
        self._write()
        self._close()

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write(self) -> None:
        if not self._unwritten:
            return
        data = b"".join(map(_line, self._unwritten))
        self._unwritten.clear()
        try:
            if self._fd < 0:
                self._fd = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
                self._size = os.fstat(self._fd).st_size
                if self._size and os.pread(self._fd, 1, self._size - 1) != b"\n":
                    # A line that a crash or a full disk has torn: nothing may be glued to it.
                    data = b"\n" + data
            written = os.write(self._fd, data)
            self._size += written
            if written < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if self._size > _FILE_MAX:
                os.replace(self._path, f"{self._path}.1")
                self._close()
            self.write_error = ""
        except OSError as error:
            # A full disk must not stop the supervisor; `daemon status` shows that events are in memory only.
            self.write_error = error.strerror or str(error)
            self._close()


def _line(event: dict[str, object]) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode("utf-8", "backslashreplace") + b"\n"


def _load_tail(path: str) -> list[dict[str, object]]:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 256 * 1024))
            lines = file.read().split(b"\n")
    except OSError:
        return []
    events: list[dict[str, object]] = []
    for line in lines:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue  # the first line of the window is cut, the last one too after a crash
        if isinstance(event, dict):
            events.append(event)
    return events
