"""The garbage collector of a process that serves: what it looks at, and how often."""

from __future__ import annotations

import gc

__all__ = ["look_seldom", "settle"]

# New containers, less those that have gone, between two looks at the young ones. Python's default (700, 2,000 since 3.14)
# is for programs that do one thing at a time: with 64 requests in flight an endpoint in FastAPI's pool of threads is
# looked at every nine requests, finds next to nothing, and spends a sixth of its time on it. What has to wait for the
# collector (reference cycles) waits longer; of FastAPI's workers that was less than a megabyte of fifteen.
_YOUNG = 10_000


def look_seldom() -> None:
    """Raise the first threshold, before the app is imported: an app or an interpreter with settings of its own keeps them."""
    young, *older = gc.get_threshold()
    # 0 is a collector that was turned off.
    if 0 < young < _YOUNG:
        gc.set_threshold(_YOUNG, *older)


def settle() -> None:
    """Throw away what the import left, and have the collector leave alone what is there now: it lives as long as the app.

    Without this a full collection walks through all of it, tens of milliseconds in a large app, and in forked workers each
    page that it walks through becomes a copy.
    """
    gc.collect()
    gc.freeze()
