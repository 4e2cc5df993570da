"""The display of a start on a terminal."""

from __future__ import annotations

import io
import re
import sys

import pytest

from oxherd.cli.output import Output
from oxherd.cli.progress import progress_of


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    made = Terminal()
    monkeypatch.setattr(sys, "stdout", made)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return made


def last_screen(terminal):
    """Return the words of the final drawing."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    return [" ".join(line.split()) for line in plain.replace("\r", "\n").splitlines() if line.strip()]


def item(process, status, **more):
    return {"process": process, "label": process, "instance": 0, "status": status, "pid": None, "detail": "", **more}


def test_each_instance_keeps_one_line_that_ends_settled(terminal):
    with progress_of(Output(), "shop/") as progress:
        progress.show(item("web", "starting"))
        progress.show(item("worker", "starting"))
        progress.show(item("web", "running", pid=7))
        progress.show(item("worker", "crashed", detail="exited with 1"))
    lines = last_screen(terminal)[-2:]
    assert re.fullmatch(r"\+ shop/web running \(pid 7\) after \d\.\d s", lines[0])
    assert lines[1] == "x shop/worker crashed: exited with 1"


@pytest.mark.parametrize(
    ("output", "environ"),
    [(Output(json=True), {}), (Output(quiet=True), {}), (Output(), {"TERM": "dumb"})],
)
def test_nothing_is_drawn_over_for_programs_and_those_who_want_quiet(terminal, monkeypatch, output, environ):
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with progress_of(output) as progress:
        progress.show(item("web", "starting"))
    assert "\x1b" not in terminal.getvalue()
    assert terminal.getvalue() == ("" if output.json or output.quiet else "web: starting\n")


def test_no_color_keeps_the_words(terminal, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    with progress_of(Output()) as progress:
        progress.show(item("web", "running", pid=7))
    assert not re.search(r"\x1b\[3\d", terminal.getvalue())
    assert "running (pid 7)" in terminal.getvalue()
