"""Many commands at once on the same processes: each is answered, and the end is what the last one wanted."""

from __future__ import annotations

import random
import threading

from oxherd.errors import OxherdError
from support.harness import descendants

CLIENTS = 20
COMMANDS = 100


def test_two_thousand_starts_and_stops_from_twenty_clients(ox):
    """Every command is answered; the supervisor answers others meanwhile; afterwards each process is up once, or down."""
    names = [f"p{number}" for number in range(8)]
    ox.oxfile("".join(f'[processes.{name}]\ncommand = "sleep 100000"\n' for name in names))
    ox.ok("start")
    before = ox.fds()
    oxfile = ox.compiled()
    answered: list[int] = []
    trouble: list[str] = []

    def hammer(seed: int) -> None:
        chance = random.Random(seed)
        with ox.client() as client:
            for _ in range(COMMANDS):
                verb, name = chance.choice(["start", "stop", "restart"]), chance.choice(names)
                args = {"oxfile": oxfile, "env": ox.env} if verb == "start" else {}
                try:
                    client.request(verb, timeout=120, stack=ox.stack, names=[name], **args)
                except OxherdError as error:
                    trouble.append(f"{verb} {name}: {error}")
                    return
                answered.append(1)

    threads = [threading.Thread(target=hammer, args=(seed,)) for seed in range(CLIENTS)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert len(ox.rows()) == len(names)
        ox.events.take(0.05)
    for thread in threads:
        thread.join()
    assert trouble == []
    assert len(answered) == CLIENTS * COMMANDS
    ox.ok("start")
    assert {row["status"] for row in ox.rows()} == {"running"}
    assert sorted(descendants(ox.supervisor)) == sorted(row["pid"] for row in ox.rows())
    ox.wait_fds(before)
    ox.ok("stop")
    assert descendants(ox.supervisor) == []
