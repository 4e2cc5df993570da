"""Cron expressions in time."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oxherd.core.schedule import check_cron, check_timezone, describe, missed, next_run

BERLIN = "Europe/Berlin"


def at(text: str, zone: str = "UTC") -> float:
    """Return the unix time of a wall clock reading; a second pass of an hour is written with ``*`` at the end."""
    reading = datetime.fromisoformat(text.removesuffix("*"))
    return reading.replace(tzinfo=ZoneInfo(zone), fold=int(text.endswith("*"))).timestamp()


def runs(cron: str, zone: str, after: str, count: int) -> list[str]:
    """Return the next wall clock readings at which an expression is due."""
    moment = at(after, zone)
    out = []
    for _ in range(count):
        moment = next_run(cron, zone, moment)
        reading = datetime.fromtimestamp(moment, ZoneInfo(zone))
        out.append(reading.strftime("%m-%d %H:%M:%S") + "*" * reading.fold)
    return out


@pytest.mark.parametrize(
    ("cron", "after", "expected"),
    [
        ("0 3 * * *", "2026-01-10 02:59:59", "2026-01-10 03:00:00"),
        ("0 3 * * *", "2026-01-10 03:00:00", "2026-01-11 03:00:00"),
        ("*/15 * * * *", "2026-01-10 10:07", "2026-01-10 10:15"),
        ("30 2 * * MON-FRI", "2026-01-10 00:00", "2026-01-12 02:30"),
        ("0 0 1 JAN *", "2026-01-10 00:00", "2027-01-01 00:00"),
        ("0 0 29 2 *", "2026-01-10 00:00", "2028-02-29 00:00"),
        ("0 9 * * 0", "2026-01-10 00:00", "2026-01-11 09:00"),
        ("0 9 * * 7", "2026-01-10 00:00", "2026-01-11 09:00"),
        ("0 0 L * *", "2026-02-10 00:00", "2026-02-28 00:00"),
        ("@hourly", "2026-01-10 10:07", "2026-01-10 11:00"),
        ("@Daily", "2026-01-10 10:07", "2026-01-11 00:00"),
        ("@weekly", "2026-01-10 10:07", "2026-01-11 00:00"),
        ("*/10 * * * * *", "2026-01-10 10:07:03", "2026-01-10 10:07:10"),
        ("15 30 2 * * *", "2026-01-10 02:30:15", "2026-01-11 02:30:15"),
        ("0 0 3 ? * MON", "2026-01-10 00:00", "2026-01-12 03:00"),
    ],
)
def test_five_fields_six_fields_and_nicknames(cron, after, expected):
    assert next_run(cron, "UTC", at(after)) == at(expected)


def test_a_run_is_strictly_after_the_time_given_fractions_included():
    due = at("2026-01-10 03:00")
    assert next_run("0 3 * * *", "UTC", due - 0.001) == due
    assert next_run("0 3 * * *", "UTC", due + 0.999) == due + 86400


@pytest.mark.parametrize("cron", ["30 2 * * *", "0 30 2 * * *"])
def test_a_fixed_time_that_the_clock_skips_runs_when_the_clock_has_jumped(cron):
    assert runs(cron, BERLIN, "2026-03-28 12:00", 2) == ["03-29 03:00:00", "03-30 02:30:00"]


@pytest.mark.parametrize("cron", ["30 2 * * *", "0 30 2 * * *"])
def test_a_fixed_time_that_comes_twice_runs_once(cron):
    assert runs(cron, BERLIN, "2026-10-24 12:00", 2) == ["10-25 02:30:00", "10-26 02:30:00"]
    assert runs(cron, BERLIN, "2026-10-25 02:10*", 1) == ["10-26 02:30:00"]


def test_every_so_often_follows_elapsed_time():
    assert runs("*/30 * * * *", BERLIN, "2026-03-29 01:15", 3) == ["03-29 01:30:00", "03-29 03:00:00", "03-29 03:30:00"]
    assert runs("*/30 * * * *", BERLIN, "2026-10-25 01:45", 5) == [
        "10-25 02:00:00",
        "10-25 02:30:00",
        "10-25 02:00:00*",
        "10-25 02:30:00*",
        "10-25 03:00:00",
    ]


def test_midnight_that_the_clock_skips_still_comes():
    assert runs("0 0 * * *", "Africa/Cairo", "2026-04-23 12:00", 2) == ["04-24 01:00:00", "04-25 00:00:00"]


@pytest.mark.parametrize(
    ("cron", "message"),
    [
        ("", "wrong number of fields"),
        ("* * * *", "wrong number of fields"),
        ("* * * * * * *", "wrong number of fields"),
        ("61 * * * *", "bad minute"),
        ("* 24 * * *", "bad hour"),
        ("61 * * * * *", "bad second"),
        ("0 0 31 2 *", "bad day-of-month"),
        ("*/0 * * * *", "bad minute"),
        ("daily", "wrong number of fields"),
        ("@reboot", "wrong number of fields"),
    ],
)
def test_an_expression_that_cannot_be_read_names_the_field_and_what_is_accepted(cron, message):
    with pytest.raises(ValueError, match=r"a cron expression such as .*; " + message):
        check_cron(cron)
    with pytest.raises(ValueError, match=message):
        next_run(cron, BERLIN, 0.0)
    with pytest.raises(ValueError, match="cron expression"):
        describe(cron)


def test_an_expression_that_never_comes_to_pass_is_refused():
    with pytest.raises(ValueError, match="comes to pass"):
        check_cron("0 0 */31 * MON#5")


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../etc/passwd", "Europe"])
def test_an_unknown_timezone_is_refused_with_an_example(name):
    with pytest.raises(ValueError, match='a timezone such as "UTC" or "Europe/Berlin"'):
        check_timezone(name)


def test_known_timezones_pass():
    check_timezone("UTC")
    check_timezone(BERLIN)


def test_a_missed_run_is_one_due_since_the_last():
    last = at("2026-01-10 03:00")
    assert not missed("0 3 * * *", "UTC", last, last + 86399)
    assert missed("0 3 * * *", "UTC", last, last + 86400)
    assert missed("0 3 * * *", "UTC", last, last + 10 * 86400)


@pytest.mark.parametrize(
    ("cron", "text"),
    [
        ("0 3 * * *", "At 03:00 every day"),
        ("@daily", "At 00:00 every day"),
        ("*/10 * * * * *", "Every 10th second of every minute"),
    ],
)
def test_an_expression_in_english(cron, text):
    assert describe(cron) == text


@pytest.fixture
def in_berlin(monkeypatch):
    """The machine's own timezone is Berlin."""
    monkeypatch.setenv("TZ", BERLIN)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


