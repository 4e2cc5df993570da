"""``oxherd stop``."""

from __future__ import annotations

import os

import click

from oxherd.cli.options import configs_option, names_argument, output_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oxherd.cli.output import Output

__all__ = ["stop"]


@click.command
@names_argument()
@configs_option
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Give up waiting after this long; the stop goes on.",
)
@output_options
def stop(*, names: tuple[str, ...], configs: tuple[str, ...], timeout: float | None, output: Output) -> int:
    """Stop processes and wait until nothing of them is left.

    Each gets its stop signal and, at its stop timeout, SIGKILL to everything it ever started. What depends on others
    is stopped before them. A stopped process stays down, over a reboot too, until it is started again.
    """
    from oxherd.cli.doing import Report, do  # noqa: PLC0415 - not for --help
    from oxherd.cli.targets import find_targets  # noqa: PLC0415 - not for --help
    from oxherd.cli.where import connect  # noqa: PLC0415 - not for --help
    from oxherd.control.paths import find_home  # noqa: PLC0415 - not for --help

    home = find_home(os.environ)
    targets = find_targets(home, configs, names)
    report = Report(output=output, several=len(targets) > 1)
    for target in targets:
        with connect(home, target.path) as client:
            do(report, client, "stop", target.path, timeout=timeout, names=list(target.names))
    return report.finish()
