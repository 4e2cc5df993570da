"""Results as a Markdown table: ratios first."""

from __future__ import annotations

from typing import Any

from frame.measure import WHETHER
from frame.stats import best, ratio, spread

__all__ = ["OURS", "amount", "cell", "medians", "number", "table", "tables"]

OURS = "oxherd"


def number(value: float) -> str:
    """Return three significant digits, never in scientific notation."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.6f}".rstrip("0")


def amount(value: float, unit: str) -> str:
    """Return a median with its unit: ``7.1 MB``, ``yes``."""
    if unit == WHETHER and value in (0, 1):
        return "yes" if value else "no"
    return f"{number(value)} {unit}"


def medians(figure: dict[str, Any]) -> dict[str, float]:
    """Return the median of each peer that has any round."""
    found = {name: spread(values) for name, values in figure["peers"].items()}
    return {name: one.median for name, one in found.items() if one}


def cell(values: list[Any], base: float | None) -> str:
    """Return ``0.42x, 7.1 [6.9-7.4]``: the ratio to the base, the median, the spread."""
    one = spread(values)
    if one is None:
        return "-"
    text = number(one.median)
    if one.rounds > 1:
        text += f" [{number(one.low)}-{number(one.high)}]"
    against = ratio(one.median, base) if base is not None else None
    return f"{against:.2f}x, {text}" if against is not None else text


def tables(figures: dict[str, dict[str, Any]], level: str = "###") -> str:
    """Return a table a measure under its heading: the figures of one measure have the same peers."""
    groups: dict[str, dict[str, dict[str, Any]]] = {}
    for name, figure in figures.items():
        if figure["peers"]:
            groups.setdefault(figure["measure"], {})[name] = figure
    return "\n\n".join(f"{level} {title[:1].upper()}{title[1:]}\n\n{table(group)}" for title, group in groups.items())


def table(figures: dict[str, dict[str, Any]]) -> str:
    """Return figures against peers; each ratio is to the best peer that is not ours, which is set in bold."""
    names: dict[str, None] = {}
    for figure in figures.values():
        names.update(dict.fromkeys(figure["peers"]))
    lines = ["| figure | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for title, figure in figures.items():
        middle = medians(figure)
        reference = best(middle, but=OURS, better=figure["better"])
        cells = []
        for name in names:
            text = cell(figure["peers"].get(name, []), middle[reference] if reference else None)
            cells.append(f"**{text}**" if name == reference else text)
        arrow = " (more is better)" if figure["better"] == "more" else ""
        lines.append(f"| {title}, {figure['unit']}{arrow} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
