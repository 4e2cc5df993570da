"""Fixtures and hooks of suites that run real supervisors: each test has a home of its own and leaves nothing behind.

A suite's conftest imports them by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support import leftovers
from support.harness import Supervised

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["orphans_fall_to_the_tests", "ox", "pytest_runtest_makereport"]

FAILED = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session", autouse=True)
def orphans_fall_to_the_tests() -> Iterator[None]:
    """Whatever a supervisor loses becomes a child of this process, where it is found."""
    with leftovers.subreaper():
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        item.stash.setdefault(FAILED, []).append(report.when)
    return report


@pytest.fixture
def ox(request) -> Iterator[Supervised]:
    """A home, and the certainty that at the end of the test nothing of it is left."""
    supervised = Supervised()
    yield supervised
    trouble = supervised.close()
    failed = bool(trouble or request.node.stash.get(FAILED, None))
    if failed:
        print(supervised.report())
    supervised.unmount()
    if not failed:
        supervised.remove()
    assert not trouble, "\n".join(trouble)
