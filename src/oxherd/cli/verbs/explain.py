"""``oxherd explain``."""

from __future__ import annotations

import dataclasses
import os
import shlex

import click

from oxherd.cli.options import config_option, names_argument, output_options, profile_option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from oxherd.cli.output import Output
    from oxherd.programs.explanation import Explained, Explanation, HostingExplained

__all__ = ["explain"]

_WIDTH = 100


@click.command
@names_argument()
@config_option
@profile_option
@output_options
def explain(*, names: tuple[str, ...], config: str | None, profile: str | None, output: Output) -> int:
    """Show what Oxherd makes of an oxfile.

    Every setting, where it comes from, what is run in the end. Secrets are not shown. Nothing has to run for it.
    """
    from oxherd.cli.compiling import kept_of  # noqa: PLC0415 - not for --help
    from oxherd.cli.targets import find_paths, no_oxfile, share_names  # noqa: PLC0415 - not for --help
    from oxherd.cli.where import shown  # noqa: PLC0415 - not for --help
    from oxherd.control.paths import find_home  # noqa: PLC0415 - not for --help
    from oxherd.programs.compiled import compile_stack  # noqa: PLC0415 - not for --help
    from oxherd.programs.explanation import explanation  # noqa: PLC0415 - not for --help

    paths = find_paths([config] if config else [], os.environ)
    if not paths:
        raise no_oxfile()
    kept = kept_of(find_home(os.environ), paths[0])
    environ = os.environ if kept.env is None else kept.env
    chosen = (profile or None) if profile is not None else kept.profile
    compiled = compile_stack(shown(paths[0]), profile=chosen, environ=environ, strict_files=False)
    processes = [process.name for process in compiled.oxfile.processes]
    share_names({paths[0]: processes}, names)
    wanted = {name.partition(":")[0] for name in names}
    explained = [explanation(compiled, name, environ) for name in processes if not wanted or name in wanted]
    running = _running(paths[0])
    general = [key for name, key in compiled.inactive if not name]
    if output.json:
        document = {
            "stack": compiled.oxfile.name,
            "path": compiled.oxfile.path,
            "profile": compiled.oxfile.profile,
            "inactive": general,
            "processes": [{**dataclasses.asdict(item), "running": running.get(item.process)} for item in explained],
        }
        output.document(document)
        return 0
    profile_text = f", profile {compiled.oxfile.profile}" if compiled.oxfile.profile else ""
    output.say(f"stack {compiled.oxfile.name} ({compiled.oxfile.path}{profile_text})")
    for line in (
        *_inactive(general),
        *(text for item in explained for text in _lines(item, running.get(item.process))),
    ):
        output.say(line)
    output.problems(compiled.warnings)
    return 0


def _running(path: str) -> dict[str, dict[str, object]]:
    """Return what a supervisor knows of the hosted processes that run, by name; nothing where none does."""
    from oxherd.cli.doing import objects  # noqa: PLC0415 - not for --help
    from oxherd.cli.where import connect  # noqa: PLC0415 - not for --help
    from oxherd.control.paths import find_home  # noqa: PLC0415 - not for --help
    from oxherd.errors import OxherdError  # noqa: PLC0415 - not for --help

    try:
        with connect(find_home(os.environ), path) as client:
            found = objects(client.request("hosting", timeout=10, stack=path, names=[]), "processes")
    except OxherdError:
        return {}  # nothing has to run for an explanation
    return {str(facts.get("process")): facts for facts in found}


def _now(facts: Mapping[str, object] | None) -> list[str]:
    """Return what is running of a hosted process, hazards of a fork included."""
    if not facts:
        return []
    how = "forked from a zygote" if facts.get("preloaded") else "each imports the app itself"
    what = f"{facts.get('engine')} {facts.get('engine_version') or ''}".strip()
    lines = [f"  running  generation {facts.get('generation')}, {what}, {facts.get('interface')}; workers: {how}"]
    hazards = facts.get("hazards")
    for hazard in hazards if isinstance(hazards, list) else []:
        where = f" ({hazard.get('where')})" if hazard.get("where") else ""
        kind = "not forked because of" if hazard.get("fatal") else "seen"
        lines.append(f"  {kind}: {hazard.get('what')}{where}; {hazard.get('advice')}")
    return lines


