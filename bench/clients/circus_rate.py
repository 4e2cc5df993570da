"""Asks circusd for the status of all, one request after another by its own client; prints how often a second."""

from __future__ import annotations

import sys
import time

from circus.client import CircusClient

path, seconds = sys.argv[1], float(sys.argv[2])
client = CircusClient(endpoint=f"ipc://{path}", timeout=60)
begun, count = time.monotonic(), 0
while time.monotonic() < begun + seconds:
    client.send_message("status")
    count += 1
print(count / (time.monotonic() - begun))
