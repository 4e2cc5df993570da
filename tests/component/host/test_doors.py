"""Workers and zygotes that have lost their supervisor come back to the next one, through their doors."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from oxherd.system.zygote_handle import ZygoteState
from support.successor import Successor
from support.waiting import wait_until


@pytest.fixture
def successor():
    with Successor() as made:
        yield made


# -- workers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_worker_says_what_it_is_and_does_what_it_is_told(worker, public, successor, loop):
    one = worker(options={"loop": loop})
    started = one.started()
    first, second = public(), public()
    one.accept("web:0", first)
    one.request("/", to=first)
    served = one.read_meters().requests
    one.hang_up()

    back = successor.rejoin(one)
    handle = back.handle
    assert (handle.here, handle.pid, handle.incarnation) == (True, one.pid, 1)
    assert (handle.started, handle.draining, handle.due, handle.failure) == (True, False, False, None)
    assert handle.asked == handle.accepting == {"web:0"}
    assert handle.facts == {key: value for key, value in started.items() if key != "fds"}

    # Its meters go on where they were.
    assert handle.meters.read().requests == served
    one.request("/", to=first)
    successor.wait(lambda: handle.meters.read().requests == served + 1)

    # The listener is the very one, and is served.
    listeners = handle.take_listeners()
    assert handle.listeners == {}
    assert list(listeners) == ["web:0"]
    with socket.socket(fileno=listeners["web:0"]) as came_back:
        assert os.fstat(came_back.fileno()).st_ino == os.fstat(first.fileno()).st_ino
        first.close()
        assert one.request("/", to=came_back).status == 200

    # Accept, report, release, stacks.
    back.say("accept", (second.fileno(),), key="web:1")
    back.wait("accepting", key="web:1")
    assert one.request("/", to=second).status == 200
    back.say("report")
    back.wait("report")
    back.say("release", key="web:0")
    back.wait("released", key="web:0")
    one.signal(signal.SIGRTMIN + 5)
    successor.wait(lambda: os.fstat(handle.dump_fd).st_size > 0)
    assert "Thread" in handle.dump()

    one.signal(signal.SIGTERM)
    back.wait("draining")
    back.wait("drained")
    assert one.exit_code() == 0
    successor.wait(lambda: back.is_closed)


# -- zygotes ----------------------------------------------------------------------------------------------------------


def test_a_zygote_says_what_it_has_and_forks_again(zygote, successor):
    one = zygote()
    ready = one.ready()
    living, dying = one.fork(0, 7), one.fork(1, 8)
    living.started()
    dying.started()
    one.hang_up()
    dying.signal(signal.SIGKILL)
    wait_until(lambda: not os.path.exists(f"/proc/{dying.pid}"), one.story)

    back = successor.rejoin_zygote(one)
    handle = back.handle
    assert (handle.here, handle.pid, handle.state) == (True, one.pid, ZygoteState.READY)
    assert handle.facts == {key: value for key, value in ready.items() if key != "fds"}
    assert handle.exits == {dying.pid: signal.SIGKILL}
    children = handle.take_children()
    assert {pid: number for pid, (number, _) in children.items()} == {living.pid: 7}
    pidfd = children[living.pid][1]
    signal.pidfd_send_signal(pidfd, signal.SIGTERM)
    os.close(pidfd)
    assert back.wait("exited", pid=living.pid)["status"] == 0
