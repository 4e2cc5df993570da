"""The events of a home, read from their file: they are there whatever has become of the supervisor that wrote them."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["EventFile"]

Event = dict[str, Any]


class EventFile:
    """All events so far.

    Args:
        path: Of the file; ``path.1`` is what it was before it grew too large.
    """

    def __init__(self, path: Path) -> None:
        """Nothing has been read."""
        self._path = path
        self._inode, self._offset, self._rest = 0, 0, b""
        self._seen: list[Event] = []

    def position(self) -> int:
        """Return the number of events so far; what comes from now on lies behind it."""
        self._read()
        return len(self._seen)

    def since(self, position: int) -> list[Event]:
        """Return the events from a position on."""
        self._read()
        return self._seen[position:]

    def matching(self, position: int, kind: str, name: str | None = None, text: str = "") -> list[Event]:
        """Return the events of a kind, of a process and with a text, from a position on."""
        return [
            event
            for event in self.since(position)
            if event["kind"] == kind and (name is None or event.get("name") == name) and text in event["text"]
        ]

    def wait(
        self, position: int, kind: str, name: str | None = None, *, meanwhile: Callable[[], object] | None = None
    ) -> Event:
        """Wait for an event.

        Args:
            position: From which on it counts.
            kind: Its kind.
            name: Of its process; any if None.
            meanwhile: If this comes to hold there will be none.

        Raises:
            AssertionError: It did not come.
        """
        found: list[Event] = []

        def look() -> bool:
            found[:] = self.matching(position, kind, name)
            return bool(found) or (meanwhile is not None and bool(meanwhile()))

        wait_until(look, f"the event {kind} of {name}")
        found = found or self.matching(position, kind, name)
        assert found, f"there was no event {kind} of {name}"
        return found[0]

    def _read(self) -> None:
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return
        with file:
            inode = os.fstat(file.fileno()).st_ino
            if self._inode not in {0, inode}:
                # Renamed since: its end first.
                with self._path.with_name(f"{self._path.name}.1").open("rb") as old:
                    old.seek(self._offset)
                    self._take(old.read())
                self._offset = 0
            self._inode = inode
            file.seek(self._offset)
            data = file.read()
            self._offset += len(data)
            self._take(data)

    def _take(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._seen += [json.loads(line) for line in lines]
