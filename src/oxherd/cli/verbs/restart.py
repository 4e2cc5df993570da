"""``oxherd restart`` and ``oxherd reload``."""

from __future__ import annotations

import os

import click

from oxherd.cli.options import configs_option, env_option, names_argument, output_options, profile_option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oxherd.cli.output import Output

__all__ = ["reload", "restart"]


@click.command
@names_argument()
@configs_option
@profile_option
@env_option
@output_options
def restart(
    *, names: tuple[str, ...], configs: tuple[str, ...], profile: str | None, update_env: bool, output: Output
) -> int:
    """Stop processes and start them again.

    The oxfile and its env_files are read again; if they are not valid nothing is touched.
    """
    return _again("restart", names, configs, profile=profile, update_env=update_env, output=output)


@click.command
@names_argument()
@configs_option
@profile_option
@env_option
@output_options
def reload(
    *, names: tuple[str, ...], configs: tuple[str, ...], profile: str | None, update_env: bool, output: Output
) -> int:
    """Take new code and settings without losing a request.

    One new worker has to prove itself where nobody but its health check reaches it; only then the others are
    replaced, one by one. If it does not, nothing is changed and the exit code is 1. Several processes are replaced as
    one: all of them, or none. Programs with a port of their own and singletons are stopped, then started. Log files
    are reopened, as after `logrotate`.
    """
    return _again("reload", names, configs, profile=profile, update_env=update_env, output=output)


def _again(
    verb: str,
    names: tuple[str, ...],
    configs: tuple[str, ...],
    *,
    profile: str | None,
    update_env: bool,
    output: Output,
) -> int:
    from oxherd.cli.compiling import compile_for_start  # noqa: PLC0415 - not for --help
    from oxherd.cli.doing import Report, do  # noqa: PLC0415 - not for --help
    from oxherd.cli.targets import find_targets  # noqa: PLC0415 - not for --help
    from oxherd.cli.where import connect  # noqa: PLC0415 - not for --help
    from oxherd.config.codec import encode  # noqa: PLC0415 - not for --help
    from oxherd.control.paths import find_home  # noqa: PLC0415 - not for --help

    home = find_home(os.environ)
    targets = find_targets(home, configs, names)
    planned = []
    for target in targets:
        # Ask for the supervisor first: without one there is nothing to restart, whatever the oxfile says.
        connect(home, target.path).close()
        oxfile = compile_for_start(home, target.path, profile=profile, update_env=update_env, output=output)
        planned.append((target, oxfile))
    report = Report(output=output, several=len(targets) > 1)
    for target, oxfile in planned:
        with connect(home, target.path) as client:
            do(
                report,
                client,
                verb,
                target.path,
                oxfile=encode(oxfile),
                names=list(target.names),
                env=dict(os.environ),
                update_env=update_env,
                profile=oxfile.profile,
            )
    return report.finish()
