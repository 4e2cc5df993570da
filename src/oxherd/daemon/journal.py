"""What has to survive the supervisor: which stacks are wanted, and which processes run.

``stacks/<id>/stack.json`` holds the stack as it was started: path, wanted processes, the caller's environment (0600)
and the spec that was accepted last. ``instances.jsonl`` is a journal of pids, appended before a change is announced
and compacted now and then: after a crash the next supervisor finds there whom its predecessor had started.

Files are replaced by rename, so a reader sees the old or the new one. A file that cannot be read is kept aside under
``.damaged`` and reported; it never keeps the supervisor from starting.
"""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oxherd.control.paths import Home

__all__ = ["STATE_VERSION", "Journal"]

STATE_VERSION = 1

_COMPACT_AFTER = 256 * 1024


class Journal:
    """Reads and writes the state directory.

    Args:
        home: Where it is.
        on_trouble: Called with a text when something cannot be read or written.
    """

    def __init__(self, home: Home, on_trouble: Callable[[str], None]) -> None:
        """Open nothing yet."""
        self._home = home
        self._on_trouble = on_trouble
        self._path = os.path.join(home.state, "instances.jsonl")
        self._fd = -1
        self._grown = 0
        self._latest: dict[str, dict[str, object]] = {}

    # -- stacks -------------------------------------------------------------------------------------------------

    def save_stack(self, identity: str, record: dict[str, object]) -> bool:
        """Write a stack's record; False (and a report) when the disk refuses."""
        directory = self._home.stack(identity)
        try:
            os.makedirs(self._home.logs(identity), mode=0o700, exist_ok=True)
            replace_file(os.path.join(directory, "stack.json"), {"state_version": STATE_VERSION, **record})
        except OSError as error:
            self._on_trouble(f"cannot write {directory}/stack.json: {error.strerror}; the stack may not come back")
            return False
        return True

    def forget_stack(self, identity: str) -> None:
        """Remove a stack's record; its logs stay."""
        path = os.path.join(self._home.stack(identity), "stack.json")
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
        except OSError as error:
            self._on_trouble(f"cannot remove {path}: {error.strerror}; the stack may come back after a restart")

    def load_stacks(self) -> dict[str, dict[str, object]]:
        """Return every readable stack record by its identity."""
        root = os.path.join(self._home.state, "stacks")
        try:
            names = sorted(os.listdir(root))
        except OSError:
            return {}
        records = {}
        for name in names:
            record = self._load(os.path.join(root, name, "stack.json"))
            if record is not None:
                records[name] = record
        return records

    def _load(self, path: str) -> dict[str, object] | None:
        try:
            with open(path, "rb") as file:
                record = json.loads(file.read())
            if isinstance(record, dict) and record.get("state_version") == STATE_VERSION:
                return record
            problem = "is of another version"
        except FileNotFoundError:
            return None
        except OSError as error:
            self._on_trouble(f"cannot read {path}: {error.strerror}")
            return None
        except ValueError:
            problem = "is not what Oxherd wrote"
        aside = f"{path}.damaged"
        try:
            os.replace(path, aside)
        except OSError:
            aside = path
        self._on_trouble(f"{path} {problem}; it is kept as {aside}; start that stack again with `oxherd start`")
        return None

    # -- instances ----------------------------------------------------------------------------------------------

    def load_instances(self) -> dict[str, dict[str, object]]:
        """Return the last record of every instance; the key is its mark without the incarnation."""
        try:
            with open(self._path, "rb") as file:
                lines = file.read().split(b"\n")
        except OSError:
            return {}
        for line in lines:
            try:
                record = json.loads(line)
                key = str(record["key"])
            except (ValueError, KeyError, TypeError):
                continue  # a line cut short by a crash or a full disk; the one before it stands
            self._latest[key] = record
        return dict(self._latest)

    def save_instance(self, key: str, record: dict[str, object]) -> None:
        """Append the state of one instance; must be called before the change is announced."""
        record = {"key": key, **record}
        if record.get("pid") is None:
            self._latest.pop(key, None)
        else:
            self._latest[key] = record
        self._append(record)

    def _append(self, record: dict[str, object]) -> None:
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        try:
            if self._fd < 0:
                self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._grown += os.write(self._fd, line)
            if self._grown > _COMPACT_AFTER:
                self._compact()
        except OSError as error:
            self._on_trouble(f"cannot write {self._path}: {error.strerror}")
            self.close()

    def _compact(self) -> None:
        temporary = f"{self._path}.new"
        with open(temporary, "wb") as file:
            file.writelines(
                json.dumps(record, separators=(",", ":")).encode() + b"\n" for record in self._latest.values()
            )
        os.replace(temporary, self._path)
        self.close()
        self._grown = 0

    def close(self) -> None:
        """Close the journal."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def replace_file(path: str, data: dict[str, object], *, durable: bool = True) -> None:
    """Write JSON to a private file in one step: complete and on disk, or not at all.

    Args:
        path: The file.
        data: The object.
        durable: Whether it has to survive a power cut. That makes the whole supervisor wait for the disk: what
            comes a hundred at a time, such as crash cards, does without.

    Raises:
        OSError: The disk refused; the old file is as it was.
    """
    temporary = f"{path}.new"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        content = memoryview(json.dumps(data, separators=(",", ":")).encode("utf-8", "surrogateescape"))
        while content:
            content = content[os.write(fd, content) :]
        if durable:
            os.fsync(fd)
    except OSError:
        os.close(fd)
        os.unlink(temporary)
        raise
    os.close(fd)
    os.replace(temporary, path)
