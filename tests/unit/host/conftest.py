"""Segments of meters without a worker."""

from __future__ import annotations

import os

import pytest

from oxherd.host.meters import SIZE, Meters


@pytest.fixture
def meters():
    fd = os.memfd_create("meters")
    os.ftruncate(fd, SIZE)
    made = Meters(fd)
    os.close(fd)
    made.begin()
    yield made
    made.close()
