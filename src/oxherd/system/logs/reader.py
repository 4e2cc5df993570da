"""Reads the logs of several processes as one: ``oxherd logs``.

For the CLI and other satellites only; the supervisor does not import it.
"""

from __future__ import annotations

import heapq
import json
import time
from collections import deque
from typing import TYPE_CHECKING

from oxherd.records import dataclass
from oxherd.system.logs.follow import LogStream
from oxherd.system.logs.index import STREAMS
from oxherd.system.logs.level import LevelTracker, may_reach, parse_level
from oxherd.system.logs.names import for_instance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from oxherd.system.logs.segment import Block, Segment

__all__ = ["LogLine", "LogSource", "read_logs"]

_POLL = 0.1
_FIRST_WINDOW = 128 * 1024
_WRAPPED = b'{"time": "'
_WRAPPED_KEYS = {"time", "process", "instance", "stream", "line"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSource:
    """The logs of one process.

    Attributes:
        process: Its name.
        path: Its log, as the oxfile has it (``{instance}`` may be in it).
        index: The index of that.
        error_path: The log of stderr, where that is a file of its own.
        error_index: The index of that.
        instances: How many instances there are; only asked where each has a log of its own.
    """

    process: str
    path: str
    index: str
    error_path: str | None = None
    error_index: str | None = None
    instances: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line.

    Attributes:
        time: Unix time it was written at; for text without a record in the index, the time of its file.
        process: The name of the process.
        instance: The slot, or None where that is not known.
        stream: ``output`` (both together), ``stdout`` or ``stderr``, or None where that is not known.
        text: The line as text, without its newline; what is not UTF-8 is replaced.
        raw: The bytes of the line, without the newline. Of a log in JSON form both are what the process wrote.
    """

    time: float | None
    process: str
    instance: int | None
    stream: str | None
    text: str
    raw: bytes


def read_logs(
    sources: Sequence[LogSource],
    *,
    last: int | None = None,
    since: float | None = None,
    level: str | None = None,
    follow: bool = False,
    stop: Callable[[], bool] = lambda: False,
    wait: Callable[[float], None] = time.sleep,
) -> Iterator[LogLine]:
    """Yield the lines of all sources in the order of their times.

    Args:
        sources: Whose logs.
        last: Only the last so many lines of all (counted after the filters); None for all there are.
        since: Only lines written at that unix time or later.
        level: Only lines of that level or worse, tracebacks included.
        follow: Go on with lines as they are written, until ``stop()``.
        stop: Asked between reads.
        wait: Pauses for so many seconds between two looks.

    Raises:
        ValueError: ``level`` is no level.
    """
    least = parse_level(level) if level is not None else None
    tails = [_Tail(source.process, path, index, since, least) for source in sources for path, index in _files(source)]
    return _read(tails, last, follow=follow, stop=stop, wait=wait)


def _files(source: LogSource) -> Iterator[tuple[str, str]]:
    pairs = [(source.path, source.index)]
    if source.error_path is not None and source.error_index is not None:
        pairs.append((source.error_path, source.error_index))
    for path, index in pairs:
        for slot in range(source.instances if "{instance}" in path else 1):
            yield for_instance(path, index, slot)


def _read(
    tails: list[_Tail],
    last: int | None,
    *,
    follow: bool,
    stop: Callable[[], bool],
    wait: Callable[[float], None],
) -> Iterator[LogLine]:
    try:
        if last is None:
            yield from heapq.merge(*(tail.all() for tail in tails), key=_time)
        elif last > 0:
            merged = heapq.merge(*(tail.last(last) for tail in tails), key=_time)
            yield from deque(merged, maxlen=last)
        while follow and not stop():
            added = [line for tail in tails for line in tail.added()]
            # Stable: lines of one log stay in the order they have there, whatever the clock has done.
            added.sort(key=_time)
            yield from added
            if not added:
                wait(_POLL)
    finally:
        for tail in tails:
            tail.close()


def _time(line: LogLine) -> float:
    return line.time or 0.0


class _Tail:
    """One log of one process, filtered."""

    def __init__(self, process: str, path: str, index: str, since: float | None, least: int | None) -> None:
        self._process = process
        self._stream = LogStream(path, index)
        self._since = since
        self._least = least
        self._trackers: dict[tuple[int | None, int | None], LevelTracker] = {}
        self._cut = False
        self._matches = 0
        self._unresolved = 0

    def all(self) -> Iterator[LogLine]:
        """Yield all of history, oldest first."""
        for serial in self._stream.past():
            segment = self._stream.open_past(serial)
            if segment is None:
                continue
            try:
                if not self._too_old(segment):
                    yield from self._lines(segment.blocks(self._begin(segment), None))
            finally:
                segment.close()
        current = self._stream.current
        if current is not None:
            yield from self._lines(current.blocks(self._begin(current), self._stream.end))

    def last(self, count: int) -> list[LogLine]:
        """Return the last lines of history, reading as little as that takes."""
        current = self._stream.current
        found = self._last_of(current, self._stream.end, count) if current is not None else []
        # What follows continues the current file, not the older ones that may have to be read now.
        trackers = self._trackers
        for serial in reversed(self._stream.past()):
            if len(found) >= count:
                break
            segment = self._stream.open_past(serial)
            if segment is None:
                continue
            try:
                if self._too_old(segment):
                    break
                found = [*self._last_of(segment, None, count - len(found)), *found]
            finally:
                segment.close()
        self._trackers = trackers
        return found

    def _last_of(self, segment: Segment, end: int | None, count: int) -> list[LogLine]:
        begin = self._begin(segment)
        size = segment.size() if end is None else end
        if segment.compressed:
            # Its index alone says how long it is, and where a line begins in the middle of it.
            size = segment.covered()
        window = _FIRST_WINDOW
        while True:
            start = max(begin, segment.line_start(size - window) if size > window else 0)
            self._forget_levels(cut=start > begin)
            found = deque(self._lines(segment.blocks(start, None if segment.compressed else size)), maxlen=count)
            # A window may begin in the middle of a traceback. Lines of which the level is therefore not known are left
            # out, which is right if there are enough after the last of them.
            enough = len(found) == count and (self._least is None or self._matches - self._unresolved >= count)
            if enough or start <= begin:
                return list(found)
            # Every look into a compressed file begins at its beginning.
            window *= 64 if segment.compressed else 4

    def _too_old(self, segment: Segment) -> bool:
        # The clock of file times is some milliseconds behind the one of the records.
        return self._since is not None and segment.mtime < self._since - 1

    def _begin(self, segment: Segment) -> int:
        return segment.offset_since(self._since) if self._since is not None else 0

    def added(self) -> Iterable[LogLine]:
        """Return what has been written since history or the last call."""
        return self._lines(self._stream.poll())

    def _lines(self, blocks: Iterable[Block]) -> Iterator[LogLine]:
        for block in blocks:
            if (self._since is not None and block.time < self._since) or self._skippable(block, block.data):
                continue
            lines = block.data.split(b"\n")
            if not lines[-1]:
                lines.pop()
            for raw in lines:
                if not self._skippable(block, raw):
                    line = self._line(raw, block)
                    if self._wanted(line, block):
                        yield line

    def _line(self, raw: bytes, block: Block) -> LogLine:
        line = _unwrap(raw) if raw.startswith(_WRAPPED) else None
        if line is not None:
            return line
        return LogLine(
            time=block.time,
            process=self._process,
            instance=block.slot,
            stream=STREAMS[block.stream] if block.stream is not None and block.stream < len(STREAMS) else None,
            text=raw.decode("utf-8", "replace").removesuffix("\r"),
            raw=raw,
        )

    # -- levels -------------------------------------------------------------------------------------------------

    def _skippable(self, block: Block, text: bytes) -> bool:
        """Return whether no line in ``text`` can be wanted, at a fraction of what looking at each would cost."""
        if self._least is None:
            return False
        tracker = self._tracker(block)
        if not tracker.below(self._least) or may_reach(text, self._least):
            return False
        tracker.skip()
        return True

    def _wanted(self, line: LogLine, block: Block) -> bool:
        if self._least is None:
            return True
        level = self._tracker(block).classify(line.text)
        if level is None:
            self._unresolved = self._matches
        if level is None or level < self._least:
            return False
        self._matches += 1
        return True

    def _tracker(self, block: Block) -> LevelTracker:
        key = (block.slot, block.stream)
        tracker = self._trackers.get(key)
        if tracker is None:
            tracker = self._trackers[key] = LevelTracker(cut=self._cut)
        return tracker

    def _forget_levels(self, *, cut: bool) -> None:
        self._trackers = {}
        self._cut = cut
        self._matches = self._unresolved = 0

    def close(self) -> None:
        self._stream.close()


def _unwrap(raw: bytes) -> LogLine | None:
    """Return the line inside an object that `log_format = "json"` has made, or None if it is the process' own JSON."""
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or data.keys() != _WRAPPED_KEYS:
        return None
    text = str(data["line"])
    seconds = _parse_utc(str(data["time"]))
    if seconds is None:
        return None
    return LogLine(
        time=seconds,
        process=str(data["process"]),
        instance=data["instance"] if isinstance(data["instance"], int) else None,
        stream=str(data["stream"]),
        text=text,
        raw=text.encode("utf-8", "backslashreplace"),
    )


def _parse_utc(text: str) -> float | None:
    from datetime import datetime  # noqa: PLC0415 - only logs in JSON form need it

    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None
