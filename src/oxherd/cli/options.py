"""Options and arguments that many verbs share, each said once."""

from __future__ import annotations

import functools

import click

from oxherd.cli.output import Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from click.shell_completion import CompletionItem

    Verb = Callable[..., int | None]
    Decorator = Callable[[Verb], Verb]

__all__ = ["config_option", "configs_option", "env_option", "names_argument", "output_options", "profile_option"]


def output_options(verb: Verb) -> Verb:
    """Add ``--json``, ``--quiet`` and ``--no-color``; the verb gets them as one `Output`."""

    @click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
    @click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors.")
    @click.option("--no-color", is_flag=True, help="Print without colour (the same as NO_COLOR=1).")
    @functools.wraps(verb)
    def with_output(*args: object, as_json: bool, quiet: bool, no_color: bool, **options: object) -> int | None:
        return verb(*args, output=Output(json=as_json, quiet=quiet, no_color=no_color), **options)

    return with_output


def complete_names(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the names of processes from the oxfile of this directory."""
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - only while completing

    from oxherd.cli.completing import process_names  # noqa: PLC0415 - only while completing

    return [CompletionItem(name) for name in process_names() if name.startswith(incomplete)]


def names_argument(*, required: bool = False) -> Decorator:
    """Add ``[NAMES]...``: processes (``web``) or instances (``web:1``)."""
    return click.argument("names", nargs=-1, required=required, shell_complete=complete_names)


def configs_option(verb: Verb) -> Verb:
    """Add ``--config FILE``, which may be given several times."""
    return click.option(
        "--config",
        "-c",
        "configs",
        multiple=True,
        metavar="FILE",
        type=click.Path(),
        help="The oxfile, or its directory; several make one command of several stacks.",
    )(verb)


def config_option(verb: Verb) -> Verb:
    """Add ``--config FILE``, once."""
    return click.option(
        "--config", "-c", "config", metavar="FILE", type=click.Path(), help="The oxfile, or its directory."
    )(verb)


def profile_option(verb: Verb) -> Verb:
    """Add ``--profile NAME``."""
    return click.option(
        "--profile", metavar="NAME", help="Apply this profile of the oxfile; without it, the one it was started with."
    )(verb)


def env_option(verb: Verb) -> Verb:
    """Add ``--update-env``."""
    return click.option(
        "--update-env",
        is_flag=True,
        help="Give the processes this shell's environment in place of the one they were started with.",
    )(verb)
