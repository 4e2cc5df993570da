"""One line that is rewritten on a terminal; one line a step elsewhere."""

from __future__ import annotations

import time
from typing import TextIO

__all__ = ["Progress"]


class Progress:
    """Tells what is done now, how far it is, and what is left at the pace so far."""

    def __init__(self, stream: TextIO) -> None:
        """Write to a stream, in place if it is a terminal."""
        self._stream = stream
        self._live = stream.isatty()
        self._begun = time.monotonic()
        self._steps = 0

    def step(self, total: int, what: str) -> None:
        """Begin one of so many steps."""
        done, self._steps = self._steps, self._steps + 1
        left = ""
        if done:
            seconds = (time.monotonic() - self._begun) / done * (total - done)
            left = f", about {seconds / 60:.0f} min left" if seconds >= 60 else f", about {seconds:.0f} s left"
        line = f"[{self._steps}/{total}{left}] {what}"
        self._stream.write(f"\r\x1b[K{line}" if self._live else f"{line}\n")
        self._stream.flush()

    def tell(self, text: str) -> None:
        """Say what must not be overwritten."""
        self._stream.write(f"\r\x1b[K{text}\n" if self._live else f"{text}\n")
        self._stream.flush()

    def done(self) -> None:
        """Clear the line."""
        if self._live:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
