"""Lost requests of Oxherd and of plain servers, counted by the client of the loss suite, in one interleaved run.

Nothing here is a test: the figures are printed and kept, never asserted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
import traceback
from importlib.metadata import version
from pathlib import Path

from loss_servers import KINDS
from loss_stories import STORIES

HERE = Path(__file__).resolve().parent
PACKAGES = ("oxherd", "uvicorn", "gunicorn", "uvicorn-worker", "granian", "hypercorn")

# What of each story goes into the table; the rest is in the raw data.
COLUMNS = {
    "reload": ("failed", "requests", "closed unannounced", "stall, ms", "gap, ms", "seconds a reload"),
    "recycle": ("failed", "requests", "closed unannounced", "stall, ms", "gap, ms", "workers seen"),
    "crash": ("in flight on the victim", "failed otherwise", "gap, ms", "kill to new worker, s", "serves at the end"),
    "broken import": (
        "failed",
        "requests",
        "serves at the end",
        "old workers kept",
        "exit code of the reload",
        "gap, ms",
    ),
    "broken startup": (
        "failed",
        "requests",
        "serves at the end",
        "old workers kept",
        "exit code of the reload",
        "gap, ms",
    ),
}


def shown(values: list[object]) -> str:
    """Return the median of numbers with their spread, or what was said each time."""
    flat = [one for value in values for one in (value if isinstance(value, list) else [value])]
    numbers = [float(value) for value in flat if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if len(numbers) == len(flat) and numbers:
        low, high = min(numbers), max(numbers)
        return f"{statistics.median(numbers):.3g}" + (f" [{low:.3g}-{high:.3g}]" if low != high else "")
    words = ["-" if value is None else {True: "yes", False: "no"}.get(value, f"{value:.2g}") for value in flat]  # type: ignore[call-overload, str-format]
    return ", ".join(words) if len(set(words)) > 1 else words[0]


def rate(rounds: list[dict]) -> str:
    """Return the failures a million requests."""
    requests = sum(one["requests"] for one in rounds)
    return f"{1e6 * sum(one['failed'] for one in rounds) / requests:.0f}" if requests else "-"


def table(story: str, results: dict[str, list[dict]]) -> str:
    """Return the medians of one story as a Markdown table, a server a line."""
    columns = COLUMNS[story]
    counts = story != "crash"
    heads = [*columns, *(["failures a million"] if counts else [])]
    lines = [f"### {story}", "", "| server | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for name, rounds in results.items():
        good = [one for one in rounds if "error" not in one]
        if not good:
            lines += [f"| {name} | not measured: {rounds[0]['error']} |"] if rounds else []
            continue
        cells = [shown([one.get(column) for one in good]) for column in columns]
        lines.append("| " + " | ".join([name, *cells, *([rate(good)] if counts else [])]) + " |")
    return "\n".join(lines)


def measure(story: str, kind, *, quick: bool) -> dict[str, object]:
    """Return one round, or why there is none."""
    try:
        return STORIES[story](kind, quick=quick).run()
    except Exception as error:  # noqa: BLE001 - one server that fails must not end an hour of measuring
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"[:200]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--server", action="append", help="only servers whose name holds this; repeatable")
    parser.add_argument("--story", action="append", choices=list(STORIES))
    options = parser.parse_args()
    kinds = [kind for kind in KINDS if not options.server or any(part in kind.name for part in options.server)]
    stories = options.story or list(STORIES)
    results: dict[str, dict[str, list[dict]]] = {story: {kind.name: [] for kind in kinds} for story in stories}
    for number in range(1 if options.quick else options.rounds):
        for story in stories:
            if story == "recycle" and options.quick and not options.story:
                continue
            for kind in kinds[number % len(kinds) :] + kinds[: number % len(kinds)]:
                if (story == "recycle" and not kind.recycle) or (story == "broken startup" and kind.wsgi):
                    continue
                print(f"round {number + 1}: {story}: {kind.name}", file=sys.stderr)
                results[story][kind.name].append(measure(story, kind, quick=options.quick))
    facts = {
        "machine": platform.platform(),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "versions": {package: version(package) for package in PACKAGES},
    }
    (HERE / "results").mkdir(exist_ok=True)
    path = HERE / "results" / f"loss-{time.strftime('%Y-%m-%d-%H%M')}.json"
    path.write_text(json.dumps({**facts, "results": results}, indent=1))
    print(json.dumps(facts))
    for story in stories:
        if any(results[story].values()):
            print("\n" + table(story, results[story]))


if __name__ == "__main__":
    main()
