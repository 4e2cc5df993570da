"""What all the logs of one supervisor have in common: the directories they are in, and what its pipes may hold.

Whoever opens a log has to know which numbers there are beside it. A thousand logs in one directory that are opened in one turn of
the loop, as at a start, are one look at that directory, and not a thousand.
"""

from __future__ import annotations

import os

from oxherd.system.logs.names import names_beside, numbered
from oxherd.system.logs.pipe import may_exceed_share

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Surroundings"]

_NONE: frozenset[int] = frozenset()


class Surroundings:
    """Looks once.

    Args:
        later: Calls back at the end of a turn of the loop: until then nobody but this process and its compressors, which
            change no number, is expected to touch what was seen. Without it every look is a new one.
    """

    __slots__ = ("_folders", "_large_pipes", "_later")

    def __init__(self, later: Callable[[Callable[[], None]], None] | None = None) -> None:
        """Look at nothing yet."""
        self._later = later
        self._folders: dict[str, dict[str, set[int]]] = {}
        self._large_pipes: bool | None = None

    @property
    def large_pipes(self) -> bool:
        """Whether this process may have more pipe memory than a user's share; that does not change while it runs."""
        if self._large_pipes is None:
            self._large_pipes = may_exceed_share()
        return self._large_pipes

    def serials(self, path: str) -> frozenset[int]:
        """Return the numbers N for which there is a ``path.N``, compressed or not; none if the directory is not there."""
        directory, name = os.path.split(path)
        folder = self._folders.get(directory)
        if folder is None:
            folder = _numbers(names_beside(path))
            if self._later is not None:
                self._folders[directory] = folder
                self._later(self._folders.clear)
        return frozenset(folder.get(name, _NONE))

    def changed(self, path: str) -> None:
        """Somebody here has renamed or removed files of this log: look again."""
        if self._folders:
            self._folders.pop(os.path.dirname(path), None)


def _numbers(names: list[str]) -> dict[str, set[int]]:
    """Return the numbers beside every name."""
    found: dict[str, set[int]] = {}
    for name in names:
        base, serial = numbered(name)
        if serial:
            found.setdefault(base, set()).add(serial)
    return found
