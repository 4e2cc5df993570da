"""Rounds: interleaved, rotating, and nobody is left out without a word."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from frame import Figure, Measure, Options, Skipped, session
from frame.places import CHECKOUT
from frame.results import newest, write
from frame.session import Changed


@dataclass(frozen=True)
class Someone:
    name: str
    why: str | None = None

    def missing(self):
        return self.why


@pytest.fixture(autouse=True)
def no_versions(monkeypatch):
    """Asking programs for their versions needs the benchmark's own environment."""
    monkeypatch.setattr(session.facts, "versions", lambda packages: dict.fromkeys(packages, "1"))
    monkeypatch.setattr(session.facts, "source", lambda: "abc")


def measured(run, peers, *, rounds=1, only=(), figures=("x",), **more):
    measure = Measure(name="m", figures=tuple(Figure(name=name, unit="MB") for name in figures), peers=peers, run=run)
    return session.run("kind", [measure], ("p",), Options(rounds=rounds, peers=only), **more)


def test_no_peer_always_follows_the_same():
    order = []

    def run(peer):
        order.append(peer.name)
        return 1.0

    measured(run, (Someone("a"), Someone("b"), Someone("c")), rounds=3)
    assert order == ["a", "b", "c", "b", "c", "a", "c", "a", "b"]


def test_what_cannot_be_measured_is_named_with_its_reason(capsys):
    results = measured(lambda _: 1.0, (Someone("a"), Someone("b", "there is no cargo")))
    assert results["skipped"] == {"b": "there is no cargo"}
    assert "skipped: b: there is no cargo" in capsys.readouterr().err
    assert results["figures"]["x"]["peers"] == {"a": [1]}


def test_a_measure_may_say_that_a_peer_cannot(capsys):
    def run(peer):
        if peer.name == "b":
            raise Skipped("it has none")
        return 1.0

    results = measured(run, (Someone("a"), Someone("b")), rounds=2)
    assert results["skipped"] == {"b: m": "it has none"}
    assert capsys.readouterr().err.count("skipped: b: m: it has none") == 1
    assert results["failures"] == []


def test_a_peer_that_fails_is_told_each_time_and_tried_again(capsys):
    tries = []

    def run(peer):
        tries.append(peer.name)
        if len(tries) == 1:
            raise OSError(f"{CHECKOUT}/bench broke")
        return {"x": [1, 2], "y": None}

    results = measured(run, (Someone("a"),), rounds=2, figures=("x", "y"))
    assert results["failures"] == [{"round": 1, "peer": "a", "measure": "m", "error": "OSError: ./bench broke"}]
    assert "failed: a: m: OSError" in capsys.readouterr().err
    assert results["figures"]["x"]["peers"] == {"a": [[1, 2]]}
    assert results["figures"]["y"]["peers"] == {}


def test_a_number_without_a_figure_is_a_mistake():
    (failure,) = measured(lambda _: {"z": 1.0}, (Someone("a"),))["failures"]
    assert failure["error"] == "ValueError: m: no such figure: z"


def test_peers_are_chosen_by_a_part_of_their_names():
    results = measured(lambda _: 1.0, (Someone("gunicorn"), Someone("uvicorn"), Someone("pm2")), only=("corn",))
    assert list(results["figures"]["x"]["peers"]) == ["gunicorn", "uvicorn"]


def test_results_are_written_and_the_newest_complete_ones_found(tmp_path):
    results = measured(lambda _: 1.0, (Someone("a"),))
    path = write(tmp_path, {**results, "date": "2026-01-02 03:04"})
    assert path.name == "kind-2026-01-02-0304.json"
    assert path.read_text().count('"x":') == 1
    write(tmp_path, {**results, "date": "2026-01-03 03:04"})
    write(tmp_path, {**results, "date": "2026-01-04 03:04", "quick": True})
    write(tmp_path, {**results, "date": "2026-01-04 03:05", "partial": True})
    (tmp_path / "kind-2026-01-05-0304.json").write_text(json.dumps({"rounds": {}}))  # of an older form
    assert newest(tmp_path, "kind")["date"] == "2026-01-03 03:04"
    assert newest(tmp_path, "other") is None
    assert not list(tmp_path.glob("*.new"))


def test_rounds_are_added_to_earlier_ones(tmp_path):
    earlier = measured(lambda _: 1.0, (Someone("a"), Someone("b")), rounds=2, keep=lambda found: write(tmp_path, found))
    order = []

    def run(peer):
        order.append(peer.name)
        return 2.0

    results = measured(run, (Someone("a"), Someone("b")), rounds=3, earlier=newest(tmp_path, "kind"))
    assert results["figures"]["x"]["peers"] == {"a": [1, 1, 2], "b": [1, 1, 2]}
    assert (results["rounds"], results["date"]) == (3, earlier["date"])
    assert [part["rounds"] for part in results["parts"]] == [2, 1]
    assert order == ["a", "b"]  # the third of the order that rotates
    enough = measured(run, (Someone("a"), Someone("b")), rounds=3, earlier=results)
    assert (enough["rounds"], len(enough["parts"]), len(order)) == (3, 2, 2)


@pytest.mark.parametrize(
    ("of", "value", "told"),
    [
        ("machine", {"cpus": 1}, "machine cpus: 1 then, 2 now"),
        ("versions", {"p": "0"}, "versions p: 0 then, 1 now"),
        ("source", "xyz", "the source of Oxherd: xyz then, abc now"),
        ("figures", {}, "what is measured"),
    ],
)
def test_rounds_of_something_else_are_not_mixed(monkeypatch, of, value, told):
    monkeypatch.setattr(session.facts, "machine", lambda: {"cpus": 2})
    earlier = {**measured(lambda _: 1.0, (Someone("a"),)), of: value}
    with pytest.raises(Changed, match=told):
        measured(lambda _: 1.0, (Someone("a"),), rounds=2, earlier=earlier)


def test_what_ends_early_has_its_whole_rounds(tmp_path):
    tries = []

    def run(peer):
        tries.append(peer.name)
        if len(tries) == 4:
            raise KeyboardInterrupt
        return 1.0

    with pytest.raises(KeyboardInterrupt):
        measured(run, (Someone("a"), Someone("b")), rounds=3, keep=lambda found: write(tmp_path, found))
    found = newest(tmp_path, "kind")
    assert found["rounds"] == 1
    assert found["figures"]["x"]["peers"] == {"a": [1], "b": [1]}
