"""The supervisor's side of compression: one helper at a time for one log, started again should it die."""

from __future__ import annotations

import fcntl
import os
import sys

from oxherd.system.logs.names import PARTIAL, find_serials, rotated

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oxherd.system.logs.rotate import Rotation
    from oxherd.system.loop import Loop, Timer

__all__ = ["Compressor"]

_FIRST_LOOK = 0.25
_LONGEST_WAIT = 300.0


class Compressor:
    """Has the retired files of one log compressed, oldest first, in the background.

    The supervisor reaps the helper but does not tell us: whether it is done is seen from the file that goes away,
    whether it is dead from the lock that is free. While nothing waits for compression there is no timer.

    Args:
        loop: For the timer.
        path: The log.
        index_path: Its index.
        rotation: Knows the numbers of the retired files.
        start_helper: Starts a program without waiting for it.
    """

    __slots__ = ("_current", "_index_path", "_loop", "_path", "_rotation", "_start_helper", "_timer", "_wait")

    def __init__(
        self, *, loop: Loop, path: str, index_path: str, rotation: Rotation, start_helper: Callable[[list[str]], None]
    ) -> None:
        """Nothing runs until `wake`."""
        self._loop = loop
        self._path = path
        self._index_path = index_path
        self._rotation = rotation
        self._start_helper = start_helper
        self._current: int | None = None
        self._timer: Timer | None = None
        self._wait = _FIRST_LOOK

    def sweep(self) -> None:
        """Remove what dead helpers have left half done."""
        if not self._rotation.numbered:
            return  # of a log that was never rotated nothing can be half done
        for path in (self._path, self._index_path):
            for serial in find_serials(path, PARTIAL):
                source = rotated(path, serial)
                if not _locked(source):
                    try:
                        os.unlink(source + PARTIAL)
                    except OSError:
                        # Not ours to remove, or gone: the helper makes its own anew.
                        continue

    def wake(self) -> None:
        """Something may be there to compress."""
        if self._timer is None:
            self._look()

    @property
    def busy(self) -> bool:
        """Whether something is being compressed or waits for it."""
        return self._timer is not None

    def close(self) -> None:
        """Stop looking; a helper that runs finishes on its own."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        waiting = [serial for serial in self._rotation.kept if os.path.lexists(rotated(self._path, serial))]
        if not waiting:
            self._current = None
            return
        target = waiting[0]
        if target != self._current:
            self._current = target
            self._wait = _FIRST_LOOK
            self._start(target)
        elif not _locked(rotated(self._path, target)):
            # It died, or the disk is full. Each further try comes later than the one before.
            self._start(target)
        self._timer = self._loop.call_later(self._wait, self._look)
        self._wait = min(_LONGEST_WAIT, self._wait * 2)

    def _start(self, serial: int) -> None:
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "compress.py")
        try:
            files = [rotated(self._path, serial), rotated(self._index_path, serial)]
            self._start_helper([sys.executable, "-I", "-S", script, *files])
        except OSError:
            # No pids or no memory now: the timer tries again.
            return


def _locked(path: str) -> bool:
    """Return whether a helper works on the file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(fd)
    return False
