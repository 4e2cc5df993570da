"""From the death of a program to its successor: what is on the disk by then, and what comes afterwards."""

from __future__ import annotations

import json
import os

import pytest

from oxherd.core.exits import ExitStatus
from oxherd.daemon.journal import latest_records
from support.workbench import Workbench, spec

KILLED = ExitStatus(signal=9)
SECRET = "hunter2hunter2"


@pytest.fixture
def bench(tmp_path):
    bench = Workbench(tmp_path)
    bench.begin()
    yield bench
    bench.close()


def written(bench):
    """The journal as another supervisor would read it now."""
    with open(os.path.join(bench.home.state, "instances.jsonl"), "rb") as file:
        return latest_records(file.read().split(b"\n"))


def states(bench):
    """Every state of an instance that was ever written down, in order."""
    with open(os.path.join(bench.home.state, "instances.jsonl"), "rb") as file:
        return [record["state"] for line in file if "state" in (record := json.loads(line))]


def events_on_disk(bench):
    with open(os.path.join(bench.home.state, "events.jsonl"), "rb") as file:
        return [json.loads(line)["kind"] for line in file]


def cards_on_disk(bench):
    folder = bench.home.stack(bench.instance("web").process.stack.identity)
    return [name for name in os.listdir(folder) if name.startswith("why-")]


def seen_at_launch(bench, monkeypatch):
    """What is on the disk at the moment each program is started."""
    seen = []
    launch = bench.system.launch

    def look(request):
        seen.append(
            {
                "journal": {key: record["state"] for key, record in written(bench).items()},
                "events": events_on_disk(bench),
                "cards": cards_on_disk(bench),
            }
        )
        return launch(request)

    monkeypatch.setattr(bench.system, "launch", look)
    return seen


def test_a_successor_is_known_before_it_is_started_and_the_card_comes_after(bench, monkeypatch):
    bench.up(spec("web"))
    seen = seen_at_launch(bench, monkeypatch)
    bench.system.end(bench.system.living("web")[0], KILLED)
    (moment,) = seen
    assert list(moment["journal"].values()) == ["spawning"]
    assert moment["cards"] == []
    assert "ended" not in moment["events"]
    assert cards_on_disk(bench) == ["why-web-0.json"]
    assert events_on_disk(bench)[-3:] == ["ended", "restarting", "started"]


def test_an_end_that_leaves_nothing_behind_is_no_line_of_its_own(bench):
    bench.up(spec("web"))
    before = len(states(bench))
    bench.system.end(bench.system.living("web")[0], KILLED)
    assert states(bench)[before:] == ["spawning", "starting"]


def test_an_end_that_leaves_something_behind_is_written_down_in_that_turn(bench, monkeypatch):
    bench.up(spec("web"))
    (main,) = bench.system.living("web")
    left = bench.system.leave_behind(main)
    before = len(states(bench))
    monkeypatch.setattr(bench.system, "kill_all", lambda _pids, _signum: None)
    bench.system.end(main, KILLED)
    assert states(bench)[before:] == ["sweeping"]
    monkeypatch.undo()
    bench.system.end(left, KILLED)
    assert states(bench)[before:] == ["sweeping", "spawning", "starting"]


def test_an_answer_in_the_same_turn_finds_the_card_and_the_journal(bench):
    """Nobody outside hears of an end that is not written down, nor asks why in vain."""
    bench.up(spec("web"))
    (main,) = bench.system.living("web")
    heard = []

    def look(handle):
        if handle.machine.state.value == "sweeping":
            bench.assembly._write_down()  # as the control server does before it sends anything
            heard.append([record["state"] for record in written(bench).values()])
            heard.append([card["cause"] for card in bench.assembly.cards.load(handle)])

    end = bench.supervisor.observe(look)
    bench.system.end(main, KILLED)
    end()
    assert heard[0] == ["sweeping"]
    assert len(heard[1]) == 1
    assert heard[1][0].startswith("killed by SIGKILL")


def test_a_card_is_of_the_one_that_died_although_its_successor_runs(bench):
    """Secrets it wrote are hidden by the settings it had."""
    bench.up(spec("web", env=(("API_TOKEN", SECRET),)))
    (main,) = bench.system.living("web")
    handle = bench.instance("web")
    handle.process.sinks["output"].lines.append(f"using {SECRET}".encode())
    incarnation = handle.machine.incarnation
    handle.process.spec = bench.changed(handle.process.spec, env=())
    bench.system.end(main, KILLED)
    (card,) = bench.assembly.cards.load(handle)
    assert card["incarnation"] == incarnation
    assert card["last_lines"] == ["using ***"]
    assert handle.spec.env == ()
