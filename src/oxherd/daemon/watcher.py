"""Restart on file changes: the supervisor's side of the file watcher.

Watching needs a library and threads, so it is done by a satellite (`oxherd.satellites.watch`), one for all watched
processes, which runs only while something is watched. When what is watched changes a new satellite is started and the
old one ended when the new one is ready, so that no change falls between them. Here the changes are collected until a
process has been quiet for its ``watch_delay_ms``.
"""

from __future__ import annotations

import os
import sys

from oxherd import jsons as json
from oxherd.daemon.helpers import HelperRequest
from oxherd.errors import SpawnError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from oxherd.config.model import WatchSpec
    from oxherd.daemon.helpers import Helper, HelperEnd, Helpers
    from oxherd.system.loop import Loop, Timer

    OnChange = Callable[[Hashable, list[str]], None]

__all__ = ["Watcher"]

# Seconds in which changes of what is watched are collected before the satellite is replaced.
_SETTLE = 0.05
# A process whose files change without end is told at the latest after this many delays, or seconds if that is more.
_PATIENCE_DELAYS, _PATIENCE_SECONDS = 10, 5.0
# Seconds before a satellite that died is started again: doubling, until one has become ready.
_FIRST_RETRY, _LONGEST_RETRY = 1.0, 60.0
# A line longer than this is not ours.
_LONGEST_LINE = 1 << 20


class _Entry:
    """One watched process and the changes it has not been told of yet."""

    __slots__ = ("delay", "first", "paths", "rule", "timer", "working_dir")

    def __init__(self, spec: WatchSpec, working_dir: str) -> None:
        self.rule = {
            "roots": list(spec.paths),
            "extensions": list(spec.extensions),
            "ignore": list(spec.ignore),
            "ignore_regex": list(spec.ignore_regex),
        }
        self.delay = spec.delay
        self.working_dir = working_dir
        self.paths: dict[str, None] = {}
        self.first = 0.0
        self.timer: Timer | None = None


class _Satellite:
    """A running satellite and what it was started for."""

    __slots__ = ("buffer", "helper", "keys", "last_line", "ready", "rules")

    def __init__(self, keys: list[Hashable], rules: list[dict[str, list[str]]]) -> None:
        self.keys = keys
        self.rules = rules
        self.helper: Helper | None = None
        self.buffer = b""
        self.last_line = ""
        self.ready = False

    def watches(self, wanted: dict[Hashable, dict[str, list[str]]]) -> bool:
        """Whether it watches exactly this."""
        return dict(zip(self.keys, self.rules, strict=True)) == wanted


