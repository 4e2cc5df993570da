"""Stands in for the supervisor in tests of how the command line starts it: fake_daemon.py MODE [--ready-fd N ...]."""

from __future__ import annotations

import fcntl
import json
import os
import sys

from oxherd.control.paths import find_home
from oxherd.daemon.control_server import ControlServer
from oxherd.system.loop import Loop


def ready_fd() -> int:
    return int(sys.argv[sys.argv.index("--ready-fd") + 1])


def say(message: object) -> None:
    os.write(ready_fd(), json.dumps(message).encode() + b"\n")
    os.close(ready_fd())


def main() -> None:
    mode, home = sys.argv[1], find_home(os.environ)
    if mode == "ends":
        sys.exit("it could not be: line one\nline two")
    if not os.read(ready_fd(), 1):
        return
    if mode == "refuses":
        say({"error": {"code": "OX602", "message": "cannot make the directory /x", "hint": "y", "exit_code": 1}})
        return
    if mode == "babbles":
        say("what?")
        os.write(2, b"babble\n")
        return
    lock = os.open(home.lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say({"error": {"code": "OX430", "message": "running already", "hint": "", "exit_code": 1}})
        return
    loop = Loop(lambda error: sys.exit(repr(error)))

    def dispatch(request, reply) -> None:
        if request.verb == "shutdown":
            reply.result({})
            loop.call_later(0.01, loop.stop)
            return
        facts = {"pid": os.getpid(), "session": os.getsid(0), "cwd": os.getcwd(), "argv": sys.argv[1:]}
        facts["stdin"] = os.readlink("/proc/self/fd/0")
        facts["fds"] = sorted(int(name) for name in os.listdir("/proc/self/fd"))
        reply.result({**facts, "home": os.environ["OXHERD_HOME"], "rows": []})

    server = ControlServer(loop, home.socket, dispatch, version="0.1.0", owner_uid=os.geteuid())
    say({"ready": True, "pid": os.getpid()})
    loop.run()
    server.close()


main()
