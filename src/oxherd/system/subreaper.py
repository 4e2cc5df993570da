"""Orphans fall to the supervisor: prctl(2), PR_SET_CHILD_SUBREAPER.

The attribute survives an exec, and ctypes costs half a megabyte. So the short-lived program that becomes the supervisor
calls `become_subreaper` and then execs the supervisor, which never loads ctypes.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["become_subreaper", "is_subreaper", "subreaper"]

# linux/prctl.h.
_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37


def become_subreaper() -> bool:
    """Make this process the one to which orphaned descendants fall.

    Returns:
        Whether it is so now. PID 1 is it by nature; without Linux nobody is.
    """
    return subreaper()() == 0 or os.getpid() == 1


def subreaper() -> Callable[[], int]:
    """Return a function that makes its process a subreaper and returns 0 if it is one; safe between fork and exec."""
    import ctypes  # noqa: PLC0415 - only who is about to become, or to start, a supervisor pays for it

    try:
        prctl = ctypes.CDLL(None, use_errno=True).prctl
    except (AttributeError, OSError):
        return lambda: -1

    def become() -> int:
        return int(prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))

    return become


def is_subreaper() -> bool:
    """Return whether orphaned descendants fall to this process. Loads ctypes: ``/proc`` does not show the attribute."""
    if os.getpid() == 1:
        return True
    import ctypes  # noqa: PLC0415 - for checks, not for the supervisor

    try:
        prctl = ctypes.CDLL(None, use_errno=True).prctl
    except (AttributeError, OSError):
        return False
    answer = ctypes.c_int(0)
    return prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(answer), 0, 0, 0) == 0 and bool(answer.value)
