"""The audit on this very process: what is new since before is found, and nothing else."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading

import pytest

from oxherd.host.audit import Hazard, audit, open_fds


@pytest.fixture
def new():
    """Return a function that says what the audit finds beyond what it found before the test."""
    known = open_fds()
    before = {(hazard.what, hazard.where) for hazard in audit(known)}

    def look() -> list[Hazard]:
        return [hazard for hazard in audit(known) if (hazard.what, hazard.where) not in before]

    assert look() == []
    return look


def test_a_running_thread_is_found_with_its_place(new):
    over = threading.Event()

    def poll():
        over.wait()

    thread = threading.Thread(target=poll, name="pymongo_server_monitor_thread")
    thread.start()
    try:
        [hazard] = new()
        assert hazard.what == "a thread is running: pymongo_server_monitor_thread (a MongoClient)"
        assert hazard.where.startswith(f"{__file__}:")
        assert hazard.where.endswith("in poll")
        assert hazard.fatal
    finally:
        over.set()
        thread.join()
    assert new() == []


def test_a_connection_is_found_with_its_peer(new):
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        with socket.create_connection(server.getsockname()[:2]) as client:
            fatal = [hazard for hazard in new() if hazard.fatal]
            assert [hazard.what for hazard in fatal] == [f"a connection to [::1]:{server.getsockname()[1]} is open"]
            assert f"descriptor {client.fileno()}, from [::1]:" in fatal[0].where
        [listening] = [hazard for hazard in new() if hazard.what.startswith("a socket listens")]
        assert not listening.fatal


def test_a_connection_to_a_unix_socket_is_found(new, tmp_path):
    path = str(tmp_path / "redis.sock")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(path)
        server.listen()
        client.connect(path)
        assert [hazard.what for hazard in new() if hazard.fatal] == [f"a connection to {path} is open"]


def test_a_loop_is_one_finding_with_all_it_holds(new):
    loop = asyncio.new_event_loop()
    [hazard] = new()
    assert hazard.what.startswith("an event loop is open: asyncio.")
    loop.close()
    assert new() == []


def test_kernel_objects_that_are_shared_are_found(new):
    with select.epoll() as poller:
        [hazard] = new()
        assert (hazard.what, hazard.where) == ("an epoll descriptor is open", f"descriptor {poller.fileno()}")


def test_a_temporary_directory_is_found(new):
    with tempfile.TemporaryDirectory() as folder:
        [hazard] = new()
        assert hazard.what == f"a temporary directory is open: {folder}"


def test_a_child_is_worth_knowing(new):
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE) as child:
        [hazard] = new()
        # Another test's child may be among them.
        assert hazard.what.startswith("child processes are running: ")
        assert str(child.pid) in hazard.what.partition(": ")[2].split(", ")
        assert not hazard.fatal


def test_cuda_is_found(new, monkeypatch):
    class Torch:
        class cuda:  # noqa: N801 - its name
            @staticmethod
            def is_initialized():
                return True

    monkeypatch.setitem(sys.modules, "torch", Torch())
    assert [hazard.what for hazard in new()] == ["CUDA is initialised (torch)"]


def test_harmless_things_are_passed_over(new, tmp_path):
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as statsd,
        socket.socket() as unconnected,
        (tmp_path / "log").open("a"),
    ):
        statsd.connect(("127.0.0.1", 8125))
        pipe = os.pipe()
        assert unconnected.fileno() >= 0
        assert new() == []
        for fd in pipe:
            os.close(fd)


def test_nothing_is_evaluated_by_being_looked_at(new):
    class Proxy:
        @property
        def __class__(self):
            raise RuntimeError("working outside of application context")

    kept = [Proxy()]
    assert new() == []
    assert kept


def test_a_hazard_becomes_a_message():
    hazard = Hazard(what="w", where="x", advice="y")
    assert hazard.fields() == {"what": "w", "where": "x", "advice": "y", "fatal": True}


def test_the_fatal_come_first(new):
    with socket.create_server(("127.0.0.1", 0)), select.epoll():
        assert [hazard.fatal for hazard in new()] == [True, False]