crons = st.sampled_from(
    ["30 2 * * *", "0 30 2 * * *", "*/20 * * * *", "15 */2 * * *", "5 1-3 * * SUN", "*/25 10 3 * * *", "0 0 1 * *"]
)
moments = st.integers(int(at("2025-01-01")), int(at("2027-01-01"))).map(float)


@settings(deadline=None, max_examples=150)
@given(cron=crons, moment=moments)
def test_every_run_is_later_than_the_one_before_and_none_is_left_out(cron, moment):
    first = next_run(cron, BERLIN, moment)
    assert first > moment
    # Asked from anywhere in between, the answer is the same run.
    assert next_run(cron, BERLIN, (moment + first) / 2) == first
    assert next_run(cron, BERLIN, first - 0.5) == first


def test_local_time_has_the_daylight_saving_of_the_machine(in_berlin):
    zone = ZoneInfo(BERLIN)
    for cron in ("30 2 * * *", "*/20 * * * *", "15 30 2 * * *", "0 12 * * *"):
        for day in ("2026-03-28 20:00", "2026-03-29 00:40", "2026-10-24 20:00", "2026-10-25 01:50"):
            moment = datetime.fromisoformat(day).replace(tzinfo=zone).timestamp()
            for _ in range(8):
                expected = next_run(cron, BERLIN, moment)
                assert next_run(cron, None, moment) == expected, (cron, datetime.fromtimestamp(moment, UTC))
                moment = expected


def test_the_module_alone_brings_neither_datetime_nor_cronsim():
    script = (
        "import sys, oxherd.core.schedule; "
        "print(sorted({'datetime', 'cronsim', 'zoneinfo', 'calendar', 'typing'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
