"""``oxherd validate``."""

from __future__ import annotations

import os

import click

from oxherd.cli.options import configs_option, output_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oxherd.cli.output import Output

__all__ = ["validate"]


@click.command
@click.argument("files", nargs=-1, type=click.Path(), metavar="[FILE]...")
@configs_option
@click.option("--profile", metavar="NAME", help="Apply this profile of the oxfile.")
@output_options
def validate(*, files: tuple[str, ...], configs: tuple[str, ...], profile: str | None, output: Output) -> int:
    """Check oxfiles and report every problem at once.

    Reads the files alone: a path that is not there is a warning. `oxherd doctor` looks at the machine.
    """
    from oxherd.cli.targets import find_paths, no_oxfile  # noqa: PLC0415 - not for --help

    paths = find_paths([*files, *configs], os.environ)
    if not paths:
        raise no_oxfile()
    documents = [_validate(path, profile, output) for path in paths]
    if output.json:
        output.document(documents[0] if len(documents) == 1 else documents)
    return 0 if all(document["valid"] for document in documents) else 2


def _validate(path: str, profile: str | None, output: Output) -> dict[str, object]:
    from oxherd.cli.where import shown  # noqa: PLC0415 - not for --help
    from oxherd.errors import ConfigError  # noqa: PLC0415 - not for --help
    from oxherd.programs.compiled import compile_stack  # noqa: PLC0415 - not for --help

    try:
        compiled = compile_stack(shown(path), profile=profile or None, environ=os.environ, strict_files=False)
    except ConfigError as error:
        if not output.json:
            output.warn(f"{error.render()}")
        problems = [problem.as_dict() for problem in error.problems]
        return {"file": path, "valid": False, "processes": [], "problems": problems, "inactive": []}
    names = [process.name for process in compiled.oxfile.processes]
    if not output.json:
        output.problems(compiled.warnings)
    output.say(f"{shown(path)} is valid")
    output.say(f"{len(names)} process{'' if len(names) == 1 else 'es'} defined: {', '.join(names) or 'none'}")
    inactive = [f"{name}.{key}" if name else key for name, key in compiled.inactive]
    if inactive:
        output.say(f"not active yet in this version: {', '.join(inactive)}")
    problems = [problem.as_dict() for problem in compiled.warnings]
    return {"file": path, "valid": True, "processes": names, "problems": problems, "inactive": inactive}
