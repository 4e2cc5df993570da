"""Waiting in end-to-end tests: one deadline, scalable for slow machines, and never a sleep of a guessed length."""

from __future__ import annotations

import os
import select
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

__all__ = ["DEADLINE", "Expiry", "wait_gone", "wait_until"]

# Seconds after which something that has to happen has not happened. Generous: it is only ever reached by a failure.
DEADLINE = 30.0 * float(os.environ.get("OXHERD_TEST_TIMEOUT_FACTOR", "1"))

_LOOK_EVERY = 0.01


class Expiry:
    """A point in time after which waiting is over.

    Args:
        seconds: From now; the one deadline of the tests if None.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self._end = time.monotonic() + (DEADLINE if seconds is None else seconds)

    @property
    def left(self) -> float:
        """Seconds that are left, at least 0."""
        return max(0.0, self._end - time.monotonic())

    @property
    def over(self) -> bool:
        """Whether the time is up."""
        return self.left <= 0


def wait_until(look: Callable[[], T], what: object = "it", seconds: float | None = None) -> T:
    """Look every few milliseconds until what is seen is true, for effects that no event tells of; return it.

    Args:
        look: Looks.
        what: What is waited for, or a function that says how far it has come; for the failure.
        seconds: How long to wait at most; the deadline of the tests if None.

    Raises:
        AssertionError: It did not come about.
    """
    expiry = Expiry(seconds)
    while not (seen := look()):
        if expiry.over:
            said = what() if callable(what) else what
            raise AssertionError(f"waited in vain for {said}; last seen: {seen!r}")
        time.sleep(_LOOK_EVERY)
    return seen


def wait_gone(pid: int) -> None:
    """Wait until a process has ended; a zombie has.

    Raises:
        AssertionError: It lives on.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        assert poller.poll(DEADLINE * 1000), f"process {pid} did not end"
    finally:
        os.close(pidfd)
