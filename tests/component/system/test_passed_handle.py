"""What belongs to a program that was passed its listeners: the private one, in both ways programs take it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from oxherd.system.passed_handle import PassedHandle


@pytest.fixture
def handle():
    handle = PassedHandle(())
    yield handle
    handle.close()


def test_it_sees_when_a_connection_was_accepted(handle, tmp_path):
    """Made by the first look, and gone when it has been accepted."""
    listener = socket.socket(fileno=os.dup(handle.open(str(tmp_path), "one")))
    assert handle.answers() is False
    assert handle.answers() is False
    accepted, _ = listener.accept()
    assert handle.answers() is True
    assert accepted.recv(1) == b""
    accepted.close()
    listener.close()


def test_without_a_private_listener_there_is_nobody_to_ask(handle, tmp_path):
    assert handle.answers() is None
    handle.reserve(str(tmp_path), "one", None)
    assert handle.answers() is None


def test_nothing_is_left(tmp_path):
    """Neither of its own listener nor of one that the program made."""
    handle = PassedHandle(())
    handle.open(str(tmp_path), "one")
    handle.answers()
    handle.close()
    handle.close()
    assert list(tmp_path.iterdir()) == []
    handle = PassedHandle(())
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(handle.reserve(str(tmp_path), "two", None))
    handle.close()
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_is_too_long_for_a_socket_is_made_elsewhere(handle, tmp_path):
    path = Path(handle.reserve(str(tmp_path / ("deep" * 30)), "one-p1", None))
    assert len(os.fsencode(path)) < 108
    assert path.parent.stat().st_mode & 0o777 == 0o700
    handle.close()
    assert not path.parent.exists()


def test_another_user_can_make_its_listener(handle, tmp_path):
    """The supervisor's own directory is closed to everybody else."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    path = Path(handle.reserve(str(tmp_path), "one-p2", (65534, 65534)))
    assert path.parent.parent != tmp_path
    assert path.parent.stat().st_uid == 65534
    assert path.parent.stat().st_mode & 0o777 == 0o700
