"""What a supervisor keeps through an exec of itself: real descriptors, and none that a program could inherit."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys

import pytest

from oxherd.daemon.inheritance import Inheritance, hand_over, take_back, take_over
from oxherd.errors import OxherdError
from oxherd.system.nameless import nameless


@pytest.fixture
def owned(tmp_path):
    """A lock, a control socket, two listeners; at the end every descriptor that came to be is gone."""
    before = set(os.listdir("/proc/self/fd"))
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    sockets = [socket.socket(socket.AF_UNIX), socket.socket(), socket.socket()]
    control, *listeners = (sock.fileno() for sock in sockets)
    keys = {f"{index}/tcp": fd for index, fd in enumerate(listeners)}
    yield Inheritance(
        version="1.0",
        lock=lock,
        control=control,
        listeners={"m:stack/web": keys, "m:stack/none": {}},
        previous="/old/python",
    )
    os.close(lock)
    for sock in sockets:
        sock.close()
    assert set(os.listdir("/proc/self/fd")) <= before


def inheritable(inheritance):
    return [os.get_inheritable(fd) for fd in inheritance.descriptors()]


def test_what_is_handed_over_is_what_is_taken_over(owned):
    fd = hand_over(owned)
    assert inheritable(owned) == [True] * 4
    assert os.get_inheritable(fd)
    assert take_over(fd) == owned
    assert inheritable(owned) == [False] * 4
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_it_survives_an_exec(owned):
    """Another program reads it by its number, and the descriptors in it are open there."""
    fd = hand_over(owned)
    code = (
        f"import json, os; record = json.loads(os.read({fd}, 9999)); os.fstat(record['lock']); os.fstat(record['control'])\n"
        "[os.fstat(fd) for keys in record['listeners'].values() for fd in keys.values()]\n"
        "print(record['inheritance'], record['version'], record['previous'])"
    )
    said = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], close_fds=False, stdout=subprocess.PIPE, check=True, text=True
    )
    assert said.stdout.split() == ["1", "1.0", "/old/python"]
    take_back(owned, fd)


def test_an_exec_that_fails_leaves_nothing_to_inherit(owned):
    fd = hand_over(owned)
    with pytest.raises(FileNotFoundError):
        os.execve("/nowhere/python", ["python"], {})
    take_back(owned, fd)
    assert inheritable(owned) == [False] * 4
    assert hand_over(owned) == fd, "the descriptor was closed"
    take_back(owned, fd)


def test_what_cannot_be_handed_over_leaves_nothing_to_inherit(owned):
    broken = Inheritance(lock=owned.lock, control=owned.control, listeners={"m:s/web": {"0/a": 99999}})
    with pytest.raises(OSError, match="Bad file descriptor"):
        hand_over(broken)
    assert inheritable(owned) == [False] * 4


def test_without_room_for_the_record_nothing_is_inheritable(owned, monkeypatch):
    def full(_fd, _data):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("oxherd.daemon.inheritance.os.write", full)
        with pytest.raises(OSError, match="No space left"):
            hand_over(owned)
    assert inheritable(owned) == [False] * 4


def test_a_long_record_is_whole():
    data = os.urandom(300_000)
    fd = nameless(data, inheritable=True)
    with os.fdopen(fd, "rb") as file:
        assert fcntl.fcntl(file, fcntl.F_GETFD) == 0
        assert file.read() == data


def test_what_is_not_said_has_its_default():
    with open(os.devnull, "rb") as lock, open(os.devnull, "rb") as control:
        record = {"lock": lock.fileno(), "control": control.fileno(), "unknown": 1}
        assert take_over(nameless(json.dumps(record).encode(), inheritable=True)) == Inheritance(
            lock=lock.fileno(), control=control.fileno()
        )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff",
        b"{}",
        b'{"lock": 0}',
        b'{"lock": "x", "control": 1}',
        b'{"lock": 0, "control": 0, "listeners": []}',
        b'{"lock": 0, "control": 0, "listeners": {"web": 3}}',
        b'{"lock": 99999, "control": 99999}',
    ],
)
def test_what_cannot_be_read_is_said(data):
    fd = nameless(data, inheritable=True)
    with pytest.raises(OxherdError, match="has handed over cannot be read"):
        take_over(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_a_number_that_is_no_descriptor_is_said():
    with pytest.raises(OxherdError, match="cannot be read"):
        take_over(99999)


def test_a_nameless_file_is_for_whoever_it_is_passed_to():
    with os.fdopen(nameless(b"job"), "rb") as file:
        assert fcntl.fcntl(file, fcntl.F_GETFD) == fcntl.FD_CLOEXEC
        assert file.read() == b"job"
