"""Requests for as long as something else is done: every one of them is counted, and none is tried twice."""

from __future__ import annotations

import http.client
import json
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Traffic"]


class Traffic:
    """Clients that ask for ``/health`` one request after the other until the block ends.

    Half of them keep their connection, as a proxy does; the other half make one for each request. A connection is only
    made anew where the server has said ``Connection: close``.

    Args:
        port: Where to ask, on 127.0.0.1.
        clients: How many, each a thread.
        patience: Seconds an answer may take.

    Attributes:
        answered: Requests that were answered with 200.
        lost: What went wrong with the others.
        pids: Who has answered.
    """

    def __init__(self, port: int, *, clients: int = 8, patience: float = 30.0) -> None:
        """Ask nobody yet."""
        self.answered = 0
        self.lost: list[str] = []
        self.pids: set[int] = set()
        self._port = port
        self._patience = patience
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask, args=(bool(number % 2),)) for number in range(clients)]

    def __enter__(self) -> Self:
        """Begin to ask."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """Let every client finish its request."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, keeps: bool) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=self._patience)
        headers = {} if keeps else {"Connection": "close"}
        while not self._over.is_set():
            try:
                connection.request("GET", "/health", headers=headers)
                answer = connection.getresponse()
                content = answer.read()
                self._count(answer.status, content)
            except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
                with self._lock:
                    self.lost.append(f"{type(error).__name__}: {error}")
                connection.close()
        connection.close()

    def _count(self, status: int, content: bytes) -> None:
        with self._lock:
            if status == 200:
                self.answered += 1
                self.pids.add(json.loads(content)["pid"])
            else:
                self.lost.append(f"answered with {status}")
