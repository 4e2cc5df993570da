"""Asks supervisord for the status of all, one request after another by its own proxy; prints how often a second."""

from __future__ import annotations

import sys
import time
from xmlrpc.client import ServerProxy

from supervisor.xmlrpc import SupervisorTransport

path, seconds = sys.argv[1], float(sys.argv[2])
proxy = ServerProxy("http://127.0.0.1", transport=SupervisorTransport(None, None, f"unix://{path}"))
proxy.supervisor.getAllProcessInfo()
begun, count = time.monotonic(), 0
while time.monotonic() < begun + seconds:
    proxy.supervisor.getAllProcessInfo()
    count += 1
print(count / (time.monotonic() - begun))
