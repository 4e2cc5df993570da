"""Threads that are not waited for: a request that never ends must not keep a worker that has given it up."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Threads"]

_Work = tuple["Future[Any]", "Callable[..., Any]", tuple[Any, ...], dict[str, Any]]


class Threads(Executor):
    """An executor of daemon threads, started as they are needed.

    ``concurrent.futures.ThreadPoolExecutor`` is joined when the interpreter ends, whatever its threads are at.

    Args:
        most: How many there are at the most.
        name: The beginning of their names.
    """

    def __init__(self, most: int, name: str) -> None:
        """Start none yet."""
        self._most = most
        self._name = name
        self._queue: queue.SimpleQueue[_Work] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._started = 0
        self._lock = threading.Lock()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have a function called; see concurrent.futures.Executor."""
        future: Future[Any] = Future()
        self._queue.put((future, fn, args, kwargs))
        if self._idle.acquire(blocking=False):
            return future
        with self._lock:
            if self._started < self._most:
                self._started += 1
                threading.Thread(target=self._work, name=f"{self._name}-{self._started}", daemon=True).start()
        return future

    def _work(self) -> None:
        while True:
            future, function, args, kwargs = self._queue.get()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(*args, **kwargs))
                except BaseException as error:  # noqa: BLE001 - whoever asked gets it
                    future.set_exception(error)
            # What it holds may be large, and the next call far.
            del future, function, args, kwargs
            self._idle.release()
