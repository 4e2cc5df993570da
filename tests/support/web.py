"""The client's side of a web server, and work that lasts exactly as long as a test wants."""

from __future__ import annotations

import http.client
import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from support.waiting import DEADLINE, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable

    from support.harness import Supervised

__all__ = [
    "APPS",
    "Answer",
    "Asking",
    "Gates",
    "Traffic",
    "ask",
    "left_of",
    "listening_inodes",
    "server_pids",
    "try_ask",
    "write_code",
]

APPS = Path(__file__).resolve().parent.parent / "e2e" / "apps"

_LISTEN = "0A"


@dataclass(frozen=True)
class Answer:
    """What a server said."""

    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(port: int, path: str, method: str = "GET") -> Answer:
    """Send one request on a connection of its own.

    Raises:
        OSError, http.client.HTTPException: Nobody answered, or not to the end.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return Answer(response.status, response.read(), {key.lower(): value for key, value in response.getheaders()})
    finally:
        connection.close()


def try_ask(port: int, path: str) -> Answer | None:
    """Send one request; None where nobody answers."""
    try:
        return ask(port, path)
    except (OSError, http.client.HTTPException):
        return None


def server_pids(port: int, count: int, path: str = "/health") -> set[int]:
    """Ask until so many server processes have answered; return their pids."""
    seen: set[int] = set()

    def all_answered() -> bool:
        seen.add(int(ask(port, path).json["pid"]))
        return len(seen) >= count

    wait_until(all_answered, lambda: f"{count} servers, answered by {seen}")
    return seen


class Asking:
    """A request that is under way."""

    def __init__(self, port: int, path: str) -> None:
        self._answer: Answer | Exception | None = None
        self._thread = threading.Thread(target=self._run, args=(port, path), daemon=True)
        self._thread.start()

    def _run(self, port: int, path: str) -> None:
        try:
            self._answer = ask(port, path)
        except (OSError, http.client.HTTPException) as error:
            self._answer = error

    @property
    def over(self) -> bool:
        return not self._thread.is_alive()

    def answer(self) -> Answer | Exception:
        """Wait for the end and return the answer, or why there was none."""
        self._thread.join(DEADLINE)
        assert self._answer is not None, "no answer came"
        return self._answer


class Traffic:
    """Clients that ask all the time, on kept connections, and never twice: whatever fails is in ``failures``."""

    def __init__(self, port: int, clients: int = 6) -> None:
        self.failures: list[str] = []
        self.answered = 0
        self._port = port
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        wait_until(lambda: self.answered or self.failures, "the first answer")
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=DEADLINE)
        while not self._over.is_set():
            try:
                connection.request("GET", "/")
                response = connection.getresponse()
                response.read()
                if response.status == http.HTTPStatus.OK:
                    self.answered += 1
                else:
                    self.failures.append(f"status {response.status}")
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
            # Off and on: a connection that is open while nothing is sent is what a restart loses first.
            self._over.wait(0.005)
        connection.close()


class Gates:
    """The gates at which the apps wait; see ``tests/e2e/apps/gate.py``."""

    def __init__(self, ox: Supervised) -> None:
        self.directory = ox.base / "gates"
        self.directory.mkdir()
        ox.env["GATES"] = str(self.directory)

    def wait_begun(self, name: str) -> int:
        """Wait until somebody stands at a gate; return the pid."""
        begun = self.directory / f"{name}.begun"
        return int(wait_until(lambda: begun.exists() and begun.read_text(), f"{name} to begin"))

    def open(self, name: str) -> None:
        """Let everybody pass."""
        (self.directory / f"{name}.open").touch()

    def lines(self, name: str) -> list[str]:
        """Return the lines of a file the apps write."""
        path = self.directory / name
        return path.read_text().splitlines() if path.exists() else []


def write_code(path: Path, text: str) -> None:
    """Write a module that is imported anew by the next process.

    Cached byte code is told from new source by size and whole second, which a test may well leave the same.
    """
    path.write_text(text)
    for cached in path.parent.glob(f"__pycache__/{path.stem}.*"):
        cached.unlink(missing_ok=True)


def left_of(family: Iterable[int]) -> list[int]:
    """Return those processes that are still there, zombies included."""
    return [pid for pid in family if os.path.exists(f"/proc/{pid}")]


def listening_inodes(port: int) -> set[str]:
    """Return the inodes of the sockets that listen on a TCP port, whatever their address; proc_net_tcp(5)."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(fields[9])
    return found
