"""Whose something is, in words a person can act on."""

from __future__ import annotations

import os
import socket

from oxherd.control.ownership import as_owner, owner_of, peer_uid, user_text


def test_users_are_named_where_the_machine_knows_them():
    assert user_text(0) == "root (uid 0)"
    assert user_text(987654) == "uid 987654"


def test_the_hint_is_a_command():
    assert as_owner(0).startswith("run oxherd as root: sudo oxherd ...")
    assert as_owner(65534).startswith("run oxherd as nobody: sudo -u nobody oxherd ...")
    assert as_owner(987654).startswith("run oxherd as that user: sudo -u '#987654' oxherd ...")


def test_the_owner_of_what_cannot_be_looked_at_is_that_of_the_directory_above(tmp_path):
    assert owner_of(str(tmp_path / "not/there")) == os.stat(tmp_path).st_uid


def test_the_other_end_is_named_by_the_kernel():
    left, right = socket.socketpair()
    with left, right:
        assert peer_uid(left) == os.geteuid()
