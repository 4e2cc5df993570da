"""What a run has found, as a table for people and as JSON without a word about the machine's folders."""

from __future__ import annotations

import json
import statistics
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chaos.actions import ACTIONS

if TYPE_CHECKING:
    from chaos.run import Outcome

__all__ = ["as_json", "growth", "table"]

REPOSITORY = Path(__file__).resolve().parents[2]

# What a supervisor may grow by between the second and the last third of its life, bytes; docs/operations/chaos.md says why.
TOLERANCE = 2 * 1024 * 1024
# A life of fewer steps than this says nothing: what is used for the first time is loaded then.
LONG = 30


def by_action(outcome: Outcome) -> dict[str, dict[str, Any]]:
    """Return the sums of each action: how often, requests and failures meanwhile, seconds, violations."""
    sums: dict[str, dict[str, Any]] = {}
    requests: dict[str, dict[str, Any]] = {}
    for report in outcome.reports.values():
        for phase in report["phases"]:
            seen = requests.setdefault(phase["name"], {"requests": 0, "stall": 0.0})
            seen["requests"] += phase["requests"]
            seen["stall"] = max(seen["stall"], phase["stall"]["seconds"])
    for sheet in outcome.steps:
        row = sums.setdefault(
            sheet["action"],
            {"count": 0, "requests": 0, "allowed": 0, "disallowed": 0, "harness": 0, "stall": 0.0, "violations": 0},
        )
        phase = requests.get(f"{sheet['step']} {sheet['action']}", {"requests": 0, "stall": 0.0})
        row["count"] += 1
        row["requests"] += phase["requests"]
        row["stall"] = max(row["stall"], phase["stall"])
        for word, count in sheet["failures"].items():
            row[word] += count
        row["violations"] += sheet["violations"]
    return sums


def growth(outcome: Outcome) -> list[dict[str, Any]]:
    """Return what each supervisor of the run came to: steps, descriptors and memory at its beginning and its end."""
    eras: dict[int, list[dict[str, Any]]] = {}
    for sample in outcome.series:
        eras.setdefault(sample["era"], []).append(sample)
    found = []
    for era, samples in eras.items():
        third = max(1, len(samples) // 3)
        memory = [sample["resident_bytes"] for sample in samples]
        middle, last = statistics.median(memory[third : 2 * third] or memory), statistics.median(memory[-third:])
        found.append(
            {
                "era": era,
                "steps": len(samples),
                "first_bytes": memory[0],
                "middle_bytes": middle,
                "last_bytes": last,
                "flat": len(samples) < LONG or last - middle <= TOLERANCE,
                "first_descriptors": samples[0]["descriptors"],
                "last_descriptors": samples[-1]["descriptors"],
            }
        )
    return found


def top(eras: list[dict[str, Any]]) -> float:
    """Return the most memory any supervisor had at its end, bytes."""
    return max(float(era["last_bytes"]) for era in eras)


def table(outcome: Outcome) -> str:
    """Return it as Markdown."""
    heads = (
        "action",
        "times",
        "requests",
        "lost, allowed",
        "lost, disallowed",
        "harness",
        "longest stall, ms",
        "violations",
    )
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    sums = by_action(outcome)
    for name, row in sorted(sums.items()):
        cells = [row["count"], row["requests"], row["allowed"], row["disallowed"], row["harness"]]
        lines.append(f"| {name} | {' | '.join(map(str, cells))} | {1000 * row['stall']:.0f} | {row['violations']} |")
    total = {
        key: sum(row[key] for row in sums.values())
        for key in ("count", "requests", "allowed", "disallowed", "harness", "violations")
    }
    lines.append(
        f"| **all** | {total['count']} | {total['requests']} | {total['allowed']} | {total['disallowed']} | {total['harness']} | | {total['violations']} |"
    )
    lines += [f"\nskipped: {name}: {reason}" for name, reason in outcome.skipped.items()]
    lines.append("")
    lines += [
        f"log of {name}: {book['lines']} lines, {book['lost']} lost, {book['doubled']} doubled, {book['dropped']} said to be dropped, "
        f"{book['unread']} unread when their writer died"
        for name, book in outcome.logs.items()
    ]
    eras = growth(outcome)
    told = [era for era in eras if era["steps"] >= LONG] or [max(eras, key=lambda era: era["steps"])] if eras else []
    lines += [
        f"supervisor {era['era'] + 1}: {era['steps']} steps, {era['first_bytes'] / 1e6:.1f} MB at first, "
        f"{era['middle_bytes'] / 1e6:.1f} in the middle, {era['last_bytes'] / 1e6:.1f} at the end"
        f"{'' if era['flat'] else ', NOT FLAT'}; descriptors {era['first_descriptors']}, then {era['last_descriptors']}"
        for era in told
    ]
    if len(eras) > len(told):
        lines.append(
            f"{len(eras) - len(told)} supervisors that lived for fewer steps, at most {top(eras) / 1e6:.1f} MB"
        )
    for violation in outcome.violations:
        lines += ["", f"step {violation.step}, {violation.action} ({violation.whose}): {violation.text}"]
    if outcome.violations:
        first = outcome.violations[0]
        lines += ["", f"the first one: seed {outcome.seed}, step {first.step}; again: {replay(outcome)}"]
        lines += [f"kept: {outcome.kept}"]
    return "\n".join(lines)


def replay(outcome: Outcome) -> str:
    """Return the command that does the same steps again, up to the first that failed."""
    steps = max(1, outcome.violations[0].step if outcome.violations else len(outcome.steps))
    names = "" if len(outcome.actions) == len(ACTIONS) else f" --actions {','.join(outcome.actions)}"
    return f"./bench/chaos --seed {outcome.seed} --steps {steps}{names}"


def as_json(outcome: Outcome) -> str:
    """Return it all as JSON, the folders of this machine left out."""
    left_out = {"phases", "failures", "pids", "generations"}
    text = json.dumps(
        {
            "seed": outcome.seed,
            "actions": by_action(outcome),
            "skipped": outcome.skipped,
            "logs": outcome.logs,
            "growth": growth(outcome),
            "violations": [asdict(violation) for violation in outcome.violations],
            "steps": outcome.steps,
            "series": outcome.series,
            "load": {
                service: {key: value for key, value in report.items() if key not in left_out}
                for service, report in outcome.reports.items()
            },
        },
        indent=1,
    )
    for folder, word in ((outcome.base, "BASE"), (str(REPOSITORY), "REPOSITORY"), (sys.prefix, "PYTHON")):
        text = text.replace(folder, word) if folder else text
    return text
