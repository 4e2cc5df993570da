"""The end of a process in which threads that are not Python's may still call into it."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["flush_output", "leave"]


def leave(code: int) -> NoReturn:
    """Do what an interpreter does at its end, but for taking itself apart, and end the process.

    Threads are waited for, what the app registered with `atexit` is done, its output is written. An interpreter that is
    then taken apart under a thread of a Rust or C runtime ends by SIGSEGV instead, now and then.

    Args:
        code: The exit code, 0 to 255.
    """
    # The two that Py_FinalizeEx calls first, in its order; multiprocessing ends its processes by them too.
    threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001
    atexit._run_exitfuncs()  # noqa: SLF001
    flush_output()
    os._exit(code)


def flush_output() -> None:
    """Write what stdout and stderr hold back, where the app has left them as they were."""
    for stream in (sys.stdout, sys.stderr):
        # The app may have closed it, or put something else there.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
