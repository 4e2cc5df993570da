"""``oxherd delete``."""

from __future__ import annotations

import os

import click

from oxherd.cli.options import configs_option, names_argument, output_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oxherd.cli.output import Output

__all__ = ["delete"]


@click.command
@names_argument()
@configs_option
@output_options
def delete(*, names: tuple[str, ...], configs: tuple[str, ...], output: Output) -> int:
    """Stop processes and forget them.

    They are not shown any more and do not come back after a reboot. The oxfile and the logs stay.
    """
    from oxherd.cli.doing import Report, do  # noqa: PLC0415 - not for --help
    from oxherd.cli.naming import listed  # noqa: PLC0415 - not for --help
    from oxherd.cli.targets import find_targets  # noqa: PLC0415 - not for --help
    from oxherd.cli.where import connect  # noqa: PLC0415 - not for --help
    from oxherd.control.paths import find_home  # noqa: PLC0415 - not for --help

    home = find_home(os.environ)
    targets = find_targets(home, configs, names)
    report = Report(output=output, several=len(targets) > 1)
    for target in targets:
        with connect(home, target.path) as client:
            result = do(report, client, "delete", target.path, names=list(target.names))
        deleted = result.get("deleted")
        output.say(f"deleted: {listed(map(str, deleted if isinstance(deleted, list) else []))}")
    return report.finish()
