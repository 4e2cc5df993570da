"""Readiness: a worker that says it is not ready gets no new connection, keeps its life, and comes back."""

from __future__ import annotations

import pytest

READINESS = """
[processes.web.health_check]
endpoint = "http://127.0.0.1:{port}/health"
readiness = "http://127.0.0.1:{port}/ready"
interval_secs = 1
"""


@pytest.mark.served("uvicorn", "gunicorn-gthread", fits=lambda served: served.hosted)
def test_flapping_readiness_loses_nothing(scene, full):
    ox = scene.ox
    scene.start(health=READINESS)
    before = scene.pids()
    victim = str(before["web:0"])
    with scene.load() as client:
        for number in range(5 if full else 2):
            client.mark(f"turning {number + 1}")
            scene.unready("0")
            ox.wait_row("web:0", ready=False)
            # The worker hears of it a moment later.
            client.answers(100)
            client.mark(f"unready {number + 1}")
            client.answers(500)
            accepting = client.look()["accepting"]
            assert victim not in accepting, f"{victim} is not ready and got new connections: {accepting}"
            client.mark(f"returning {number + 1}")
            scene.unready()
            ox.wait_row("web:0", ready=True)
            client.answers(200)
        assert scene.pids() == before
    scene.assert_nothing_lost()
