"""uvicorn's workers for gunicorn, `uvicorn_worker` and `uvicorn.workers`: their configuration, our lame duck as server."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

from .base import Told
from .gunicorn_hosting import keep_signals
from .uvicorn import private_config, public_config
from .uvicorn_server import LameDuck

if TYPE_CHECKING:
    import socket

    from .gunicorn_hosting import Course

__all__ = ["hosted"]


def hosted(base: type[Any]) -> type[Any]:
    """Return the hosted form of a worker class that is uvicorn's or made of it."""
    return type(f"Hosted{base.__name__}", (_Uvicorn, base), {})


class _Uvicorn:
    """The part of the hosted class that comes before uvicorn's; `course` is set before `init_process`.

    The signals are uvicorn's while it serves, so that libraries that look for its handler find it.
    """

    course: Course
    config: Any
    wsgi: Any
    sockets: list[Any]

    @property
    def loop_name(self) -> str:
        """The event loop."""
        return self.server.loop_name

    def init_signals(self) -> None:
        keep_signals(self)

    def run(self) -> None:
        course, app = self.course, self.course.app
        self.config.callback_notify = None
        self.server = LameDuck(
            public_config(self.config, app.plain, app.tally, course.duck, app.log),
            private_config(self.config, self.wsgi),
            job=course.job,
            meters=course.meters,
            tally=app.tally,
            told=self._told(),
            draining=course.duck,
        )
        if code := self.server.live(self.sockets[0].sock):
            raise SystemExit(code)

    def _told(self) -> Told:
        def draining() -> None:
            self.course.draining = True
            self.course.announce()

        return Told(started=self.course.ready, draining=draining, closed=self.course.told.closed)

    # -- for the engine -----------------------------------------------------------------------------------------

    def attach(self, key: str, listener: socket.socket) -> None:
        """Accept on a listener, called from the control thread."""
        self.server.on_loop(lambda: self.server.add(key, listener))

    def detach(self, key: str) -> None:
        """Accept no more on a listener, called from the control thread."""
        self.server.on_loop(lambda: self.server.remove(key))

    def drain(self) -> None:
        """Drain, or drain sooner."""
        self.server.handle_exit(signal.SIGTERM, None)

    def halt(self) -> None:
        """Stop."""
        self.server.handle_exit(signal.SIGINT, None)

    def count(self) -> int:
        """Return the number of open connections that are not private."""
        return len(self.server.server_state.connections)
