"""``oxherd events``."""

from __future__ import annotations

import os
import time

import click

from oxherd.cli.options import config_option, output_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oxherd.cli.output import Output

__all__ = ["events"]


@click.command
@config_option
@click.option("--all", "-a", "everything", is_flag=True, help="Show the events of all stacks.")
@click.option("--last", "-n", type=click.IntRange(min=0), default=20, show_default=True, help="How many to show.")
@click.option("--follow", "-f", is_flag=True, help="Go on showing new ones, until Ctrl-C.")
@output_options
def events(*, config: str | None, everything: bool, last: int, follow: bool, output: Output) -> int:
    """Show what happened to the processes.

    Starts, exits, failed health checks, restarts, limits: the last 1,000 are kept. With --json one object a line.
    """
    from oxherd.cli.targets import find_paths  # noqa: PLC0415 - not for --help
    from oxherd.cli.where import connect  # noqa: PLC0415 - not for --help
    from oxherd.control.paths import find_home  # noqa: PLC0415 - not for --help

    paths = [] if everything else find_paths([config] if config else [], os.environ)
    stack = paths[0] if paths else None

    def show(event: dict[str, object]) -> None:
        if output.json:
            output.record(event)
        else:
            output.say(_line(event, with_stack=stack is None))

    with connect(find_home(os.environ), stack) as client:
        try:
            client.request("events", show, stack=stack, last=last, follow=follow)
        except KeyboardInterrupt:
            if not follow:
                raise
    return 0


def _line(event: dict[str, object], *, with_stack: bool) -> str:
    when = event.get("time")
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when)) if isinstance(when, (int, float)) else "-"
    stack = f"{event['stack']}: " if with_stack and event.get("stack") else ""
    return f"{stamp}  {stack}{event.get('text') or event.get('kind')}"
