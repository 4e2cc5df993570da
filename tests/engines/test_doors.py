"""On every engine: a worker whose supervisor has died obeys the next one, and loses nobody on the way."""

from __future__ import annotations

import contextlib
import os
import signal
import socket

from support.successor import Successor


def test_it_comes_back_to_the_next_supervisor(serving, public):
    worker, held = serving()
    other = public()
    assert worker.request("/", to=held).status == 200
    worker.hang_up()
    held.close()
    for _ in range(2):  # and to the one after that
        with Successor() as successor:
            back = successor.rejoin(worker)
            assert (back.handle.started, back.handle.accepting) == (True, {"web:0"})
            successor.wait(lambda back=back: back.handle.meters.read().requests > 0)
            with socket.socket(fileno=back.handle.take_listeners()["web:0"]) as listener:
                assert worker.request("/", to=listener).status == 200
                back.say("accept", (other.fileno(),), key="web:1")
                back.wait("accepting", key="web:1")
                assert worker.request("/", to=other).status == 200
                back.say("release", key="web:0")
                back.wait("released", key="web:0")
                back.say("release", key="web:1")
                back.wait("released", key="web:1")
                assert not _holds(worker.pid, listener)
                # Nobody accepts: what comes now waits until somebody does.
                with worker.connect(listener) as client:
                    client.send("/")
                    back.say("accept", (listener.fileno(),), key="web:0")
                    back.wait("accepting", key="web:0")
                    assert client.answer().status == 200
    with Successor() as successor:
        back = successor.rejoin(worker)
        with socket.socket(fileno=back.handle.take_listeners()["web:0"]) as listener:
            worker.signal(signal.SIGTERM)
            back.wait("draining")
            back.wait("drained")
            assert worker.exit_code() == 0
            successor.wait(lambda: back.is_closed)


def _holds(pid: int, listener: socket.socket) -> bool:
    """Whether a process has a listener open."""
    inode, fds = os.fstat(listener.fileno()).st_ino, f"/proc/{pid}/fd"
    held = set()
    for fd in os.listdir(fds):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile: a connection that is over
            held.add(os.readlink(f"{fds}/{fd}"))
    return f"socket:[{inode}]" in held
