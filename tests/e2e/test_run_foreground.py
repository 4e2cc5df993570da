"""`oxherd run`: one stack in the foreground, as a container or a terminal wants it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import struct
import subprocess
import termios
from typing import TYPE_CHECKING

import pytest

from oxherd.control.paths import stack_id
from support.eventstream import EventStream
from support.harness import program
from support.waiting import DEADLINE, wait_gone, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.harness import Supervised


@contextlib.contextmanager
def listening(ox: Supervised) -> Iterator[EventStream]:
    """Follow the events of the run, from its beginning on."""
    path = ox.home.run_socket(stack_id(ox.stack))
    # It appears under this name when it listens already.
    wait_until(lambda: os.path.exists(path), "the run to take connections")
    events = EventStream(path)
    try:
        yield events
    finally:
        events.close()


def lines_of(output: str, name: str) -> list[str]:
    """Return what one instance wrote, its tag taken off."""
    return [line.partition("| ")[2] for line in output.splitlines() if re.match(rf"{name} +\||{name} \|", line)]


def rows(ox: Supervised) -> dict[str, dict]:
    return {row["name"]: row for row in ox.ok("status", "--json").json}


@pytest.mark.parametrize("restart", ["never", "on-failure"])
def test_the_code_of_what_failed_is_the_code_of_the_run(ox, restart):
    """When everything has failed for good the run ends with the exit code of the first that did."""
    ox.oxfile(
        f'[processes.web]\ncommand = "{program("exits", 7)}"\nrestart = "{restart}"\nmax_restarts = 1\n'
        f'[processes.worker]\ncommand = "{program("exits", 3)}"\nrestart = "{restart}"\nmax_restarts = 1\n'
    )
    run = ox.popen("run")
    output, _ = run.communicate(timeout=2 * DEADLINE)
    assert run.returncode == 7, output
    assert "exited with 3" in output
    assert "nothing is left to run; exit code 7" in output


def test_a_killed_program_gives_the_code_a_shell_would_give(ox):
    """Everything that ran was killed by a signal: 128 and the number of the signal."""
    ox.oxfile('[processes.web]\ncommand = "sh -c \'kill -SEGV $$\'"\nrestart = "never"\n')
    run = ox.popen("run")
    output, _ = run.communicate(timeout=2 * DEADLINE)
    assert run.returncode == 128 + signal.SIGSEGV, output


def test_a_run_in_which_all_completed_ends_with_0(ox):
    """Oneshots that did their work and a service that ended well: nothing is left to run, and nothing went wrong."""
    ox.oxfile(
        f'[processes.first]\ncommand = "{program("exits", 0)}"\ntype = "oneshot"\n'
        f'[processes.second]\ncommand = "{program("exits", 0)}"\ntype = "oneshot"\ndepends_on = ["first"]\n'
        f'[processes.service]\ncommand = "{program("exits", 0)}"\ndepends_on = {{ second = "completed" }}\n'
    )
    run = ox.popen("run")
    output, _ = run.communicate(timeout=2 * DEADLINE)
    assert run.returncode == 0, output
    for name in ("first", "second", "service"):
        assert lines_of(output, f"{name}:0")[-1] == "last words"


def test_output_is_complete_and_each_line_bears_its_instance(ox):
    """Stdout as a pipe: every line of every instance, in its order, behind its tag, without colour."""
    count = 60_000
    ox.oxfile(
        f'[processes.integers]\ncommand = "seq 0 2 {count}"\ntype = "oneshot"\ninstances = 2\n'
        f'[processes.odd_numbers]\ncommand = "seq 1 2 {count}"\ntype = "oneshot"\n'
    )
    run = ox.popen("run")
    output, _ = run.communicate(timeout=2 * DEADLINE)
    assert run.returncode == 0, output[-2000:]
    assert "\x1b" not in output
    even = [str(number) for number in range(0, count + 1, 2)]
    assert lines_of(output, "integers:0") == even
    assert lines_of(output, "integers:1") == even
    assert lines_of(output, "odd_numbers:0") == [str(number) for number in range(1, count + 1, 2)]
    columns = {line.index("|") for line in output.splitlines() if line.startswith(("integers", "odd", "oxherd"))}
    assert len(columns) == 1, "the bars stand below each other from the first line on"


def test_term_stops_everything_and_that_is_success(ox):
    """SIGTERM: every process is asked to go, what it says then is still printed, exit code 0."""
    ox.oxfile(
        f'[processes.web]\ncommand = "{program("says_goodbye", "web")}"\n'
        f'[processes.worker]\ncommand = "{program("says_goodbye", "worker")}"\ninstances = 2\n'
    )
    run = ox.popen("run")
    with listening(ox) as events:
        events.wait("ready", name="worker", instance=0)
        events.wait("ready", name="worker", instance=1)
        events.wait("ready", name="web")
    run.terminate()
    output, _ = run.communicate(timeout=2 * DEADLINE)
    assert run.returncode == 0, output
    assert output.count("goodbye") == 3, output
    assert not os.path.exists(ox.home.run_socket(stack_id(ox.stack)))


def test_a_second_interrupt_forces(ox):
    """Ctrl-C asks, and a program that ignores it keeps its stop timeout; the second Ctrl-C kills it."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("ignores_term")}"\nstop_timeout = "1h"\n')
    run = ox.popen("run")
    with listening(ox) as events:
        pid = events.wait("ready", name="web")["pid"]
        run.send_signal(signal.SIGINT)
        events.wait("stopping", name="web")
        os.kill(pid, 0)
        run.send_signal(signal.SIGINT)
        output, _ = run.communicate(timeout=2 * DEADLINE)
    assert run.returncode == 0, output
    assert "once more to force" in output
    wait_gone(pid)


