"""``oxherd doctor``: looks at the machine, the home and the oxfile together, and says what will not work."""

from __future__ import annotations

import os

import click

from oxherd.cli.checks import capacity, files, network, supervisor, timing, trust, workers
from oxherd.cli.checks.finding import Examination, Level, problem, warning
from oxherd.cli.options import config_option, output_options, profile_option
from oxherd.cli.targets import find_paths
from oxherd.control.paths import find_home
from oxherd.errors import ConfigError, Severity
from oxherd.programs.compiled import compile_stack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from oxherd.cli.checks.finding import Finding
    from oxherd.cli.output import Output
    from oxherd.errors import Problem
    from oxherd.programs.compiled import Compiled

__all__ = ["doctor", "examine"]

# Warnings of the reader that the checks repeat with more to say: a path that is not there, an engine that is missing.
_REPEATED = {"OX151", "OX160"}
_MARKS = {Level.OK: "ok", Level.WARNING: "warning", Level.PROBLEM: "problem"}


@click.command(name="doctor")
@config_option
@profile_option
@output_options
def doctor(*, config: str | None, profile: str | None, output: Output) -> int:
    """Look for what will not work: paths, ports, environments, times, limits, permissions.

    Looks at the oxfile that applies here, if there is one, and at the machine. Nothing is changed. Exit code 1 if there
    is a problem.
    """
    paths = find_paths([config] if config else [], os.environ)
    compiled: Compiled | None = None
    findings: list[Finding] = []
    if paths:
        try:
            compiled = compile_stack(paths[0], profile=profile or None, environ=os.environ)
        except ConfigError as error:
            findings += [_from_reader(item) for item in error.problems]
        else:
            findings += [_from_reader(item) for item in compiled.warnings if item.code not in _REPEATED]
    examination = Examination(home=find_home(os.environ), environ=os.environ, euid=os.geteuid(), compiled=compiled)
    findings += examine(examination)
    _report(findings, paths[0] if paths else None, output)
    return 1 if any(finding.level is Level.PROBLEM for finding in findings) else 0


def examine(examination: Examination) -> Iterator[Finding]:
    """Yield the findings of every check."""
    there = capacity.machine()
    yield from supervisor.check_directories(examination)
    yield from supervisor.check_supervisor(examination)
    yield from files.check_programs(examination)
    yield from workers.check_engines(examination)
    yield from files.check_users(examination)
    yield from trust.check_trust(examination)
    yield from network.check_ports(examination)
    yield from workers.check_balance(examination)
    yield from timing.check_stop_times(examination)
    yield from timing.check_health_times(examination)
    yield from timing.check_celery_times(examination)
    yield from timing.check_beat(examination)
    yield from capacity.check_memory(examination, there)
    yield from workers.check_worker_memory(examination, there)
    yield from capacity.check_open_files(examination, there)
    yield from capacity.check_hard_limits(examination)
    yield from capacity.check_disk(examination)


def _from_reader(item: Problem) -> Finding:
    said = f"{item.message}, found {item.found}" if item.found else item.message
    make = problem if item.severity == Severity.ERROR else warning
    return make(said, where=item.where(), advice=item.hint)


def _report(findings: Sequence[Finding], oxfile: str | None, output: Output) -> None:
    counts = {level: sum(1 for finding in findings if finding.level is level) for level in Level}
    if output.json:
        output.document(
            {
                "oxfile": oxfile,
                "findings": [finding.as_dict() for finding in findings],
                "problems": counts[Level.PROBLEM],
                "warnings": counts[Level.WARNING],
            }
        )
        return
    output.say(f"oxfile: {oxfile or 'none here, so only the machine was looked at'}")
    for level in (Level.OK, Level.WARNING, Level.PROBLEM):
        for finding in findings:
            if finding.level is level:
                head = f"{_MARKS[level]:<8}{finding.where}: {finding.what}"
                output.say(f"{head}\n        {finding.advice}" if finding.advice else head)
    output.say(
        f"{counts[Level.PROBLEM]} problem{'' if counts[Level.PROBLEM] == 1 else 's'}, "
        f"{counts[Level.WARNING]} warning{'' if counts[Level.WARNING] == 1 else 's'}"
    )
