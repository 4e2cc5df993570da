"""Takes a lock nobody else may have, and records it if somebody has: alone.py LOCK OVERLAPS [SECONDS].

With SECONDS it ends by itself after so long, as a job does.
"""

import fcntl
import os
import signal
import sys
import time

lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)


def note(text: str) -> None:
    fd = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{os.getpid()} {text} at {time.monotonic():.3f}\n".encode())
    os.close(fd)


try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    holder = os.pread(lock, 100, 0).decode(errors="replace").strip()
    note(f"runs beside {holder}")
else:
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
print("begins", os.getpid(), flush=True)
if len(sys.argv) > 3:
    time.sleep(float(sys.argv[3]))
else:
    signal.sigwait({signal.SIGTERM})
print("ends", os.getpid(), flush=True)
