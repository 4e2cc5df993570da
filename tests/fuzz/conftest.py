"""What comes from outside is read whole or refused with a text; nothing else happens, whatever it is.

By default each test tries a hundred inputs. ``--hypothesis-profile=long`` tries twenty thousand.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from support.fixtures import orphans_fall_to_the_tests, ox, pytest_runtest_makereport

__all__ = ["orphans_fall_to_the_tests", "ox", "pytest_runtest_makereport"]

_PATIENT = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]}
settings.register_profile("short", max_examples=100, **_PATIENT)
settings.register_profile("long", max_examples=20_000, **_PATIENT)
# The option is read after this file, and wins.
settings.load_profile("short")
