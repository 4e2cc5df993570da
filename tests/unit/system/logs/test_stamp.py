"""The three forms of a log line."""

from __future__ import annotations

import json
import time

import pytest

from oxherd.config.model import LogFormat, LogSpec
from oxherd.system.logs.stamp import Stamper, utc_text

MOMENT = 1_763_713_391_123_456_789


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_by_default_bytes_stay_what_they_are() -> None:
    stamper = Stamper(LogSpec(), "web", "output")
    data = b"\x00\xff\r\n\x1b[31mred\n"
    assert stamper.apply(data, MOMENT, 0) is data


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("%Y-%m-%d %H:%M:%S", b"2025-11-21 08:23:11"),
        ("%H:%M:%S.%3f", b"08:23:11.123"),
        ("%H:%M:%S.%f", b"08:23:11.123456"),
        ("100%%", b"100%"),
    ],
)
def test_a_date_format_goes_before_every_line_and_leaves_its_bytes(form: str, expected: bytes) -> None:
    stamper = Stamper(LogSpec(date_format=form), "web", "output")
    assert stamper.apply(b"a\xff\n\nb\n", MOMENT, 0) == b"%s a\xff\n%s \n%s b\n" % (expected, expected, expected)


def test_the_date_follows_the_clock() -> None:
    stamper = Stamper(LogSpec(date_format="%S.%3f"), "web", "output")
    stamps = [stamper.apply(b"x\n", MOMENT + step, 0) for step in (0, 10_000_000, 1_000_000_000)]
    assert stamps == [b"11.123 x\n", b"11.133 x\n", b"12.123 x\n"]


def test_json_wraps_every_line_and_escapes_what_is_not_utf8() -> None:
    stamper = Stamper(LogSpec(format=LogFormat.JSON), "web", "stderr")
    lines = stamper.apply('grün "q"\n'.encode() + b"\xff\x00\n", MOMENT, 2).split(b"\n")
    assert lines.pop() == b""
    assert [json.loads(line) for line in lines] == [
        {"time": "2025-11-21T08:23:11.123456Z", "process": "web", "instance": 2, "stream": "stderr", "line": text}
        for text in ('grün "q"', "\\xff\x00")
    ]


def test_utc_text_has_microseconds() -> None:
    assert utc_text(1_000) == "1970-01-01T00:00:00.000001Z"
