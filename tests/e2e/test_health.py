"""Health checks: the gate of readiness, the reason of a restart, and nobody's delay."""

from __future__ import annotations

import socket

import pytest

from support.harness import program
from support.waiting import wait_until

# Probing every second and no grace: what takes minutes in production takes seconds here.
CHECK = "interval_secs = 1\ntimeout_secs = 1\ninitial_delay_secs = 0\nunhealthy_threshold = 2\n"


@pytest.fixture
def port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def checks(kind: str, port: int, file) -> str:
    match kind:
        case "http":
            return f'endpoint = "http://127.0.0.1:{port}/health"'
        case "tcp":
            return f'tcp = "127.0.0.1:{port}"'
        case _:
            return f'command = "test ! -e {file}"'


def web(ox, port: int, check: str, *, grace: int = 0, more: str = "") -> None:
    text = CHECK.replace("initial_delay_secs = 0", f"initial_delay_secs = {grace}")
    ox.oxfile(
        f'[processes.web]\ncommand = "{program("answers", port, ox.base / "answer")}"\n{more}'
        f"[processes.web.health_check]\n{check}\n{text}"
    )


def test_ready_means_that_the_check_has_passed(ox, port):
    """`start` waits for the first good answer; until then the process is `starting` and its dependents wait."""
    (ox.base / "answer").write_text("503")
    ox.oxfile(
        f'[processes.web]\ncommand = "{program("answers", port, ox.base / "answer")}"\n'
        f"[processes.web.health_check]\n{checks('http', port, None)}\ninitial_delay_secs = 600\n"
        f'[processes.next]\ncommand = "{program("sleeper")}"\ndepends_on = ["web"]\n'
    )
    start = ox.popen("start")
    ox.wait_for_supervisor()
    ox.wait("blocked", name="next")
    ox.wait("started", name="web")
    ox.wait_log("web", b"ready")
    row = ox.row("web")
    assert (row["status"], row["ready"]) == ("starting", False)
    assert ox.events.matching("started", name="next") == []
    (ox.base / "answer").write_text("200")
    out, _ = start.communicate()
    assert start.returncode == 0, out
    row = ox.row("web")
    assert (row["status"], row["ready"], row["health"]) == ("running", True, "healthy")
    assert ox.row("next")["status"] == "running"


@pytest.mark.parametrize("kind", ["http", "command"])
def test_what_becomes_unhealthy_is_restarted_and_recovers(ox, port, kind):
    """After unhealthy_threshold failures: restarted, with the reason; when the check passes again it is healthy."""
    answer = ox.base / "answer"
    web(ox, port, checks(kind, port, answer))
    ox.ok("start")
    pid = ox.pid("web")
    answer.write_text("503")
    failing = ox.wait("health-failing", name="web")
    unhealthy = ox.wait("unhealthy", name="web")
    if kind == "http":
        assert "503" in failing["text"]
        assert "503" in unhealthy["text"]
    answer.unlink()
    ox.wait("ready", name="web", incarnation=2)
    row = ox.wait_row("web", status="running", health="healthy")
    assert row["pid"] != pid
    assert row["restarts"] >= 1
    assert "web: unhealthy: " in ox.ok("why", "web").out


def test_a_port_nobody_listens_on_is_unhealthy(ox, port):
    """tcp: the listener goes away while the program lives; it is restarted for that."""
    ox.oxfile(
        f'[processes.web]\ncommand = "{program("sleeper")}"\n'
        f"[processes.web.health_check]\n{checks('tcp', port, None)}\n{CHECK}"
    )
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen()
        ox.ok("start")
        assert ox.row("web")["health"] == "healthy"
    unhealthy = ox.wait("unhealthy", name="web")
    assert "refused" in unhealthy["text"].lower()
    ox.wait("started", name="web", incarnation=2)


