"""The title, in a process of its own: this one's command line is pytest's."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from oxherd.host import title as module

SCRIPT = """
import sys
from oxherd.host.title import set_title
for title in sys.argv[2:]:
    print(set_title(title))
print(ascii(open("/proc/self/cmdline", errors="replace").read().split(chr(0))))
print(ascii(open("/proc/self/comm").read()))
"""


def show(*titles: str, room: int = 60) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, " " * room, *titles], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.splitlines()


def test_it_takes_the_place_of_the_command_line():
    shown, line, comm = show("oxherd: shop web:0")
    assert (shown, line, comm) == ("True", "['oxherd: shop web:0', '']", repr("oxherd: shop we\n"))


def test_a_second_title_takes_the_place_of_the_first():
    *_, line, _ = show("oxherd: a rather long first title", "short: ü")
    assert line == ascii(["short: ü", ""])


def test_a_title_that_is_too_long_is_cut():
    shown, line, comm = show("ü" * 1000)
    assert shown == "True"
    title = ast.literal_eval(line)[0]
    assert title.strip("ü") in {"", "\ufffd"}
    assert len(title) > 60 / 2
    assert comm == ascii("ü" * 7 + "\n")


@pytest.mark.parametrize("stat", ["", "1 (python) S", "1 (py) thon) S " + "0 " * 50, "1 (python) S " + "x " * 50])
def test_nothing_is_written_where_the_kernel_does_not_say_where(monkeypatch, tmp_path, stat):
    path = tmp_path / "stat"
    path.write_text(stat)

    def opened(_path, *_):
        return path.open("rb")

    monkeypatch.setattr(module, "open", opened, raising=False)
    assert not module.set_title("anything")


def test_no_title_is_no_title():
    assert not module.set_title("")
