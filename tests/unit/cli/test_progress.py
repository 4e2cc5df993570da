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
def on_terminal(monkeypatch):
    """Show items on a terminal and return what it got."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)

    def show(output, *items, prefix=""):
        made = Terminal()
        # Within the test: pytest puts its own stdout in place between the fixtures and the test.
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", made)
            with progress_of(output, prefix) as progress:
                for one in items:
                    progress.show(one)
        return made.getvalue()

    return show


def last_screen(text):
    """Return the words of the final drawing."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    return [" ".join(line.split()) for line in plain.replace("\r", "\n").splitlines() if line.strip()]


def item(process, status, **more):
    return {"process": process, "label": process, "instance": 0, "status": status, "pid": None, "detail": "", **more}


def test_each_instance_keeps_one_line_that_ends_settled(on_terminal):
    drawn = on_terminal(
        Output(),
        item("web", "starting"),
        item("worker", "starting"),
        item("web", "running", pid=7),
        item("worker", "crashed", detail="exited with 1"),
        prefix="shop/",
    )
    lines = last_screen(drawn)[-2:]
    assert re.fullmatch(r"\+ shop/web running \(pid 7\) after \d\.\d s", lines[0])
    assert lines[1] == "x shop/worker crashed: exited with 1"


def test_what_is_on_its_way_shows_for_how_long(on_terminal):
    assert re.search(r"web starting +\d\.\d s", last_screen(on_terminal(Output(), item("web", "starting")))[-1])


@pytest.mark.parametrize(
    ("output", "environ", "text"),
    [
        (Output(json=True), {}, ""),
        (Output(quiet=True), {}, ""),
        (Output(), {"TERM": "dumb"}, "web: starting\n"),
    ],
)
def test_nothing_is_drawn_over_where_that_cannot_be_or_is_not_wanted(on_terminal, monkeypatch, output, environ, text):
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert on_terminal(output, item("web", "starting")) == text


def test_no_color_keeps_the_words(on_terminal, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    drawn = on_terminal(Output(), item("web", "starting"), item("web", "running", pid=7))
    assert not re.search(r"\x1b\[3\d", drawn)
    assert "running (pid 7)" in drawn


def test_an_instance_keeps_its_name_when_it_becomes_the_only_one(on_terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    text = on_terminal(Output(), item("web", "stopping", label="web:1", instance=1), item("web", "stopped", instance=1))
    assert [line.split(":")[:2] for line in text.splitlines()] == [["web", "1"], ["web", "1"]]


def test_why_the_last_attempt_ended_is_said_once(on_terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    items = [
        item("web", status, detail=detail)
        for status, detail in (("backoff", "no"), ("starting", "no"), ("starting", "db"))
    ]
    assert on_terminal(Output(), *items) == "web: backoff: no\nweb: starting\n"
    assert on_terminal(Output(), items[2]) == "web: starting: db\n"


def test_what_was_up_from_the_beginning_has_no_time(on_terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    assert on_terminal(Output(), item("web", "running", pid=7)) == "web: running (pid 7)\n"


def test_the_phases_of_a_reload_are_shown_and_go_with_it(on_terminal, monkeypatch):
    items = [
        item("web", "reloading", instance=None, detail="preparing generation 2"),
        item("web", "running", label="web:0", instance=0, pid=7),
        item("web", "reloading", instance=None, detail="replacing 2 workers"),
    ]
    lines = last_screen(on_terminal(Output(), *items))
    assert [line for line in lines if "web:0 running (pid 7)" in line]
    assert not [line for line in lines if "reloading" in line]
    monkeypatch.setenv("TERM", "dumb")
    assert on_terminal(Output(), *items).splitlines() == [
        "web: reloading: preparing generation 2",
        "web:0: running (pid 7)",
        "web: reloading: replacing 2 workers",
    ]
