"""Code that does not work never replaces code that does: reloads to each kind of broken release, under load."""

from __future__ import annotations

import pytest

# How a release is broken, and what has to stand on the screen of who reloads to it.
BROKEN = {
    "import": ["Traceback", "RuntimeError: release {release} is broken: the import"],
    "startup": ["RuntimeError: release {release} is broken: the startup"],
    "health": ["HTTP 500"],
    "hang": ["not", "within"],
    "exit": ["3"],
}
# The boot has a deadline; see tests/loss/apps/lossapp.py for what hangs.
DEADLINE = 'ready_timeout = "2s"\n'


@pytest.mark.served("uvicorn", "gunicorn-gthread", fits=lambda served: served.hosted)
def test_no_broken_release_goes_live(scene):
    scene.start(DEADLINE)
    # WSGI has no startup that could fail.
    modes = [mode for mode in BROKEN if mode != "startup" or scene.served.interface == "asgi"]
    old = scene.pids()
    wrong = []
    with scene.load() as client:
        for mode in modes:
            client.mark(mode)
            release = scene.release(mode)
            result = scene.reload()
            said = result.out + result.err
            missing = [text for text in BROKEN[mode] if text.format(release=release) not in said]
            if result.code != 1 or missing or scene.pids() != old:
                wrong.append(
                    f"{mode}: exit code {result.code}, {missing} not said, pids {old}, {scene.pids()}: {result}"
                )
            old = scene.pids()
            client.answers(200)
        # And what works again goes live again.
        client.mark("repaired")
        release = scene.release()
        result = scene.reload()
        assert result.code == 0, result
        scene.wait_answering(client, release)
        assert not set(scene.pids().values()) & set(old.values())
    scene.assert_nothing_lost()
    # granian does not pass on what a websocket is accepted with.
    assert set(scene.report["generations"]) - {"?"} == {"1", release}
    assert wrong == [], "\n".join(wrong)
