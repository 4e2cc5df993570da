"""`oxherd logs`: what was written is shown once, in order, whatever happens to the files meanwhile."""

from __future__ import annotations

import json
import os
import re
import signal
from typing import TYPE_CHECKING

import pytest

from support.harness import program
from support.waiting import DEADLINE, wait_until

if TYPE_CHECKING:
    import subprocess

    from support.harness import Supervised

# With `counts LINES SIZE`: what the follower prints for the last line.
LAST = "all printed"


def read_until_last(follower: subprocess.Popen[str], last: str = LAST) -> list[str]:
    """Return the lines of a follower up to the one that ends with a text, then end it with Ctrl-C."""
    lines = []
    for line in follower.stdout:
        lines.append(line.rstrip("\n"))
        if line.rstrip("\n").endswith(last):
            break
    follower.send_signal(signal.SIGINT)
    follower.communicate(timeout=DEADLINE)
    assert follower.returncode == 0
    return lines


def numbers_in(lines: list[str]) -> list[int]:
    return [int(match[1]) for line in lines if (match := re.search(r"\| (\d{8}) ", line))]


@pytest.mark.parametrize("compress", ["true", "false"])
def test_following_across_rotations_loses_and_doubles_nothing(ox, compress):
    """Twenty files of 1 MB come and go while `-f` follows: every line is shown, once, in order."""
    lines = 16_000
    ox.oxfile(
        f'[processes.web]\ncommand = "{program("counts", lines, 1500, "go")}"\n'
        f"[processes.web.logs]\nmax_size_mb = 1\nmax_files = 50\ncompress = {compress}\n"
    )
    ox.ok("start")
    follower = ox.popen("logs", "-f", "-n", "100000")
    first = follower.stdout.readline()
    assert first.endswith("x\n")
    (ox.folder / "go").touch()
    shown = [first.rstrip("\n"), *read_until_last(follower)]
    assert numbers_in(shown) == list(range(lines))
    files = [path.name for path in ox.log_path("web").parent.iterdir() if path.name.startswith("web.log")]
    assert len(files) > 20
    # Read afterwards, from the files alone.
    assert numbers_in(ox.ok("logs", "-n", "100000").out.splitlines()) == list(range(lines))


def test_two_processes_are_merged_by_time_and_tagged(ox):
    """Lines of several instances come in the order they were written, each behind its tag of one width."""
    ox.oxfile(
        f'[processes.first]\ncommand = "{program("says_goodbye", "one")}"\n'
        f'[processes.second_one]\ncommand = "{program("says_goodbye", "two")}"\ninstances = 2\n'
        f'depends_on = {{ first = "ready" }}\n'
    )
    ox.ok("start")
    ox.wait_log("second_one", b"ready", count=2)
    ox.ok("signal", "USR2", "second_one:1")
    ox.wait_log("second_one", b"goodbye")
    ox.ok("stop", "first")
    ox.wait_log("first", b"goodbye")
    lines = [line for line in ox.ok("logs").out.splitlines() if "oxherd:" not in line]
    order = [re.sub(r"\d+$", "", line) for line in lines]
    told = [
        order.index(f"{tag:<12} | {text}")
        for tag, text in (
            ("first:0", "ready one "),
            ("second_one:1", "ready two "),
            ("second_one:1", "goodbye two SIGUSR"),
            ("first:0", "goodbye one SIGTERM"),
        )
    ]
    assert told == sorted(told), lines
    assert {line.index("|") for line in lines} == {13}


def wait_json(ox: Supervised, count: int, *arguments: str) -> list[dict]:
    """Return the lines of the log as objects when there are so many."""

    def read() -> list[dict]:
        return [json.loads(line) for line in ox.ok("logs", "--json", *arguments).out.splitlines()]

    return wait_until(lambda: lines if len(lines := read()) >= count else None, f"{count} lines")


def test_json_level_and_since_choose(ox):
    """--json is an object a line; --level error keeps errors with their tracebacks; --since leaves out what is older."""
    (ox.base / "app.sh").write_text(
        "echo INFO: started\n"
        "echo 'ERROR: it broke'\n"
        "echo 'Traceback (most recent call last):'\n"
        "echo '  File \"x.py\", line 1, in x'\n"
        "echo 'ValueError: no'\n"
        "echo INFO: goes on\n"
        "exec sleep 1d\n"
    )
    ox.oxfile(f'[processes.web]\ncommand = "sh {ox.base}/app.sh"\n')
    ox.ok("start")
    everything = wait_json(ox, 6)
    assert [line["text"] for line in everything][0::5] == ["INFO: started", "INFO: goes on"]
    assert {(line["process"], line["instance"]) for line in everything} == {("web", 0)}
    assert [line["time"] for line in everything] == sorted(line["time"] for line in everything)
    errors = [line["text"] for line in wait_json(ox, 4, "--level", "error")]
    assert errors == [line["text"] for line in everything[1:5]]
    assert len(wait_json(ox, 6, "--since", "1h")) == 6
    assert ox.ok("logs", "--since", "2099-01-01T00:00").out == ""
    assert ox.ok("logs", "-n", "1").out == "web:0 | INFO: goes on\n"
    assert ox.cli("logs", "--since", "soon").code == 2
    assert ox.cli("logs", "--level", "loud").code == 2


@pytest.mark.parametrize("way", ["hup", "reload"])
def test_a_file_that_logrotate_moves_is_reopened(ox, way):
    """mv, then SIGHUP (or `reload`): the moved file gets no more lines, the new one does, none is lost between."""
    lines = 4000
    ox.oxfile(
        f'[processes.web]\ncommand = "{program("counts", lines, 60, "go")}"\nlog_file = "web.log"\n'
        f'[processes.other]\ncommand = "{program("sleeper")}"\n'
    )
    log, moved = ox.folder / "web.log", ox.folder / "web.log-20260101"
    ox.ok("start")
    wait_until(lambda: log.read_bytes().count(b"\n") == lines // 2, "the first half")
    os.rename(log, moved)
    if way == "hup":
        os.kill(ox.supervisor, signal.SIGHUP)
    else:
        ox.ok("reload", "other")
        ox.request("reopen", stack=ox.stack)
    wait_until(log.exists, "a new file")
    before = moved.read_bytes()
    (ox.folder / "go").touch()
    wait_until(lambda: LAST.encode() in log.read_bytes(), "the second half")
    assert moved.read_bytes() == before
    text = (before + log.read_bytes()).decode()
    assert [int(line[:8]) for line in text.splitlines() if line[:8].isdigit()] == list(range(lines))


def test_a_follower_survives_logrotate_too(ox):
    """`logs -f` shows what is written before the mv, between, and after the reopening."""
    lines = 3000
    ox.oxfile(f'[processes.web]\ncommand = "{program("counts", lines, 60, "go")}"\nlog_file = "web.log"\n')
    log = ox.folder / "web.log"
    ox.ok("start")
    wait_until(lambda: log.read_bytes().count(b"\n") == lines // 2, "the first half")
    follower = ox.popen("logs", "-f", "-n", "100000")
    first = follower.stdout.readline()
    os.rename(log, ox.folder / "web.log.1")
    (ox.folder / "go").touch()
    os.kill(ox.supervisor, signal.SIGHUP)
    shown = [first.rstrip("\n"), *read_until_last(follower)]
    assert numbers_in(shown) == list(range(lines))
