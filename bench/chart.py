"""Bar charts as plain SVG: readable on light and dark pages, without a library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from frame.stats import Spread
from frame.table import OURS, number

__all__ = ["Bar", "chart"]

WIDTH, LEFT, RIGHT = 720, 190, 170
HEAD, ROW, FOOT = 44, 26, 12
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#24292f}.title{font-weight:600}.note{fill:#57606a}"
    ".peer{fill:#8c959f}.ours{fill:#0969da}.floor{fill:#d0d7de}.spread{stroke:#24292f}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.note{fill:#9198a1}.peer{fill:#6e7681}.ours{fill:#4493f8}"
    ".floor{fill:#30363d}.spread{stroke:#e6edf3}}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One peer."""

    name: str
    value: Spread

    @property
    def kind(self) -> str:
        """Return how it is drawn: we, a peer, or a limit that is none."""
        if self.name == OURS or self.name.startswith(f"{OURS} "):
            return "ours"
        return "floor" if self.name.startswith("floor") else "peer"


def chart(title: str, note: str, bars: Sequence[Bar]) -> str:
    """Return horizontal bars of the medians, with the spread of the rounds as a line, the same for the same figures."""
    top = max((bar.value.high for bar in bars), default=0) or 1
    room = WIDTH - LEFT - RIGHT
    height = HEAD + ROW * len(bars) + FOOT
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">',
        f"<style>{STYLE}</style>",
        f'<text class="title" x="0" y="16">{escape(title)}</text>',
        f'<text class="note" x="0" y="34">{escape(note)}</text>',
    ]
    for place, bar in enumerate(bars):
        y = HEAD + ROW * place
        middle, low, high = (room * value / top for value in (bar.value.median, bar.value.low, bar.value.high))
        shown = number(bar.value.median)
        if bar.value.rounds > 1:
            shown += f" [{number(bar.value.low)}-{number(bar.value.high)}]"
        lines += [
            f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end">{escape(bar.name)}</text>',
            f'<rect class="{bar.kind}" x="{LEFT}" y="{y + 3}" width="{max(middle, 1):.1f}" height="16" rx="2"/>',
            f'<line class="spread" x1="{LEFT + low:.1f}" x2="{LEFT + high:.1f}" y1="{y + 11}" y2="{y + 11}"/>',
            f'<text x="{LEFT + max(middle, high) + 8:.1f}" y="{y + 15}">{shown}</text>',
        ]
    return "\n".join([*lines, "</svg>"]) + "\n"
