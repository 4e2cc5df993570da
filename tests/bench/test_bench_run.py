"""The short form works end to end, from its setup to its results. No time is asserted."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent.parent
FIGURES = {
    "exec to ready",
    "RSS, empty",
    "PSS, empty",
    "idle CPU, empty",
    "wake-ups, empty",
    "crash to new pid",
    "crash to first instruction",
}


@pytest.mark.timeout(600)  # the first time it installs
def test_a_quick_run_of_two_supervisors(tmp_path):
    done = subprocess.run(
        [
            *(CHECKOUT / "bench" / "run", "--quick", "--rounds", "1"),
            *("--only", "supervisors:empty,supervisors:crash", "--peer", "oxherd", "--peer", "supervisord"),
            *("--results", tmp_path, "--json", "--verbose"),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)["supervisors"]
    assert results["failures"] == []
    (path,) = tmp_path.glob("supervisors-*.json")
    assert path.name.endswith("-quick-part.json")
    assert json.loads(path.read_text()) == results
    assert str(CHECKOUT) not in path.read_text()
    wanted = {"oxherd", "supervisord"} - set(results["skipped"])  # without a network there is no supervisord
    assert "oxherd" in wanted
    assert wanted <= set(results["versions"]) | {"supervisord"}
    for name in wanted:
        assert {figure for figure, one in results["figures"].items() if name in one["peers"]} == FIGURES, name


@pytest.mark.timeout(600)
def test_a_quick_run_of_servers(tmp_path):
    """A server under its own manager and under Oxherd: every figure is there, of a load and of a worker that blocks."""
    done = subprocess.run(
        [
            *(CHECKOUT / "bench" / "run", "--quick", "--only", "serving:wsgi,workers:blocked"),
            *("--peer", "gthread", "--peer", "oxherd uvicorn command"),
            *("--results", tmp_path, "--json", "--verbose"),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for kind, peers in (
        ("serving", {"gunicorn gthread", "oxherd gthread"}),
        ("workers", {"oxherd uvicorn command"}),
    ):
        results = found[kind]
        assert results["failures"] == []
        # Without a network there is no gunicorn; without its package no wrk, which is said of each measure.
        wanted = {peer for peer in peers if not any(name.startswith(peer) for name in results["skipped"])}
        for figure, one in results["figures"].items():
            assert wanted <= set(one["peers"]), figure


@pytest.mark.timeout(600)
def test_a_quick_hour(tmp_path):
    """Crashes, restarts, logs and looks at the status, in a row: what has grown is a figure, whatever it is."""
    done = subprocess.run(
        [
            *(CHECKOUT / "bench" / "run", "--quick", "--only", "scale:an hour", "--peer", "oxherd"),
            *("--results", tmp_path, "--json", "--verbose"),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)["scale"]
    assert results["failures"] == []
    if "an hour" in str(results["skipped"]):
        pytest.skip(f"the writers cannot be made here: {results['skipped']}")
    assert {name for name, one in results["figures"].items() if "oxherd" in one["peers"]} == {
        "memory grown in an hour",
        "descriptors grown in an hour",
        "children grown in an hour",
        "an hour took",
    }


def test_an_unknown_kind_is_refused():
    done = subprocess.run(
        [CHECKOUT / "bench" / "run", "--only", "nothing", "--quick"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "no kind 'nothing'; there are supervisors, workers, serving, loss, logs, scale" in done.stderr
