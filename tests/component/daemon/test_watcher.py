"""The supervisor's side of the file watcher: satellites that are made up, and one that is real."""

from __future__ import annotations

import errno
import json
import os

import pytest

from oxherd.config.model import WatchSpec
from oxherd.daemon.helpers import HelperEnd
from oxherd.daemon.watcher import Watcher
from oxherd.errors import SpawnError
from support.fake_loop import FakeLoop
from support.helping import make_helpers


class Satellite:
    """A made-up satellite."""

    def __init__(self, request, on_output, on_end) -> None:
        self.request = request
        self.rules = json.loads(request.argv[-1])
        self.on_output = on_output
        self.on_end = on_end
        self.killed = False

    def kill(self) -> None:
        self.killed = True

    def says(self, *messages: object) -> None:
        self.on_output(b"".join(json.dumps(message).encode() + b"\n" for message in messages))


class Bench:
    """A watcher and the satellites it started."""

    def __init__(self) -> None:
        self.loop = FakeLoop()
        self.satellites: list[Satellite] = []
        self.refusal: Exception | None = None
        self.changes: list[tuple[object, list[str]]] = []
        self.troubles: list[str] = []
        self.watcher = Watcher(
            loop=self.loop,
            helpers=self,
            on_change=lambda key, paths: self.changes.append((key, paths)),
            mark="abc",
            trouble=self.troubles.append,
        )

    def start(self, request, on_output, on_end) -> Satellite:
        if self.refusal is not None:
            raise self.refusal
        self.satellites.append(Satellite(request, on_output, on_end))
        return self.satellites[-1]

    def watch(self, key="web", *, delay=0.5, **spec) -> Satellite:
        """Watch, and return the satellite that is started for it, ready."""
        spec.setdefault("paths", (f"/srv/{key}",))
        self.watcher.watch(key, WatchSpec(delay=delay, **spec), f"/srv/{key}")
        self.loop.advance(0.05)
        self.satellites[-1].says({"ready": True})
        return self.satellites[-1]

    @property
    def running(self) -> list[Satellite]:
        return [satellite for satellite in self.satellites if not satellite.killed]


@pytest.fixture
def bench():
    bench = Bench()
    yield bench
    bench.watcher.close()
    assert bench.running == []
    assert bench.loop.timers == 0
    bench.loop.close()


def test_without_anything_to_watch_nothing_runs(bench):
    bench.watcher.forget("web")
    bench.loop.advance(100.0)
    assert bench.satellites == []


def test_one_satellite_watches_for_all(bench):
    bench.watcher.watch("web", WatchSpec(paths=("/srv/web",), extensions=(".py",), ignore=("static",)), "/srv/web")
    bench.watcher.watch("worker", WatchSpec(paths=("/srv/a", "/srv/b"), ignore_regex=("^x",)), "/srv/a")
    bench.loop.advance(0.05)
    (satellite,) = bench.satellites
    assert satellite.rules == [
        {"roots": ["/srv/web"], "extensions": [".py"], "ignore": ["static"], "ignore_regex": []},
        {"roots": ["/srv/a", "/srv/b"], "extensions": [], "ignore": [], "ignore_regex": ["^x"]},
    ]
    assert satellite.request.mark == "abc:watch/1"


def test_changes_are_told_once_when_the_process_has_been_quiet(bench):
    satellite = bench.watch(delay=0.5)
    satellite.says({"rule": 0, "paths": ["/srv/web/a.py", "/srv/web/pkg/b.py"]})
    bench.loop.advance(0.4)
    satellite.says({"rule": 0, "paths": ["/srv/web/a.py", "/elsewhere/c.py"]})
    bench.loop.advance(0.4)
    assert bench.changes == []
    bench.loop.advance(0.1)
    assert bench.changes == [("web", ["a.py", "pkg/b.py", "/elsewhere/c.py"])]
    bench.loop.advance(10.0)
    assert len(bench.changes) == 1


def test_a_process_whose_files_change_without_end_is_told_all_the_same(bench):
    satellite = bench.watch(delay=0.5)
    for _ in range(60):
        satellite.says({"rule": 0, "paths": ["/srv/web/a.py"]})
        bench.loop.advance(0.1)
    assert len(bench.changes) == 1


def test_a_change_is_told_to_whom_it_concerns(bench):
    bench.watch("web")
    satellite = bench.watch("worker")
    satellite.says({"rule": 1, "paths": ["/srv/worker/t.py"]})
    bench.loop.advance(1.0)
    assert bench.changes == [("worker", ["t.py"])]


def test_nothing_falls_between_two_satellites(bench):
    first = bench.watch("web")
    bench.watcher.watch("worker", WatchSpec(paths=("/srv/worker",), delay=0.5), "/srv/worker")
    bench.loop.advance(0.05)
    second = bench.satellites[-1]
    assert second is not first
    assert not first.killed
    first.says({"rule": 0, "paths": ["/srv/web/a.py"]})
    second.says({"ready": True})
    assert first.killed
    bench.loop.advance(1.0)
    assert bench.changes == [("web", ["a.py"])]


def test_the_same_set_needs_no_new_satellite(bench):
    bench.watch("web")
    bench.watcher.forget("web")
    bench.watch("web")
    assert len(bench.satellites) == 1
    bench.satellites[0].says({"rule": 0, "paths": ["/srv/web/a.py"]})
    bench.loop.advance(1.0)
    assert bench.changes == [("web", ["a.py"])]


