"""A port that is taken: every real server says it in its own words, Oxherd says who has it."""

from __future__ import annotations

import pytest

from support import services
from support.services import find_binary, nginx_config, unused_port
from support.web import APPS, Gates

OXFILE = """
[processes.uvicorn]
command = "uvicorn fast:app --port {port}"
adopt = false
working_dir = "{apps}"
restart = "never"

[processes.workers]
command = "uvicorn fast:app --port {port} --workers 2"
adopt = false
working_dir = "{apps}"
restart = "never"

[processes.gunicorn]
command = "gunicorn flasky:app --bind 127.0.0.1:{port}"
adopt = false
working_dir = "{apps}"
restart = "never"

[processes.flask]
command = "flask --app flasky run --port {port}"
working_dir = "{apps}"
restart = "never"

[processes.nginx]
command = "{nginx} -p {home} -e stderr -c {config}"
restart = "never"

[processes.redis]
command = "{redis} --port {port} --bind 127.0.0.1 --save ''"
restart = "never"
# Never ready, so that its end always comes before the end of the start.
[processes.redis.health_check]
command = "false"
"""

NAMES = ("uvicorn", "workers", "gunicorn", "flask", "nginx", "redis")


@pytest.fixture
def holder():
    with services.redis() as server:
        yield server


def test_the_holder_of_the_port_is_named(ox, holder):
    """Not "address already in use", but by whom: name and pid, in the events, in `start` and in `why`."""
    Gates(ox)
    home = ox.base / "nginx"
    home.mkdir()
    config = nginx_config(home, holder.port, unused_port())
    binaries = {"nginx": find_binary("nginx"), "redis": find_binary("redis-server")}
    ox.oxfile(OXFILE.format(port=holder.port, apps=APPS, home=home, config=config, **binaries))
    start = ox.cli("start")
    for name in NAMES:
        ox.wait("ended", name=name)
    assert start.code == 1, start
    who = f"port {holder.port} is held by redis-server (pid {holder.process.pid})"
    assert who in start.err
    cards = {card["name"]: card for card in ox.ok("why", "--json").json["cards"]}
    assert {name: who in cards[name]["cause"] for name in NAMES} == dict.fromkeys(NAMES, True)
    assert all("another port" in " ".join(cards[name]["hints"]) for name in NAMES)
    assert holder.process.poll() is None
    told = ox.ok("events", "-n", "100").out
    assert told.count(who) >= len(NAMES)
