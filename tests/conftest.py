"""What holds for every test under CI=1: nothing is skipped for a reason that was not reviewed, and a failure is told at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ALLOWED = Path(__file__).parent / "allowed_skips.txt"


def reviewed_reasons() -> list[str]:
    lines = ALLOWED.read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def reason_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    # A skip is reported as (path, line, "Skipped: reason").
    return str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)


class SkipGate:
    """Collects skips nobody has reviewed and fails the run at its end."""

    def __init__(self) -> None:
        self.unreviewed: list[str] = []
        self.reviewed = reviewed_reasons()

    def _look(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            reason = reason_of(report)
            if not any(text in reason for text in self.reviewed):
                self.unreviewed.append(f"{report.nodeid}: {reason}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._look(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._look(report)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.unreviewed:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.unreviewed:
            terminalreporter.section("skipped for a reason that is not in tests/allowed_skips.txt")
            for line in self.unreviewed:
                terminalreporter.line(line)


class AtOnce:
    """Tells of a failure when it happens: a run that is killed for its time never comes to its summary."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            terminal = self._config.pluginmanager.getplugin("terminalreporter")
            terminal.section(f"{report.when} of {report.nodeid} failed")
            terminal.line(report.longreprtext)


def pytest_configure(config: pytest.Config) -> None:
    # Where several processes share the tests, the one that hands them out hears of all.
    if os.environ.get("CI") == "1" and not hasattr(config, "workerinput"):
        config.pluginmanager.register(SkipGate(), "skip-gate")
        config.pluginmanager.register(AtOnce(config), "at-once")
