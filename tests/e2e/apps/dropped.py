"""What a process that was given another user is, and what it can still do: written as JSON into a folder.

As a program: ``dropped.py FOLDER NAME SOCKET STATE [wait]``. As an app: its zygote and its workers write theirs.
"""

import json
import os
import signal
import socket
import sys


def attempt(action) -> str:
    """Return the name of the error that something ends with, or "allowed"."""
    import errno

    try:
        action()
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error.errno))
    return "allowed"


def connected(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


def record(folder: str, name: str, control: str, state: str) -> None:
    with open("/proc/self/status") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    parent = os.getppid()
    # Of descriptors that are inherited: truncating them, and reading or writing files of the supervisor's.
    links = {
        number: os.readlink(f"/proc/self/fd/{number}")
        for number in range(64)
        if os.path.exists(f"/proc/self/fd/{number}")
    }
    found = {
        "uid": status["Uid"].split(),
        "gid": status["Gid"].split(),
        "groups": status["Groups"].split(),
        "no_new_privs": status["NoNewPrivs"].strip(),
        "capabilities": [status[key].strip() for key in ("CapInh", "CapPrm", "CapEff", "CapAmb")],
        "umask": status["Umask"].strip(),
        "signal_parent": attempt(lambda: os.kill(parent, 0)),
        "parent_environ": attempt(lambda: os.listdir(f"/proc/{parent}/fd")),
        "connect": attempt(lambda: connected(control)),
        "list_state": attempt(lambda: os.listdir(state)),
        "regain": attempt(lambda: os.setuid(0)),
        "regain_groups": attempt(lambda: os.setgroups([0])),
        "files": sorted(link for link in links.values() if link.startswith("/") and not link.startswith("/dev/")),
        "cut_meters": [
            attempt(lambda number=number: os.ftruncate(number, 0))
            for number, link in links.items()
            if "oxherd-meters" in link
        ],
    }
    temporary = os.path.join(folder, f".{name}")
    with open(temporary, "w") as file:
        json.dump(found, file)
    os.rename(temporary, os.path.join(folder, f"{name}.json"))


async def app(scope, receive, send) -> None:
    if scope["type"] == "lifespan":
        await receive()
        record(
            os.environ["REPORTS"],
            f"worker-of-{os.environ['OXHERD_PROCESS']}",
            os.environ["CONTROL"],
            os.environ["STATE"],
        )
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})


if __name__ == "__main__":
    record(*sys.argv[1:5])
    while sys.argv[5:]:
        signal.pause()
elif "REPORTS" in os.environ:
    record(
        os.environ["REPORTS"], f"import-of-{os.environ['OXHERD_PROCESS']}", os.environ["CONTROL"], os.environ["STATE"]
    )
