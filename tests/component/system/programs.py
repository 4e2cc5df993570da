"""Programs that try to get away, as command lines."""

from __future__ import annotations

import sys

PYTHON = (sys.executable, "-I", "-S", "-c")

# Every program says "ready PID..." with the pids that shall be found, and then sleeps.
SLEEP = "import signal; signal.pause()"

DOUBLE_FORK = """
import os, signal
if os.fork() == 0:
    if os.fork() == 0:
        os.write(1, b"ready %d\\n" % os.getpid())
        signal.pause()
    os._exit(0)
os.wait()
"""

SETSID = """
import os, signal
if os.fork() == 0:
    os.setsid()
    os.write(1, b"ready %d\\n" % os.getpid())
    signal.pause()
"""

DAEMON = """
import os, signal
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        pid = os.getpid()
        os.write(1, b"ready %d\\n" % pid)
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        signal.pause()
    os._exit(0)
os.wait()
"""

# Without environment, without session: only the pipe it still holds gives it away.
NAMELESS = """
import os, signal, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        code = "import os, signal; os.write(1, b'ready %d\\\\n' % os.getpid()); signal.pause()"
        os.execve(sys.executable, [sys.executable, "-I", "-S", "-c", code], {})
    os._exit(0)
os.wait()
"""

# Without environment and with its output closed: only the session it was born into gives it away.
SILENT = """
import os, signal, sys
if os.fork() == 0:
    if os.fork() == 0:
        code = ("import os, signal; os.write(1, b'ready %d\\\\n' % os.getpid()); null = os.open('/dev/null', 2);"
                " [os.dup2(null, fd) for fd in (0, 1, 2)]; signal.pause()")
        os.execve(sys.executable, [sys.executable, "-I", "-S", "-c", code], {})
    os._exit(0)
os.wait()
"""

# Its child has children of its own.
FAMILY = """
import os, signal
if os.fork() == 0:
    if os.fork() == 0:
        pids = [os.getpid()]
        for _ in range(2):
            pid = os.fork()
            if pid == 0:
                signal.pause()
            pids.append(pid)
        os.write(1, b"ready %s\\n" % b" ".join(b"%d" % pid for pid in pids))
        signal.pause()
    os._exit(0)
os.wait()
"""

# Forks, each child as soon as it is born, and the parent goes: no two looks see the same process. Ends by itself after two minutes:
# nobody else could end what a test run that is killed leaves behind.
RUNNER = """
import os, time
os.write(1, b"ready %d\\n" % os.getpid())
end = time.monotonic() + 120
while time.monotonic() < end:
    if os.fork():
        os._exit(0)
"""

# Grows for as long as it lives; all of it ends after two minutes.
SPREADER = """
import os, signal, time
os.write(1, b"ready %d\\n" % os.getpid())
end = time.monotonic() + 120
while time.monotonic() < end:
    if os.fork() == 0:
        signal.alarm(120)
        signal.pause()
"""
