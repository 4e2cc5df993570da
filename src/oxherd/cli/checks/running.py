"""What runs already, as far as its supervisor says so: who holds what, and what each process takes."""

from __future__ import annotations

from oxherd.cli.where import foreground_of
from oxherd.control.client import Client
from oxherd.errors import OxherdError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from oxherd.cli.checks.finding import Examination

__all__ = ["measured_memory", "supervisor_pids"]


def _supervisors(examination: Examination) -> Iterator[Client]:
    """Connect to the supervisors this stack may run under; none is started for it."""
    oxfile = examination.oxfile
    try:
        foreground = foreground_of(examination.home, oxfile.path) if oxfile is not None else None
        if foreground is not None:
            yield foreground
        yield Client.connect(examination.home)
    except OxherdError:
        return  # none runs, or it does not answer, which another check tells


def supervisor_pids(examination: Examination) -> frozenset[int]:
    """Return the pids of the supervisors this stack may run under."""
    found: set[int] = set()
    for client in _supervisors(examination):
        with client:
            pid = _asked(client, "ping", None).get("pid")
            if isinstance(pid, int):
                found.add(pid)
    return frozenset(found)


def measured_memory(examination: Examination) -> dict[str, int]:
    """Return for each process of the stack that runs how many bytes its largest instance takes."""
    oxfile = examination.oxfile
    largest: dict[str, int] = {}
    if oxfile is None:
        return largest
    for client in _supervisors(examination):
        with client:
            rows = _asked(client, "status", oxfile.path).get("rows")
            for row in rows if isinstance(rows, list) else []:
                memory = row.get("memory_bytes")
                if isinstance(memory, int):
                    name = str(row.get("name"))
                    largest[name] = max(memory, largest.get(name, 0))
    return largest


def _asked(client: Client, verb: str, stack: str | None) -> dict[str, object]:
    try:
        return client.request(verb, timeout=5) if stack is None else client.request(verb, timeout=5, stack=stack)
    except OxherdError:
        return {}  # this stack is not known there