def test_a_server_that_accepts_and_never_answers_is_unhealthy(ox, port):
    """A hang is a failure at the timeout, not a success and not an eternity."""
    answer = ox.base / "answer"
    web(ox, port, checks("http", port, answer))
    ox.ok("start")
    answer.write_text("hang")
    unhealthy = ox.wait("unhealthy", name="web")
    assert "1 s" in unhealthy["text"] or "time" in unhealthy["text"]
    answer.unlink()
    ox.wait("ready", name="web", incarnation=2)


def test_a_check_that_hangs_delays_nothing_else(ox, port):
    """While an http and a command check hang, another process is started, restarted and stopped."""
    hang = ox.base / "hang"
    ox.oxfile(
        f'[processes.web]\ncommand = "{program("answers", port, ox.base / "answer")}"\n'
        f"[processes.web.health_check]\n{checks('http', port, None)}\ninterval_secs = 1\ntimeout_secs = 3600\n"
        f'[processes.hung]\ncommand = "{program("sleeper")}"\n'
        f'[processes.hung.health_check]\ncommand = "{program("hangs_if", hang)}"\ninterval_secs = 1\ntimeout_secs = 3600\n'
        f'[processes.other]\ncommand = "{program("sleeper")}"\n'
    )
    ox.ok("start")
    hang.touch()
    (ox.base / "answer").write_text("hang")
    wait_until(lambda: any("hangs_if" in command for command in commands_below(ox.supervisor)), "a check that hangs")
    for verb in ("restart", "stop", "start"):
        ox.ok(verb, "other")
    assert {row["status"] for row in ox.rows()} == {"running"}
    ox.ok("stop")


def commands_below(pid: int) -> list[str]:
    from support.harness import descendants
    from support.leftovers import describe

    return [describe(child) for child in descendants(pid)]


def test_a_check_command_and_all_it_started_end_at_its_timeout(ox):
    """A check that outlives its timeout is killed with its children; nothing of it piles up."""
    hang = ox.base / "hang"
    ox.oxfile(
        f'[processes.web]\ncommand = "{program("sleeper")}"\nrestart = "never"\n'
        f"[processes.web.health_check]\ncommand = \"sh -c '{program('hangs_if', hang)}; true'\"\n{CHECK}"
    )
    ox.ok("start")
    before = ox.fds()
    hang.touch()
    ox.wait("unhealthy", name="web")
    hang.unlink()
    ox.wait("healthy", name="web")
    pid, supervisor = ox.pid("web"), ox.supervisor
    wait_until(lambda: [c for c in commands_below(supervisor) if "hangs_if" in c] == [], "the checks to end")
    assert ox.pid("web") == pid, 'restart = "never" shows it as unhealthy and leaves it'
    ox.wait_fds(before)


def test_failures_do_not_count_during_the_grace(ox, port):
    """initial_delay_secs: a server that needs long to start is not restarted for that."""
    (ox.base / "answer").write_text("503")
    web(ox, port, checks("http", port, None), grace=3600)
    start = ox.popen("start")
    ox.wait_for_supervisor()
    ox.wait("started", name="web")
    ox.wait_log("web", b"answered 503\n", 5)
    (ox.base / "answer").write_text("200")
    start.communicate()
    assert start.returncode == 0
    assert ox.row("web")["restarts"] == 0


def test_not_ready_in_time_is_restarted(ox, port):
    """ready_timeout: what does not become ready is ended and tried again, with that reason."""
    (ox.base / "answer").write_text("503")
    web(ox, port, checks("http", port, None), grace=3600, more='ready_timeout = "1s"\n')
    result = ox.cli("start")
    assert result.code == 1
    assert "not ready after 1 s" in result.err
    ox.ok("stop")


def test_a_restart_waits_for_the_check_anew(ox, port):
    """`restart` returns when the new incarnation has passed, and fails when it does not."""
    answer = ox.base / "answer"
    web(ox, port, checks("http", port, None))
    ox.ok("start")
    ox.ok("restart")
    assert ox.row("web")["health"] == "healthy"
    answer.write_text("500")
    result = ox.cli("restart")
    assert result.code == 1
    assert "500" in result.err
    answer.unlink()
    ox.wait_row("web", status="running", health="healthy")
