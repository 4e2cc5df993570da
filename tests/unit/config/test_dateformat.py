"""Both spellings of log_date_format become strftime."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oxherd.config.dateformat import to_strftime


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("YYYY-MM-DD HH:mm:ss", "%Y-%m-%d %H:%M:%S"),
        ("YYYY-MM-DD HH:mm:ss.SSS", "%Y-%m-%d %H:%M:%S.%3f"),
        ("DD/MM/YY hh:mm A", "%d/%m/%y %I:%M %p"),
        ("ddd, MMM DD", "%a, %b %d"),
        ("dddd MMMM", "%A %B"),
        ("[at] HH[h]", "at %Hh"),
        ("YYYY-MM-DDTHH:mm:ssZ", "%Y-%m-%dT%H:%M:%S%z"),
        ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S"),
        ("%H:%M:%S.%3f", "%H:%M:%S.%3f"),
        ("%d %% %b", "%d %% %b"),
    ],
)
def test_formats_are_translated(written, expected):
    assert to_strftime(written) == expected


@pytest.mark.parametrize("written", ["", "----", "%", "%Y %", "%Q", "[YYYY]", "%Y-%4f"])
def test_what_says_no_time_is_refused(written):
    with pytest.raises(ValueError, match="format"):
        to_strftime(written)


@given(st.lists(st.sampled_from(["YYYY", "MM", "DD", "HH", "mm", "ss", "-", ":", " "]), min_size=1).map("".join))
def test_a_translation_is_a_format_strftime_takes(written):
    try:
        translated = to_strftime(written)
    except ValueError:
        assert not any(char.isalpha() for char in written)
        return
    assert "%" not in datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).strftime(translated)
