"""Who waits for whom, at the start and at the stop."""

from __future__ import annotations

from support.harness import program


def test_a_dependent_starts_when_what_it_needs_is_ready_and_stops_before_it(ox):
    """depends_on = ["db"]: web is exec'd after db became ready; at the stop db is signalled after web is down."""
    ox.oxfile(
        f'[processes.web]\ncommand = "{program("sleeper")}"\ndepends_on = ["db"]\n'
        f'[processes.db]\ncommand = "{program("sleeper")}"\nstart_delay_ms = 300\n'
    )
    ox.ok("start")
    ox.ok("stop")
    ox.wait("stopped", name="db")
    times = {
        (event["kind"], event["name"]): event["time"]
        for kind in ("started", "ready", "stopping", "stopped")
        for event in ox.events.matching(kind)
    }
    assert times["ready", "db"] <= times["started", "web"]
    assert times["stopped", "web"] <= times["stopping", "db"]


def test_a_started_process_starts_what_it_needs(ox):
    """`oxherd start web` brings up db as well, and nothing else."""
    ox.oxfile(
        f'[processes.db]\ncommand = "{program("sleeper")}"\n'
        f'[processes.web]\ncommand = "{program("sleeper")}"\ndepends_on = {{ db = "started" }}\n'
        f'[processes.other]\ncommand = "{program("sleeper")}"\n'
    )
    ox.ok("start", "web")
    assert {row["name"]: row["status"] for row in ox.rows()} == {"db": "running", "web": "running", "other": "stopped"}


def test_a_dependency_that_crashed_is_named_as_the_reason(ox):
    """What cannot start because of another process says which, and is not started later by accident."""
    ox.oxfile(
        f'[processes.db]\ncommand = "/no/such/database"\n'
        f'[processes.web]\ncommand = "{program("sleeper")}"\ndepends_on = ["db"]\n'
    )
    result = ox.cli("start")
    assert result.code == 1
    assert "web: db" in result.err
    assert ox.row("web")["status"] == "crashed"
    assert ox.events.matching("started") == []
