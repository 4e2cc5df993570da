"""``oxherd start``."""

from __future__ import annotations

import os

import click

from oxherd.cli.options import configs_option, env_option, names_argument, output_options, profile_option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from oxherd.cli.bootstrap import Nascent
    from oxherd.cli.output import Output
    from oxherd.cli.targets import Target
    from oxherd.config.model import Oxfile
    from oxherd.control.paths import Home

__all__ = ["start"]


@click.command(context_settings={"ignore_unknown_options": False})
@names_argument()
@configs_option
@profile_option
@env_option
@click.option("--dry-run", is_flag=True, help="Check the oxfile and say what would be started.")
@click.option("--no-wait", is_flag=True, help="Return when the start has begun, not when all is ready.")
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="Give up waiting after this long."
)
@click.option(
    "--name", metavar="NAME", help="Add the command after -- to your own stack under this name, and start it."
)
@click.option("--cwd", metavar="DIR", type=click.Path(), help="With --name: the directory to run in (default: here).")
@output_options
def start(
    *,
    names: tuple[str, ...],
    configs: tuple[str, ...],
    profile: str | None,
    update_env: bool,
    dry_run: bool,
    no_wait: bool,
    timeout: float | None,
    name: str | None,
    cwd: str | None,
    output: Output,
) -> int:
    """Start processes and wait until all are ready.

    The supervisor is started in the background if it does not run yet. The environment of this shell reaches the
    processes of a stack at its first start and is kept.

    \b
    oxherd start                 the whole stack of ./oxfile.toml
    oxherd start web worker      these two, with what they depend on
    oxherd start --name api -- uvicorn main:app --port 8000
    """  # noqa: D301 - click wants the character itself
    from oxherd.cli.bootstrap import nascent  # noqa: PLC0415 - not for --help
    from oxherd.control.paths import find_home  # noqa: PLC0415 - not for --help

    home = find_home(os.environ)
    if name is not None:
        configs, names = (_append(name, names, cwd, dry_run=dry_run, output=output),), (name,)
        if dry_run:
            return 0
    elif cwd is not None:
        raise click.UsageError("--cwd goes with --name NAME -- COMMAND")
    early = None if dry_run else nascent(home)
    try:
        planned = _plan(home, configs, names, profile=profile, update_env=update_env, output=output)
        if dry_run:
            return _tell(planned, output)
        return _start(home, planned, early, update_env=update_env, wait=not no_wait, timeout=timeout, output=output)
    finally:
        if early is not None:
            early.close()


def _append(name: str, command: Sequence[str], cwd: str | None, *, dry_run: bool, output: Output) -> str:
    """Write the process into the user's own oxfile and return its path."""
    from oxherd.config.discovery import user_oxfile  # noqa: PLC0415 - not for --help
    from oxherd.config.usertable import append_process  # noqa: PLC0415 - not for --help

    if not command:
        raise click.UsageError("--name NAME needs a command: oxherd start --name NAME -- COMMAND...")
    path = user_oxfile(os.environ)
    if dry_run:
        output.say(f"Would add {name} to {path} and start it")
        return path
    append_process(path, name, command, os.path.abspath(cwd or os.getcwd()))
    output.say(f"{name}: added to {path}")
    return path


def _plan(
    home: Home, configs: Sequence[str], names: Sequence[str], *, profile: str | None, update_env: bool, output: Output
) -> list[tuple[Oxfile, Target]]:
    """Compile every oxfile before anything is done about the first.

    Raises:
        OxherdError: One of them is not valid, or a name fits none.
    """
    from oxherd.cli.compiling import compile_for_start  # noqa: PLC0415 - not for --help
    from oxherd.cli.targets import find_paths, no_oxfile, share_names  # noqa: PLC0415 - not for --help

    paths = find_paths(configs, os.environ)
    if not paths:
        raise no_oxfile()
    compiled = {
        path: compile_for_start(home, path, profile=profile, update_env=update_env, output=output) for path in paths
    }
    processes = {path: [process.name for process in oxfile.processes] for path, oxfile in compiled.items()}
    return [(compiled[target.path], target) for target in share_names(processes, names)]


def _tell(planned: Sequence[tuple[Oxfile, Target]], output: Output) -> int:
    """Say what would be started."""
    chosen: list[dict[str, object]] = []
    for oxfile, target in planned:
        wanted = {name.partition(":")[0] for name in target.names}
        chosen.extend(
            {"stack": oxfile.name, "name": process.name, "instances": process.instances}
            for process in oxfile.processes
            if (process.name in wanted if wanted else not process.disabled)
        )
    if output.json:
        output.document({"would_start": chosen})
    else:
        texts = [
            f"{item['name']} (x{item['instances']})" if item["instances"] != 1 else item["name"] for item in chosen
        ]
        output.say(f"Would start: {', '.join(map(str, texts)) or 'nothing'}")
    return 0


def _start(
    home: Home,
    planned: Sequence[tuple[Oxfile, Target]],
    early: Nascent | None,
    *,
    update_env: bool,
    wait: bool,
    timeout: float | None,
    output: Output,
) -> int:
    from oxherd.cli.bootstrap import ensure_supervisor  # noqa: PLC0415 - not for --dry-run
    from oxherd.cli.doing import Report, accepted, do  # noqa: PLC0415 - not for --dry-run
    from oxherd.cli.where import foreground_of  # noqa: PLC0415 - not for --dry-run
    from oxherd.config.codec import encode  # noqa: PLC0415 - not for --dry-run

    report = Report(output=output, several=len(planned) > 1)
    for oxfile, target in planned:
        request: dict[str, object] = {
            "oxfile": encode(oxfile),
            "names": list(target.names),
            "env": dict(os.environ),
            "update_env": update_env,
            "profile": oxfile.profile,
        }
        with foreground_of(home, oxfile.path) or ensure_supervisor(home, early) as client:
            if wait:
                do(report, client, "start", oxfile.path, timeout=timeout, **request)
            else:
                accepted(client, "start", oxfile.path, **request)
                output.say(f"{oxfile.name}: starting in the background; oxherd status shows how it goes")
    return report.finish()
