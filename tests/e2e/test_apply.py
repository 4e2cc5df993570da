"""`apply` makes what runs the same as the oxfile and touches only what changed; `scale` touches only new and removed."""

from __future__ import annotations

import os
import signal

from support.harness import descendants, program
from support.waiting import wait_gone

SLEEPER = program("sleeper")


def oxfile(**commands: str) -> str:
    return "".join(f'[processes.{name}]\ncommand = "{command}"\n' for name, command in commands.items())


def test_apply_touches_only_what_changed(ox):
    """Changed: restarted. New: started. Gone: stopped and forgotten. The same: its pid stays."""
    ox.oxfile(oxfile(same=SLEEPER, changed=SLEEPER, gone=SLEEPER))
    ox.ok("start")
    before = ox.pids()
    ox.oxfile(oxfile(same=SLEEPER, changed=f"{SLEEPER} anew", new=SLEEPER))
    result = ox.ok("apply", "--json").json
    assert (result["added"], result["changed"], result["removed"], result["unchanged"]) == (
        ["new"],
        ["changed"],
        ["gone"],
        ["same"],
    )
    after = ox.pids()
    assert after.keys() == {"same:0", "changed:0", "new:0"}
    assert after["same:0"] == before["same:0"]
    assert after["changed:0"] != before["changed:0"]
    wait_gone(before["gone:0"])
    assert b"anew" in ox.wait_log("changed", b"anew")


def test_apply_of_the_same_file_touches_nothing(ox):
    """Twice the same, once with a comment more: every pid stays, and it is said that all is unchanged."""
    ox.oxfile(oxfile(a=SLEEPER, b=SLEEPER))
    ox.ok("start")
    before = ox.pids()
    ox.ok("apply")
    ox.oxfile("# a comment\n" + oxfile(a=SLEEPER, b=SLEEPER))
    assert ox.ok("apply", "--json").json["unchanged"] == ["a", "b"]
    assert ox.pids() == before


def test_another_number_of_instances_touches_only_new_and_removed(ox):
    """2 to 4 to 1 by the oxfile: the instances that stay keep their pids; the highest slots go first."""
    text = f'[processes.web]\ncommand = "{SLEEPER}"\ninstances = '
    ox.oxfile(f"{text}2\n")
    ox.ok("start")
    two = ox.pids()
    ox.oxfile(f"{text}4\n")
    ox.ok("apply")
    four = ox.pids()
    assert four.keys() == {f"web:{slot}" for slot in range(4)}
    assert {key: four[key] for key in two} == two
    ox.oxfile(f"{text}1\n")
    ox.ok("apply")
    assert ox.pids() == {"web:0": two["web:0"]}
    wait_gone(four["web:3"])


def test_scale_touches_only_new_and_removed(ox):
    """`scale web=3`, `web+1`, `web-2`; a singleton is refused; an apply of an unchanged file keeps the number."""
    ox.oxfile(f'[processes.web]\ncommand = "{SLEEPER}"\n[processes.one]\ncommand = "{SLEEPER}"\nsingleton = true\n')
    ox.ok("start")
    first = ox.pid("web")
    ox.ok("scale", "web=3")
    three = ox.pids()
    assert len(three) == 4
    assert three["web:0"] == first
    ox.ok("scale", "web+1")
    assert len(ox.pids()) == 5
    ox.ok("scale", "web-2")
    assert {key: pid for key, pid in ox.pids().items() if key.startswith("web")} == {
        key: three[key] for key in ("web:0", "web:1")
    }
    refused = ox.cli("scale", "one=2")
    assert refused.code == 2
    assert "never runs twice" in refused.err
    assert ox.cli("scale", "web=0").code == 2
    ox.ok("apply")
    assert len(ox.pids()) == 3


