"""Writes numbered lines as fast as it is told, and keeps outside itself how many it has written: writer.py FOLDER RATE.

The counter is a mapped file, set after each write(2) has returned: it outlives SIGKILL, and says how many lines the log
has to hold. One more may be there, if the kill came between the write and the count.
"""

import mmap
import os
import struct
import sys
import time

folder, rate = sys.argv[1], int(sys.argv[2])
BATCH = 0.02

# A pid alone may come back within a run of minutes; with the time of its start it does not.
with open("/proc/self/stat") as file:
    name = f"{os.getpid()}-{file.read().rpartition(')')[2].split()[19]}"

os.makedirs(folder, exist_ok=True)
fd = os.open(os.path.join(folder, f"{name}.new"), os.O_RDWR | os.O_CREAT, 0o600)
os.ftruncate(fd, 8)
counter = mmap.mmap(fd, 8)
# Whoever reads the folder finds only counters that are whole.
os.rename(os.path.join(folder, f"{name}.new"), os.path.join(folder, name))

written = 0
start = time.monotonic()
while True:
    due = int((time.monotonic() - start) * rate)
    if written >= due:
        time.sleep(BATCH)
        continue
    if due - written > rate:
        # It was stopped, or its pipe was full: it goes on from here and does not catch up.
        start = time.monotonic() - written / rate
    line = b"writer %b %d %b\n" % (name.encode(), written, b"." * (written % 61))
    os.write(1, line)
    written += 1
    counter[:] = struct.pack("<q", written)
