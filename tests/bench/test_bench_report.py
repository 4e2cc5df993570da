"""The report is a function of the results."""

from __future__ import annotations

import importlib
import tomllib
import xml.etree.ElementTree as ET

import pytest
import report
from chart import Bar, chart
from frame.results import write
from frame.stats import spread
from run_main import KINDS

GOALS = tomllib.loads(report.GOALS.read_text())


def figure(unit="MB", better="less", **peers):
    return {"unit": unit, "better": better, "about": "", "measure": "at 100", "peers": peers}


def results(**figures):
    return {
        "format": 2,
        "kind": "supervisors",
        "date": "2026-01-02 03:04",
        "quick": False,
        "partial": False,
        "rounds": 2,
        "machine": {
            "kernel": "6.1",
            "cpus": 2,
            "cpu": "Some",
            "memory, MB": 2048,
            "python": "3.11.7",
            "autogroup": True,
        },
        "source": "abc",
        "parts": [
            {
                "date": "2026-01-02 03:04",
                "rounds": 2,
                "seconds": 90,
                "load": {"before": [0.1, 0, 0], "after": [1.5, 0, 0]},
            }
        ],
        "took": {},
        "versions": {"oxherd": "1"},
        "skipped": {"oxmgr": "no cargo"},
        "failures": [{"round": 1, "peer": "pm2", "measure": "m", "error": "E"}] * 2,
        "figures": {name.replace("_", " "): one for name, one in figures.items()},
    }


@pytest.mark.parametrize(
    ("goal", "reached", "shown", "limit"),
    [
        ({"against": ["a"], "limit": 0.5}, True, "0.50", "at most 0.5"),
        ({"against": ["a"], "limit": 0.4}, False, "0.50", "at most 0.4"),
        ({"against": ["b", "c"], "limit": 1.0}, None, "not measured", "at most 1"),
        ({"limit": 0.5}, True, "0.50", "at most 0.5"),
        ({"against": ["floor: x"], "limit": 1.3}, False, "2.00", "at most 1.3"),
        ({"absolute": 2}, True, "2 MB", "at most 2 MB"),
        ({"absolute": 1}, False, "2 MB", "at most 1 MB"),
        ({"against": ["a"], "limit": 0.5, "better": "more"}, True, "0.50", "at least 0.5"),
    ],
)
def test_a_goal_is_reached_or_not(goal, reached, shown, limit):
    found = results(size=figure(**{"oxherd": [2, 2], "a": [4, 4], "floor: x": [1]}))
    verdict = report.Verdict({"title": "t", "figure": "size", **goal}, found)
    assert (verdict.reached, verdict.shown, verdict.limit) == (reached, shown, limit)


def test_why_is_told_beside_the_goals():
    goal = {"title": "t", "kind": "k", "figure": "size", "against": ["a"], "limit": 1, "why": "the interpreter"}
    text = report.judge([goal], {"k": results(size=figure(oxherd=[2], a=[1]))})
    assert "| t | at most 1 | 2.00 | a | **no** |" in text
    assert "- **t**: the interpreter" in text


def test_pages_of_no_results_say_how_to_get_them(tmp_path):
    made = report.pages(tmp_path)
    assert "Not measured yet: `./bench/run --only logs`." in made["docs/benchmarks.md"]
    assert set(made) == {"docs/benchmarks.md", "README.md"}


def test_pages_of_results(tmp_path):
    found = results(RSS_at_100=figure(oxherd=[7, 9], supervisord=[16, 17], pm2=[60, 60]))
    write(tmp_path, found)
    made = report.pages(tmp_path)
    page = made["docs/benchmarks.md"]
    assert "| supervisor RSS at 100 processes | at most 0.55 | 0.48 | supervisord | yes |" in page
    assert "![RSS at 100: MB](img/bench-supervisors-rss-at-100.svg)" in page
    assert "- skipped: oxmgr: no cargo" in page
    assert "- failed in 2 of 2 rounds: pm2: m: E" in page
    assert "load 0.1 before and 1.5 after" in page
    ET.fromstring(made["docs/img/bench-supervisors-rss-at-100.svg"])
    assert "| memory of the supervisor with 100 processes | 8 MB | 16.5 MB | 60 MB |" in made["README.md"]


def test_an_engine_is_compared_with_itself_under_its_own_manager():
    found = results(rate=figure(**{"oxherd uvicorn": [9], "uvicorn": [10]}), size=figure(**{"oxherd uvicorn": [1]}))
    pairs = [{"own": "oxherd uvicorn", "against": "uvicorn"}, {"own": "oxherd granian", "against": "granian"}]
    assert report.paired(pairs, ["rate", "size", "gone"], found).splitlines()[2:] == [
        "| oxherd uvicorn to uvicorn | 0.90 | - | - |"
    ]


def test_the_readme_keeps_what_is_around_the_marks():
    text = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    rows = [
        {"kind": "k", "text": "\nSizes", "peers": ["oxherd", "a"], "figures": [["size", "Size"], ["gone", "Gone"]]},
        {"kind": "none", "text": "Of nothing", "peers": ["oxherd"], "figures": [["size", "Size"]]},
    ]
    made = report.readme(text, rows, {"k": results(size=figure(oxherd=[1])), "none": None})
    assert made == (
        f"before\n{report.BEGIN}\n\nSizes (2026-01-02, 2 CPUs, Linux 6.1, medians of 2 rounds):\n\n"
        f"| | oxherd |\n|---|---|\n| Size | 1 MB |\n\n{report.END}\nafter\n"
    )
    assert report.readme(text, rows, {"k": None}) == text


def test_a_chart_is_the_same_for_the_same_figures_and_takes_any_name():
    bars = [Bar(name=name, value=spread(values)) for name, values in (("oxherd <x>", [1, 2, 4]), ("a", [0, 0, 0]))]
    svg = chart('size & "more"', "MB", bars)
    assert svg == chart('size & "more"', "MB", bars)
    root = ET.fromstring(svg)
    texts = [one.text for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == ['size & "more"', "MB", "oxherd <x>", "2 [1-4]", "a", "0 [0-0]"]
    kinds = [one.get("class") for one in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert kinds == ["ours", "peer"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_report_speaks_of_is_measured(kind):
    """A goal, a chart or a row of a figure that nobody takes, of a peer there is none of, would be missing for ever."""
    measures = importlib.import_module(kind).measures(quick=False)
    measured = {one.name for measure in measures for one in measure.figures}
    peers = {peer.name for measure in measures for peer in measure.peers}
    named = {name for goal in GOALS["goal"] if goal["kind"] == kind for name in goal.get("against", [])}
    named |= {goal.get("own", "oxherd") for goal in GOALS["goal"] if goal["kind"] == kind}
    named |= {pair[side] for pair in GOALS["pair"] if pair["kind"] == kind for side in ("own", "against")}
    assert named - peers == set()
    told = {goal["figure"] for goal in GOALS["goal"] if goal["kind"] == kind}
    told |= {name for section in GOALS["section"] if section["kind"] == kind for name in section["charts"]}
    told |= {name for section in GOALS["section"] if section["kind"] == kind for name in section.get("paired", [])}
    told |= {name for group in GOALS["readme"] if group["kind"] == kind for name, _ in group["figures"]}
    assert told - measured == set()