def test_a_slot_that_is_wanted_again_while_it_goes_never_runs_twice(ox):
    """Scaled down and up again while the old instance does not want to go: the new one waits for its end."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("ignores_term")}"\ninstances = 2\nstop_timeout = "1h"\n')
    ox.ok("start")
    ox.wait_log("web", b"ready", 2)
    old = ox.pids()
    down = ox.popen("scale", "web=1")
    ox.wait("stopping", name="web", instance=1)
    up = ox.popen("scale", "web=2")
    out, _ = down.communicate()
    assert down.returncode == 1
    assert "started again meanwhile" in out
    assert ox.pids() == old
    os.kill(old["web:1"], signal.SIGKILL)
    up.communicate()
    assert up.returncode == 0
    new = ox.pids()
    assert new["web:0"] == old["web:0"]
    assert sorted(descendants(ox.supervisor)) == sorted(new.values())
    ox.wait_log("web", b"ready", 3)
    stop = ox.popen("stop")
    for slot in (0, 1):
        ox.wait("stopping", name="web", instance=slot, count=2 if slot else 1)
    for pid in new.values():
        os.kill(pid, signal.SIGKILL)
    stop.communicate()
    assert stop.returncode == 0


def test_apply_leaves_what_was_stopped_stopped(ox):
    """A process a person stopped is not started by an apply that changes another one."""
    ox.oxfile(oxfile(a=SLEEPER, b=SLEEPER))
    ox.ok("start")
    ox.ok("stop", "a")
    ox.oxfile(oxfile(a=f"{SLEEPER} anew", b=f"{SLEEPER} anew"))
    ox.ok("apply")
    assert ox.row("a")["status"] == "stopped"
    assert ox.row("b")["status"] == "running"
    ox.ok("start", "a")
    ox.wait_log("a", b"anew")


def test_apply_of_a_bad_file_changes_nothing(ox):
    """A mistake: exit 2, every pid as before, also of what the file would have added or removed."""
    ox.oxfile(oxfile(a=SLEEPER))
    ox.ok("start")
    before = ox.pids()
    ox.oxfile(oxfile(b=SLEEPER) + 'max_restarts = "many"\n')
    assert ox.cli("apply").code == 2
    assert ox.pids() == before


def test_apply_of_something_that_cannot_start_says_so(ox):
    """The changed process crashes: exit 1 and the reason; the others are as they were."""
    ox.oxfile(oxfile(a=SLEEPER, b=SLEEPER))
    ox.ok("start")
    a = ox.pid("a")
    ox.oxfile(oxfile(a=SLEEPER, b="no-such-program"))
    result = ox.cli("apply")
    assert result.code == 1
    assert "no-such-program" in result.err
    assert ox.pid("a") == a
    assert ox.row("b")["status"] == "crashed"


def test_apply_to_a_stack_that_never_ran_starts_it(ox):
    """Everything is new then."""
    ox.oxfile(oxfile(a=SLEEPER))
    assert ox.ok("apply", "--json").json["added"] == ["a"]
    assert ox.row("a")["status"] == "running"


def test_without_prune_nothing_is_removed(ox):
    """`apply --no-prune` leaves a process that is gone from the file."""
    ox.oxfile(oxfile(a=SLEEPER, b=SLEEPER))
    ox.ok("start")
    before = ox.pids()
    ox.oxfile(oxfile(a=SLEEPER))
    ox.ok("apply", "--no-prune")
    assert ox.pids() == before


def test_start_of_an_edited_file_notes_what_runs_with_older_settings(ox):
    """`start` does not restart what runs; it says that it has older settings, and `restart` takes the new ones."""
    ox.oxfile(oxfile(a=SLEEPER))
    ox.ok("start")
    pid = ox.pid("a")
    ox.oxfile(oxfile(a=f"{SLEEPER} anew"))
    result = ox.ok("start")
    assert "older settings" in result.err
    assert ox.pid("a") == pid
    os.kill(pid, signal.SIGKILL)
    ox.wait("started", name="a", incarnation=2)
    ox.ok("restart", "a")
    ox.wait_log("a", b"anew")
