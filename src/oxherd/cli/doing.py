"""Asking the supervisor to do something, showing how it goes, and telling what came of it."""

from __future__ import annotations

import os

from oxherd.cli.progress import progress_of
from oxherd.cli.table import json_row, label
from oxherd.errors import OxherdError
from oxherd.records import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from oxherd.cli.output import Output
    from oxherd.control.client import Client

    Result = dict[str, object]

__all__ = ["Report", "accepted", "do", "objects"]

# Lines of a failed process's log that are shown with the failure; `oxherd why` shows all that were kept.
_LOG_LINES = 5


class _AcceptedError(Exception):
    """The supervisor has begun: all that ``--no-wait`` waits for."""


@dataclass(slots=True, kw_only=True)
class Report:
    """What came of one command, over all the stacks it was about.

    Attributes:
        output: How to speak.
        several: Whether names need their stack in front.
        failed: Whether anything did not work.
    """

    output: Output
    several: bool = False
    failed: bool = False
    documents: list[Result] = field(default_factory=list)

    def finish(self) -> int:
        """Print the JSON document, if that is asked for, and return the exit code."""
        if self.output.json:
            self.output.document(_merged(self.documents))
        return 1 if self.failed else 0


def do(report: Report, client: Client, verb: str, stack: str, *, timeout: float | None = None, **args: Any) -> Result:
    """Ask for ``verb`` on ``stack``, show its progress and its failures, and return its result.

    Raises:
        OxherdError: It was refused, or took longer than ``timeout`` seconds.
    """
    output = report.output
    prefix = f"{os.path.basename(os.path.dirname(stack))}/" if report.several else ""
    seen: set[str] = set()

    with progress_of(output, prefix) as progress:

        def show(item: dict[str, object]) -> None:
            seen.add(str(item.get("label") or item.get("process")))
            progress.show(item)

        try:
            result = client.request(verb, show, timeout, stack=stack, **args)
        except KeyboardInterrupt:
            output.warn(f"{verb} interrupted; what has begun goes on, oxherd status shows it")
            raise
    for row in objects(result, "instances"):
        if label(row) not in seen:
            output.say(f"{prefix}{label(row)}: {_as_before(row)}")
    notes = result.get("notes")
    for note in notes if isinstance(notes, list) else []:
        if not output.quiet:
            output.warn(f"note: {note}")
    for reload in objects(result, "reloads"):
        if reload.get("result") == "done":
            output.say(f"{prefix}{reload.get('process')}: {reload.get('text')}")
    for failure in objects(result, "failed"):
        report.failed = True
        _show_failure(output, client, stack, failure)
    report.documents.append(result)
    return result


def accepted(client: Client, verb: str, stack: str, **args: Any) -> None:
    """Ask for ``verb`` and return as soon as the supervisor has begun; it goes on after we hang up.

    Raises:
        OxherdError: It was refused.
    """

    def enough(_item: dict[str, object]) -> None:
        raise _AcceptedError

    try:
        client.request(verb, enough, stack=stack, **args)
    except _AcceptedError:
        client.close()


def objects(result: Mapping[str, object], key: str) -> list[dict[str, object]]:
    """Return the objects of a list in a result; nothing where the supervisor sent none."""
    value = result.get(key)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _as_before(row: Mapping[str, object]) -> str:
    pid = row.get("pid")
    return f"{row.get('status')} (pid {pid}), as before" if pid is not None else f"{row.get('status')}, as before"


def _show_failure(output: Output, client: Client, stack: str, failure: Mapping[str, object]) -> None:
    """Say on stderr what failed, why, what it last said, and where there is more."""
    name = str(failure.get("label") or failure.get("name"))
    output.warn(f"{name}: {failure.get('reason') or 'it failed'}")
    trace = str(failure.get("traceback") or "")
    if trace:
        output.warn("".join(f"    | {line}\n" for line in trace.rstrip().splitlines()).rstrip())
    try:
        cards = objects(client.request("why", timeout=10, stack=stack, names=[str(failure.get("name"))]), "cards")
    except OxherdError:
        cards = []  # the failure stands without its last words
    instance = failure.get("instance")
    card = next((card for card in cards if card.get("instance") == instance), None)
    lines = card.get("last_lines") if card is not None else None
    for line in lines[-_LOG_LINES:] if isinstance(lines, list) else []:
        output.warn(f"    | {line}")
    output.warn(f"    oxherd why {name}")


def _merged(results: list[Result]) -> Result:
    """Return several stacks' results as one document."""
    merged: Result = {}
    for result in results:
        for key, value in result.items():
            if key == "instances":
                value = [json_row(row) for row in objects(result, key)]  # noqa: PLW2901 - the value as it is shown
            known = merged.get(key)
            merged[key] = [*known, *value] if isinstance(known, list) and isinstance(value, list) else value
    return merged
