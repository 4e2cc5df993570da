"""The supervisor is killed again and again, or becomes another version of itself, under load: nobody who asks notices."""

from __future__ import annotations

import pytest

WHOLE = 50_000
THOROUGH = {"uvicorn", "uvicorn-command"}


def times_of(served, *, full):
    return 5 if full or served.name in THOROUGH else 2


@pytest.mark.served
def test_a_killed_supervisor_costs_no_request(scene, full):
    """The same workers serve on; the next command's supervisor has adopted them, and can still reload them."""
    times = times_of(scene.served, full=full)
    scene.start()
    ox, before = scene.ox, scene.pids()
    with scene.load() as client:
        for number in range(times):
            client.mark(f"kill {number + 1}")
            ox.kill_supervisor()
            client.answers(100)
            ox.ok("status")
            assert scene.pids() == before
            client.mark(f"after kill {number + 1}")
            client.answers(WHOLE // times if full else 200)
        if scene.served.hosted:
            release = scene.release()
            result = scene.reload()
            assert result.code == 0, result
            scene.wait_answering(client, release)
            client.answers(100)
    scene.assert_nothing_lost()
    if not scene.served.hosted:
        # What a reload of a program that runs by itself costs is told in docs/concepts/lossless.md; here it has to work.
        result = scene.reload()
        assert result.code == 0, result
    if full:
        assert scene.report["requests"] >= WHOLE


@pytest.mark.served
def test_an_upgrade_costs_no_request(scene, full):
    """Same supervisor, same workers, another version of the program."""
    times = times_of(scene.served, full=full)
    scene.start()
    ox, before, supervisor = scene.ox, scene.pids(), scene.ox.supervisor
    with scene.load() as client:
        for number in range(times):
            client.mark(f"upgrade {number + 1}")
            ox.hang_up()
            ox.ok("daemon", "upgrade")
            assert (ox.supervisor, scene.pids()) == (supervisor, before)
            client.answers(WHOLE // times if full else 200)
    scene.assert_nothing_lost()
    if full:
        assert scene.report["requests"] >= WHOLE
