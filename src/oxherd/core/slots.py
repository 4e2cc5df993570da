"""Who accepts on which listener (stand-in)."""

from __future__ import annotations

from collections.abc import Collection, Mapping

__all__ = ["assign"]


def assign(
    listeners: Collection[int], serving: Mapping[int, bool], *, held: Mapping[int, frozenset[int]] | None = None
) -> dict[int, int]:
    """Return for every listener the slot of the worker that accepts on it."""
    able = [slot for slot in sorted(serving) if serving[slot]]
    count = dict.fromkeys(able, 0)
    found: dict[int, int] = {}
    for listener in sorted(listeners):
        if not able:
            break
        if listener in count:
            owner = listener
        else:
            borrowers = [slot for slot in able if listener in (held or {}).get(slot, frozenset())]
            owner = borrowers[0] if borrowers else min(able, key=lambda slot: (count[slot], slot))
        count[owner] += 1
        found[listener] = owner
    return found
