"""``oxherd why``."""

from __future__ import annotations

import os
import time

import click

from oxherd.cli.options import config_option, names_argument, output_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from oxherd.cli.output import Output

__all__ = ["why"]


@click.command
@names_argument()
@config_option
@click.option("--history", is_flag=True, help="Show all the ends that were kept, not only the latest.")
@output_options
def why(*, names: tuple[str, ...], config: str | None, history: bool, output: Output) -> int:
    """Show why processes ended or do not run.

    The cause, what it last printed, what has become of it, what to do.
    """
    from oxherd.cli.doing import objects  # noqa: PLC0415 - not for --help
    from oxherd.cli.targets import find_targets  # noqa: PLC0415 - not for --help
    from oxherd.cli.where import connect  # noqa: PLC0415 - not for --help
    from oxherd.control.paths import find_home  # noqa: PLC0415 - not for --help

    home = find_home(os.environ)
    cards: list[dict[str, object]] = []
    rows: list[dict[str, object]] = []
    for target in find_targets(home, [config] if config else [], names):
        with connect(home, target.path) as client:
            result = client.request("why", timeout=10, stack=target.path, names=list(target.names))
        cards.extend(objects(result, "cards"))
        rows.extend(objects(result, "rows"))
    shown = cards if history else _latest(cards)
    if output.json:
        output.document({"cards": shown})
        return 0
    if not shown:
        output.say("Nothing ended that was not asked to.")
    output.say("\n\n".join(_card(card, _row_of(card, rows)) for card in shown)) if shown else None
    return 0


def _latest(cards: Sequence[dict[str, object]]) -> list[dict[str, object]]:
    """Return the first card of each instance; they come newest first."""
    latest: dict[tuple[object, object, object], dict[str, object]] = {}
    for card in cards:
        latest.setdefault((card.get("stack"), card.get("name"), card.get("instance")), card)
    return list(latest.values())


def _row_of(card: Mapping[str, object], rows: Sequence[dict[str, object]]) -> dict[str, object]:
    keys = ("stack", "name", "instance")
    return next((row for row in rows if all(row.get(key) == card.get(key) for key in keys)), {})


def _card(card: Mapping[str, object], row: Mapping[str, object]) -> str:
    """Return a card as text."""
    from oxherd.cli.table import label  # noqa: PLC0415 - not for --help

    name = label({**row, "name": card.get("name"), "instance": card.get("instance")})
    lines = [f"{name}: {card.get('cause') or card.get('text') or 'it ended'}"]
    facts = [("when", _when(card.get("time"))), ("now", _now(card, row)), ("peak", _peak(card))]
    lines.extend(f"  {key + ':':<6} {text}" for key, text in facts if text)
    last = card.get("last_lines")
    if isinstance(last, list) and last:
        lines.append("  last lines of its output:")
        lines.extend(f"    | {line}" for line in last)
    trace = card.get("traceback")
    if isinstance(trace, list) and trace:
        lines.append("  where it was:")
        lines.extend(f"    | {line}" for line in trace)
    hints = card.get("hints")
    lines.extend(f"  hint: {hint}" for hint in (hints if isinstance(hints, list) else []))
    return "\n".join(lines)


def _when(seconds: object) -> str:
    from oxherd.units import format_age  # noqa: PLC0415 - not for --help

    if not isinstance(seconds, (int, float)):
        return ""
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    return f"{stamp} ({format_age(time.time() - seconds)} ago)"


def _now(card: Mapping[str, object], row: Mapping[str, object]) -> str:
    """Say what has become of it."""
    if card.get("next"):
        return str(card["next"])
    if not row:
        return ""
    restarts, pid = row.get("restarts"), row.get("pid")
    parts = [f"{row.get('status')}" + (f" (pid {pid})" if pid is not None else "")]
    if restarts:
        parts.append(f"{restarts} restart{'' if restarts == 1 else 's'}")
    if row.get("status") in {"backoff", "unhealthy"} and row.get("detail"):
        parts.append(str(row["detail"]))
    return ", ".join(parts)


def _peak(card: Mapping[str, object]) -> str:
    from oxherd.units import format_bytes  # noqa: PLC0415 - not for --help

    peak = card.get("memory_peak_bytes")
    return f"{format_bytes(peak)} of memory at most" if isinstance(peak, (int, float)) else ""
