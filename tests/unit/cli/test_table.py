"""The status table as text."""

from __future__ import annotations

import io

import pytest

from oxherd.cli.table import label, status_table, wants_color


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "environ", "refused", "colored"),
    [
        (Terminal(), {}, False, True),
        (Terminal(), {"TERM": "xterm"}, False, True),
        (Terminal(), {"NO_COLOR": "1"}, False, False),
        (Terminal(), {"NO_COLOR": ""}, False, True),
        (Terminal(), {"TERM": "dumb"}, False, False),
        (Terminal(), {}, True, False),
        (io.StringIO(), {}, False, False),
        (None, {}, False, False),
    ],
)
def test_colour_is_for_terminals_whose_owner_did_not_refuse_it(stream, environ, refused, colored):
    assert wants_color(stream, environ, refused=refused) is colored


def test_colour_changes_no_word_and_no_column(row):
    import re

    rows = [row(), row("worker", status="crashed")]
    colored = status_table(rows, color=True)
    assert "\x1b[32mrunning" in colored
    assert "\x1b[31mcrashed" in colored
    assert re.sub(r"\x1b\[\d+m", "", colored) == status_table(rows)


@pytest.mark.parametrize(
    ("changes", "text"),
    [({}, "web"), ({"instances": 2}, "web:0"), ({"instance": 1}, "web:1"), ({"instances": None}, "web")],
)
def test_an_instance_has_its_number_where_there_are_several(row, changes, text):
    assert label(row(**changes)) == text


def test_odd_rows_of_another_version_are_shown_as_far_as_they_go():
    assert status_table([{"name": "web", "instance": 0}]).splitlines()[1].split() == [
        "web",
        "-",
        "-",
        "-",
        "-",
        "-",
        "-",
    ]
