"""Signals that a main thread hears although it waits in a system call."""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["NUDGE", "Nudge"]

# Nobody else's: its handler does nothing but say that Python is between two instructions again.
NUDGE = signal.SIGRTMIN + 6
# Seconds until the main thread is nudged, and at the most between two nudges: it may be in C code that takes its time.
_FIRST, _LONGEST = 0.02, 1.0


class Nudge:
    """Sees to it, in a thread of its own, that every signal is heard.

    Python runs a handler between two instructions of the main thread, and a system call that waits is cut short for it. A
    signal that comes after the last instruction before that call, or that the kernel gives to another thread, cuts nothing
    short: where the call has no timeout, as the read of a client that says nothing, the handler waits for that client.

    Made in the main thread.
    """

    def __init__(self) -> None:
        """Begin to look."""
        self._main = threading.get_ident()
        self._heard = False
        self._read, write = os.pipe()
        os.set_blocking(write, False)
        signal.signal(NUDGE, self._on_nudge)
        # The C handler writes the number of each signal there, in whichever thread.
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        _thread.start_new_thread(self._look, ())

    def _on_nudge(self, _signal: int, _frame: FrameType | None) -> None:
        # Handlers of lower numbers, those of all signals that ask for something, have run before this one.
        self._heard = True

    def _look(self) -> None:
        while numbers := os.read(self._read, 64):
            if set(numbers) == {int(NUDGE)}:
                continue
            self._heard, pause = False, _FIRST
            while not self._heard:
                time.sleep(pause)
                # At the end of the process there is no main thread any more.
                with contextlib.suppress(ProcessLookupError):
                    signal.pthread_kill(self._main, NUDGE)
                pause = min(2 * pause, _LONGEST)
