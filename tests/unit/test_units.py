"""Durations, sizes and signals: read exactly, or refused with what would be accepted."""

from __future__ import annotations

import pytest

from oxherd.units import parse_bytes, parse_duration, parse_signal


@pytest.mark.parametrize(
    ("text", "seconds"), [("45s", 45), ("1h30m", 5400), ("250ms", 0.25), ("1.5 min", 90), ("2d", 172800)]
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(("text", "size"), [("512M", 512 << 20), ("1.5G", 3 << 29), ("200 MiB", 200 << 20), ("7", 7)])
def test_sizes(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "5", "s", "-1s", "1e3s", "nan s", "9" * 400 + "s"])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match="a duration such as"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["", "M", "-1M", "5X", "1M2M", "9" * 400, "9" * 400 + "T"])
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match="a size such as"):
        parse_bytes(text)


def test_signals():
    assert parse_signal("term") == parse_signal("SIGTERM") == parse_signal("15") == 15
    with pytest.raises(ValueError, match="a signal such as"):
        parse_signal("999")
