"""A line that was written is kept, whatever is in it and however fast it comes."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
from typing import TYPE_CHECKING

from support.harness import program
from support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path


def everything_of(folder: Path, name: str) -> bytes:
    """The log with what was rotated away: number 1 is the oldest."""
    rotated = {}
    for path in folder.iterdir():
        if match := re.fullmatch(rf"{name}\.log\.(\d+)(\.gz)?", path.name):
            data = path.read_bytes()
            rotated[int(match[1])] = gzip.decompress(data) if match[2] else data
    return b"".join(rotated[serial] for serial in sorted(rotated)) + (folder / f"{name}.log").read_bytes()


def compressed(folder: Path) -> bool:
    """Whether every rotated file is compressed and no compressor is at work."""
    names = os.listdir(folder)
    return not any(re.search(r"\.log\.\d+$", name) or name.endswith(".tmp") for name in names)


def numbers(log: bytes) -> list[int]:
    return [int(line[:8]) for line in log.splitlines() if re.match(rb"\d{8} x", line)]


def test_a_hundred_megabytes_arrive_whole(ox):
    """A million numbered lines, printed as fast as the pipe takes them: each is there once, in order."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("prints", 1_000_000, 100)}"\nlogs = {{ max_size_mb = 1000 }}\n')
    ox.ok("start")
    wait_until(lambda: ox.log_path("web").stat().st_size >= 100_000_012, lambda: ox.log_path("web").stat().st_size)
    ox.ok("stop")
    log = ox.log("web")
    assert b"all printed\n" in log
    assert numbers(log) == list(range(1_000_000))


def test_rotation_under_full_speed_loses_nothing(ox):
    """The same through ten rotations with compression."""
    ox.oxfile(
        f'[processes.web]\ncommand = "{program("prints", 100_000, 100)}"\n'
        "logs = { max_size_mb = 1, max_files = 20, compress = true }\n"
    )
    ox.ok("start")
    folder = ox.log_path("web").parent
    ox.wait_log("web", b"all printed")
    ox.ok("stop")
    wait_until(lambda: compressed(folder), lambda: os.listdir(folder))
    assert len(list(folder.glob("web.log.*.gz"))) >= 9
    assert numbers(everything_of(folder, "web")) == list(range(100_000))


def test_any_byte_and_any_length(ox):
    """All 256 bytes, a line of 5 MB, no newline at the end: kept as they were written."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("garbage")}"\n')
    ox.ok("start")
    ox.wait_log("web", b"last line\n")
    ox.ok("stop")
    log = ox.log("web")
    assert bytes(range(256)) * 64 in log
    assert b"L" * 5_000_000 + b"\n" in log
    assert b"\xff\xfe\x00\x1b[31m\r\n" in log
    assert b"no newline" in log
    shown = ox.ok("logs", "web", "-n", "3")
    assert "last line" in shown.out
    assert "no newline" in shown.out
    for line in ox.ok("logs", "web", "-n", "2", "--json").out.splitlines():
        assert json.loads(line)["process"] == "web"


def test_a_program_that_closes_its_output_lives_on(ox):
    """stdout and stderr closed by the program: it runs, it is stopped, and the supervisor is idle meanwhile."""
    told = ox.base / "told"
    ox.oxfile(f'[processes.web]\ncommand = "{program("closes_stdout", told)}"\n')
    ox.ok("start")
    wait_until(told.exists, "the program")
    supervisor = ox.supervisor
    assert ox.row("web")["status"] == "running"
    before = cpu_ticks(supervisor)
    # A descriptor at its end that stays watched would make the loop spin: a second of that is a hundred ticks.
    for _ in range(50):
        ox.events.take(0.02)
    assert cpu_ticks(supervisor) - before < 50
    ox.ok("stop")
    assert b"before" in ox.log("web")


def cpu_ticks(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_what_a_dying_program_said_last_is_kept(ox):
    """Output written right before a SIGKILL is in the log before the restart's own."""
    ox.oxfile(
        "[processes.web]\n"
        "command = \"sh -c 'seq 1 20000; echo the last; kill -9 $$'\"\n"
        "max_restarts = 1\nrestart_delay_ms = 1\n"
    )
    assert ox.cli("start").code == 1
    ox.wait("crashed", name="web")
    log = ox.log("web")
    assert log.count(b"the last\n") == 2
    assert log.count(b"\n20000\n") == 2
    assert "| the last" in ox.ok("why", "web").out


