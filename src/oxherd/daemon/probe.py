"""What every kind of probe has in common: how it is begun and ended, and what comes of it."""

from __future__ import annotations

from oxherd.core.health import Check
from oxherd.records import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol

    class Probe(Protocol):
        """One probe under way. It calls back at most once, never from within `start` or `cancel`."""

        @property
        def missing(self) -> str:
            """What has not come yet, for the text of a timeout: "no answer"."""

        def start(self) -> None:
            """Begin; does not block and does not raise."""

        def cancel(self) -> None:
            """End without a call back, giving every descriptor back; idempotent."""

    Done = Callable[["Outcome"], None]

__all__ = ["Outcome", "ProbeContext", "ProbeResult", "trouble_of"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a probe found.

    Attributes:
        passed: Whether the program is well; None when this machine could not ask (no descriptors, no memory), which
            says nothing about the program.
        detail: One line for people.
    """

    passed: bool | None
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeContext:
    """Where a probe command runs and what stands for ``{instance}``.

    Attributes:
        instance: The slot.
        env: The whole environment of a probe command.
        cwd: Its directory.
        user, group: Who runs it, or None for the supervisor's own.
        umask: Its umask, or None.
    """

    instance: int = 0
    env: Mapping[str, str] | None = None
    cwd: str = "/"
    user: str | None = None
    group: str | None = None
    umask: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """One result as it is reported.

    Attributes:
        ok: Whether the probe passed.
        detail: One line for people: "HTTP 503 from http://localhost:8000/health in 12 ms".
        seconds: How long it took.
        check: Which question it answers: a `Check.READINESS` result condemns nobody.
    """

    ok: bool
    detail: str
    seconds: float
    check: Check = Check.LIVENESS


def trouble_of(error: OSError) -> bool:
    """Whether an error says that this machine is out of something, and nothing about the program that is probed."""
    import errno  # noqa: PLC0415 - errors are rare

    return error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN, errno.EADDRNOTAVAIL}
