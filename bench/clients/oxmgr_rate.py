"""Asks Oxmgr's daemon for the status of all, one connection a request as its own client does; prints how often a second."""

from __future__ import annotations

import json
import socket
import sys
import time

host, _, port = sys.argv[1].partition(":")
seconds = float(sys.argv[2])


def ask() -> None:
    """Ask once and read the whole answer."""
    with socket.create_connection((host, int(port))) as stream, stream.makefile("rb") as answers:
        stream.sendall(b'{"type":"list"}\n')
        if not json.loads(answers.readline())["ok"]:
            raise SystemExit("it refuses")


ask()
begun, count = time.monotonic(), 0
while time.monotonic() < begun + seconds:
    ask()
    count += 1
print(count / (time.monotonic() - begun))
