"""What Oxherd knows of one well-known command: plain data."""

from __future__ import annotations

from oxherd.records import dataclass

__all__ = ["GENERIC", "Advice", "Bind", "Program"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    """An address a command line binds: a host and port, or the path of a unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    def text(self) -> str:
        """Return ``127.0.0.1:8000``, ``[::1]:8000`` or ``unix:/run/app.sock``."""
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """Something in the command line that works against a supervisor, and what to write instead."""

    message: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A recognised program.

    Attributes:
        name: Stable name: ``uvicorn``, ``celery-worker``, ``generic``.
        title: What people call it.
        drains: What it does with its stop signal, as a sentence without a full stop.
        singleton: Whether two at a time are a mistake.
        overlaps: Whether a new one may be started before the old one has gone, though it has no address of its own.
        default_stop_timeout: Seconds it is given to go where the oxfile does not say, or None for the usual time.
        default_stop_signal: The signal that makes it finish its work where the oxfile does not say, or None.
        binds: The addresses of its command line, its defaults included where they are certain.
        wrapper: What stands before it, such as ``uv run``.
        args: Its own arguments, the wrapper and its name taken off.
        behind_shell: Whether a shell stays between the supervisor and it.
        advice: What should be written differently.
        notes: What ``explain`` says about it.
    """

    name: str
    title: str
    drains: str
    singleton: bool = False
    overlaps: bool = False
    default_stop_timeout: float | None = None
    default_stop_signal: int | None = None
    binds: tuple[Bind, ...] = ()
    wrapper: str = ""
    args: tuple[str, ...] = ()
    behind_shell: bool = False
    advice: tuple[Advice, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def bind(self) -> Bind | None:
        """The first address, or None where the command line does not say."""
        return self.binds[0] if self.binds else None


GENERIC = Program(name="generic", title="a program Oxherd knows nothing special of", drains="gets its stop signal")
