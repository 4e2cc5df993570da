"""What must not happen is seen if it does: one step of sabotage that is not said to be any."""

from __future__ import annotations

import os
import shutil
import signal

from chaos import run
from chaos.action import Action, Done
from chaos.run import Options, Run
from support.waiting import wait_gone


def sabotage(world, rng):
    """Kill what is said not to be touched, write a line twice, let a singleton meet another one."""
    pid = world.ox.pid("single")
    os.kill(pid, signal.SIGKILL)
    wait_gone(pid)
    log = world.ox.log_path("writer")
    with log.open("rb") as file:
        first = file.readline()
    # Appended as the supervisor does it, which goes on writing meanwhile.
    with log.open("ab", buffering=0) as file:
        file.write(first)
    with world.stack.overlaps.open("a") as file:
        file.write("7 runs beside 8\n")
    return Done(what="sabotage", gone=frozenset({pid}), events=(("reloaded", "web", ""),))


def test_sabotage_is_seen(monkeypatch):
    monkeypatch.setattr(run, "ACTIONS", {"sabotage": Action(name="sabotage", do=sabotage)})
    # Waiting for an event that does not come would take all of the deadline.
    monkeypatch.setattr("support.waiting.DEADLINE", 10.0)
    outcome = Run(Options(steps=1), print).run()
    said = "\n".join(violation.text for violation in outcome.violations)
    assert "not touched, and yet: single:0" in said
    assert "line 0 of" in said
    assert "stands there again" in said
    assert "ran twice: 7 runs beside 8" in said
    assert "an event reloaded of web" in said
    assert {violation.step for violation in outcome.violations} == {1}
    assert {violation.whose for violation in outcome.violations} == {"oxherd"}
    assert outcome.kept
    # It is kept for people, who do not look into a failure that was ordered.
    shutil.rmtree(outcome.kept)