class Watcher:
    """Tells which processes' files have changed.

    Args:
        loop: The loop.
        helpers: Starts the satellite.
        on_change: Called with (key, paths) when a process has been quiet for its delay after a change; the paths are
            relative to its working directory where they lie in it.
        mark: Prefix of the satellite's mark: after the supervisor's death its successor finds and ends it by it.
        trouble: Called with a line when files cannot be watched, once until they can be again.
    """

    def __init__(
        self,
        *,
        loop: Loop,
        helpers: Helpers,
        on_change: OnChange,
        mark: str,
        trouble: Callable[[str], None] | None = None,
    ) -> None:
        """Watch nothing yet."""
        self._loop = loop
        self._helpers = helpers
        self._on_change = on_change
        self._mark = mark
        self._trouble = trouble
        self._entries: dict[Hashable, _Entry] = {}
        self._current: _Satellite | None = None
        self._former: list[_Satellite] = []
        self._timer: Timer | None = None
        self._retry = _FIRST_RETRY
        self._told = False
        self._started = 0

    def watch(self, key: Hashable, spec: WatchSpec, working_dir: str) -> None:
        """Watch for a process until `forget`; what was watched under the same key is replaced."""
        self._drop(key)
        self._entries[key] = _Entry(spec, working_dir)
        self._settle_soon(_SETTLE)

    def forget(self, key: Hashable) -> None:
        """Stop watching for a process; a change it was not told of yet is forgotten. Unknown keys are ignored."""
        if self._drop(key):
            self._settle_soon(_SETTLE)

    def close(self) -> None:
        """Stop watching and end the satellite."""
        for key in tuple(self._entries):
            self._drop(key)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._end_all()

    def _drop(self, key: Hashable) -> bool:
        entry = self._entries.pop(key, None)
        if entry is not None and entry.timer is not None:
            entry.timer.cancel()
        return entry is not None

    # -- the satellite ------------------------------------------------------------------------------------------

    def _settle_soon(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._settle)

    def _settle(self) -> None:
        """Make the satellite watch exactly what is wanted."""
        self._timer = None
        wanted = {key: entry.rule for key, entry in self._entries.items()}
        if not wanted:
            self._end_all()
            return
        if self._current is not None and self._current.watches(wanted):
            return
        fresh = _Satellite(list(wanted), list(wanted.values()))
        self._started += 1
        program = os.path.join(os.path.dirname(os.path.dirname(__file__)), "satellites", "watch.py")
        request = HelperRequest(
            argv=(sys.executable, "-I", program, json.dumps(fresh.rules)),
            cwd="/",
            env={name: value for name, value in os.environ.items() if name == "PATH" or name.startswith("WATCHFILES_")},
            mark=f"{self._mark}:watch/{self._started}",
        )
        try:
            fresh.helper = self._helpers.start(
                request, lambda data: self._heard(fresh, data), lambda end: self._ended(fresh, end)
            )
        except SpawnError as error:
            self._failed(error.message)
        except OSError as error:
            self._failed(f"making its pipe: {error.strerror}")
        else:
            if self._current is not None:
                self._former.append(self._current)
            self._current = fresh

    def _end_all(self) -> None:
        for satellite in (*self._former, self._current):
            if satellite is not None and satellite.helper is not None:
                satellite.helper.kill()
        self._former.clear()
        self._current = None

    def _ended(self, satellite: _Satellite, end: HelperEnd) -> None:
        if satellite is not self._current:
            self._former.remove(satellite)
            return
        self._current = None
        self._failed(satellite.last_line or end.text)

    def _failed(self, reason: str) -> None:
        self._tell(f"files are not watched, the watcher failed: {reason}")
        self._settle_soon(self._retry)
        self._retry = min(self._retry * 2.0, _LONGEST_RETRY)

    def _tell(self, text: str) -> None:
        if not self._told and self._trouble is not None:
            self._trouble(text)
        self._told = True

    # -- what it says -------------------------------------------------------------------------------------------

    def _heard(self, satellite: _Satellite, data: bytes) -> None:
        *lines, satellite.buffer = (satellite.buffer + data).split(b"\n")
        satellite.buffer = satellite.buffer[-_LONGEST_LINE:]
        for line in lines:
            try:
                message = json.loads(line)
            except (ValueError, RecursionError):
                # A traceback: its last line is the reason, should it die of it.
                satellite.last_line = line.decode(errors="replace").strip() or satellite.last_line
                continue
            self._take(satellite, message)

    def _take(self, satellite: _Satellite, message: object) -> None:
        match message:
            case {"ready": True}:
                self._ready(satellite)
            case {"trouble": str(text)}:
                satellite.last_line = text
                self._tell(text)
            case {"rule": int(number), "paths": list(paths)} if number < len(satellite.keys):
                entry = self._entries.get(satellite.keys[number])
                # A former satellite still speaks for what was wanted when it was started.
                if entry is not None and entry.rule == satellite.rules[number]:
                    self._changed(satellite.keys[number], entry, [str(path) for path in paths])

    def _ready(self, satellite: _Satellite) -> None:
        satellite.ready = True
        if satellite is not self._current:
            return
        self._retry = _FIRST_RETRY
        self._told = self._told and bool(satellite.last_line)
        for former in self._former:
            if former.helper is not None:
                former.helper.kill()
        self._former.clear()

    # -- changes ------------------------------------------------------------------------------------------------

    def _changed(self, key: Hashable, entry: _Entry, paths: list[str]) -> None:
        """Collect changes until the process has been quiet for its delay, or has not been for too long."""
        now = self._loop.now()
        if entry.timer is None:
            entry.first = now
        else:
            entry.timer.cancel()
        entry.paths.update(dict.fromkeys(paths))
        latest = entry.first + max(_PATIENCE_DELAYS * entry.delay, _PATIENCE_SECONDS)
        entry.timer = self._loop.call_later(max(0.0, min(entry.delay, latest - now)), lambda: self._quiet(key, entry))

    def _quiet(self, key: Hashable, entry: _Entry) -> None:
        entry.timer = None
        prefix = entry.working_dir.rstrip("/") + "/"
        paths = [path.removeprefix(prefix) for path in entry.paths]
        entry.paths.clear()
        self._on_change(key, paths)
