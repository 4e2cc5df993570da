"""``oxherd validate``."""

from __future__ import annotations

import os

import click

from oxherd.cli.options import configs_option, output_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oxherd.cli.output import Output
    from oxherd.config.model import ProcessSpec
    from oxherd.programs.compiled import Compiled

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
    from oxherd.programs.probes import Probes  # noqa: PLC0415 - not for --help

    try:
        # What a server makes of its configuration file is not asked: that is a program, and would be run for it.
        probes = Probes(describing=None)
        compiled = compile_stack(shown(path), profile=profile or None, environ=os.environ, probes=probes)
    except ConfigError as error:
        if not output.json:
            output.warn(f"{error.render()}")
        problems = [problem.as_dict() for problem in error.problems]
        return {"file": path, "valid": False, "processes": [], "problems": problems, "inactive": [], "hosting": []}
    names = [process.name for process in compiled.oxfile.processes]
    if not output.json:
        output.problems(compiled.warnings)
    output.say(f"{shown(path)} is valid")
    output.say(f"{len(names)} process{'' if len(names) == 1 else 'es'} defined: {', '.join(names) or 'none'}")
    inactive = [f"{name}.{key}" if name else key for name, key in compiled.inactive]
    if inactive:
        output.say(f"not active yet in this version: {', '.join(inactive)}")
    problems = [problem.as_dict() for problem in compiled.warnings]
    return {
        "file": path,
        "valid": True,
        "processes": names,
        "problems": problems,
        "inactive": inactive,
        "hosting": [_hosting(compiled, spec) for spec in compiled.oxfile.processes],
    }


def _hosting(compiled: Compiled, spec: ProcessSpec) -> dict[str, object]:
    """Return how one process would be run."""
    host = spec.host
    return {
        "process": spec.name,
        "program": "app" if spec.app is not None else spec.program,
        "way": host.way.value if host is not None else "untouched",
        "engine": host.engine if host is not None else None,
        "instances": spec.instances,
        "bind": list(host.bind) if host is not None else [],
        "untouched": compiled.plans[spec.name].untouched or None,
    }
