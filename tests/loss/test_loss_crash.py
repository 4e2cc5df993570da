"""kill -9 under load: what was in flight on the victim may be lost, and nothing else; the service goes on."""

from __future__ import annotations

import os
import signal
import time

import pytest


@pytest.mark.served(
    "uvicorn",
    "gunicorn-gthread",
    "gunicorn-sync",
    "granian-asgi",
    "granian-wsgi",
    "hypercorn",
    "uvicorn-command",
    fits=lambda served: served.hosted,
)
def test_a_worker_killed_twice_in_a_row_ends_nothing(scene, full):
    """The second kill hits the successor of the first, as soon as it serves."""
    ox = scene.ox
    scene.start()
    with scene.load() as client:
        for number in range(6 if full else 2):
            victim = ox.pid("web:0")
            others = {label: pid for label, pid in scene.pids().items() if label != "web:0"}
            client.mark(f"kill {number + 1}")
            at = time.monotonic()
            os.kill(victim, signal.SIGKILL)
            scene.kills.append((at, victim))
            row = ox.wait_row("web:0", lambda row, victim=victim: row["pid"] not in {None, victim}, ready=True)
            assert row["status"] == "running"
            assert {label: pid for label, pid in scene.pids().items() if label != "web:0"} == others
            client.mark(f"after kill {number + 1}")
            client.answers(300)
    scene.assert_nothing_lost()
