"""A fake system each of whose calls can be made to fail, once or until further notice, whatever it is asked for."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Any

from support.fake_host import HostedSystem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["FaultySystem"]


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

    def break_down(self, call: str, error: Callable[[], BaseException], *, times: float) -> None:
        """Let a call fail so many times; each time with an exception of its own."""
        self._left[call], self._error = times, error
        if call == "kill_all":
            return
        whole = getattr(self, call)

        def faulty(*args: Any, **named: Any) -> Any:
            self.strike(call)
            return whole(*args, **named)

        setattr(self, call, faulty)

    def heal(self) -> None:
        """Nothing fails any more."""
        self._left.clear()

    def strike(self, call: str) -> None:
        """Fail if this call is to."""
        if self._left.get(call, 0) > 0:
            self._left[call] -= 1
            self.hits[call] += 1
            raise self._error()

    def kill_all(self, pids: Iterable[int], signum: int) -> OSError | None:
        """Fail as the port does: the reason is returned, and nobody has got it."""
        try:
            self.strike("kill_all")
        except OSError as error:
            return error
        for pid in pids:
            HostedSystem.signal(self, pid, -1, signum)
        return None
