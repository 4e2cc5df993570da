"""Medians, spread, ratios."""

from __future__ import annotations

import pytest
from frame.measure import WHETHER
from frame.stats import best, ratio, rounded, spread
from frame.table import amount, cell, medians, number, table, tables


def test_the_median_of_rounds_with_the_least_and_the_greatest():
    one = spread([3.0, 1.0, 10.0])
    assert (one.median, one.low, one.high, one.rounds) == (3.0, 1.0, 10.0, 3)


def test_several_samples_of_a_round_count_as_their_median():
    """A round with nine samples weighs as much as one with one."""
    one = spread([[1, 2, 30], 4, [6]])
    assert (one.median, one.low, one.high, one.rounds) == (4.0, 2.0, 6.0, 3)


def test_a_figure_nobody_could_take_has_no_spread():
    assert spread([]) is None
    assert spread([[]]) is None


@pytest.mark.parametrize(
    ("own", "other", "expected"),
    [(1, 2, 0.5), (3, 1, 3.0), (0, 0, 1.0), (0, 5, 0.0), (5, 0, None), (1, -2, None), (-2, 1, None)],
)
def test_a_ratio_is_to_something(own, other, expected):
    assert ratio(own, other) == expected


def test_the_best_peer_is_not_oneself_in_any_form_and_not_a_limit():
    medians_ = {"oxherd": 1, "oxherd uvicorn": 2, "floor: bare Python": 0.5, "oxherdling": 7, "other": 9}
    assert best(medians_, but="oxherd", better="less") == "oxherdling"
    assert best(medians_, but="oxherd", better="more") == "other"
    assert best({"oxherd": 1, "floor": 1}, but="oxherd", better="less") is None


def test_raw_data_keep_what_is_no_noise():
    assert [rounded(value) for value in (1 / 3, 123456.78, 5.0)] == [0.33333, 123460, 5]
    assert isinstance(rounded(5.0), int)


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "0"), (1234.5, "1,234"), (12.345, "12.3"), (0.01234, "0.0123"), (0.00001, "0.00001")]
)
def test_numbers_are_read_by_people(value, shown):
    assert number(value) == shown


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [(1, WHETHER, "yes"), (0, WHETHER, "no"), (0.5, WHETHER, "0.5 1 = yes"), (1, "MB", "1 MB")],
)
def test_an_amount_has_its_unit_or_says_whether_something_is_so(value, unit, shown):
    """Between the two are rounds that differ."""
    assert amount(value, unit) == shown


def test_a_cell_says_the_ratio_first():
    assert cell([2, 4, 3], 6) == "0.50x, 3 [2-4]"
    assert cell([3], 6) == "0.50x, 3"
    assert cell([3], None) == "3"
    assert cell([], 6) == "-"


def test_the_table_sets_the_best_peer_in_bold():
    figures = {
        "size": {"unit": "MB", "better": "less", "peers": {"oxherd": [1], "a": [2], "b": [4], "floor": [0.5]}},
        "rate": {"unit": "a second", "better": "more", "peers": {"oxherd": [8], "b": [4]}},
    }
    assert table(figures).splitlines() == [
        "| figure | oxherd | a | b | floor |",
        "|---|---|---|---|---|",
        "| size, MB | 0.50x, 1 | **1.00x, 2** | 2.00x, 4 | 0.25x, 0.5 |",
        "| rate, a second (more is better) | 2.00x, 8 | - | **1.00x, 4** | - |",
    ]
    told = {name: {**figure, "measure": "at 1"} for name, figure in figures.items()}
    assert tables(told) == f"### At 1\n\n{table(figures)}"
    assert medians(figures["rate"]) == {"oxherd": 8, "b": 4}
