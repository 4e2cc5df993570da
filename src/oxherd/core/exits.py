"""How a process ended, as a value and as words."""

from __future__ import annotations

from oxherd.records import dataclass
from oxherd.units import signal_name

__all__ = ["ExitStatus"]

# What the shell and env(1) return for a program they could not run; exec failures of our own never get here.
_SHELL_CODES = {126: "found, but cannot be executed", 127: "command not found"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitStatus:
    """An exit code or a signal; both None where nobody could see how it ended (it was not our child).

    Attributes:
        code: Exit code 0 to 255.
        signal: Number of the signal that killed it.
        core_dumped: Whether the kernel wrote a core.
        oom: Whether the kernel killed it for want of memory.
    """

    code: int | None = None
    signal: int | None = None
    core_dumped: bool = False
    oom: bool = False

    @property
    def unknown(self) -> bool:
        """Whether nobody could see how it ended."""
        return self.code is None and self.signal is None

    @property
    def success(self) -> bool:
        """Whether it ended with code 0."""
        return self.code == 0

    @property
    def text(self) -> str:
        """The ending in words: ``exited with 1``, ``killed by SIGSEGV (core dumped)``."""
        if self.signal is not None:
            extra = " (out of memory)" if self.oom else " (core dumped)" if self.core_dumped else ""
            return f"killed by {signal_name(self.signal)}{extra}"
        if self.code is not None:
            extra = f" ({_SHELL_CODES[self.code]})" if self.code in _SHELL_CODES else ""
            return f"exited with {self.code}{extra}"
        return "ended in a way nobody could see"
