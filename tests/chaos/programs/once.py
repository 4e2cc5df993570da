"""Does something once and ends: once.py RUNS. Each run leaves one line."""

import os
import sys

fd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
os.write(fd, f"{os.getpid()}\n".encode())
print("done", flush=True)
