"""``oxherd completion``."""

from __future__ import annotations

import click

__all__ = ["completion"]

_WHERE = {
    "bash": "~/.local/share/bash-completion/completions/oxherd",
    "zsh": "a directory of $fpath, as _oxherd",
    "fish": "~/.config/fish/completions/oxherd.fish",
}


@click.command
@click.argument("shell", type=click.Choice(sorted(_WHERE)))
@click.option("--program", default="oxherd", type=click.Choice(["oxherd", "oxmgr"]), help="Complete this name.")
def completion(*, shell: str, program: str) -> int:
    """Print the completion script of a shell.

    It completes verbs, options and the names of processes.

    \b
    oxherd completion bash > ~/.local/share/bash-completion/completions/oxherd
    oxherd completion zsh  > ~/.zfunc/_oxherd
    oxherd completion fish > ~/.config/fish/completions/oxherd.fish
    """  # noqa: D301 - click wants the character itself
    from click.shell_completion import get_completion_class  # noqa: PLC0415 - not for --help

    from oxherd.cli.main import cli  # noqa: PLC0415 - this module is loaded by it

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"click does not know the shell {shell}")
    complete = kind(cli, {}, program, f"_{program.upper()}_COMPLETE")
    # Not source(): it runs the shell to find its version and prints warnings into what becomes a file.
    click.echo(complete.source_template % complete.source_vars())
    return 0
