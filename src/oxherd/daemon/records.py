"""The records of the stacks: written once a turn of the loop, and before anybody is told of what they hold.

A record goes to the disk with an fsync, which a busy disk makes wait for tens of milliseconds, and the supervisor with
it. A hundred commands that arrive together therefore cost one write, not a hundred.
"""

from __future__ import annotations

from oxherd.config.codec import decode, encode
from oxherd.config.model import Oxfile, ProcessSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from oxherd.daemon.handles import InstanceHandle, ProcessHandle, StackHandle
    from oxherd.daemon.journal import Journal
    from oxherd.daemon.stacks import StackKeeper
    from oxherd.system.loop import Loop, Timer

__all__ = ["StackRecords", "other_specs", "oxfile_of", "restore", "take_facts"]

# Seconds until a record that could not be written is tried again.
_AGAIN = 5.0


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
        self._unwritten: dict[str, StackHandle] = {}
        self._again: Timer | None = None

    def save(self, stack: StackHandle) -> None:
        """Write the record of a stack at the end of this turn, or earlier if somebody is told something."""
        if not self._changed:
            self._loop.call_soon(self.flush)
        self._changed[stack.identity] = stack

    def forget(self, stack: StackHandle) -> None:
        """Remove the record of a stack."""
        self._changed.pop(stack.identity, None)
        self._unwritten.pop(stack.identity, None)
        self._journal.forget_stack(stack.identity)

    def flush(self) -> None:
        """Write what has changed; must come before an answer or an event leaves the supervisor."""
        changed, self._changed = self._changed, {}
        for identity, stack in changed.items():
            if self._journal.save_stack(identity, _record(stack)):
                self._unwritten.pop(identity, None)
            else:
                self._unwritten[identity] = stack
        if self._unwritten and self._again is None:
            self._again = self._loop.call_later(_AGAIN, self._flush_again)

    def _flush_again(self) -> None:
        """The disk had no room: perhaps it has now."""
        self._again = None
        self._changed = {**self._unwritten, **self._changed}
        self.flush()

    def close(self) -> None:
        """Write what has changed, for the last time."""
        self.flush()
        if self._again is not None:
            self._again.cancel()
            self._again = None


def oxfile_of(stack: StackHandle) -> Oxfile:
    """Return the oxfile of a stack as it was accepted last."""
    return Oxfile(
        path=stack.path,
        name=stack.name,
        profile=stack.profile,
        processes=tuple(process.spec for process in stack.processes.values()),
    )


def _record(stack: StackHandle) -> dict[str, object]:
    return {
        "path": stack.path,
        "name": stack.name,
        "wanted": stack.wanted,
        "profile": stack.profile,
        "env": stack.env,
        "oxfile": encode(oxfile_of(stack)),
        "processes": {name: _process(process) for name, process in stack.processes.items()},
    }


def _process(process: ProcessHandle) -> dict[str, object]:
    record: dict[str, object] = {
        "wanted": process.wanted,
        "scale": process.scale,
        "last_run": process.last_run,
        "generation": process.generation,
        "latest_generation": process.latest_generation,
        "pre_start": "" if process.pre_start == "running" else process.pre_start,
    }
    # What runs under other settings than the accepted ones does so until its end, whoever supervises it.
    others = {handle.key: encode(handle.spec) for handle in process.everyone() if _differs(handle)}
    if others:
        record["others"] = others
    return record


def _differs(handle: InstanceHandle) -> bool:
    return handle.machine.alive and handle.spec is not handle.process.spec and handle.spec != handle.process.spec


def restore(keeper: StackKeeper, record: Mapping[str, object]) -> StackHandle:
    """Register a stack as it was written down.

    Raises:
        TypeError, ValueError, KeyError, UsageError: The record does not fit this version or this machine.
    """
    oxfile = decode(Oxfile, _table(record["oxfile"]))
    env = {str(key): str(value) for key, value in _table(record.get("env", {})).items()}
    stack, _ = keeper.register(oxfile, env, update_env=True)
    take_facts(stack, record)
    for process in stack.processes.values():
        # The slots are those of the oxfile so far; `oxherd scale` may have wanted others.
        keeper.fill(process)
    return stack


def take_facts(stack: StackHandle, record: Mapping[str, object]) -> None:
    """Take what was wanted of a stack, and which generations it had, from its record.

    Raises:
        TypeError: The record does not fit this version.
    """
    for name, state in _table(record.get("processes", {})).items():
        process, facts = stack.processes.get(name), _table(state)
        if process is not None:
            process.wanted = facts.get("wanted") is True
            scale, last_run = facts.get("scale"), facts.get("last_run")
            process.scale = scale if isinstance(scale, int) else None
            process.last_run = last_run if isinstance(last_run, (int, float)) else None
            process.generation = _count(facts, "generation")
            process.latest_generation = _count(facts, "latest_generation")
            process.pre_start = str(facts.get("pre_start", ""))


def other_specs(record: Mapping[str, object], name: str) -> dict[str, ProcessSpec]:
    """Return the settings of instances of a process that ran under others than the accepted ones, by their keys.

    Raises:
        TypeError, ValueError, KeyError, UsageError: The record does not fit this version.
    """
    facts = _table(_table(record.get("processes", {})).get(name, {}))
    return {key: decode(ProcessSpec, _table(spec)) for key, spec in _table(facts.get("others", {})).items()}


def _count(facts: Mapping[str, object], key: str) -> int:
    value = facts.get(key, 0)
    return value if isinstance(value, int) and value > 0 else 0


def _table(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise TypeError(f"not a table: {value!r:.60}")
    return value
