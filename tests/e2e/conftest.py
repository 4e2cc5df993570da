"""Real supervisors, real programs: each test has a home of its own and leaves nothing behind."""

from __future__ import annotations

from support.booted import machine, service
from support.fixtures import orphans_fall_to_the_tests, ox, pytest_runtest_makereport

__all__ = ["machine", "orphans_fall_to_the_tests", "ox", "pytest_runtest_makereport", "service"]
