"""Helpers as the supervisor runs them: real programs, the real launcher, virtual time."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Collection, Container

from oxherd.core.exits import ExitStatus
from oxherd.daemon.children import Children
from oxherd.daemon.helpers import Helpers
from oxherd.system.spawn import Launch, LaunchRequest, launch
from oxherd.system.tree import descendants, strays_of
from support.fake_loop import FakeLoop

__all__ = ["HelperSystem", "make_helpers"]


class HelperSystem:
    """The part of the system port that helpers need, for a test process that shares its children with nobody.

    Attributes:
        refusal: Raised instead of the next launches, where a test wants a machine that refuses.
        marks: The marks of everything that was launched.
    """

    def __init__(self) -> None:
        self.refusal: Exception | None = None
        self.marks: list[str] = []

    def launch(self, request: LaunchRequest) -> Launch:
        if self.refusal is not None:
            raise self.refusal
        self.marks.append(request.env["OXHERD_MARK"])
        return launch(request)

    def exit_of(self, pid: int, pidfd: int) -> ExitStatus | None:
        result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
        if result is None:
            return None
        if result.si_code == os.CLD_EXITED:
            return ExitStatus(code=result.si_status)
        return ExitStatus(signal=result.si_status)

    def signal(self, pid: int, pidfd: int, signum: int) -> bool:
        signal.pidfd_send_signal(pidfd, signum)
        return True

    def tree(self, pid: int) -> list[int]:
        return descendants(pid)

    def leftovers(self, mark: str, main_pid: int, known: Container[int], pipes: Collection[int]) -> list[int]:
        # Orphans of a test fall to whoever is the subreaper above it, not to the test.
        return strays_of(mark, main_pid, known, pipes)

    def kill_all(self, pids: object, signum: int) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)


def make_helpers(loop: FakeLoop) -> tuple[Helpers, HelperSystem]:
    """Return helpers on a loop, and the system below them."""
    system = HelperSystem()
    return Helpers(loop, system, Children(loop, system, lambda: None)), system