def test_a_forgotten_process_hears_nothing_any_more(bench):
    satellite = bench.watch("web")
    satellite.says({"rule": 0, "paths": ["/srv/web/a.py"]})
    bench.watcher.forget("web")
    satellite.says({"rule": 0, "paths": ["/srv/web/b.py"]})
    bench.loop.advance(10.0)
    assert bench.changes == []
    assert bench.running == []


def test_what_a_satellite_says_of_earlier_rules_is_not_believed(bench):
    first = bench.watch("web", paths=("/srv/web",))
    bench.watcher.watch("web", WatchSpec(paths=("/srv/other",)), "/srv/web")
    first.says({"rule": 0, "paths": ["/srv/web/a.py"]})
    bench.loop.advance(10.0)
    assert bench.changes == []


def test_a_satellite_that_dies_is_started_again_later_and_later_and_told_of_once(bench):
    bench.watch("web")
    waits = []
    for _ in range(9):
        count = len(bench.satellites)
        bench.satellites[-1].on_output(b"Traceback\n  ...\nImportError: no watchfiles\n")
        bench.satellites[-1].killed = True
        bench.satellites[-1].on_end(HelperEnd(success=False, text="exited with 1"))
        waits.append(bench.loop.next_timer_in())
        bench.loop.advance(waits[-1])
        assert len(bench.satellites) == count + 1
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    assert bench.troubles == ["files are not watched, the watcher failed: ImportError: no watchfiles"]
    bench.satellites[-1].says({"ready": True})
    bench.satellites[-1].killed = True
    bench.satellites[-1].on_end(HelperEnd(success=False, text="killed by SIGKILL"))
    assert bench.loop.next_timer_in() == 1.0
    assert bench.troubles[1:] == ["files are not watched, the watcher failed: killed by SIGKILL"]


def test_a_replaced_satellite_that_dies_is_nobodys_business(bench):
    first = bench.watch("web")
    bench.watcher.watch("worker", WatchSpec(paths=("/srv/worker",)), "/srv/worker")
    bench.loop.advance(0.05)
    first.killed = True
    first.on_end(HelperEnd(success=False, text="exited with 1"))
    assert bench.troubles == []
    assert len(bench.running) == 1


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            SpawnError("executing", errno.ENOENT, "python", "No such file or directory"),
            "executing python: No such file",
        ),
        (OSError(errno.EMFILE, "Too many open files"), "making its pipe: Too many open files"),
    ],
)
def test_a_satellite_that_cannot_be_started_is_tried_again(bench, error, reason):
    bench.refusal = error
    bench.watcher.watch("web", WatchSpec(paths=("/srv/web",)), "/srv/web")
    bench.loop.advance(2.0)
    assert len(bench.troubles) == 1
    assert bench.troubles[0].startswith(f"files are not watched, the watcher failed: {reason}")
    bench.refusal = None
    bench.loop.advance(2.0)
    assert len(bench.satellites) == 1


def test_what_it_finds_troubling_is_told_once(bench):
    satellite = bench.watch("web")
    satellite.says({"trouble": "too many folders"}, {"trouble": "too many folders"}, {"ready": True})
    assert bench.troubles == ["too many folders"]


def test_lines_may_come_in_pieces_and_garbage_is_ignored(bench):
    satellite = bench.watch("web")
    line = json.dumps({"rule": 0, "paths": ["/srv/web/a.py"]}).encode() + b"\n"
    for piece in (b"\xff\xfe\n", b"[1, 2]\n", b'{"rule": 7, "paths": []}\n', b'{"rule": "x"}\n', line[:5], line[5:]):
        satellite.on_output(piece)
    bench.loop.advance(1.0)
    assert bench.changes == [("web", ["a.py"])]


def test_a_real_satellite_tells_of_real_files_and_goes_when_it_is_not_needed(tmp_path):
    before = set(os.listdir("/proc/self/fd"))
    loop = FakeLoop()
    helpers, system = make_helpers(loop)
    changes: list[tuple[object, list[str]]] = []
    watcher = Watcher(
        loop=loop, helpers=helpers, on_change=lambda *change: changes.append(change), mark="t", trouble=pytest.fail
    )
    (tmp_path / "pkg").mkdir()
    watcher.watch("web", WatchSpec(paths=(str(tmp_path),), extensions=(".py",), delay=0.5), str(tmp_path))
    loop.advance(0.05)
    loop.run_until(lambda: not loop.errors and _is_ready(watcher))
    (tmp_path / "pkg" / "notes.txt").write_text("x")
    (tmp_path / "pkg" / "views.py").write_text("x")
    loop.run_until(lambda: watcher._entries["web"].timer is not None)
    loop.advance(0.5)
    assert changes == [("web", ["pkg/views.py"])]
    watcher.forget("web")
    loop.advance(0.05)
    loop.run_until(lambda: not loop.watched)
    assert system.leftovers("t:watch/1", 0, (), ()) == []
    loop.close()
    assert set(os.listdir("/proc/self/fd")) <= before


def _is_ready(watcher: Watcher) -> bool:
    return watcher._current is not None and watcher._current.ready
