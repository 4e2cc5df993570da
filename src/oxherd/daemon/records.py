"""The records of the stacks: written once a turn of the loop, and before anybody is told of what they hold.

A record goes to the disk with an fsync, which a busy disk makes wait for tens of milliseconds, and the supervisor with
it. A hundred commands that arrive together therefore cost one write, not a hundred.
"""

from __future__ import annotations

from oxherd.config.codec import encode
from oxherd.config.model import Oxfile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oxherd.daemon.handles import StackHandle
    from oxherd.daemon.journal import Journal
    from oxherd.system.loop import Loop

__all__ = ["StackRecords"]


class StackRecords:
    """Writes down what is wanted of each stack.

    Args:
        loop: Whose turns they are.
        journal: Writes the files.
    """

    def __init__(self, loop: Loop, journal: Journal) -> None:
        """Nothing is to be written."""
        self._loop = loop
        self._journal = journal
        self._changed: dict[str, StackHandle] = {}

    def save(self, stack: StackHandle) -> None:
        """Write the record of a stack at the end of this turn, or earlier if somebody is told something."""
        if not self._changed:
            self._loop.call_soon(self.flush)
        self._changed[stack.identity] = stack

    def forget(self, stack: StackHandle) -> None:
        """Remove the record of a stack."""
        self._changed.pop(stack.identity, None)
        self._journal.forget_stack(stack.identity)

    def flush(self) -> None:
        """Write what has changed; must come before an answer or an event leaves the supervisor."""
        changed, self._changed = self._changed, {}
        for identity, stack in changed.items():
            self._journal.save_stack(identity, _record(stack))


def _record(stack: StackHandle) -> dict[str, object]:
    oxfile = Oxfile(
        path=stack.path,
        name=stack.name,
        profile=stack.profile,
        processes=tuple(process.spec for process in stack.processes.values()),
    )
    return {
        "path": stack.path,
        "name": stack.name,
        "wanted": stack.wanted,
        "profile": stack.profile,
        "env": stack.env,
        "oxfile": encode(oxfile),
        "processes": {
            name: {"wanted": process.wanted, "scale": process.scale, "last_run": process.last_run}
            for name, process in stack.processes.items()
        },
    }
