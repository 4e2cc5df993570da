"""``oxherd init``: looks into a folder and writes the first oxfile, or says what it could not find."""

from __future__ import annotations

import os
import sys

import click

from oxherd.cli.first_oxfile import plan_oxfile
from oxherd.cli.inspect_project import inspect_project
from oxherd.cli.options import output_options
from oxherd.cli.where import OXFILE
from oxherd.errors import OperationError, SystemFault, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from oxherd.cli.first_oxfile import FirstOxfile
    from oxherd.cli.output import Output
    from oxherd.errors import Problem

__all__ = ["init", "write_oxfile"]


@click.command(name="init")
@click.argument("folder", default=".", type=click.Path())
@click.option("--dry-run", "--stdout", "dry_run", is_flag=True, help="Print the oxfile and write nothing.")
@click.option("--force", is_flag=True, help="Replace an oxfile that is there.")
@output_options
def init(*, folder: str, dry_run: bool, force: bool, output: Output) -> int:
    """Look into FOLDER and write an oxfile.toml that runs what is there.

    Finds FastAPI, Starlette, Litestar, Quart, Django and Flask apps, a Celery app and its beat schedule, and the virtual
    environment, by reading the source; nothing of the project is imported or run.
    """
    folder = os.path.abspath(folder)
    if not os.path.isdir(folder):
        raise UsageError(f"{folder} is no folder", hint="name the folder of the project", code="OX260")
    path = os.path.join(folder, OXFILE)
    if os.path.exists(path) and not (force or dry_run):
        raise UsageError(
            f"{path} is there already",
            hint="`oxherd init --stdout` prints a new one, `oxherd init --force` replaces it",
            code="OX261",
        )
    found = plan_oxfile(inspect_project(folder, os.environ), os.path.basename(folder) or "stack")
    if not found.text:
        raise OperationError(
            f"nothing was found in {folder} that could be run; not found: {'; '.join(found.missing)}",
            hint=f'write {OXFILE} by hand: [processes.web] with command = "..."',
            code="OX460",
        )
    warnings: Sequence[Problem] = ()
    if not dry_run:
        warnings = write_oxfile(path, found.text)
    _report(path, found, output, dry_run=dry_run)
    output.problems(warnings)
    return 0


def write_oxfile(path: str, text: str) -> Sequence[Problem]:
    """Write a new oxfile if it is valid, and return its warnings. What was there stays where it is not.

    Raises:
        ConfigError: The text is no valid oxfile.
        SystemFault: The file cannot be written.
    """
    from oxherd.programs.compiled import compile_stack  # noqa: PLC0415 - needed only where a file is written
    from oxherd.programs.probes import Probes  # noqa: PLC0415 - needed only where a file is written

    # Beside the final file, since relative paths in it are relative to its folder.
    draft = f"{path}.new"
    try:
        with open(draft, "w", encoding="utf-8") as file:
            file.write(text)
        try:
            compiled = compile_stack(draft, environ=os.environ, probes=Probes(describing=None))
            os.replace(draft, path)
        finally:
            if os.path.exists(draft):
                os.unlink(draft)
    except OSError as error:
        raise SystemFault(
            f"cannot write {path}: {error.strerror}",
            hint="`oxherd init --stdout` prints what would have been written",
            code="OX640",
        ) from error
    return tuple(compiled.warnings)


def _report(path: str, found: FirstOxfile, output: Output, *, dry_run: bool) -> None:
    """Show what was found; with ``dry_run`` the file goes to stdout and the report to stderr."""
    if output.json:
        output.document(
            {
                "path": path,
                "written": not dry_run,
                "text": found.text,
                "processes": [
                    {
                        "name": item.name,
                        "command": item.command or None,
                        "app": item.app or None,
                        "found": item.what,
                        "health_check": item.health or None,
                    }
                    for item in found.processes
                ],
                "missing": list(found.missing),
            }
        )
        return
    if dry_run:
        sys.stdout.write(found.text)
        for item in found.missing:
            output.warn(f"not found: {item}")
        return
    output.say(f"wrote {path}")
    for process in found.processes:
        output.say(f"  {process.name:<8}{process.what}")
        if process.health:
            output.say(f"  {'':<8}health check: {process.health}")
    for item in found.missing:
        output.warn(f"not found: {item}")
    output.say("next: oxherd start")