def test_signals_reach_only_those_that_handle_them(ox):
    """SIGUSR1 goes on to a program with a handler; the one without, which would die of it, does not get it."""
    ox.oxfile(
        f'[processes.deaf]\ncommand = "{program("sleeper")}"\n'
        f'[processes.web]\ncommand = "{program("hears")}"\ndepends_on = ["deaf"]\n'
    )
    run = ox.popen("run")
    with listening(ox) as events:
        events.wait("ready", name="web")
        ox.wait_log("web", b"ready")
        before = rows(ox)
        run.send_signal(signal.SIGUSR1)
        ox.wait_log("web", b"heard SIGUSR1")
        assert events.matching("ended") == []
    after = rows(ox)
    assert {name: row["pid"] for name, row in after.items()} == {name: row["pid"] for name, row in before.items()}
    run.terminate()
    output, _ = run.communicate(timeout=2 * DEADLINE)
    assert lines_of(output, "web:0")[-1] == "heard SIGUSR1"


def test_a_stdout_that_nobody_reads_stops_only_the_writer(ox):
    """A full pipe: the program waits, the supervisor answers; read at last, it holds every line."""
    count, size = 30_000, 200
    ox.oxfile(
        f'[processes.web]\ncommand = "{program("prints", count, size, "done")}"\n'
        f'[processes.other]\ncommand = "{program("sleeper")}"\n'
    )
    run = ox.popen("run", bufsize=-1)
    wait_until(lambda: waiting_bytes(run) > 60_000, "the pipe to be full")
    with listening(ox) as events:
        events.wait("started", name="other")
        events.wait("ready", name="web")
    assert rows(ox)["web"]["status"] == "running"
    os.kill(rows(ox)["other"]["pid"], signal.SIGKILL)
    with listening(ox) as events:
        events.wait("started", name="other", incarnation=2)
    assert not (ox.folder / "done").exists(), "nobody has read what it printed"
    numbers = []
    for line in run.stdout:
        tag, _, text = line.partition(" | ")
        if tag.startswith("web"):
            if text == "all printed\n":
                break
            numbers.append(int(text[:8]))
    assert numbers == list(range(count))
    run.terminate()
    run.communicate(timeout=2 * DEADLINE)
    assert run.returncode == 0


def waiting_bytes(run: subprocess.Popen[str]) -> int:
    """Return how much stands in the pipe that is its stdout."""
    return struct.unpack("i", fcntl.ioctl(run.stdout.fileno(), termios.FIONREAD, b"\0\0\0\0"))[0]


def test_other_terminals_see_and_command_a_run(ox):
    """While `run` runs, `status`, `logs` and `why` answer, `run` and `start` refuse, `stop` ends it with 0."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("says_goodbye", "web")}"\n')
    run = ox.popen("run")
    with listening(ox) as events:
        pid = events.wait("ready", name="web")["pid"]
    ox.wait_log("web", b"ready")
    assert rows(ox)["web"]["pid"] == pid
    assert f"ready web {pid}" in ox.ok("logs").out
    ox.ok("why", "web")
    again = ox.cli("run")
    assert again.code == 1
    assert "runs already under another `oxherd run`" in again.err
    assert rows(ox)["web"]["pid"] == pid
    ox.ok("stop")
    output, _ = run.communicate(timeout=2 * DEADLINE)
    assert run.returncode == 0, output
    assert "goodbye web SIGTERM" in output
