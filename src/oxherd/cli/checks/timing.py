"""Times that contradict each other, and Celery run in a way that loses or doubles tasks."""

from __future__ import annotations

import os

from oxherd.cli.checks.finding import ok, problem, warning
from oxherd.cli.inspect_project import read_facts
from oxherd.config.model import Command
from oxherd.control.paths import stack_id
from oxherd.programs.arguments import Options
from oxherd.programs.recognise import recognise
from oxherd.system.identity import mark_of, pids, read_file
from oxherd.units import format_seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from oxherd.cli.checks.finding import Examination, Finding
    from oxherd.config.model import ProcessSpec

__all__ = ["check_beat", "check_celery_times", "check_health_times", "check_stop_times"]

# The option of each server that says how long it lets its requests finish, and its default in seconds.
_DRAINS = {
    "uvicorn": ("--timeout-graceful-shutdown", None),
    "gunicorn": ("--graceful-timeout", 30.0),
    "hypercorn": ("--graceful-timeout", 3.0),
    "granian": ("--workers-kill-timeout", None),
}
# Less than this is short for tasks that were written without a thought of being stopped.
_SHORT_DRAIN = 30.0
_APP_OPTIONS = frozenset({"-A", "--app"})


def check_stop_times(examination: Examination) -> Iterator[Finding]:
    """Compare the stop timeout with the time the server itself gives its requests."""
    for spec in examination.processes:
        option, default = _DRAINS.get(spec.program, ("", None))
        if not option or spec.hosted:
            continue  # of a hosted one the reader has said it
        said = Options(examination.program(spec).args, frozenset({option})).number(option)
        drain = default if said is None else said
        if drain is not None and spec.stop.timeout < drain:
            origin = f"{option} {drain:g}" if said is not None else f"{option} defaults to {drain:g} s"
            yield warning(
                f"it is killed after {format_seconds(spec.stop.timeout)}, and {origin}: its last requests would be cut off",
                where=spec.name,
                advice=f'write stop_timeout = "{drain + 5:g}s", or lower {option}',
            )


def check_health_times(examination: Examination) -> Iterator[Finding]:
    """Compare the times of a health check with each other."""
    for spec in examination.processes:
        health = spec.health
        if health is None:
            continue
        if health.timeout > health.interval:
            yield warning(
                f"a check may take {format_seconds(health.timeout)} and is due every {format_seconds(health.interval)}",
                where=spec.name,
                advice="make timeout_secs smaller than interval_secs",
            )
        if spec.ready_timeout is not None and spec.ready_timeout < health.grace:
            yield warning(
                f"ready_timeout ({format_seconds(spec.ready_timeout)}) ends before initial_delay "
                f"({format_seconds(health.grace)}): a slow start fails although its checks do not count yet",
                where=spec.name,
                advice="make ready_timeout the longer of the two",
            )


def check_celery_times(examination: Examination) -> Iterator[Finding]:
    """Compare a worker's stop timeout with what its tasks and its broker expect."""
    for spec in examination.processes:
        if spec.program != "celery-worker":
            continue
        if spec.stop.timeout < _SHORT_DRAIN:
            yield warning(
                f"its tasks are killed {format_seconds(spec.stop.timeout)} after a stop or restart begins",
                where=spec.name,
                advice='write a stop_timeout longer than the longest task; without the key it is "5m"',
            )
        visibility = _visibility_timeout(spec)
        if visibility is not None and visibility < spec.stop.timeout:
            yield warning(
                f"visibility_timeout is {format_seconds(visibility)} and the stop timeout {format_seconds(spec.stop.timeout)}: "
                "the broker gives a task to another worker while this one still finishes it",
                where=spec.name,
                advice="make visibility_timeout longer than stop_timeout and the longest task",
            )


def _visibility_timeout(spec: ProcessSpec) -> float | None:
    """Return the visibility_timeout that the source in the working directory sets, if a literal does."""
    if not os.path.isdir(spec.working_dir):
        return None
    found = [facts.visibility_timeout for facts in read_facts(spec.working_dir).values()]
    return min((seconds for seconds in found if seconds is not None), default=None)


def check_beat(examination: Examination) -> Iterator[Finding]:
    """Look for a second beat: every task of the schedule would be sent twice."""
    beats: dict[tuple[str, str], str] = {}
    for spec in examination.processes:
        app = _beat_app(examination, spec)
        if app is None:
            continue
        key = (spec.working_dir, app)
        if key in beats:
            yield problem(
                f"{beats[key]} runs the beat of {app or 'the same app'} too: every task would be sent twice",
                where=spec.name,
                advice="keep one of them",
            )
        elif spec.instances > 1:
            yield problem(
                f"{spec.instances} instances are {spec.instances} beats", where=spec.name, advice="instances = 1"
            )
        else:
            yield from _strangers(examination, spec, app)
        beats.setdefault(key, spec.name)


def _strangers(examination: Examination, spec: ProcessSpec, app: str) -> Iterator[Finding]:
    """Look for a beat of the same app, in the same directory, that this stack has not started."""
    own = f"{stack_id(examination.oxfile.path)}/" if examination.oxfile else ""
    found = [pid for pid, folder in _running_beats(app) if folder == os.path.realpath(spec.working_dir)]
    strangers = [pid for pid in found if not (mark_of(pid) or "").startswith(own)]
    for pid in strangers:
        yield problem(
            f"a beat of {app or 'the same app'} runs already as pid {pid}, outside this stack: every task would be sent twice",
            where=spec.name,
            advice="stop it where it was started, so that it does not come back",
        )
    if not strangers:
        yield ok("the only beat of its app", where=spec.name)


def _running_beats(app: str) -> Iterator[tuple[int, str]]:
    """Yield pid and directory of every celery beat of an app on this machine, as far as it may be looked at."""
    for pid in pids():
        line = os.fsdecode(read_file(f"/proc/{pid}/cmdline") or b"")
        if "beat" not in line:
            continue
        argv = tuple(line.rstrip("\0").split("\0"))
        program = recognise(Command(text=" ".join(argv), argv=argv))
        if program.name != "celery-beat" or (Options(program.args, _APP_OPTIONS).last(*_APP_OPTIONS) or "") != app:
            continue
        try:
            yield pid, os.readlink(f"/proc/{pid}/cwd")
        except OSError:
            continue  # somebody else's, or gone meanwhile


def _beat_app(examination: Examination, spec: ProcessSpec) -> str | None:
    """Return the app whose schedule a process runs, or None for other processes; ``worker -B`` runs one too."""
    options = Options(examination.program(spec).args, _APP_OPTIONS)
    if spec.program == "celery-beat" or (spec.program == "celery-worker" and options.has("-B", "--beat")):
        return options.last("-A", "--app") or ""
    return None
