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


def quick_run(results: Path, *words: str, only: str, peers: tuple[str, ...]) -> dict[str, dict]:
    """Run `bench/run --quick` of these measures and peers; return the results of each kind, which are in the folder too."""
    done = subprocess.run(
        [
            *(CHECKOUT / "bench" / "run", "--quick", *words, "--only", only, *(f"--peer={peer}" for peer in peers)),
            *("--results", results, "--json", "--verbose"),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TMPDIR": str(results)},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.timeout(600)  # the first time it installs
def test_a_quick_run_of_two_supervisors(tmp_path):
    found = quick_run(
        tmp_path, "--rounds", "1", only="supervisors:empty,supervisors:crash", peers=("oxherd", "supervisord")
    )
    results = found["supervisors"]
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
    found = quick_run(tmp_path, only="serving:wsgi,workers:blocked", peers=("gthread", "oxherd uvicorn command"))
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
    results = quick_run(tmp_path, only="scale:an hour", peers=("oxherd",))["scale"]
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
