"""Who accepts on which listener of a process whose slots each have one of their own.

Pure functions over numbers. A listener belongs to the slot of its number and is served by that slot's worker. While that
worker cannot serve (dead, booting, not ready, blocked, on its way out, scaled away) the listener is *lent* to a sibling:
its queue is never left alone while anybody can empty it. The rules, in order:

1. A slot's own worker has its own listener whenever it serves.
2. A borrower keeps what it has: taking a listener from one sibling to give it to another helps nobody.
3. What is left goes to the serving slot with the fewest listeners.
4. No serving slot has two listeners more than another. This alone overrules the second rule.
5. A listener that nobody can serve is not assigned. Whoever has it keeps it, and its queue waits.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = ["assign"]


def assign(
    listeners: Collection[int],
    serving: Mapping[int, bool],
    load: Mapping[int, int] | None = None,
    held: Mapping[int, frozenset[int]] | None = None,
) -> dict[int, int]:
    """Return the slot whose worker is to accept, for each listener that somebody can serve.

    Args:
        listeners: The listeners there are, by the number of their slot; those of slots that were scaled away too.
        serving: Whether the worker of a slot can take connections now. Slots without a worker may be left out.
        load: What each slot's worker has to do otherwise (connections, say). Decides only between slots with the same
            number of listeners; without it the lowest number is taken.
        held: The listeners on which each slot's worker accepts now.
    """
    able = sorted(slot for slot, serves in serving.items() if serves)
    if not able:
        return {}
    busy, borrowed = load or {}, held or {}
    owners = {listener: listener for listener in sorted(listeners) if listener in able}
    counts = {slot: 1 if slot in owners else 0 for slot in able}

    def least() -> int:
        return min(able, key=lambda slot: (counts[slot], busy.get(slot, 0), slot))

    lent = [listener for listener in sorted(listeners) if listener not in owners]
    # Those that have a borrower first, so that what is new goes where there is room after them.
    holders = {listener: [slot for slot in able if listener in borrowed.get(slot, ())] for listener in lent}
    for listener in sorted(lent, key=lambda listener: not holders[listener]):
        # More than one while a listener is on its way from one to another: the one with fewer keeps it.
        keep = holders[listener]
        slot = min(keep, key=lambda slot: (counts[slot], slot)) if keep else least()
        owners[listener] = slot
        counts[slot] += 1
    while True:
        low, high = least(), max(able, key=lambda slot: (counts[slot], busy.get(slot, 0), -slot))
        if counts[high] - counts[low] <= 1:
            return dict(sorted(owners.items()))
        # At least one of two or more listeners is lent. The one moved is the highest: slots that return have it back
        # from the bottom up.
        moved = max(listener for listener in lent if owners[listener] == high)
        owners[moved] = low
        counts[high] -= 1
        counts[low] += 1