def test_following_across_rotation_misses_nothing(ox):
    """`logs -f` of a numbered writer, through several rotations: every line once, in order."""
    go = ox.base / "go"
    ox.oxfile(
        f'[processes.web]\ncommand = "{program("counts", 40_000, 100, go)}"\n'
        "logs = { max_size_mb = 1, max_files = 9, compress = true }\n"
    )
    ox.ok("start")
    ox.wait_log("web", b"00019999 ")
    follower = ox.popen("logs", "-f", "-n", "40000", "web", stderr=None)
    seen = [follower.stdout.readline()]
    go.touch()
    while "all printed" not in seen[-1]:
        seen.append(follower.stdout.readline())
        assert seen[-1], f"the follower ended: {seen[-3:]}"
    follower.send_signal(signal.SIGINT)
    follower.stdout.read()
    follower.wait()
    found = [int(match[1]) for line in seen if (match := re.search(r"(\d{8}) x", line))]
    first = found[0]
    assert found == list(range(first, 40_000))
    assert first <= 20_000


def test_logrotate_users_reopen(ox):
    """A log file that was moved away is written on until `reload` or SIGHUP opens the new one; no line is lost."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper")}"\nlog_file = "logs/app.log"\n')
    ox.ok("start")
    path, moved = ox.folder / "logs" / "app.log", ox.folder / "logs" / "app.log.old"
    wait_until(lambda: b"ready" in path.read_bytes(), "the first line")
    path.rename(moved)
    os.kill(ox.supervisor, signal.SIGHUP)
    wait_until(path.exists, "the new file")
    os.kill(ox.pid("web"), signal.SIGKILL)
    ox.wait("started", name="web", incarnation=2)
    wait_until(lambda: b"ready" in path.read_bytes(), "the second line")
    assert moved.read_bytes().count(b"ready") == 1
    path.rename(ox.folder / "logs" / "app.log.older")
    ox.ok("reload")
    wait_until(lambda: path.exists() and b"ready" in path.read_bytes(), "the third file")


def test_stdout_and_stderr_apart(ox):
    """error_log_file takes stderr alone."""
    ox.oxfile(
        "[processes.web]\n"
        "command = \"sh -c 'echo to stdout; echo to stderr >&2; exec sleep 100000'\"\n"
        'log_file = "out.log"\nerror_log_file = "err.log"\n'
    )
    ox.ok("start")
    wait_until(lambda: b"to stderr" in (ox.folder / "err.log").read_bytes(), "stderr")
    wait_until(lambda: b"to stdout" in (ox.folder / "out.log").read_bytes(), "stdout")
    assert b"stderr" not in (ox.folder / "out.log").read_bytes()
    assert b"stdout" not in (ox.folder / "err.log").read_bytes()


def test_instances_are_told_apart_in_one_file(ox):
    """Three instances share a log file; `logs` tags each line with its instance and shows one alone."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper", "number-{instance}")}"\ninstances = 3\n')
    ox.ok("start")
    ox.wait_log("web", b"number-", 3)
    both = ox.ok("logs", "-n", "100").out
    for slot in range(3):
        assert re.search(rf"web:{slot}\b.*number-{slot}\b", both), both
    alone = ox.ok("logs", "web:1", "-n", "100").out
    assert "number-1" in alone
    assert "number-2" not in alone
