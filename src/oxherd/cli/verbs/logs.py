"""``oxherd logs``."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time

import click

from oxherd.cli.options import config_option, names_argument, output_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from oxherd.cli.output import Output
    from oxherd.system.logs.reader import LogLine, LogSource

__all__ = ["logs"]

# Lines that are shown where neither -n nor --since says how many.
_LAST = 50

# Colours of tags, by turns; neither red nor black nor white, which mean something or cannot be seen.
_COLORS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)


@click.command
@names_argument()
@config_option
@click.option(
    "--lines",
    "-n",
    type=click.IntRange(min=0),
    metavar="N",
    help=f"Show the last N lines (default: {_LAST}, or all since --since).",
)
@click.option("--follow", "-f", is_flag=True, help="Go on showing new lines, until Ctrl-C.")
@click.option("--since", metavar="TIME", help='Only lines since then: "10m", "2h" ago, or 2026-01-31T12:00.')
@click.option("--level", metavar="LEVEL", help="Only lines of this level or worse, with their tracebacks.")
@click.option("--stdout", "only_stdout", is_flag=True, help="Only what was written to stdout.")
@click.option("--stderr", "only_stderr", is_flag=True, help="Only what was written to stderr.")
@output_options
def logs(
    *,
    names: tuple[str, ...],
    config: str | None,
    lines: int | None,
    follow: bool,
    since: str | None,
    level: str | None,
    only_stdout: bool,
    only_stderr: bool,
    output: Output,
) -> int:
    """Show what processes wrote, merged in the order of time.

    Each line has its instance in front. Works without a supervisor too. --stdout and --stderr need a process whose
    oxfile gives stderr a file of its own; else both are one stream.
    """
    from oxherd.cli.logsources import choose, find_sources, read_chosen  # noqa: PLC0415 - not for --help
    from oxherd.control.paths import find_home  # noqa: PLC0415 - not for --help

    if only_stdout and only_stderr:
        raise click.UsageError("--stdout and --stderr exclude each other; leave both out to see both")
    start = None if since is None else _moment(since)
    sources = find_sources(find_home(os.environ), config, names)
    last = _LAST if lines is None and start is None else lines
    choice = choose(names, "stdout" if only_stdout else "stderr" if only_stderr else "")
    try:
        found = read_chosen(sources, choice, last=last, since=start, level=level, follow=follow)
    except ValueError as error:
        raise click.BadParameter(f"expected {error}", param_hint="--level") from None
    show = _record_of if output.json else _Tagged(sources, color=output.color)
    try:
        for line in found:
            sys.stdout.buffer.write(show(line))
            if follow:
                sys.stdout.buffer.flush()
    except KeyboardInterrupt:
        if not follow:
            raise
    sys.stdout.buffer.flush()
    return 0


class _Tagged:
    """Puts ``web:0 | `` before a line, in the colour of its process."""

    def __init__(self, sources: Sequence[LogSource], *, color: bool) -> None:
        names = list(dict.fromkeys(source.process for source in sources))
        widest = [f"{source.process}:{max(1, source.instances) - 1}" for source in sources]
        self._width = max(map(len, widest), default=0)
        self._colors = {name: _COLORS[index % len(_COLORS)] for index, name in enumerate(names)} if color else {}

    def __call__(self, line: LogLine) -> bytes:
        name = line.process
        # Without its index a log says nothing of instances.
        tag = name if line.instance is None else f"{name}:{line.instance}"
        prefix = f"{tag:<{self._width}} | "
        if name in self._colors:
            prefix = f"\x1b[{self._colors[name]}m{prefix}\x1b[0m"
        return prefix.encode() + line.raw + b"\n"


def _record_of(line: LogLine) -> bytes:
    """Return the line as a JSON object on a line of its own."""
    record = {
        "time": line.time,
        "process": line.process,
        "instance": line.instance,
        "stream": line.stream,
        "text": line.text,
    }
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def _moment(text: str) -> float:
    """Return the unix time of ``10m`` (ago) or ``2026-01-31T12:00`` (local, unless it says otherwise).

    Raises:
        BadParameter: It is neither.
    """
    from datetime import datetime  # noqa: PLC0415 - not for --help

    from oxherd.units import parse_duration  # noqa: PLC0415 - not for --help

    with contextlib.suppress(ValueError):
        return time.time() - parse_duration(text)
    with contextlib.suppress(ValueError):
        return datetime.fromisoformat(text).timestamp()
    raise click.BadParameter(f'"{text}" is no time; expected "10m", "2h" or 2026-01-31T12:00', param_hint="--since")
