"""Work that takes exactly as long as the test wants: it says that it has begun, and waits for its gate to open.

For a gate `door` in the directory GATES: `door.begun` appears when the work begins, and it ends once `door.open` is there.
"""

import os
import time
from pathlib import Path


def directory():
    return Path(os.environ["GATES"])


def say_begun(name):
    (directory() / f"{name}.begun").write_text(str(os.getpid()))


def opened(name):
    return directory() / f"{name}.open"


def pass_through(name):
    """Wait at the gate."""
    say_begun(name)
    while not opened(name).exists():
        time.sleep(0.005)
