"""Orphans fall to the supervisor: prctl(2), PR_SET_CHILD_SUBREAPER.

The attribute survives an exec, and ctypes costs half a megabyte. So the short-lived program that becomes the supervisor
calls `become_subreaper` and then execs the supervisor, which never loads ctypes.
"""

from __future__ import annotations

import os

__all__ = ["become_subreaper", "is_subreaper"]

# linux/prctl.h.
_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37


def become_subreaper() -> bool:
    """Make this process the one to which orphaned descendants fall.

    Returns:
        Whether it is so now. PID 1 is it by nature; without Linux nobody is.
    """
    import ctypes  # noqa: PLC0415 - only the bootstrap pays for it

    try:
        prctl = ctypes.CDLL(None, use_errno=True).prctl
    except (AttributeError, OSError):
        return os.getpid() == 1
    return prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0 or os.getpid() == 1


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
