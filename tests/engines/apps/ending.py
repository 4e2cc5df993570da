"""An app that has something to do at the end of its process."""

import atexit
import os
import sys
import threading

from serving import app, wsgi

__all__ = ["app", "wsgi"]


class Taken:
    """Tells when the interpreter takes itself apart."""

    def __del__(self, write=os.write):
        write(1, b"taken apart\n")


def wait_for_the_end():
    threading.main_thread().join()
    print("the thread has ended")


# Not in this module: workers never look for cycles in what was imported, and the module is one.
sys.taken = Taken()
atexit.register(print, "at exit")
thread = threading.Thread(target=wait_for_the_end)
thread.start()
