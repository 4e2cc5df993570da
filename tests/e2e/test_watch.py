"""Files that change restart what runs from them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from oxherd.system.identity import read_file
from support.harness import descendants, program
from support.waiting import wait_gone, wait_until

if TYPE_CHECKING:
    from support.harness import Supervised


def watchers(ox: Supervised) -> list[int]:
    """Return the pids of the file watchers of the supervisor."""
    return [
        pid
        for pid in descendants(ox.supervisor)
        if b"satellites/watch.py" in (read_file(f"/proc/{pid}/cmdline") or b"")
    ]


def wait_watched(ox: Supervised, folder: Path) -> None:
    """Wait until the kernel notes the changes of a folder for a watcher; from then on none is lost."""
    inode = f"ino:{folder.stat().st_ino:x} "

    def watched() -> bool:
        for pid in watchers(ox):
            try:
                infos = [entry.read_text() for entry in Path(f"/proc/{pid}/fdinfo").iterdir()]
            except OSError:
                continue
            if any(line.startswith("inotify") and inode in line for info in infos for line in info.splitlines()):
                return True
        return False

    wait_until(watched, f"{folder} to be watched")


def oxfile(ox: Supervised, more: str = "", delay: int = 100) -> None:
    ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper")}"\nwatch = true\nwatch_delay_ms = {delay}\n{more}')
    (ox.folder / "pages" / "deep").mkdir(parents=True)
    (ox.folder / "app.py").write_text("1")
    ox.ok("start")
    wait_watched(ox, ox.folder)


def test_a_changed_file_restarts_the_process(ox):
    """An edit, also in a folder below, is a restart whose event names the file."""
    oxfile(ox, "instances = 2\n")
    before = ox.pids()
    (ox.folder / "app.py").write_text("2")
    assert "app.py changed" in ox.wait("watch", name="web")["text"]
    for slot in range(2):
        ox.wait("ready", name="web", instance=slot, incarnation=2)
    assert not set(before.values()) & set(ox.pids().values())
    wait_watched(ox, ox.folder / "pages" / "deep")
    (ox.folder / "pages" / "deep" / "new.html").write_text("new")
    assert "pages/deep/new.html" in ox.wait("watch", name="web", count=2)["text"]
    for slot in range(2):
        ox.wait("ready", name="web", instance=slot, incarnation=3)


def test_extensions_and_ignore_globs_hold(ox):
    """Only what is meant counts: other extensions and ignored names are no restart."""
    oxfile(ox, 'watch_extensions = [".py"]\nwatch_ignore = ["*_generated.py", "pages"]\n')
    (ox.folder / "notes.txt").write_text("no")
    (ox.folder / "all_generated.py").write_text("no")
    (ox.folder / "pages" / "view.py").write_text("no")
    (ox.folder / "app.py").write_text("yes")
    event = ox.wait("watch", name="web")
    # Changes come in their order: had the others counted, they would be named here or before.
    assert event["text"] == "web: app.py changed; restarting"
    ox.wait("ready", name="web", incarnation=2)
    (ox.folder / "app.py").write_text("again")
    assert ox.wait("watch", name="web", count=2)["text"] == "web: app.py changed; restarting"
    ox.wait("ready", name="web", incarnation=3)


def test_a_burst_of_changes_is_one_restart(ox):
    """Hundreds of files within the quiet time, as a checkout writes them: one restart."""
    oxfile(ox, delay=1000)
    for number in range(300):
        (ox.folder / "pages" / f"view{number}.py").write_text("x")
        (ox.folder / "app.py").write_text(str(number))
    ox.wait("watch", name="web")
    ox.wait("ready", name="web", incarnation=2)
    (ox.folder / "app.py").write_text("last")
    assert ox.wait("watch", name="web", count=2)["text"] == "web: app.py changed; restarting"
    ox.wait("ready", name="web", incarnation=3)
    assert len(ox.events.matching("watch")) == 2


def test_the_watcher_runs_only_while_something_is_watched(ox):
    """`stop` ends the watcher; a watcher that is killed is replaced."""
    oxfile(ox)
    (first,) = watchers(ox)
    os.kill(first, 9)
    (second,) = wait_until(lambda: [pid for pid in watchers(ox) if pid != first], "another watcher")
    wait_watched(ox, ox.folder)
    (ox.folder / "app.py").write_text("2")
    ox.wait("ready", name="web", incarnation=2)
    ox.ok("stop")
    wait_gone(second)
    assert watchers(ox) == []


def test_pre_start_runs_before_the_restart(ox):
    """A failing hook leaves what runs and says so in the events; the next change tries again, then restarts."""
    oxfile(ox, 'watch_ignore = ["broken"]\npre_start = "test ! -e broken"\n')
    before = ox.pids()
    (ox.folder / "broken").touch()
    (ox.folder / "app.py").write_text("2")
    event = ox.wait("watch", name="web", count=2)
    assert event["text"] == "web: not restarted, what ran runs on: pre_start exited with 1"
    assert ox.pids() == before
    (ox.folder / "broken").unlink()
    (ox.folder / "app.py").write_text("3")
    ox.wait("ready", name="web", incarnation=2)
    assert not set(before.values()) & set(ox.pids().values())
    order = [(event["kind"], event["text"]) for event in ox.events.matching("watch", "hook", "ended")][-4:]
    assert order[:3] == [
        ("watch", "web: app.py changed; restarting"),
        ("hook", "web: pre_start started"),
        ("hook", "web: pre_start done"),
    ]
    assert order[3][0] == "ended"
