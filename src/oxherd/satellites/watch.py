"""The file watcher: watches folders for the supervisor and says which files have changed.

Run as ``python -I watch.py JSON`` with the rules as its argument, one for each watched process::

    [{"roots": ["/srv/app"], "extensions": [".py"], "ignore": ["static"], "ignore_regex": []}]

and writes JSON lines: ``{"ready": true}`` once everything is watched, ``{"rule": 0, "paths": ["/srv/app/main.py"]}``
for changes, ``{"trouble": "..."}`` for what a person should know. It ends when nobody reads its output any more, so it
never outlives the supervisor.

The file is run by its path and imports nothing of Oxherd.
"""

from __future__ import annotations

import errno
import fnmatch
import json
import os
import re
import select
import sys
import threading
import time
from typing import TYPE_CHECKING

from oxherd.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Group", "Output", "Rule", "main"]

# Never code of the app: version control, caches, environments.
_FOLDERS = frozenset(
    {
        ".git",
        ".hg",
        ".svn",
        ".idea",
        ".mypy_cache",
        ".nox",
        ".pytest_cache",
        ".ruff_cache",
        ".tox",
        ".venv",
        ".vscode",
        "__pycache__",
        "node_modules",
        "site-packages",
        "venv",
    }
)
# What compilers and editors leave beside the file they work on.
_FILES = ("*.pyc", "*.pyo", "*.pyd", "*.swp", "*.swx", "*.swo", "*~", ".#*", "4913", ".DS_Store", "*.tmp")
# What a running app writes itself: watching it would restart the app for its own doing. Not with ``watch_extensions``.
_DATA = ("*.log", "*.pid", "*.sock", "*.db", "*.db-*", "*.sqlite3", "*.sqlite3-*", "celerybeat-schedule*")

# The kinds of changes of watchfiles.
_ADDED, _MODIFIED = 1, 2

# Milliseconds: a burst is collected for at most _BURST, and over after _QUIET without a change. Folders that appear or
# are replaced are looked for every _LOOK.
_BURST, _QUIET, _LOOK = 200, 20, 1000

