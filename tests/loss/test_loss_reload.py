"""Reloads under load: every worker is replaced, and nobody who asks notices."""

from __future__ import annotations

import pytest

WHOLE = 50_000
# Where the short form reloads as often as the whole does.
THOROUGH = {"uvicorn", "uvicorn-command"}


def reloads_of(served, *, full):
    if full or served.name in THOROUGH:
        return 5
    # A program that is only passed its socket is waited for until its connections are done.
    return 2 if served.hosted else 1


@pytest.mark.served
def test_reloads_lose_nothing(scene, full):
    """Each brings another release, which is what answers afterwards, from other processes."""
    reloads = reloads_of(scene.served, full=full)
    scene.start()
    with scene.load() as client:
        for number in range(reloads):
            before = scene.pids()
            release = scene.release()
            client.mark(f"reload {number + 1}")
            result = scene.reload()
            assert result.code == 0, result
            scene.wait_answering(client, release)
            after = scene.pids()
            assert after.keys() == before.keys()
            assert not set(after.values()) & set(before.values())
            client.mark(f"after reload {number + 1}")
            client.answers(WHOLE // reloads if full else 300)
    scene.assert_nothing_lost()
    last = scene.report["phases"][-1]
    assert set(last["generations"]) - {"?"} == {release}, last
    if full:
        assert scene.report["requests"] >= WHOLE
