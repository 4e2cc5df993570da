"""Settings of fuzz tests that work in one folder for all their inputs."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

__all__ = ["in_one_folder"]


def in_one_folder(test):
    """Let a test have fixtures that last for all its inputs; said here, since other suites load profiles of their own."""
    checks = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    return settings(deadline=None, suppress_health_check=checks)(test)
