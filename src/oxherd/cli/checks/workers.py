"""Processes that Oxherd's own workers serve: whether their engine is there, and whether the workers fit the machine."""

from __future__ import annotations

import os

from oxherd.cli.checks.finding import ok, problem, warning
from oxherd.config.problems import Place
from oxherd.units import format_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from oxherd.cli.checks.capacity import Machine
    from oxherd.cli.checks.finding import Examination, Finding
    from oxherd.config.model import ProcessSpec

__all__ = ["check_balance", "check_engines", "check_worker_memory"]


def check_engines(examination: Examination) -> Iterator[Finding]:
    """Look whether the interpreter of each hosted process has what serves it."""
    for spec in examination.processes:
        plan = examination.plan(spec)
        host = spec.host
        if host is None or not spec.hosted or plan is None:
            continue
        told = [remark.problem(Place(file="")) for remark in plan.remarks]
        missing = [item for item in told if item.code == "OX160"]
        for item in missing:
            yield problem(f"{item.message}, found {item.found}", where=spec.name, advice=item.hint)
        if missing:
            continue
        if not os.access(host.python, os.X_OK):
            if spec.app is not None:
                yield problem(
                    f"its interpreter {host.python} is not there",
                    where=spec.name,
                    advice="make the virtual environment, or correct python",
                )
            continue  # of a command its program was looked for
        versions = dict(host.engines)
        engine = host.engine if host.engine != "auto" else " or ".join(_usual(versions))
        if engine in versions:
            engine = f"{engine} {versions[engine]}"
        yield ok(f"served by Oxherd's workers: {engine} on {host.python}", where=spec.name)


def _usual(versions: dict[str, str]) -> list[str]:
    """Return what an app may be served by where its interface is not known before it is imported."""
    asgi = next((name for name in ("uvicorn", "granian", "hypercorn") if name in versions), "")
    wsgi = next((name for name in ("gunicorn", "uvicorn", "granian", "hypercorn") if name in versions), "")
    return [name for name in dict.fromkeys((asgi, wsgi)) if name]


def check_balance(examination: Examination) -> Iterator[Finding]:
    """Say where a listener that all workers share lets one of them take most connections."""
    for spec in examination.processes:
        host = spec.host
        if host is None or not spec.hosted or host.balance != "shared" or spec.instances < 2:
            continue
        unix = all(bind.startswith("unix:") for bind in host.bind)
        if not unix and "balance" in spec.set_keys:
            yield warning(
                f'with balance = "shared" one of the {spec.instances} workers may take nearly all connections of a burst',
                where=spec.name,
                advice='remove balance: "slots", a listener for each worker, is fair and loses none',
            )


def check_worker_memory(examination: Examination, there: Machine) -> Iterator[Finding]:
    """Compare what all workers take, by their limits or as they are measured now, with the machine."""
    measured = examination.memory()
    parts: list[tuple[ProcessSpec, int, str]] = []
    for spec in examination.processes:
        if not spec.hosted or spec.host is None:
            continue
        limit = spec.limits.memory or spec.host.max_memory
        each = limit or measured.get(spec.name)
        if each:
            parts.append((spec, each, "limit" if limit else "as measured"))
    total = sum(each * spec.instances for spec, each, _ in parts)
    if total > there.memory and any(not spec.limits.memory for spec, _, _ in parts):
        listed = " + ".join(f"{spec.name} {spec.instances} x {format_bytes(each)} ({how})" for spec, each, how in parts)
        yield warning(
            f"the workers together take {format_bytes(total)} of {format_bytes(there.memory)}: {listed}",
            where="memory",
            advice="lower workers or max_memory_mb; with preload they share what the app has imported",
        )
