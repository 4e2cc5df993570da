"""Several instances of a process: who is who, and how many."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from support.harness import program
from support.waiting import wait_gone, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from support.harness import Supervised


def shown(path: Path) -> dict[str, Any]:
    wait_until(lambda: path.exists() and path.read_bytes().endswith(b"}\n"), f"the line in {path}")
    return json.loads(path.read_bytes())


def sleepers(ox: Supervised, instances: int) -> None:
    ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper")}"\ninstances = {instances}\n')
    ox.ok("start")


def test_each_instance_knows_which_one_it_is(ox):
    """OXHERD_INSTANCE, OXMGR_INSTANCE_ID and {instance} in command, env and log_file are the 0-based slot."""
    ox.oxfile(
        f'[processes.web]\ncommand = "{program("shows_env", "--port=800{instance}")}"\ninstances = 3\n'
        'log_file = "logs/web-{instance}.log"\nenv = { WHO = "number {instance}" }\n'
    )
    ox.ok("start")
    for slot in range(3):
        web = shown(ox.folder / "logs" / f"web-{slot}.log")
        assert web["argv"] == [f"--port=800{slot}"]
        assert web["env"]["OXHERD_INSTANCE"] == web["env"]["OXMGR_INSTANCE_ID"] == str(slot)
        assert web["env"]["OXHERD_PROCESS"] == "web"
        assert web["env"]["WHO"] == f"number {slot}"
    lines = ox.ok("logs", "web:1").out.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("web:1 | ")


def test_scale_adds_and_removes_at_the_end(ox):
    """=3 adds two, -1 takes the last, +1 adds one; those that stay are not touched."""
    sleepers(ox, 1)
    first = ox.pid("web:0")
    ox.ok("scale", "web=3")
    three = ox.pids()
    assert list(three) == ["web:0", "web:1", "web:2"]
    assert three["web:0"] == first
    ox.ok("scale", "web-1")
    assert ox.pids() == {"web:0": first, "web:1": three["web:1"]}
    wait_gone(three["web:2"])
    ox.ok("scale", "web+1")
    again = ox.pids()
    assert {name: again[name] for name in ("web:0", "web:1")} == {"web:0": first, "web:1": three["web:1"]}
    assert again["web:2"] not in {None, three["web:2"]}
    ox.ok("scale", "web", "1")
    assert ox.pids() == {"web:0": first}
    assert list(ox.marked()) == [first]


def test_what_was_scaled_stays_so_until_the_oxfile_says_otherwise(ox):
    """A restart and a new supervisor keep the number; `apply` of another `instances` wins."""
    sleepers(ox, 2)
    ox.ok("scale", "web=3")
    ox.ok("restart")
    assert len(ox.pids()) == 3
    ox.ok("daemon", "stop")
    ox.hang_up()
    ox.ok("start")
    assert len(ox.pids()) == 3
    ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper")}"\ninstances = 1\n')
    ox.ok("apply")
    assert len(ox.pids()) == 1


@pytest.mark.parametrize("change", ["web=2", "web+1"])
def test_a_singleton_refuses_a_second_instance(ox, change):
    """singleton = true: `scale` is refused with the reason, and nothing changes."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper")}"\nsingleton = true\n')
    ox.ok("start")
    pid = ox.pid("web")
    result = ox.cli("scale", change)
    assert result.code == 2
    assert "singleton" in result.err
    assert ox.pids() == {"web:0": pid}


@pytest.mark.parametrize(
    ("change", "word"), [("web=0", "oxherd stop web"), ("web-2", "oxherd stop web"), ("web", "web=2")]
)
def test_a_number_that_cannot_be_is_refused(ox, change, word):
    """Less than one instance, or no number: a usage error that says what to write."""
    sleepers(ox, 2)
    before = ox.pids()
    result = ox.cli("scale", change)
    assert result.code == 2
    assert word in result.err
    assert ox.pids() == before
