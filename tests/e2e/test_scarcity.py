"""No descriptors left, and a user without privileges: what cannot be done is said, everything else works."""

from __future__ import annotations

import os
import resource
import signal
import subprocess

import pytest

from support.harness import OXHERD, descendants, program


def test_a_supervisor_without_descriptors_says_so_and_recovers(ox):
    """With 64 descriptors not all of 40 processes can be started: those that can run, and none is lost afterwards."""
    limits = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))  # noqa: E731
    ox.popen("daemon", "run", preexec_fn=limits)
    ox.wait_for_supervisor()
    ox.oxfile(
        "".join(
            f'[processes.p{number:02d}]\ncommand = "sleep 100000"\nmax_restarts = 1\nrestart_delay_ms = 1\n'
            for number in range(40)
        )
    )
    result = ox.cli("start", "--json")
    assert result.code == 1
    failed = [failure["reason"] for failure in result.json["failed"]]
    assert all("Too many open files" in reason for reason in failed), failed
    rows = ox.rows()
    running = [row for row in rows if row["status"] == "running"]
    assert 5 < len(running) < 40
    os.kill(running[0]["pid"], signal.SIGKILL)
    ox.wait("ended", name=running[0]["name"])
    assert len(ox.ok("status", "--json").json) == 40
    ox.ok("stop")
    assert descendants(ox.supervisor) == []
    ox.ok("start", "p39")
    assert ox.row("p39")["status"] == "running"


def test_the_supervisor_takes_all_descriptors_and_its_programs_what_was_given(ox):
    """The soft limit is raised to the hard one for the supervisor alone: select() in a program would break by it."""
    limits = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, 4096))  # noqa: E731
    ox.popen("daemon", "run", preexec_fn=limits)
    ox.wait_for_supervisor()
    ox.oxfile(f'[processes.web]\ncommand = "{program("shows_env")}"\n')
    ox.ok("start")
    assert resource.prlimit(ox.supervisor, resource.RLIMIT_NOFILE) == (4096, 4096)
    assert resource.prlimit(ox.pid("web"), resource.RLIMIT_NOFILE) == (256, 4096)


# A user namespace makes an ordinary user of whoever runs the tests, without one capability.
AS_A_USER = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]


def test_an_ordinary_user_has_it_all(ox):
    """Start, crash, escapees and stop without any privilege; what needs root is refused with that reason."""
    if subprocess.run([*AS_A_USER, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("needs user namespaces")

    def run(*arguments: str) -> tuple[int, str]:
        command = ox.popen(argv=[*AS_A_USER, OXHERD, *arguments])
        out, _ = command.communicate()
        return command.returncode, out

    ox.oxfile(
        f'[processes.web]\ncommand = "{program("escapee", "nameless")}"\nstop_timeout_ms = 300\n'
        f'[processes.other]\ncommand = "{program("shows_env")}"\n'
    )
    code, out = run("start")
    assert code == 0, out
    assert b'"uid": 1000' in ox.wait_log("other", b"uid")
    ox.wait_log("web", b"escaped ")
    os.kill(ox.pid("web"), signal.SIGKILL)
    ox.wait("started", name="web", incarnation=2)
    ox.wait_log("web", b"escaped ", 2)
    code, out = run("stop")
    assert code == 0, out
    assert descendants(ox.supervisor) == []
    ox.oxfile('[processes.web]\ncommand = "sleep 1"\nuser = "root"\n', folder="privileged")
    code, out = run("start")
    assert code == 2
    assert "need a supervisor that runs as root" in out
    ox.oxfile('[processes.web]\ncommand = "sleep 100000"\nnice = -5\n', folder="nice")
    code, out = run("start")
    assert code == 0, out
    assert "nice" in ox.wait("warning", name="web")["text"]
