"""Starting the supervisor in the background."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
from pathlib import Path

import pytest

import oxherd.daemon
from oxherd.cli import bootstrap, where
from oxherd.control.client import Client
from oxherd.errors import NoSupervisorError, SystemFault

PROGRAM = Path(__file__).parent / "programs" / "fake_daemon.py"


@pytest.fixture
def as_daemon(home, monkeypatch):
    """Start the stand-in instead of the supervisor, in a mode; a living one is ended with the test."""

    def use(mode):
        monkeypatch.setattr(bootstrap, "daemon_command", lambda *words: [sys.executable, str(PROGRAM), mode, *words])
        return home

    yield use
    with contextlib.suppress(NoSupervisorError), Client.connect(home) as client:
        client.request("shutdown", timeout=20)


def want(home, identity="abc", **record):
    directory = Path(home.stack(identity))
    directory.mkdir(parents=True)
    (directory / "stack.json").write_text(json.dumps({"path": "/srv/shop/oxfile.toml", "wanted": True, **record}))


def test_the_command_line_is_that_of_the_supervisor_outside_the_callers_directory():
    assert bootstrap.daemon_command("--ready-fd", "5") == [
        sys.executable,
        "-P",
        "-S",
        os.path.join(os.path.dirname(oxherd.daemon.__file__), "__main__.py"),
        "--ready-fd",
        "5",
    ]


def test_it_is_started_detached(as_daemon, monkeypatch, tmp_path):
    home = as_daemon("serves")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OXHERD_HOME", os.path.relpath(os.path.dirname(home.runtime)))
    with bootstrap.ensure_supervisor(home) as client:
        facts = client.request("ping", timeout=20)
    assert facts["session"] == facts["pid"] != os.getsid(0)
    assert (facts["cwd"], facts["stdin"]) == ("/", "/dev/null")
    assert facts["home"] == os.path.dirname(home.runtime), "a relative home is the caller's, not that of /"
    assert facts["argv"][:2] == ["serves", "--ready-fd"]


def test_one_that_runs_is_used(as_daemon):
    home = as_daemon("serves")
    with bootstrap.ensure_supervisor(home) as first, bootstrap.ensure_supervisor(home) as second:
        assert first.request("ping", timeout=20)["pid"] == second.request("ping", timeout=20)["pid"]


def test_many_at_once_end_up_with_one(as_daemon):
    home = as_daemon("serves")
    pids, barrier = [], threading.Barrier(6)

    def start():
        barrier.wait(20)
        with bootstrap.ensure_supervisor(home) as client:
            pids.append(client.request("ping", timeout=20)["pid"])

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(pids) == 6
    assert len(set(pids)) == 1


def test_what_the_supervisor_says_is_the_error(as_daemon):
    with pytest.raises(SystemFault, match="cannot make the directory /x") as caught:
        bootstrap.ensure_supervisor(as_daemon("refuses"))
    assert (caught.value.code, caught.value.hint) == ("OX602", "y")


@pytest.mark.parametrize(
    ("mode", "text"),
    [
        ("ends", "it ended at once\n    | it could not be: line one\n    | line two"),
        ("babbles", "it said something else than that it is ready"),
    ],
)
def test_one_that_does_not_come_up_shows_the_end_of_its_log(as_daemon, mode, text):
    home = as_daemon(mode)
    with pytest.raises(SystemFault) as caught:
        bootstrap.ensure_supervisor(home)
    assert text in caught.value.message
    assert caught.value.hint == f"its log is {home.log}"
    assert caught.value.code == "OX621"


def test_an_interpreter_that_is_not_there_is_a_system_fault(home, monkeypatch):
    monkeypatch.setattr(bootstrap, "daemon_command", lambda *_: ["/nowhere/python"])
    with pytest.raises(SystemFault, match="cannot start the supervisor: No such file or directory: /nowhere/python"):
        bootstrap.ensure_supervisor(home)


def test_nothing_is_left_open_in_the_caller(as_daemon):
    before = set(os.listdir("/proc/self/fd"))
    bootstrap.ensure_supervisor(as_daemon("serves")).close()
    assert set(os.listdir("/proc/self/fd")) == before


def test_one_that_was_started_early_begins_when_it_is_told_to(as_daemon):
    home = as_daemon("serves")
    early = bootstrap.nascent(home)
    assert not os.path.lexists(home.lock)
    with bootstrap.ensure_supervisor(home, early) as client:
        assert client.request("ping", timeout=20)["argv"][:2] == ["serves", "--ready-fd"]


def test_one_that_was_started_early_is_not_needed_where_another_was_quicker(as_daemon):
    """Both have been started before either knew of the other."""
    home = as_daemon("serves")
    first, second = bootstrap.nascent(home), bootstrap.nascent(home)
    with bootstrap.ensure_supervisor(home, first) as client, bootstrap.ensure_supervisor(home, second) as same:
        assert client.request("ping", timeout=20)["pid"] == same.request("ping", timeout=20)["pid"]
    second.close()


def test_none_is_started_early_where_one_listens(as_daemon):
    home = as_daemon("serves")
    with bootstrap.ensure_supervisor(home):
        assert bootstrap.nascent(home) is None


def test_one_that_cannot_be_started_early_is_no_error_yet(home, monkeypatch):
    """What is wrong is said by whoever needs it."""
    monkeypatch.setattr(bootstrap, "daemon_command", lambda *_: ["/nowhere/python"])
    assert bootstrap.nascent(home) is None


def leave_stale_socket(home):
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(home.socket)


def test_after_a_death_with_stacks_wanted_any_verb_starts_a_new_one(as_daemon):
    home = as_daemon("serves")
    want(home)
    leave_stale_socket(home)
    assert where.supervisor_died(home)
    with where.connect(home) as client:
        assert client.request("ping", timeout=20)["pid"]


@pytest.mark.parametrize(
    ("wanted", "stale"),
    [(False, True), (True, False), (None, True)],
    ids=["nothing is wanted", "it was told to stop", "nothing is known"],
)
def test_otherwise_none_is_started(as_daemon, wanted, stale):
    home = as_daemon("serves")
    if wanted is not None:
        want(home, wanted=wanted)
    if stale:
        leave_stale_socket(home)
    with pytest.raises(NoSupervisorError):
        where.connect(home)


def test_wanted_stacks_are_read_over_what_is_damaged(home):
    want(home)
    want(home, "def", wanted=False)
    want(home, "fed", path="/srv/b/oxfile.toml")
    (Path(home.stack("abc")) / "stack.json").write_text("{")
    assert where.wanted_stacks(home) == ["/srv/b/oxfile.toml"]


@pytest.mark.parametrize(
    ("lines", "died"),
    [
        ([{"key": "web/0", "pid": os.getpid()}], True),
        ([{"key": "web/0", "pid": os.getpid()}, {"key": "web/0", "pid": None}], False),
        ([{"key": "web/0", "pid": None}, {"key": "web/1", "pid": os.getpid()}], True),
        ([{"key": "web/0", "pid": 2**22 + 1}], False),
        ([{"key": "web/0", "pid": "1"}, ["web/0", 1]], False),
        ([], False),
    ],
    ids=["runs", "has ended", "one of two", "is gone", "no pid", "nothing"],
)
def test_what_is_on_its_way_down_needs_a_supervisor_too(home, lines, died):
    """Its stop was asked for, so nothing is wanted any more; without a supervisor it might never end."""
    home.prepare()
    want(home, wanted=False)
    leave_stale_socket(home)
    head = [{"journal": 2, "boot": "x"}]
    with open(os.path.join(home.state, "instances.jsonl"), "w") as file:
        file.writelines(json.dumps(line) + "\n" for line in [*head, *lines])
        file.write('{"key": "web/0", "pi')
    assert where.supervisor_died(home) is died
