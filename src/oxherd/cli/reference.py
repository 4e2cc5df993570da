"""Writes ``docs/reference/cli.md``: ``python -m oxherd.cli.reference > docs/reference/cli.md``. A test keeps it true."""

from __future__ import annotations

import sys

import click

from oxherd.cli.main import VERBS, cli

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["reference"]

_WIDTH = 100

_HEAD = """# Command line

<!-- Written by `python -m oxherd.cli.reference`. Change the commands, not this page. -->

`oxherd` and `oxmgr` are two names of the same program. Without names a command is about the whole stack of
`./oxfile.toml`; `--config FILE` names another one. A name is a process (`web`) or an instance (`web:1`).

Errors are on stderr and say what is wrong, where, and what to do. With `--json` stdout holds one JSON document, or one
object a line where something is followed; an error is `{"error": {...}}` there. Without a terminal there is neither
colour nor a display that is drawn over, and the texts are stable. `NO_COLOR` is honoured.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | it did not work: something crashed, failed its health check, was aborted |
| 2 | wrong usage, or an oxfile that is not valid; nothing was changed |
| 3 | no supervisor is running |
| 130 | interrupted with Ctrl-C |

If a supervisor died with stacks wanted up, any command that needs one starts a new one, which brings them back.

| variable | meaning |
|---|---|
| `OXHERD_HOME` | one directory for everything a supervisor keeps; another directory, another supervisor |
| `XDG_RUNTIME_DIR`, `XDG_STATE_HOME` | where sockets and state are kept without `OXHERD_HOME` (root: `/run/oxherd`, `/var/lib/oxherd`) |
| `NO_COLOR` | no colour |
"""


def reference() -> str:
    """Return the page."""
    context = click.Context(cli, info_name="oxherd", max_content_width=_WIDTH, terminal_width=_WIDTH)
    parts = [_HEAD]
    for verb in VERBS:
        command = cli.get_command(context, verb)
        if command is not None:
            parts.extend(_sections(command, verb, context))
    return "\n".join(parts)


def _sections(command: click.Command, name: str, parent: click.Context) -> Iterator[str]:
    context = click.Context(
        command, info_name=name, parent=parent, help_option_names=["-h", "--help"], terminal_width=_WIDTH
    )
    depth = "#" * (2 if parent.parent is None else 3)
    yield f"{depth} {context.command_path}\n\n```text\n{context.get_help()}\n```\n"
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            if found is not None:
                yield from _sections(found, child, context)


if __name__ == "__main__":
    sys.stdout.write(reference())
