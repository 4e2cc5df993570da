"""Levels are found in the formats people have, and not in prose."""

from __future__ import annotations

import pytest

from oxherd.system.logs.level import Level, LevelTracker, find_level, may_reach, parse_level

FOUND = [
    ('INFO:     127.0.0.1:5000 - "GET / HTTP/1.1" 200 OK', Level.INFO),
    ("ERROR:    Exception in ASGI application", Level.ERROR),
    ("\x1b[32mINFO\x1b[0m:     Started server process [7]", Level.INFO),
    ("2026-11-21 08:23:11,123 WARNING django.request: Not Found: /x", Level.WARNING),
    ("WARNING:root:disk almost full", Level.WARNING),
    ("[2026-11-21 08:23:11,123: ERROR/MainProcess] Task tasks.add raised unexpected", Level.ERROR),
    ("[2026-11-21 08:23:11,123: INFO/ForkPoolWorker-1] Task succeeded", Level.INFO),
    ("[2026-11-21 08:23:11 +0000] [12] [CRITICAL] WORKER TIMEOUT (pid:13)", Level.CRITICAL),
    ("2026/11/21 08:23:11 [error] 12#12: *1 open() failed", Level.ERROR),
    ("2026/11/21 08:23:11 [emerg] 12#12: bind() failed", Level.CRITICAL),
    ("2026-11-21 08:23:11 [warning  ] slow query", Level.WARNING),
    ("2026-11-21 08:23:11.123 | ERROR    | app:main:1 - boom", Level.ERROR),
    ("2026-11-21 08:23:11 UTC [7] FATAL:  role does not exist", Level.CRITICAL),
    ('ts=2026-11-21T08:23:11Z level=warn msg="x"', Level.WARNING),
    ('{"level": "error", "msg": "x"}', Level.ERROR),
    ('{"levelname": "DEBUG", "message": "CRITICAL"}', Level.DEBUG),
    ('{"severity": "Warning"}', Level.WARNING),
    ('{"level": 50, "msg": "x"}', Level.CRITICAL),
    ('{"level": 35}', Level.WARNING),
    ("Fatal Python error: Segmentation fault", Level.CRITICAL),
    ('INFO:     1.2.3.4 - "GET /ERROR HTTP/1.1" 200', Level.INFO),
]
NOT_FOUND = [
    "",
    "an error in prose",
    "GET /static/ERROR.html 200",
    "see my.ERROR",
    "TERROR",
    '{"message": "nothing"}',
    "{not json",
    "x" * 300 + " ERROR",
]


@pytest.mark.parametrize(("text", "level"), FOUND)
def test_the_level_a_line_says_it_has(text: str, level: Level) -> None:
    assert find_level(text) is level


@pytest.mark.parametrize("text", NOT_FOUND)
def test_lines_that_say_none(text: str) -> None:
    assert find_level(text) is None


@pytest.mark.parametrize(("name", "level"), [("error", 40), ("WARN", 30), (" Critical ", 50), ("fatal", 50)])
def test_levels_people_type(name: str, level: int) -> None:
    assert parse_level(name) == level


def test_an_unknown_level_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="one of debug, info, warning, error, critical"):
        parse_level("loud")


TRACEBACK = """\
ERROR:    Exception in ASGI application
Traceback (most recent call last):
  File "a.py", line 1, in f
    raise KeyError("x")
KeyError: 'x'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "a.py", line 3, in f
ValueError: y
INFO:     after
  indented continuation
plain"""


def test_a_traceback_belongs_to_the_error_before_it() -> None:
    tracker = LevelTracker()
    levels = [tracker.classify(line) for line in TRACEBACK.split("\n")]
    assert levels == [Level.ERROR] * 11 + [Level.INFO] * 3


def test_a_traceback_nobody_logged_is_an_error() -> None:
    tracker = LevelTracker()
    lines = ["INFO: fine", "Traceback (most recent call last):", "  File", "OSError: [Errno 28]", "INFO: on"]
    assert [tracker.classify(line) for line in lines] == [20, 40, 40, 40, 20]


def test_an_exception_group_is_one_block() -> None:
    tracker = LevelTracker()
    lines = [
        "  + Exception Group Traceback (most recent call last):",
        '  |   File "a.py", line 1, in <module>',
        "  | ExceptionGroup: two (2 sub-exceptions)",
        "  +-+---------------- 1 ----------------",
        "    | ValueError: a",
        "    +------------------------------------",
    ]
    assert [tracker.classify(line) for line in lines] == [Level.ERROR] * 6
    assert tracker.classify("plain") is Level.INFO


def test_what_continues_an_unseen_line_has_no_level() -> None:
    assert LevelTracker().classify("    raise KeyError") is None


def test_a_level_in_the_message_of_a_traceback_is_not_taken_for_a_new_line() -> None:
    tracker = LevelTracker()
    tracker.classify("Traceback (most recent call last):")
    assert tracker.classify('    logger.info("INFO: x")') is Level.ERROR


@pytest.mark.parametrize(("text", "level"), FOUND)
def test_what_is_skipped_quickly_never_says_it_is_that_bad(text: str, level: Level) -> None:
    assert all(may_reach(text.encode(), least) for least in Level if level >= least)


@pytest.mark.parametrize("least", [Level.WARNING, Level.ERROR, Level.CRITICAL])
def test_harmless_lines_are_skipped_quickly(least: Level) -> None:
    assert not may_reach(b'INFO:     "GET / HTTP/1.1" 200 OK\n{"level": "info", "msg": "x"}', least)
    assert may_reach(b'{"level":50}', least)


def test_skipped_lines_end_what_came_before_them() -> None:
    tracker = LevelTracker()
    assert not tracker.below(Level.ERROR)
    tracker.classify("WARNING: x")
    assert tracker.below(Level.ERROR)
    tracker.skip()
    assert tracker.classify("  continued") is Level.INFO
    tracker.classify("Traceback (most recent call last):")
    assert not tracker.below(Level.CRITICAL)


def test_after_a_cut_the_first_line_that_says_nothing_has_no_level() -> None:
    tracker = LevelTracker(cut=True)
    lines = ["  File", "KeyError: x", "plain"]
    assert [tracker.classify(line) for line in lines] == [None, None, Level.INFO]
    assert LevelTracker(cut=True).classify("ERROR: x") is Level.ERROR
