"""What the chaos suite has in common with the others that run real supervisors."""

from __future__ import annotations

from support.fixtures import orphans_fall_to_the_tests

__all__ = ["orphans_fall_to_the_tests"]
