"""The docs admit what the tests excuse, and nothing else."""

from __future__ import annotations

from pathlib import Path

from support.lossclient.outcome import Closed, Outcome
from support.lossclient.traffic import KINDS
from support.served import SERVED, markdown


def test_the_page_is_the_table():
    assert markdown() in (Path(__file__).parents[2] / "docs/concepts/lossless.md").read_text()


def test_the_table_speaks_of_what_there_is():
    for served in SERVED:
        for limit in served.limits:
            assert limit.kinds <= KINDS.keys()
            assert limit.outcomes <= set(Outcome)
            assert limit.closes <= set(Closed)


def test_apps_and_the_commands_of_servers_that_are_hosted_lose_nothing():
    """A limit that excuses a loss is for programs that are only passed a socket."""
    assert [served.name for served in SERVED if served.hosted and any(limit.outcomes for limit in served.limits)] == []
