"""Workers that leave after so many requests, all the time: the replacement is ready first."""

from __future__ import annotations

import pytest

from support.waiting import wait_until


@pytest.mark.served(
    "uvicorn", "gunicorn-gthread", "gunicorn-sync", "granian-asgi", "hypercorn", fits=lambda served: served.hosted
)
def test_recycling_loses_nothing(scene, full):
    wanted = 20 if full else 6
    scene.start("max_requests = 200\nmax_requests_jitter = 50")
    with scene.load() as client:
        client.mark("recycling")
        wait_until(
            lambda: len(client.look()["pids"]) >= wanted,
            lambda: f"{wanted} workers one after the other; so far {client.look()['pids']}",
            seconds=300 if full else None,
        )
        assert len([pid for pid in scene.pids().values() if pid]) >= scene.served.workers
    scene.assert_nothing_lost()
