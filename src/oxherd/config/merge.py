"""The layers of a process laid over each other: defaults, then the process, then the profile.

A later setting replaces an earlier one; env merges by name. Settings that exclude each other count as one: a profile
that names ``app`` takes the place of a ``command``.
"""

from __future__ import annotations

from oxherd.config.draft import Layer
from oxherd.config.keys import EXCLUSIVE

__all__ = ["merge"]


def merge(*layers: Layer) -> Layer:
    """Return one layer out of several, the first being the weakest."""
    merged = Layer()
    for layer in layers:
        for group in EXCLUSIVE:
            if group & layer.settings.keys():
                for canonical in group:
                    merged.settings.pop(canonical, None)
        merged.settings.update(layer.settings)
        merged.env.update(layer.env)
    return merged
