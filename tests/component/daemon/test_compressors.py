"""Helpers that compress: started and forgotten, and none any more when the supervisor ends."""

from __future__ import annotations

import errno

import pytest

from oxherd.daemon.compressors import Compressors
from oxherd.errors import SpawnError


class Helpers:
    """Takes requests, or refuses."""

    def __init__(self):
        self.requests = []
        self.trouble = None

    def start(self, request, _on_output, _on_end):
        if self.trouble is not None:
            raise self.trouble
        self.requests.append(request)


@pytest.fixture
def helpers():
    return Helpers()


def test_each_has_a_mark_of_its_own(helpers):
    compressors = Compressors(helpers, "home")
    compressors.start(["gzip", "a"])
    compressors.start(["gzip", "b"])
    assert [(request.argv, request.mark) for request in helpers.requests] == [
        (("gzip", "a"), "home:compress/1"),
        (("gzip", "b"), "home:compress/2"),
    ]


def test_what_cannot_be_started_now_is_an_error_of_the_system(helpers):
    helpers.trouble = SpawnError("forking", errno.EAGAIN, "gzip", "")
    with pytest.raises(OSError, match="gzip") as raised:
        Compressors(helpers, "home").start(["gzip", "a"])
    assert raised.value.errno == errno.EAGAIN


def test_none_follows_the_last_one(helpers):
    compressors = Compressors(helpers, "home")
    compressors.start(["gzip", "a"])
    compressors.end()
    compressors.start(["gzip", "b"])
    assert len(helpers.requests) == 1
