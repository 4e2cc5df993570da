"""A fake system each of whose calls can be made to fail, once or until further notice, whatever it is asked for."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Any

from support.fake_host import HostedSystem

if TYPE_CHECKING:
    from support.fake_system import FakePipe, FakeSink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["FaultySystem"]

# Calls of the port that raise what they fail of; `kill_all` returns it, and a sink's pipes have a call of their own.
CALLS = (
    "launch",
    "open_sink",
    "exit_of",
    "next_dead",
    "signal",
    "tree",
    "survey",
    "leftovers",
    "sample",
    "accepting",
    "stop_accepting",
    "established",
)


class FaultySystem(HostedSystem):
    """Fails on demand.

    Attributes:
        hits: How often each call has failed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.hits: collections.Counter[str] = collections.Counter()
        self._left: dict[str, float] = {}
        self._error: Callable[[], BaseException] = AssertionError
        # At once: the supervisor takes some of the calls out of the port when it is put together.
        for call in CALLS:
            setattr(self, call, self._wrapped(call))

    def _wrapped(self, call: str) -> Callable[..., Any]:
        whole = getattr(self, call)

        def faulty(*args: Any, **named: Any) -> Any:
            self.strike(call)
            return whole(*args, **named)

        return faulty

    def break_down(self, call: str, error: Callable[[], BaseException], *, times: float) -> None:
        """Let a call fail so many times; each time with an exception of its own."""
        self._left[call], self._error = times, error
        if call == "watch":
            self._break_watching()

    def _break_watching(self) -> None:
        """The epoll has no room: epoll_ctl(2), ENOSPC and ENOMEM. What is watched already stays watched."""
        loop: Any = self.loop
        watch = type(loop)._watch

        def faulty(fd: int, events: int, callback: Callable[[], None]) -> None:
            if fd not in loop.watched and "support" not in callback.__module__:
                self.strike("watch")
            watch(loop, fd, events, callback)

        loop._watch = faulty

    def heal(self) -> None:
        """Nothing fails any more."""
        self._left.clear()

    def strike(self, call: str) -> None:
        """Fail if this call is to."""
        if self._left.get(call, 0) > 0:
            self._left[call] -= 1
            self.hits[call] += 1
            raise self._error()

    def open_sink(self, *, path: str, **rest: Any) -> FakeSink:
        """Open a log whose pipes fail on demand, too."""
        sink = super().open_sink(path=path, **rest)
        whole = sink.open_pipe

        def open_pipe(slot: int) -> FakePipe:
            self.strike("open_pipe")
            return whole(slot)

        sink.open_pipe = open_pipe  # type: ignore[method-assign]
        return sink

    def kill_all(self, pids: Iterable[int], signum: int) -> OSError | None:
        """Fail as the port does: the reason is returned, and nobody has got it."""
        try:
            self.strike("kill_all")
        except OSError as error:
            return error
        for pid in pids:
            # Not by `signal`, which is another call.
            HostedSystem.signal(self, pid, -1, signum)
        return None
