"""``oxherd apply``."""

from __future__ import annotations

import os

import click

from oxherd.cli.options import configs_option, env_option, output_options, profile_option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oxherd.cli.output import Output

__all__ = ["apply"]

_SHOWN = ("added", "changed", "removed", "unchanged")


@click.command
@configs_option
@profile_option
@env_option
@click.option("--no-prune", is_flag=True, help="Leave processes alone that are not in the oxfile any more.")
@output_options
def apply(*, configs: tuple[str, ...], profile: str | None, update_env: bool, no_prune: bool, output: Output) -> int:
    """Make what runs the same as the oxfile.

    Only what changed is touched: new processes are started, changed ones restarted, those that are gone from the file stopped and forgotten.
    """
    from oxherd.cli.bootstrap import ensure_supervisor  # noqa: PLC0415 - not for --help
    from oxherd.cli.compiling import compile_for_start  # noqa: PLC0415 - not for --help
    from oxherd.cli.doing import Report, do  # noqa: PLC0415 - not for --help
    from oxherd.cli.naming import listed  # noqa: PLC0415 - not for --help
    from oxherd.cli.targets import find_paths, no_oxfile  # noqa: PLC0415 - not for --help
    from oxherd.cli.where import foreground_of  # noqa: PLC0415 - not for --help
    from oxherd.config.codec import encode  # noqa: PLC0415 - not for --help
    from oxherd.control.paths import find_home  # noqa: PLC0415 - not for --help

    home = find_home(os.environ)
    paths = find_paths(configs, os.environ)
    if not paths:
        raise no_oxfile()
    compiled = [compile_for_start(home, path, profile=profile, update_env=update_env, output=output) for path in paths]
    report = Report(output=output, several=len(paths) > 1)
    for oxfile in compiled:
        with foreground_of(home, oxfile.path) or ensure_supervisor(home) as client:
            result = do(
                report,
                client,
                "apply",
                oxfile.path,
                oxfile=encode(oxfile),
                env=dict(os.environ),
                update_env=update_env,
                prune=not no_prune,
                profile=oxfile.profile,
            )
        for key in _SHOWN:
            names = result.get(key)
            if isinstance(names, list) and names:
                output.say(f"{key}: {listed(map(str, names))}")
    return report.finish()
