"""The loss suite: everything done on purpose is done under load, and every request is counted.

By default each story is seconds long. ``--loss=full`` is the whole: every story on every way to serve, silences as long as
clients keep them, at least 50,000 requests a reload story. ``--loss-json=PATH`` keeps the reports.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.fixtures import orphans_fall_to_the_tests, ox, pytest_runtest_makereport
from support.scene import Scene
from support.served import SERVED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.served import Served

__all__ = ["orphans_fall_to_the_tests", "ox", "pytest_runtest_makereport"]

COUNTED = "what the loss suite has counted"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("loss")
    group.addoption("--loss", choices=["short", "full"], default="short", help="how much of the loss suite is run")
    group.addoption("--loss-json", metavar="PATH", help="keep the reports of the loss suite as JSON")


class Reports:
    """What the tests have counted, each in whichever process it ran."""

    def __init__(self, config: pytest.Config) -> None:
        self._path: str | None = config.getoption("--loss-json")
        self._reports: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "teardown":
            name = report.nodeid.rpartition("::")[2]
            self._reports.update((name, value) for key, value in report.user_properties if key == COUNTED)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self._reports:
            return
        terminalreporter.section("requests of the loss suite")
        for name, report in self._reports.items():
            terminalreporter.line(
                f"{name}: {report['requests']} requests, {report['failed']} failed, longest stall "
                f"{report['stall']['seconds'] * 1000:.0f} ms, longest gap {report['gap'] * 1000:.0f} ms, "
                f"p99 {report['latency']['p99'] * 1000:.1f} ms, client late by {report['client_lag'] * 1000:.0f} ms"
            )
        if self._path:
            Path(self._path).write_text(json.dumps(self._reports, indent=1))


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Reports(config), "loss-reports")


@pytest.fixture
def full(request) -> bool:
    """Whether the whole suite is wanted."""
    return request.config.getoption("--loss") == "full"


@pytest.fixture
def scene(request, ox, full) -> Iterator[Scene]:
    """A stack that is served as the test's parameter says; see `served_by`."""
    made = Scene(ox, request.param, full=full)
    yield made
    if made.report is not None:
        request.node.user_properties.append((COUNTED, made.report))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """``@pytest.mark.served(...)`` names the ways to serve of the short form; the full one takes all that fit."""
    mark = metafunc.definition.get_closest_marker("served")
    if mark is None:
        return
    whole = metafunc.config.getoption("--loss") == "full"
    fits = mark.kwargs.get("fits", lambda _: True)
    chosen: list[Served] = [
        served for served in SERVED if fits(served) and (whole or not mark.args or served.name in mark.args)
    ]
    names = {served.name for served in SERVED}
    assert set(mark.args) <= names, f"not in the table: {set(mark.args) - names}"
    metafunc.parametrize("scene", chosen, ids=[served.name for served in chosen], indirect=True)
