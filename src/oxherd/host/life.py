"""What a process of the host does from its first message to its exit code."""

from __future__ import annotations

import os
import signal
import sys

from .channel import Channel
from .leaving import leave
from .worker import Worker
from .zygote import Birth, Zygote

__all__ = ["main"]


def main(role: str, fd: int) -> int:
    """Run a role over a channel and return the exit code.

    Args:
        role: "worker" or "zygote".
        fd: The channel's descriptor.
    """
    # What the supervisor blocks for its own sake must not stay blocked in an app.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    channel = Channel(fd)
    received = channel.receive()
    if received is None:
        return 0
    boot, fds = received
    match role:
        case "worker":
            return _work(Worker(channel, boot, fds))
        case "zygote":
            # Serving ends twice: in the zygote with an exit code, and in each worker with what it was born to.
            match Zygote(channel, boot, fds).serve():
                case Birth() as birth:
                    return _work(Worker(birth.channel, birth.message, birth.fds, birth.loaded))
                case code:
                    # At once: what the app registered to happen at exit is the workers' to do, who live on.
                    sys.stdout.flush()
                    sys.stderr.flush()
                    os._exit(code)
        case _:
            sys.stderr.write(f"oxherd: there is no role {role!r}\n")
            return 2


def _work(worker: Worker) -> int:
    code = worker.run()
    if worker.outlived:
        leave(code)
    return code
