"""Many commands at once on the same processes: each is answered, and the end is what the last one wanted."""

from __future__ import annotations

import random
import socket
import threading

from oxherd import __version__
from oxherd.control.protocol import LineBuffer, decode_line, request_line
from support.harness import descendants
from support.waiting import DEADLINE

CLIENTS = 20
COMMANDS = 100
NAMES = [f"p{number}" for number in range(8)]


class Hammer(threading.Thread):
    """A client that sends all its commands without waiting, and then takes the answers."""

    def __init__(self, ox, seed: int, oxfile: dict[str, object]) -> None:
        super().__init__(daemon=True)
        self.path = ox.home.socket
        self.answers: dict[int, dict[str, object]] = {}
        self.trouble: BaseException | None = None
        chance = random.Random(seed)
        lines = []
        for identity in range(COMMANDS):
            verb, name = chance.choice(["start", "stop", "restart"]), chance.choice(NAMES)
            args = {"stack": ox.stack, "names": [name]}
            if verb == "start":
                args |= {"oxfile": oxfile, "env": ox.env}
            lines.append(request_line(identity=identity, version=__version__, verb=verb, args=args))
        self.request = b"".join(lines)

    def run(self) -> None:
        try:
            self._talk()
        except BaseException as error:  # noqa: BLE001 - a thread has nobody else to tell  # noqa: BLE001 - it is the test's, which looks at it
            self.trouble = error

    def _talk(self) -> None:
        buffer = LineBuffer()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(2 * DEADLINE)
            connection.connect(self.path)
            connection.sendall(self.request)
            while len(self.answers) < COMMANDS:
                data = connection.recv(1 << 20)
                assert data, f"hung up on after {len(self.answers)} answers"
                for message in map(decode_line, buffer.feed(data)):
                    if "progress" not in message:
                        assert message["id"] not in self.answers, "answered twice"
                        self.answers[message["id"]] = message


def test_two_thousand_starts_and_stops_from_twenty_clients(ox):
    """Every command gets one answer; the supervisor answers others meanwhile; afterwards each process is up once."""
    ox.oxfile("".join(f'[processes.{name}]\ncommand = "sleep 100000"\n' for name in NAMES))
    ox.ok("start")
    before = ox.fds()
    hammers = [Hammer(ox, seed, ox.compiled()) for seed in range(CLIENTS)]
    for hammer in hammers:
        hammer.start()
    while any(hammer.is_alive() for hammer in hammers):
        assert len(ox.rows()) == len(NAMES)
        ox.events.take(0.05)
    assert [hammer.trouble for hammer in hammers if hammer.trouble] == []
    answers = [answer for hammer in hammers for answer in hammer.answers.values()]
    assert len(answers) == CLIENTS * COMMANDS
    assert [answer["error"] for answer in answers if "error" in answer] == []
    ox.ok("start")
    assert {row["status"] for row in ox.rows()} == {"running"}
    assert sorted(descendants(ox.supervisor)) == sorted(row["pid"] for row in ox.rows())
    ox.wait_fds(before)
    ox.ok("stop")
    assert descendants(ox.supervisor) == []
