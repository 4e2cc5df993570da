"""Scaling under load: workers come and go, their listeners' queues do not."""

from __future__ import annotations

import pytest

from support.waiting import wait_until


@pytest.mark.served("uvicorn", "gunicorn-gthread", "uvicorn-command", fits=lambda served: served.scales)
def test_one_four_one_loses_nothing(scene, full):
    scene.start()
    scene.ox.ok("scale", "web=1")
    with scene.load() as client:
        for number in range(3 if full else 1):
            client.mark(f"up {number + 1}")
            scene.ox.ok("scale", "web=4")
            pids = scene.pids()
            assert len(pids) == 4
            # All four serve: the new ones really have listeners.
            wait_until(
                lambda pids=pids: {str(pid) for pid in pids.values()} <= client.look()["pids"].keys(),
                lambda pids=pids: f"{pids} to answer; so far {client.look()['pids']}",
            )
            client.mark(f"down {number + 1}")
            scene.ox.ok("scale", "web=1")
            assert len(scene.pids()) == 1
            client.mark(f"one {number + 1}")
            client.answers(300)
    scene.assert_nothing_lost()
    last = scene.report["phases"][-1]
    assert len(last["pids"].keys() - {"?"}) == 1, last
