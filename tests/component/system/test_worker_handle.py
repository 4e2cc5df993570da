"""What a worker is given, and cannot take from under the supervisor's feet."""

from __future__ import annotations

import errno
import os

import pytest

from oxherd.host.meters import SIZE
from oxherd.host.wire import LIMIT
from oxherd.system.loop import Loop
from oxherd.system.worker_handle import WorkerHandle


@pytest.fixture
def handle(tmp_path):
    errors = []
    loop = Loop(errors.append)
    made = WorkerHandle(loop, str(tmp_path), "1-1")
    yield made
    made.close()
    loop.close()
    assert errors == []


@pytest.mark.parametrize("size", [0, 1, SIZE - 1, SIZE + 1])
def test_the_meters_keep_their_size(handle, size):
    """Beyond the end of a file a mapping is SIGBUS: a worker that cut it short would end the supervisor."""
    with pytest.raises(OSError, match="not permitted") as caught:
        os.ftruncate(handle.meters_fd, size)
    assert caught.value.errno == errno.EPERM
    os.pwrite(handle.meters_fd, b"x" * SIZE, 0)
    handle.meters.in_flight(1.0)
    handle.meters.read()


@pytest.mark.parametrize("packet", [b"[" * (LIMIT - 1), b"\xff", b"5", b"{}", b'{"kind":5}'])
def test_what_is_no_message_is_garbage_with_a_name(handle, packet):
    heard, closed = [], []
    handle.connect(lambda message, fds: heard.append((message["kind"], fds)), lambda: closed.append(True))
    handle.theirs.send(packet)
    handle.channel._loop.run_once(5)
    assert (heard, closed) == ([("garbage", [])], [])
