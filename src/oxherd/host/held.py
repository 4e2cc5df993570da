"""The listeners a worker holds a second descriptor of, so that the next supervisor can have them from it.

A listener lives as long as any process has it open. The supervisor's own descriptors end with the supervisor; the engine's
are the engine's, each of which keeps them in another way. So for every key the worker accepts on it keeps a duplicate,
which costs one descriptor and no memory.

It is kept for exactly as long as the engine accepts:

* on ``release`` it is closed before the worker says that it has released. Somebody else serves that listener from then on;
* when the worker becomes a lame duck it is closed as well, although the next supervisor might want it. A listening socket
  keeps taking connections for its queue until its last descriptor is closed: held by a process that accepts nothing any
  more, it would keep the address taken, and connections waiting for nobody, for as long as the last request of that
  process goes on; with SO_REUSEPORT it would go on getting its share beside listeners that are served. Whoever made the
  worker a lame duck holds the listener itself, and has mostly given it to a successor first. What is lost by it: where a
  supervisor is killed between the one worker's farewell and the other's start, and no other worker has that listener, the
  connections in its queue are reset.
"""

from __future__ import annotations

import _thread
import contextlib
from typing import TYPE_CHECKING

from .channel import close_fd

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Held"]

# Before the app may have patched it (gevent): it is shared by real threads.
_allocate_lock = _thread.allocate_lock


class Held:
    """Duplicates of listeners by their keys.

    `keep`, `forget` and `lent` belong to one thread, the control thread; `let_go` may come from any thread and from a
    signal handler, and never waits: if the descriptors are being sent at that moment, the control thread closes them
    when it has sent them.
    """

    def __init__(self) -> None:
        """Hold nothing."""
        self._fds: dict[str, int] = {}
        self._lock = _allocate_lock()
        self._is_over = False

    def keep(self, key: str, fd: int) -> None:
        """Hold a descriptor, owned from now on, in place of the one of this key there may be."""
        with self._lock:
            old = self._fds.pop(key, None)
            self._fds[key] = fd
        if old is not None:
            close_fd(old)
        self._settle()

    def forget(self, key: str) -> None:
        """Close the descriptor of a key; unknown: ignored."""
        with self._lock:
            fd = self._fds.pop(key, None)
        if fd is not None:
            close_fd(fd)

    @contextlib.contextmanager
    def lent(self) -> Iterator[Mapping[str, int]]:
        """The descriptors by their keys; none of them is closed inside the block."""
        try:
            with self._lock:
                yield dict(self._fds)
        finally:
            self._settle()

    def let_go(self) -> None:
        """Close them all, now and whenever one more comes."""
        self._is_over = True
        self._settle()

    def _settle(self) -> None:
        # Who finds the lock taken leaves it to whoever has it, who looks here after giving it back.
        while self._is_over and self._fds and self._lock.acquire(blocking=False):
            try:
                while self._fds:
                    close_fd(self._fds.popitem()[1])
            finally:
                self._lock.release()
