"""A reader that is killed again and again, at any moment, loses no line and doubles none."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from oxherd.system.logs.pipe import make_pipe

READER = Path(__file__).with_name("spool_reader.py")
# Whole lines, half lines, many at once, and lines longer than a read.
WRITER = """
import os, random, select, sys
chance = random.Random(int(sys.argv[1]))
def put(data):
    while data: data = data[os.write(1, data):]
number, held = 0, b""
while not select.select([0], [], [], 0)[0] or number % 50:
    for _ in range(chance.choice((1, 1, 40))):
        tail = b"" if chance.random() < 0.98 else b"x" * chance.choice((5, 5000, 90000))
        held += b"%08d %s\\n" % (number, tail)
        number += 1
    cut = chance.choice((len(held), len(held), chance.randrange(len(held))))
    put(held[:cut])
    held = held[cut:]
put(held + b"the end of %d" % number)
"""
KILLS = 25


@pytest.mark.parametrize(("seed", "form"), [(1, "text"), (2, "text"), (3, "json")])
def test_every_line_is_there_once_and_in_order(tmp_path: Path, seed: int, form: str) -> None:
    chance = random.Random(seed)
    read_fd, child_fd = make_pipe(large=True)
    writer = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", WRITER, str(seed)], stdin=subprocess.PIPE, stdout=child_fd
    )
    os.close(child_fd)
    command = [sys.executable, str(READER), str(tmp_path), str(writer.pid), form]
    try:
        for _ in range(KILLS):
            reader = subprocess.Popen(command, stdout=subprocess.PIPE)
            assert reader.stdout is not None
            if chance.random() < 0.8:
                assert reader.stdout.read(1) == b"r"
            # Not a wait for something to become true: the moment of the kill is what is varied.
            select.select([], [], [], chance.random() * 0.03)
            reader.send_signal(signal.SIGKILL)
            reader.wait()
            reader.stdout.close()
        last = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert last.stdout is not None
        assert last.stdout.read(1) == b"r"
        os.close(read_fd)
        assert writer.stdin is not None
        writer.stdin.close()
        writer.wait(60)
        assert last.wait(60) == 0
        last.stdout.close()
    finally:
        writer.kill()
        writer.wait()
    old = sorted(tmp_path.glob("web.log.*"), key=lambda path: int(path.suffix[1:]))
    lines = b"".join(path.read_bytes() for path in [*old, tmp_path / "web.log"]).splitlines()
    if form == "json":
        lines = [json.loads(line)["line"].encode() for line in lines]
    count = len(lines) - 1
    assert lines.pop() == b"the end of %d" % count
    assert count > 0
    assert [int(line[:8]) for line in lines] == list(range(count))
    assert {line[8:].strip(b" x") for line in lines} == {b""}
    assert {len(line) for line in lines} <= {9, 14, 5009, 90009}
    assert not (tmp_path / "spool").exists()
