"""What is measured, and of whom."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

__all__ = ["WHETHER", "Better", "Figure", "Measure", "Outcome", "Peer", "Skipped"]

Better = Literal["less", "more"]
# The unit of a figure that says whether something is so.
WHETHER = "1 = yes"
# Several values of one figure in one round (restarts one after another) count as their median; all are kept.
Value = float | Sequence[float]
Outcome = Value | Mapping[str, Value | None]


class Peer(Protocol):
    """One of the measured. What else it has is between it and its measures."""

    name: str

    def missing(self) -> str | None:
        """Return why it cannot be measured on this machine, None if it can."""


class Skipped(Exception):  # noqa: N818 - it is no error
    """Raised by a measure that this peer cannot do, with the reason; told once, by name, and kept in the results."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """The name of a number, its unit, and which way is better. ``goal`` marks what the goal table speaks of."""

    name: str
    unit: str
    better: Better = "less"
    about: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One thing done to one peer, and the figures it gives.

    ``run(peer)`` returns the value of the only figure, or a value for each figure by name. None: this round has none.
    """

    name: str
    figures: tuple[Figure, ...]
    peers: tuple[Any, ...]
    run: Callable[[Any], Outcome] = field(repr=False)

    def values(self, outcome: Outcome) -> dict[str, Value]:
        """Return what ``run`` returned by the names of the figures.

        Raises:
            ValueError: a number has a name that no figure has.
        """
        named = outcome if isinstance(outcome, Mapping) else {self.figures[0].name: outcome}
        unknown = set(named) - {figure.name for figure in self.figures}
        if unknown:
            raise ValueError(f"{self.name}: no such figure: {', '.join(sorted(unknown))}")
        return {name: value for name, value in named.items() if value is not None}
