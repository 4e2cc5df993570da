"""Compressors of rotated logs: small programs started in the background whose results the log sinks look at."""

from __future__ import annotations

import os

from oxherd.daemon.helpers import HelperRequest
from oxherd.errors import SpawnError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oxherd.daemon.helpers import HelperEnd, Helpers

__all__ = ["Compressors"]


class Compressors:
    """Starts compressors.

    Args:
        helpers: Starts and reaps them.
        mark: Prefix of their marks: after the supervisor's death its successor finds and ends them by it.
    """

    def __init__(self, helpers: Helpers, mark: str) -> None:
        """Start nothing yet."""
        self._helpers = helpers
        self._mark = mark
        self._count = 0
        self._ending = False

    def end(self) -> None:
        """Start none any more: the supervisor ends. What waits to be compressed is when its log is opened again."""
        self._ending = True

    def start(self, argv: list[str]) -> None:
        """Start one and forget it.

        Raises:
            OSError: It cannot be started now; the sink tries again later.
        """
        if self._ending:
            return
        self._count += 1
        request = HelperRequest(
            argv=tuple(argv), cwd="/", env={"PATH": os.defpath}, mark=f"{self._mark}:compress/{self._count}"
        )
        try:
            self._helpers.start(request, _ignore_output, _ignore_end)
        except SpawnError as error:
            raise OSError(error.errno, error.message) from error


def _ignore_output(_data: bytes) -> None:
    """A compressor has nothing to say; whether it worked is seen by its file."""


def _ignore_end(_end: HelperEnd) -> None:
    """Whether it worked is seen by its file."""
