"""The command line: a table of verbs, each in a module that is imported when it is called."""

from __future__ import annotations

import importlib
import os
import sys

import click

from oxherd import __version__
from oxherd.cli.naming import did_you_mean
from oxherd.cli.output import show_error
from oxherd.errors import OxherdError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["VERBS", "cli", "main"]

# Verb: (module, command), in the order in which the help lists them.
VERBS = {
    "init": ("oxherd.cli.initialise", "init"),
    "validate": ("oxherd.cli.verbs.validate", "validate"),
    "explain": ("oxherd.cli.verbs.explain", "explain"),
    "doctor": ("oxherd.cli.doctor", "doctor"),
    "run": ("oxherd.cli.verbs.run", "run"),
    "start": ("oxherd.cli.verbs.start", "start"),
    "stop": ("oxherd.cli.verbs.stop", "stop"),
    "restart": ("oxherd.cli.verbs.restart", "restart"),
    "reload": ("oxherd.cli.verbs.restart", "reload"),
    "apply": ("oxherd.cli.verbs.apply", "apply"),
    "scale": ("oxherd.cli.verbs.scale", "scale"),
    "delete": ("oxherd.cli.verbs.delete", "delete"),
    "signal": ("oxherd.cli.verbs.signalling", "signal"),
    "status": ("oxherd.cli.verbs.status", "status"),
    "ls": ("oxherd.cli.verbs.status", "ls"),
    "logs": ("oxherd.cli.verbs.logs", "logs"),
    "events": ("oxherd.cli.verbs.events", "events"),
    "why": ("oxherd.cli.verbs.why", "why"),
    "daemon": ("oxherd.cli.verbs.daemon", "daemon"),
    "service": ("oxherd.cli.service", "service"),
    "completion": ("oxherd.cli.verbs.completion", "completion"),
}

_PROGRAMS = ("oxherd", "oxmgr")
_INTERRUPTED = 130


class _VerbGroup(click.Group):
    """Finds verbs in `VERBS` and imports the one that is called."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module, attribute = VERBS[cmd_name]
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}.{attribute} is no click command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        word = args[0]
        if word not in VERBS and not word.startswith("-"):
            near = did_you_mean(word, VERBS)
            raise click.UsageError(f'there is no command "{word}"' + (f"; {near}" if near else ""), ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # Whoever reads the pipe has seen enough, as in `oxherd logs | head`; click would call that a failure. What
            # is left in the buffer must not fail again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return 0


@click.command(cls=_VerbGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "--version", "-V", message="oxherd %(version)s")
def cli() -> None:
    """Run Python web stacks in production: one oxfile.toml, one command.

    Without names a command is about the whole stack of ./oxfile.toml.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Args:
        arguments: What stands after the program's name; ``sys.argv`` if None.

    Returns:
        0 done; 1 it did not work; 2 wrong usage or an invalid oxfile; 3 no supervisor; 130 interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    program = os.path.basename(sys.argv[0])
    try:
        result = cli.main(args=words, prog_name=program if program in _PROGRAMS else "oxherd", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except OxherdError as error:
        show_error(error, as_json="--json" in words)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    return result if isinstance(result, int) else 0
