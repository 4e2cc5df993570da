"""``oxherd scale``."""

from __future__ import annotations

import os
import re

import click

from oxherd.cli.options import complete_names, config_option, output_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from oxherd.cli.output import Output

__all__ = ["scale"]

_CHANGE = re.compile(r"(?P<name>[^=+\s]+?)(?:=(?P<exact>\d+)|(?P<relative>[+-]\d+))\Z")


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("changes", nargs=-1, required=True, metavar="NAME=N|NAME+N|NAME-N...", shell_complete=complete_names)
@config_option
@output_options
def scale(*, changes: tuple[str, ...], config: str | None, output: Output) -> int:
    """Change how many instances of a process run.

    \b
    oxherd scale web=4           four
    oxherd scale web+1 worker-1  one more, one fewer
    oxherd scale web 4           four
    """  # noqa: D301 - click wants the character itself
    from oxherd.cli.doing import Report, do  # noqa: PLC0415 - not for --help
    from oxherd.cli.targets import find_target  # noqa: PLC0415 - not for --help
    from oxherd.cli.where import connect  # noqa: PLC0415 - not for --help
    from oxherd.control.paths import find_home  # noqa: PLC0415 - not for --help

    home = find_home(os.environ)
    wanted = _read(changes)
    target = find_target(home, config, [name for name, _ in wanted])
    report = Report(output=output)
    with connect(home, target.path) as client:
        for name, instances in wanted:
            do(report, client, "scale", target.path, name=name, instances=instances)
    return report.finish()


def _read(changes: Sequence[str]) -> list[tuple[str, str]]:
    """Return name and number ("4", "+1", "-1") of each change.

    Raises:
        UsageError: A word is no change.
    """
    wanted: list[tuple[str, str]] = []
    rest = list(changes)
    while rest:
        word = rest.pop(0)
        if rest and rest[0].isascii() and rest[0].isdigit():
            wanted.append((word, rest.pop(0)))
            continue
        match = _CHANGE.match(word)
        if match is None:
            raise click.UsageError(f'"{word}" says no number of instances; write {word}=2, {word}+1 or {word}-1')
        wanted.append((match["name"], match["exact"] or match["relative"]))
    return wanted
