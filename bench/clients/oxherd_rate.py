"""Asks Oxherd for the status of all, one request after another on one connection; prints how often a second."""

from __future__ import annotations

import json
import socket
import sys
import time

path, seconds = sys.argv[1], float(sys.argv[2])
line = (
    json.dumps({"oxherd": 1, "version": "bench", "id": 1, "verb": "status", "args": {"stack": None}}).encode() + b"\n"
)
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(path)
    answers = connection.makefile("rb")
    begun, count = time.monotonic(), 0
    while time.monotonic() < begun + seconds:
        connection.sendall(line)
        if b'"result"' not in answers.readline():
            sys.exit("no result")
        count += 1
    print(count / (time.monotonic() - begun))