def _lines(item: Explanation, running: Mapping[str, object] | None = None) -> list[str]:
    """Return one process as text."""
    hosting = item.hosting
    runs = f"{shlex.join(item.argv)}{' (through a shell)' if item.shell else ''}" if item.argv else ""
    if hosting is not None and hosting.argv:
        runs = shlex.join(hosting.argv)
    facts = [
        ("runs", "" if hosting is not None and hosting.way == "hosted" else runs),
        ("program", f"{item.executable} ({item.executable_reason})" if item.executable else item.executable_reason),
        ("python", f"{item.interpreter} ({item.interpreter_reason})" if item.interpreter else ""),
        *_hosting(hosting),
        ("listens", ", ".join(item.binds) if hosting is None else ""),
        ("to stop", item.drains),
        ("as it is", f"run untouched: {item.untouched}" if item.untouched else ""),
    ]
    lines = ["", f"{item.process}: {item.title}"]
    lines += [f"  {name:<8} {text}" for name, text in facts if text]
    lines += _now(running)
    lines += [f"  note: {note}" for note in item.notes]
    lines += [f"  {line}" for line in _inactive(item.inactive)]
    lines += _table("  settings", (setting for setting in item.settings if setting.origin != "default"))
    lines += _table("  environment", item.env)
    defaults = [f"{one.name} = {one.value}" for one in item.settings if one.origin == "default" and one.value]
    return lines + (["  by default", *_wrapped(defaults)] if defaults else [])


def _hosting(hosting: HostingExplained | None) -> list[tuple[str, str]]:
    """Return what there is to say of listeners and workers."""
    if hosting is None:
        return []
    binds = ", ".join(hosting.binds)
    if hosting.way != "hosted":
        return [
            ("listens", f"{binds} (held by the supervisor, passed as descriptors)" if binds else ""),
            ("asks", "each instance by itself, over a listener of its own" if hosting.health == "private" else ""),
            ("reload", "the new one is ready before the old one goes" if hosting.overlap else "stops, then starts"),
        ]
    shared = ", one listener for all workers" if hosting.balance == "shared" and hosting.workers > 1 else ""
    asked = [name for name, way in (("health", hosting.health), ("readiness", hosting.readiness)) if way == "private"]
    return [
        ("serves", hosting.app),
        ("engine", f"{hosting.engine}, in Oxherd's own workers"),
        ("workers", f"{hosting.workers}{f' ({hosting.workers_from})' if hosting.workers_from else ''}"),
        ("listens", f"{binds} (held by the supervisor{shared})"),
        ("preload", hosting.preload),
        ("times", hosting.times),
        ("asks", f"each worker by itself, over a listener of its own: {' and '.join(asked)}" if asked else ""),
    ]


def _wrapped(items: Iterable[str]) -> list[str]:
    """Return the items with commas, broken between items only."""
    lines = [""]
    for item in items:
        if lines[-1] and len(lines[-1]) + len(item) > _WIDTH:
            lines.append("")
        lines[-1] += f"{item}, "
    return [f"    {line.rstrip(' ')}" for line in (*lines[:-1], lines[-1].rstrip(", "))]


def _table(title: str, items: Iterable[Explained]) -> list[str]:
    rows = list(items)
    if not rows:
        return []
    names, values = (max(len(getattr(row, key)) for row in rows) for key in ("name", "value"))
    values = min(values, 60)
    return [title, *(f"    {row.name:<{names}}  {row.value:<{values}}  {row.origin}" for row in rows)]


def _inactive(keys: Iterable[str]) -> list[str]:
    names = ", ".join(keys)
    return [f"not active yet in this version: {names}"] if names else []
