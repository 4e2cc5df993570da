"""What has to survive the supervisor: which stacks are wanted, and which processes run.

``stacks/<id>/stack.json`` holds the stack as it was started: path, wanted processes, the caller's environment (0600)
and the spec that was accepted last. ``instances.jsonl`` is a journal of instances, appended before a change is announced
and compacted now and then: after a crash the next supervisor finds there whom its predecessor had started. Its first line
names the boot of the machine: pids and monotonic times mean nothing in another one.

Files are replaced by rename, so a reader sees the old or the new one. A file that cannot be read is kept aside under
``.damaged`` and reported; it never keeps the supervisor from starting. The state has a version: what an older Oxherd wrote is
read, what a newer one wrote is left as it is and told, and nothing that belongs to it is touched.
"""

from __future__ import annotations

import os

from oxherd import jsons as json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from oxherd.control.paths import Home

__all__ = ["OLDEST_VERSION", "STATE_VERSION", "Journal", "latest_records"]

# 2: what is needed to go on with instances that outlived their supervisor.
STATE_VERSION = 2
OLDEST_VERSION = 1

_COMPACT_AFTER = 256 * 1024

# What stands in the place of an instance when the supervisor itself ends everything.
_ENDING = "ending"


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
        self._boot = ""
        # As they are in the file: of a hundred processes their objects would be a tenth of a megabyte more.
        self._latest: dict[str, bytes] = {}
        self._told: dict[str, str] = {}  # by stack: what was said of a record that cannot be written
        self.newer: set[str] = set()  # identities of stacks that a newer Oxherd wrote down
        self.ended = False  # whether the supervisor before was ending everything, which nobody had asked of the stacks

    # -- stacks -------------------------------------------------------------------------------------------------

    def save_stack(self, identity: str, record: dict[str, object]) -> bool:
        """Write a stack's record; False (and a report) when the disk refuses."""
        directory = self._home.stack(identity)
        try:
            os.makedirs(self._home.logs(identity), mode=0o700, exist_ok=True)
            replace_file(os.path.join(directory, "stack.json"), {"state_version": STATE_VERSION, **record})
        except OSError as error:
            text = f"cannot write {directory}/stack.json: {error.strerror}; the stack may not come back"
            if self._told.get(identity) != text:  # it is tried again and again
                self._told[identity] = text
                self._on_trouble(text)
            return False
        self._told.pop(identity, None)
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
            record = self._load(os.path.join(root, name, "stack.json"), name)
            if record is not None:
                records[name] = record
        return records

    def _load(self, path: str, identity: str) -> dict[str, object] | None:
        try:
            with open(path, "rb") as file:
                record = json.loads(file.read())
            version = record.get("state_version") if isinstance(record, dict) else None
            if isinstance(version, int) and version > STATE_VERSION:
                self.newer.add(identity)
                self._on_trouble(
                    f"{path} is of version {version}, written by a newer Oxherd; this one reads up to {STATE_VERSION}. "
                    "It is left as it is, with what runs of it; use the newer version again"
                )
                return None
            if isinstance(record, dict) and isinstance(version, int) and version >= OLDEST_VERSION:
                return record
            problem = "is not what Oxherd wrote"
        except FileNotFoundError:
            return None
        except OSError as error:
            self._on_trouble(f"cannot read {path}: {error.strerror}")
            return None
        except (ValueError, RecursionError):
            problem = "is not what Oxherd wrote"
        aside = f"{path}.damaged"
        try:
            os.replace(path, aside)
        except OSError:
            aside = path
        self._on_trouble(f"{path} {problem}; it is kept as {aside}; start that stack again with `oxherd start`")
        return None

    # -- instances ----------------------------------------------------------------------------------------------

    def load_instances(self, boot: str) -> dict[str, dict[str, object]]:
        """Return the last record of everything that was written down in this boot of the machine, by its key.

        Args:
            boot: `oxherd.system.identity.boot_id`; what is appended from now on belongs to it.
        """
        self._boot = boot
        try:
            with open(self._path, "rb") as file:
                head = _object(file.readline())
                # Line by line: what a large journal had taken at once would stay with the supervisor.
                latest = latest_records(file)
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                self._on_trouble(f"cannot read {self._path}: {error.strerror}; what runs is found by its mark")
            return {}
        if head is None or head.get("boot") != boot or not boot:
            # Of another boot, or of a version that did not say: nobody of it can be told from a stranger.
            self._begin_anew()
            return {}
        self._latest = {key: _line({"key": key, **record}) for key, record in latest.items()}
        self.ended = latest.pop(_ENDING, None) is not None
        return latest

    def end(self) -> None:
        """Write down that what is stopped from now on is stopped because the supervisor ends."""
        self.save_instance(_ENDING, {"ended": True})

    def go_on(self) -> None:
        """What the end of the supervisor before had stopped is wanted again, and written down as that."""
        self.ended = False
        self.forget_instance(_ENDING)

    def _begin_anew(self) -> None:
        try:
            os.unlink(self._path)
        except OSError as error:
            self._on_trouble(f"cannot remove {self._path}: {error.strerror}")

    def save_instance(self, key: str, record: dict[str, object]) -> None:
        """Append the state of one instance or zygote; must be called before the change is announced."""
        line = self._latest[key] = _line({"key": key, **record})
        self._append(line)

    def forget_instance(self, key: str) -> None:
        """Nothing of it is left, and nothing has to be known of it any more."""
        if self._latest.pop(key, None) is not None:
            self._append(_line({"key": key}))

    def _append(self, line: bytes) -> None:
        try:
            if self._fd < 0:
                self._open()
            written = os.write(self._fd, line)
            self._grown += written
            if written < len(line):
                # The disk is full in the middle of the line: end it, so that the next one is whole.
                self._on_trouble(f"cannot write {self._path}: no space is left")
                self._write_anew()
                os.write(self._fd, b"\n")
            if self._grown > _COMPACT_AFTER:
                self._compact()
        except OSError as error:
            self._on_trouble(f"cannot write {self._path}: {error.strerror}")
            self._write_anew()
            self.close()

    def _write_anew(self) -> None:
        """What could not be appended is in memory: as soon as something can be, the whole file is written anew."""
        self._grown = _COMPACT_AFTER + 1

    def _open(self) -> None:
        self._fd = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        size = os.fstat(self._fd).st_size
        if size == 0:
            os.write(self._fd, _line({"journal": STATE_VERSION, "boot": self._boot}))
        elif os.pread(self._fd, 1, size - 1) != b"\n":
            # The one before was cut short, and so may its end have been; what is appended to it would be lost with it.
            os.write(self._fd, b"\n")

    def _compact(self) -> None:
        temporary = f"{self._path}.new"
        with open(temporary, "wb", opener=_private) as file:
            file.write(_line({"journal": STATE_VERSION, "boot": self._boot}))
            file.writelines(self._latest.values())
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
    try:
        os.replace(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise


def latest_records(lines: Iterable[bytes]) -> dict[str, dict[str, object]]:
    """Return what the lines of a journal say last of each key; what was forgotten is not in it.

    Args:
        lines: Its lines, the first one with or without. One that was cut short by a crash or a full disk is passed over: the
            one before it stands.
    """
    latest: dict[str, dict[str, object]] = {}
    for line in lines:
        record = _object(line)
        key = None if record is None else record.pop("key", None)
        if not isinstance(key, str) or record is None:
            continue
        if record:
            latest[key] = record
        else:
            latest.pop(key, None)
    return latest


def _line(record: dict[str, object]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode("utf-8", "surrogateescape") + b"\n"


def _object(line: bytes) -> dict[str, object] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
