"""An oxfile read again without a command line: in a process of its own, with the environment that is kept for its stack."""

from __future__ import annotations

import os
import sys

from oxherd import jsons as json
from oxherd.config.codec import decode
from oxherd.config.model import Oxfile
from oxherd.daemon.helpers import HelperRequest
from oxherd.errors import OxherdError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oxherd.daemon.handles import StackHandle
    from oxherd.daemon.helpers import Helpers

__all__ = ["Rereader"]


class Rereader:
    """Reads oxfiles again, at boot and when ``oxherd run`` gets SIGHUP.

    Args:
        helpers: Runs the compiler.
        record_of: From a stack's identity to the path of its record.
        mark: Prefix of the marks of this home.
    """

    def __init__(self, helpers: Helpers, record_of: Callable[[str], str], mark: str) -> None:
        """Read nothing yet."""
        self._helpers = helpers
        self._record_of = record_of
        self._mark = mark

    def read(self, stack: StackHandle, then: Callable[[Oxfile | None, str], None]) -> None:
        """Read the oxfile of a stack.

        Args:
            stack: Whose record has been written.
            then: Called once, with the compiled oxfile, or with None and why it cannot be used as it is now.
        """
        output: list[bytes] = []
        request = HelperRequest(
            argv=(sys.executable, "-P", "-m", "oxherd.satellites.compile", self._record_of(stack.identity)),
            cwd="/",
            env=dict(os.environ),
            mark=f"{self._mark}:compile/{stack.identity}",
        )
        try:
            self._helpers.start(request, output.append, lambda _end: _tell(b"".join(output), then))
        except (OxherdError, OSError) as error:
            then(None, str(error))


def _tell(output: bytes, then: Callable[[Oxfile | None, str], None]) -> None:
    try:
        answer = json.loads(output)
        oxfile = decode(Oxfile, answer["oxfile"]) if "oxfile" in answer else None
        trouble = "" if oxfile is not None else str(answer["problems"])
    except (OxherdError, ValueError, TypeError, KeyError, AttributeError):
        oxfile = None
        trouble = output.decode("utf-8", "backslashreplace")[-2000:] or "reading it ended without a word"
    then(oxfile, trouble)
