"""The protocol of sd_notify(3), spoken to a socket of the test's own."""

from __future__ import annotations

import os
import socket
import tempfile

import pytest

from oxherd.system.notify import SERVICE_VARIABLES, Notifier, watchdog_seconds


@pytest.fixture
def manager():
    """A service manager's socket, as a path."""
    # Not tmp_path: its name may be too long for a socket.
    with tempfile.TemporaryDirectory(prefix="ox", dir="/tmp") as folder, listening(f"{folder}/notify") as listener:
        yield listener


def listening(address):
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(address)
    listener.setblocking(False)
    return listener


def test_variables_are_one_datagram(manager):
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname()})
    assert notifier.listens
    assert notifier.send(READY="1", STATUS="3 processes run")
    assert manager.recv(4096) == b"READY=1\nSTATUS=3 processes run\n"
    notifier.close()


def test_an_abstract_socket_begins_with_an_at_sign():
    name = f"oxherd-test-{os.getpid()}"
    with listening(f"\0{name}") as manager:
        notifier = Notifier({"NOTIFY_SOCKET": f"@{name}"})
        assert notifier.send(READY="1")
        assert manager.recv(4096) == b"READY=1\n"
        notifier.close()


def test_a_line_break_does_not_begin_another_variable(manager):
    """What goes into a status may come from a program."""
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname()})
    notifier.send(STATUS="all well\nMAINPID=1\r\nREADY=0")
    assert manager.recv(4096) == b"STATUS=all well MAINPID=1 READY=0\n"
    notifier.close()


@pytest.mark.parametrize("address", ["", "@", "relative/path", "vsock:2:1234"])
def test_without_a_socket_that_can_be_spoken_to_nothing_happens(address):
    notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"})
    assert not notifier.listens
    assert notifier.watchdog == 0
    assert notifier.send(READY="1")
    notifier.close()


def test_nobody_at_the_other_end_is_no_trouble(manager):
    """The service manager may go, and its socket with it: what is told then is told to nobody."""
    address = manager.getsockname()
    notifier = Notifier({"NOTIFY_SOCKET": address})
    manager.close()
    assert notifier.send(READY="1")
    os.unlink(address)
    assert notifier.send(READY="1")
    notifier.close()
    assert notifier.send(READY="1")


def test_a_full_queue_is_told_and_never_waited_for(manager):
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname()})
    sent = 0
    while notifier.send(WATCHDOG="1"):
        sent += 1
        assert sent < 100_000, "the queue has no end"
    for _ in range(sent):
        assert manager.recv(4096) == b"WATCHDOG=1\n"
    assert notifier.send(WATCHDOG="1"), "there is room again"
    notifier.close()


def test_what_is_started_later_inherits_nothing_of_it(manager):
    """The variables leave the environment; those a re-exec needs are kept aside."""
    environ = dict.fromkeys(SERVICE_VARIABLES, "x") | {
        "PATH": "/bin",
        "NOTIFY_SOCKET": manager.getsockname(),
        "WATCHDOG_USEC": "3000000",
        "WATCHDOG_PID": str(os.getpid()),
    }
    notifier = Notifier.taken_from(environ)
    assert environ == {"PATH": "/bin"}
    assert notifier.watchdog == 3.0
    again = Notifier.taken_from(dict(notifier.environ))
    assert (again.listens, again.watchdog) == (True, 3.0)
    for one in (notifier, again):
        one.close()


def test_its_descriptor_is_not_inherited(manager):
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname()})
    assert notifier._socket is not None
    assert not os.get_inheritable(notifier._socket.fileno())
    notifier.close()


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, 0.0),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "42"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "43"}, 0.0),
        ({"WATCHDOG_USEC": "0", "WATCHDOG_PID": "42"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
        ({"WATCHDOG_USEC": "-5"}, 0.0),
        ({"WATCHDOG_USEC": "٣"}, 0.0),
    ],
)
def test_the_watchdog_waits_for_one_process_only(environ, seconds):
    """sd_watchdog_enabled(3): the variables may be those of somebody else, inherited."""
    assert watchdog_seconds(environ, 42) == seconds
