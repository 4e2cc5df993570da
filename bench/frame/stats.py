"""Medians, spread and ratios. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Spread", "best", "ratio", "rounded", "spread"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The middle of the rounds and how far they lie apart."""

    median: float
    low: float
    high: float
    rounds: int


def of_round(value: float | Sequence[float]) -> float:
    """Return the value of one round: several samples count as their median."""
    return float(statistics.median(value)) if isinstance(value, Sequence) else float(value)


def spread(values: Sequence[float | Sequence[float]]) -> Spread | None:
    """Return the median of the rounds with the least and the greatest, None without a round."""
    each = [of_round(value) for value in values if not (isinstance(value, Sequence) and not value)]
    if not each:
        return None
    return Spread(median=statistics.median(each), low=min(each), high=max(each), rounds=len(each))


def best(medians: Mapping[str, float], *, but: str, better: str) -> str | None:
    """Return the peer with the best median that is not ``but`` (ourselves, under any way to run: ``oxherd ...``).

    What is named ``floor...`` is a limit, not a peer.
    """
    none = (f"{but} ", "floor")
    others = {name: value for name, value in medians.items() if name != but and not name.startswith(none)}
    if not others:
        return None
    return (max if better == "more" else min)(others, key=lambda name: others[name])


def ratio(own: float, other: float) -> float | None:
    """Return own over other; None where there is nothing to divide by (or less: what shrank), 1 where both are equal."""
    if own == other:
        return 1.0
    if other <= 0 or own < 0:
        return None
    return own / other


def rounded(value: float, digits: int = 5) -> float | int:
    """Return a number with so many significant digits: more are noise in the raw data."""
    short = float(f"{value:.{digits}g}")
    return int(short) if short == int(short) else short
