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
        later: `Loop.call_last`. What is told in one turn is written then, all of it at once: nobody waits for the file.
            Without it every event is written as it comes.
    """

    def __init__(
        self, path: str, wall: Callable[[], float], later: Callable[[Callable[[], None]], None] | None = None
    ) -> None:
        """Note where the file ends: what is before that is read when somebody asks for it."""
        self._path = path
        self._before = _place_of(path)
        self._wall = wall
        self._later = later
        self._unwritten: list[dict[str, object]] = []
        # As they are in the file: a thousand objects of a dozen fields are two megabytes and a half, their lines a tenth of it.
        self._recent: collections.deque[bytes] = collections.deque(maxlen=_KEPT)
        self._subscribers: list[Callable[[dict[str, object]], None]] = []
        self._fd = -1
        self._size = 0
        self.write_error = ""

    def publish(self, kind: str, text: str, **fields: object) -> None:
        """Record an event and tell every subscriber."""
        event: dict[str, object] = {"time": round(self._wall(), 6), "kind": kind, "text": text, **fields}
        self._unwritten.append(event)
        if self._later is None or len(self._unwritten) >= _AT_ONCE:
            self._write()
        else:
            self._later(self._write)
        for subscriber in tuple(self._subscribers):
            subscriber(event)

    def last(self, count: int, stack: str | None = None) -> list[dict[str, object]]:
        """Return the last ``count`` events, of one stack path or of all."""
        self._write()
        missing = _KEPT - len(self._recent)
        earlier = self._earlier()[-missing:] if missing else []
        events: list[dict[str, object]] = [json.loads(line) for line in (*earlier, *self._recent)]
        chosen = [event for event in events if stack is None or event.get("stack_path") in {stack, None}]
        return chosen[-count:] if count > 0 else []

    def subscribe(self, callback: Callable[[dict[str, object]], None]) -> Callable[[], None]:
        """Call back for every new event; the returned function ends it."""
        self._subscribers.append(callback)

        def unsubscribe() -> None:
            if callback in self._subscribers:
                self._subscribers.remove(callback)

        return unsubscribe

    def _earlier(self) -> list[bytes]:
        inode, size = self._before
        # Rotation may have given the file its other name since.
        for path in (self._path, f"{self._path}.1"):
            if _place_of(path)[0] == inode:
                return _tail(path, size)
        return []

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
        lines = [*map(_line, self._unwritten)]
        self._unwritten.clear()
        self._recent += lines
        data = b"".join(lines)
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


def _place_of(path: str) -> tuple[int, int]:
    """Return the inode of a file and its size; zeros where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return 0, 0
    return found.st_ino, found.st_size


def _tail(path: str, end: int) -> list[bytes]:
    """Return the events of the last quarter of a megabyte before a place in a file."""
    begin = max(0, end - 256 * 1024)
    try:
        with open(path, "rb") as file:
            file.seek(begin)
            lines = file.read(end - begin).split(b"\n")
    except OSError:
        return []
    return [line for line in lines if _is_event(line)]


def _is_event(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False  # the first line of the window is cut, the last one too after a crash
