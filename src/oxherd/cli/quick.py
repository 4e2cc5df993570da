"""``oxherd status`` without click: the command that has to be quick.

A contract test holds it to its imports. What this module does not understand it leaves to click, whose ``status`` calls
`show_status` as well, so both ways say the same.
"""

from __future__ import annotations

import os
import sys

from oxherd.cli.table import json_row, status_table, wants_color
from oxherd.cli.where import UNKNOWN_STACK, absolute, every_supervisor, oxfile_here
from oxherd.control.paths import find_home

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from oxherd.control.client import Client

    Row = dict[str, object]

__all__ = ["quick_status", "show_status"]

# Seconds of silence after which the supervisor is called stuck. It answers within one turn of its loop.
_PATIENCE = 10.0

_FLAGS = frozenset({"--json", "--all", "-a", "--no-color"})


def quick_status(arguments: Sequence[str]) -> int | None:
    """Run ``oxherd status`` with these arguments.

    Returns:
        The exit code, or None if click has to look at the arguments.
    """
    names: list[str] = []
    configs: list[str] = []
    flags: set[str] = set()
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word in _FLAGS:
            flags.add(word)
        elif word in {"-c", "--config"} and rest:
            configs.append(rest.pop(0))
        elif word.startswith("--config="):
            configs.append(word[9:])
        elif word.startswith("-"):
            return None
        else:
            names.append(word)
    try:
        return show_status(
            names,
            configs,
            as_json="--json" in flags,
            everything=not flags.isdisjoint({"--all", "-a"}),
            no_color="--no-color" in flags,
        )
    except BrokenPipeError:
        # Whoever reads the pipe has seen enough; what is left in the buffer must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        from oxherd.cli.output import show_error  # noqa: PLC0415 - only where there is an error
        from oxherd.errors import OxherdError  # noqa: PLC0415 - only where there is an error

        if not isinstance(error, OxherdError):
            raise
        show_error(error, as_json="--json" in flags)
        return error.exit_code


def show_status(
    names: Sequence[str],
    configs: Sequence[str],
    *,
    as_json: bool = False,
    everything: bool = False,
    no_color: bool = False,
    quiet: bool = False,
    profile: str | None = None,
) -> int:
    """Print the status of the stack found, of those named, or of all.

    Args:
        names: Processes (``web``) and instances (``web:1``); none are all.
        configs: Oxfiles; none are the one of this directory, or all stacks where there is none.
        as_json: Print an array instead of a table.
        everything: All stacks, whatever oxfile is here.
        no_color: Never colour.
        quiet: Print nothing; the exit code says whether somebody answered.
        profile: The profile of a stack that has not been started, to know its processes.

    Raises:
        OxherdError: There is no supervisor (exit 3), no such process (exit 2), or the answer is none.
    """
    here = oxfile_here()
    stacks = [absolute(path) for path in configs] or ([here] if here else [])
    if everything:
        stacks = []
    rows = _gather(stacks, profile)
    if names:
        rows = _select(rows, names)
    if quiet:
        return 0
    if as_json:
        import json  # noqa: PLC0415 - the table needs none of it

        text = json.dumps([json_row(row) for row in rows], indent=2)
    elif rows:
        text = status_table(rows, color=wants_color(sys.stdout, os.environ, refused=no_color))
    else:
        text = "The supervisor has no processes; `oxherd start` in a directory with an oxfile.toml gives it some."
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
    return 0


def _gather(stacks: Sequence[str], profile: str | None) -> list[Row]:
    rows: list[Row] = []
    for stack, client in every_supervisor(find_home(os.environ), stacks):
        with client:
            found = _ask(client, stack)
        if found is None:
            from oxherd.cli.unstarted import unstarted_rows  # noqa: PLC0415 - it reads the oxfile

            found = unstarted_rows(str(stack), profile=profile)
        rows.extend(found)
    return rows


def _ask(client: Client, stack: str | None) -> list[Row] | None:
    """Return the rows of a stack, or of all; None if the supervisor does not know the stack."""
    try:
        answered = client.request("status", timeout=_PATIENCE, stack=stack).get("rows")
    except Exception as error:
        if getattr(error, "code", "") == UNKNOWN_STACK:
            return None
        raise
    return [row for row in answered if isinstance(row, dict)] if isinstance(answered, list) else []


def _select(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """Return the rows that a name means, in the order of the rows.

    Raises:
        UsageError: A name means none.
    """
    for name in names:
        if not any(_is_named(row, name) for row in rows):
            from oxherd.cli.naming import unknown_process  # noqa: PLC0415 - only where there is an error

            raise unknown_process(name, [str(row.get("name")) for row in rows])
    return [row for row in rows if any(_is_named(row, name) for name in names)]


def _is_named(row: Mapping[str, object], name: str) -> bool:
    return name in {row.get("name"), f"{row.get('name')}:{row.get('instance')}"}
