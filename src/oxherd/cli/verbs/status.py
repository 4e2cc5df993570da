"""``oxherd status``, as click sees it: the help, the completion and the errors of what the quick path runs."""

from __future__ import annotations

import click

from oxherd.cli.options import configs_option, names_argument, output_options, profile_option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oxherd.cli.output import Output

__all__ = ["ls", "status"]

_HELP = """Show what runs: NAME PID STATUS CPU MEM RESTARTS UPTIME.

Shows the stack of the oxfile in this directory; without one, all stacks. CPU and memory are those of the whole
process tree.
"""


@click.command(help=_HELP)
@names_argument()
@configs_option
@profile_option
@click.option("--all", "-a", "everything", is_flag=True, help="Show all stacks, whatever oxfile is here.")
@output_options
def status(
    *, names: tuple[str, ...], configs: tuple[str, ...], profile: str | None, everything: bool, output: Output
) -> int:
    """Print the status table."""
    from oxherd.cli.quick import show_status  # noqa: PLC0415 - not for --help

    return show_status(
        names,
        configs,
        as_json=output.json,
        everything=everything,
        no_color=output.no_color,
        quiet=output.quiet,
        profile=profile,
    )


ls = click.Command("ls", callback=status.callback, params=status.params, help=_HELP)