# Paths named in one message, and entries of a new folder that are looked at.
_MOST_PATHS = 20
_MOST_ENTRIES = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What one process wants to hear of.

    Attributes:
        roots: Absolute paths of folders or files.
        extensions: Endings of names that count, or none for all.
        ignore: Globs, against names and against paths below the root.
        ignore_regex: Regular expressions, searched in the path below the root and in the whole path.
    """

    roots: tuple[str, ...]
    extensions: tuple[str, ...] = ()
    ignore: tuple[re.Pattern[str], ...] = ()
    ignore_regex: tuple[re.Pattern[str], ...] = ()

    @classmethod
    def of(cls, data: dict[str, list[str]]) -> Rule:
        """Return the rule that was written as JSON."""
        globs = [pattern.rstrip("/") for pattern in data.get("ignore", ())]
        # fnmatch lets "*" cross slashes; what "**/" adds to that is that there may be no folder at all.
        globs += [pattern.removeprefix("**/") for pattern in globs if pattern.startswith("**/")]
        globs += [pattern.removesuffix("/**") for pattern in globs if pattern.endswith("/**")]
        return cls(
            roots=tuple(os.path.normpath(root) for root in data["roots"]),
            extensions=tuple(data.get("extensions", ())),
            ignore=tuple(re.compile(fnmatch.translate(pattern.removeprefix("./"))) for pattern in globs),
            ignore_regex=tuple(re.compile(pattern) for pattern in data.get("ignore_regex", ())),
        )

    def wants(self, path: str) -> bool:
        """Whether a change of this path counts."""
        return any(self._wants_below(root, path) for root in self.roots if is_below(path, root))

    def _wants_below(self, root: str, path: str) -> bool:
        if path == root and not os.path.isdir(path):
            # A file that was named itself counts, whatever it is called.
            return True
        parts = path[len(root.rstrip("/")) + 1 :].split("/")
        name = parts[-1]
        if not _FOLDERS.isdisjoint(parts) or any(fnmatch.fnmatchcase(name, pattern) for pattern in _FILES):
            return False
        if self.extensions:
            if not name.endswith(self.extensions):
                return False
        elif any(fnmatch.fnmatchcase(name, pattern) for pattern in _DATA):
            return False
        below = "/".join(parts)
        if any(pattern.search(below) or pattern.search(path) for pattern in self.ignore_regex):
            return False
        candidates = {path, *parts, *("/".join(parts[: count + 1]) for count in range(len(parts)))}
        return not any(pattern.match(candidate) for pattern in self.ignore for candidate in candidates)


def is_below(path: str, root: str) -> bool:
    """Whether a path is the root or lies below it."""
    return path == root or path.startswith(root.rstrip("/") + "/")


class Output:
    """Writes messages, from any thread."""

    def __init__(self, fd: int) -> None:
        """Write to this descriptor."""
        self._fd = fd
        self._lock = threading.Lock()

    def send(self, message: dict[str, object]) -> None:
        """Write one line; the end of the reader is the end of the program."""
        line = json.dumps(message).encode() + b"\n"
        try:
            with self._lock:
                while line:
                    line = line[os.write(self._fd, line) :]
        except OSError:
            os._exit(0)

    def wait_for_end(self) -> None:
        """Wait until nobody reads any more."""
        poll = select.poll()
        poll.register(self._fd, 0)
        # POLLERR on the writing end of a pipe: the reading end is closed; poll(2).
        poll.poll()


class Group:
    """One watch: folders with all below them, or (flat) folders of which single entries are wanted.

    Args:
        rules: All rules.
        flat: Which of the two.
        output: Where changes are told.
    """

    def __init__(self, rules: list[Rule], *, flat: bool, output: Output) -> None:
        """Watch nothing yet."""
        self._rules = rules
        self._flat = flat
        self._output = output
        self._polling = os.environ.get("WATCHFILES_FORCE_POLLING", "") not in {"", "false", "disable", "disabled"}
        self.watching = threading.Event()

    def plan(self) -> dict[str, tuple[int, int]]:
        """Return the folders to watch with their identity: a folder that was replaced is another one."""
        wanted: dict[str, tuple[int, int]] = {}
        for root in {root for rule in self._rules for root in rule.roots}:
            is_folder = os.path.isdir(root)
            if is_folder and not self._flat:
                wanted.update(_identity(root))
            elif not is_folder and self._flat:
                # A file is watched by its folder: editors replace files, and a watch on the old one hears nothing.
                # Of what is not there (yet) the nearest folder that is says when it comes.
                parent = os.path.dirname(root)
                while not os.path.isdir(parent) and parent != "/":
                    parent = os.path.dirname(parent)
                wanted.update(_identity(parent))
        return wanted

    def run(self) -> None:
        """Watch for ever; run in a thread of its own."""
        known: dict[str, tuple[int, int]] | None = None
        while True:
            plan = self.plan()
            if known is not None and not self._flat:
                # What came with a folder that is new here, or another one than before.
                self._tell(path for root in plan if known.get(root) != plan[root] for path in _files_of(_ADDED, root))
            known = plan
            if not plan:
                self.watching.set()
                time.sleep(_LOOK / 1000)
                continue
            try:
                self._watch(plan)
            except FileNotFoundError:
                # Gone since it was planned.
                time.sleep(0.05)
            except Exception as error:  # noqa: BLE001 - the library raises an error of its own for full inotify tables
                self._cannot(error)

    def _watch(self, plan: dict[str, tuple[int, int]]) -> None:
        """Tell of changes until the folders to watch are others."""
        from watchfiles._rust_notify import RustNotify  # noqa: PLC0415 - the documented low level; named if missing

        notify = RustNotify(sorted(plan), False, self._polling, 300, not self._flat, True)
        with notify:
            self.watching.set()
            while True:
                changes = notify.watch(_BURST, _QUIET, _LOOK, None)
                if changes == "signal":
                    os._exit(0)
                if isinstance(changes, set):
                    self._tell(path for kind, path in changes for path in _files_of(kind, path))
                if self.plan() != plan:
                    return

    def _tell(self, changed: Iterable[str]) -> None:
        paths = sorted(set(changed))
        for number, rule in enumerate(self._rules):
            wanted = [path for path in paths if rule.wants(path)]
            if wanted:
                self._output.send({"rule": number, "paths": wanted[:_MOST_PATHS], "count": len(wanted)})

    def _cannot(self, error: Exception) -> None:
        full = getattr(error, "errno", None) in {errno.ENOSPC, errno.EMFILE} or "limit" in str(error)
        if self._polling or not full:
            self._output.send({"trouble": f"files cannot be watched: {error}"})
            os._exit(1)
        self._polling = True
        self._output.send({"trouble": f"too many folders to be told of changes ({error}); looking at them instead"})


def _identity(path: str) -> Iterator[tuple[str, tuple[int, int]]]:
    try:
        found = os.stat(path)
    except OSError:
        return
    yield path, (found.st_dev, found.st_ino)


def _files_of(kind: int, path: str) -> Iterator[str]:
    """Return the files a change is about: of a folder that was moved here, all that came with it."""
    if not os.path.isdir(path) or os.path.islink(path):
        yield path
        return
    if kind == _MODIFIED:
        # Its own times or permissions; changes within it come for themselves.
        return
    left = _MOST_ENTRIES
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if name not in _FOLDERS]
        for name in names:
            yield os.path.join(folder, name)
        left -= len(names) + len(folders)
        if left < 0:
            return


def main(arguments: list[str]) -> None:
    """Watch until the reader is gone."""
    output = Output(1)
    rules = [Rule.of(data) for data in json.loads(arguments[0])]
    groups = [Group(rules, flat=flat, output=output) for flat in (False, True)]
    for group in groups:
        threading.Thread(target=group.run, daemon=True).start()
    for group in groups:
        group.watching.wait()
    output.send({"ready": True})
    output.wait_for_end()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
