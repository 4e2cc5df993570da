"""``oxherd run``: becomes the supervisor of one stack."""

from __future__ import annotations

import json
import os
import sys

import click

from oxherd.cli.options import config_option, names_argument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oxherd.config.model import Oxfile
    from oxherd.control.paths import Home

__all__ = ["run"]


@click.command
@names_argument()
@config_option
@click.option("--profile", metavar="NAME", help="Apply this profile of the oxfile.")
@click.option("--no-color", is_flag=True, help="Print without colour (the same as NO_COLOR=1).")
def run(*, names: tuple[str, ...], config: str | None, profile: str | None, no_color: bool) -> int:
    """Run a stack in the foreground.

    Right as PID 1 of a container too. Output goes to stdout with the name of its process in front. Ctrl-C (or SIGTERM) stops everything, a second one
    forces it. Ends when nothing is left to run, with the exit code of what failed.
    """
    from oxherd.cli.output import Output  # noqa: PLC0415 - not for --help
    from oxherd.cli.targets import find_paths, no_oxfile, share_names  # noqa: PLC0415 - not for --help
    from oxherd.cli.where import shown  # noqa: PLC0415 - not for --help
    from oxherd.control.paths import find_home  # noqa: PLC0415 - not for --help
    from oxherd.programs.compiled import compile_stack  # noqa: PLC0415 - not for --help

    home = find_home(os.environ)
    paths = find_paths([config] if config else [], os.environ)
    if not paths:
        raise no_oxfile()
    home.refuse_foreign()
    compiled = compile_stack(shown(paths[0]), profile=profile or None, environ=os.environ, strict_files=True)
    Output().problems(compiled.warnings)
    if os.geteuid() == 0:
        from oxherd.cli.checks.trust import warn_of_trust  # noqa: PLC0415 - for root alone

        warn_of_trust(home, compiled, os.environ, Output())
    share_names({paths[0]: [process.name for process in compiled.oxfile.processes]}, names)
    _refuse_running(home, paths[0])
    return _become(compiled.oxfile, names, no_color=no_color)


def _refuse_running(home: Home, path: str) -> None:
    """Refuse to run what runs already: two supervisors of one stack would start everything twice.

    Raises:
        OperationError: It runs.
    """
    from oxherd.cli.doing import objects  # noqa: PLC0415 - not for --help
    from oxherd.cli.where import UNKNOWN_STACK, connect  # noqa: PLC0415 - not for --help
    from oxherd.errors import NoSupervisorError, OperationError, UsageError  # noqa: PLC0415 - not for --help

    try:
        with connect(home, path) as client:
            foreground = client.path != home.socket
            rows = objects(client.request("status", timeout=10, stack=path), "rows")
    except NoSupervisorError:
        return
    except UsageError as error:
        if error.code != UNKNOWN_STACK:
            raise
        return
    if foreground or any(row.get("pid") is not None for row in rows):
        where = "under another `oxherd run`" if foreground else "in the background"
        raise OperationError(f"{path} runs already {where}", hint="stop it first: oxherd stop", code="OX431")


def _become(oxfile: Oxfile, names: tuple[str, ...], *, no_color: bool) -> int:
    """Replace this process by the supervisor, which reads what to run from an inherited descriptor."""
    from oxherd.cli.bootstrap import daemon_command  # noqa: PLC0415 - not for --help
    from oxherd.config.codec import encode  # noqa: PLC0415 - not for --help
    from oxherd.system.nameless import nameless  # noqa: PLC0415 - not for --help
    from oxherd.system.subreaper import become_subreaper  # noqa: PLC0415 - not for --help

    job = json.dumps({"oxfile": encode(oxfile), "env": dict(os.environ), "names": list(names)}).encode()
    arguments = ["--run", oxfile.path, "--spec-fd", str(nameless(job, inheritable=True))]
    for name in names:
        arguments += ["--name", name]
    if no_color:
        arguments += ["--color", "never"]
    sys.stdout.flush()
    become_subreaper()  # which outlives the exec
    command = daemon_command(*arguments)
    os.execv(command[0], command)
