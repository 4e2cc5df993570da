"""Whether this version can take over from the supervisor that runs: the first question of an upgrade.

Everything that a supervisor reads when it begins is read, nothing is changed, and the answer is one line of JSON.
"""

from __future__ import annotations

import os

from oxherd import __version__
from oxherd import jsons as json
from oxherd.config.codec import decode
from oxherd.config.model import Oxfile
from oxherd.daemon.journal import OLDEST_VERSION, STATE_VERSION, latest_records
from oxherd.daemon.records import other_specs
from oxherd.daemon.remembering import read_record
from oxherd.errors import OxherdError

__all__ = ["check", "trouble_with"]


def check(state: str) -> int:
    """Print whether what is written down can be read; return the exit code.

    Args:
        state: The state directory.
    """
    trouble = trouble_with(state)
    answer = {"ok": not trouble, "version": __version__, "state_version": STATE_VERSION}
    if trouble:
        answer["error"] = trouble
    print(json.dumps(answer), flush=True)  # noqa: T201 - whoever asked reads it
    return 1 if trouble else 0


def trouble_with(state: str) -> str:
    """Return why the state of a supervisor cannot be taken over, "" where it can."""
    root = os.path.join(state, "stacks")
    try:
        for name in sorted(os.listdir(root)) if os.path.isdir(root) else ():
            path = os.path.join(root, name, "stack.json")
            if os.path.exists(path) and (trouble := _stack_trouble(path)):
                return f"{path}: {trouble}"
        return _journal_trouble(os.path.join(state, "instances.jsonl"))
    except OSError as error:
        return f"{error.filename or state}: {error.strerror}"


def _stack_trouble(path: str) -> str:
    with open(path, "rb") as file:
        data = file.read()
    try:
        record = json.loads(data)
        version = record["state_version"]
        if not isinstance(version, int) or not OLDEST_VERSION <= version <= STATE_VERSION:
            readable = f"{OLDEST_VERSION} to {STATE_VERSION}"
            return f"it is of version {version!r}; this one ({__version__}) reads {readable}"
        decode(Oxfile, record["oxfile"])
        processes = record.get("processes", {})
        if not isinstance(processes, dict):
            raise TypeError("its processes are no table")
        for name in processes:
            other_specs(record, name)
    except OxherdError as error:
        return error.message
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        return f"it cannot be read: {error!r:.200}"
    return ""


def _journal_trouble(path: str) -> str:
    if not os.path.exists(path):
        return ""
    with open(path, "rb") as file:
        head, *lines = file.read().split(b"\n")
    try:
        version = json.loads(head).get("journal", STATE_VERSION) if head else STATE_VERSION
        if version > STATE_VERSION:
            return f"{path}: it is of version {version}; this one ({__version__}) reads up to {STATE_VERSION}"
    except (ValueError, TypeError, AttributeError) as error:
        return f"{path}: its first line cannot be read: {error!r:.200}"
    for key, record in latest_records(lines).items():
        try:
            if "state" in record:
                read_record(record)
        except ValueError as error:
            return f"{path}: {key} cannot be read: {error}"
    return ""
