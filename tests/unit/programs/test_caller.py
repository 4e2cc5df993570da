"""As whom the interpreter of an app is asked."""

from __future__ import annotations

import os
import pwd

import pytest

from oxherd.programs.caller import Caller

NOBODY = pwd.getpwnam("nobody")


@pytest.fixture
def root(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)


def test_it_is_asked_as_we_are_unless_root_is_told_otherwise(monkeypatch, root):
    assert Caller(environ={}).identity() == {}
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert Caller(environ={}, user="nobody").identity() == {}


@pytest.mark.usefixtures("root")
def test_root_becomes_the_user_of_the_process():
    assert Caller(environ={}, user="nobody").identity() == {
        "extra_groups": [],
        "user": "nobody",
        "group": NOBODY.pw_gid,
    }
    assert Caller(environ={}, user=str(NOBODY.pw_uid), group="12").identity() == {
        "extra_groups": [],
        "user": NOBODY.pw_uid,
        "group": 12,
    }
    assert Caller(environ={}, group="staff").identity() == {"extra_groups": [], "group": "staff"}


@pytest.mark.usefixtures("root")
def test_a_user_that_is_not_there_keeps_its_name():
    """`subprocess` refuses it; the question has no answer then."""
    assert Caller(environ={}, user="nobody-of-that-name").identity()["user"] == "nobody-of-that-name"
