"""An oxfile compiled: read, and completed with what is known of its programs. This is what every command begins with.

Only ever imported where an oxfile is read; the supervisor gets the result.
"""

from __future__ import annotations

from oxherd.config import problems
from oxherd.config.keys import HOSTED_ONLY
from oxherd.config.model import ProcessType
from oxherd.config.oxfile import load
from oxherd.errors import ConfigError, Severity
from oxherd.programs.applied import apply_program
from oxherd.programs.collisions import collisions
from oxherd.programs.interpreter import find_program
from oxherd.programs.planning import plan_app, plan_command
from oxherd.programs.probes import Probes
from oxherd.programs.program import GENERIC, Program
from oxherd.programs.recognise import recognise
from oxherd.records import dataclass, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from oxherd.config.model import Oxfile, ProcessSpec
    from oxherd.config.oxfile import Loaded
    from oxherd.config.problems import Place
    from oxherd.errors import Problem
    from oxherd.programs.probes import Prober
    from oxherd.programs.settling import Plan

__all__ = ["Compiled", "compile_stack"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """An oxfile ready to be sent to the supervisor.

    Attributes:
        oxfile: The model, with programs recognised.
        warnings: Of the file and of its programs.
        inactive: Process and key of what is not active yet; see `oxherd.config.oxfile.Loaded`.
        notes: For each process what its program changed or means, for people.
        origins: For each process and canonical setting where its value comes from.
        programs: For each process the program that was recognised.
        plans: For each process how it gets its listeners, and why.
    """

    oxfile: Oxfile
    warnings: tuple[Problem, ...]
    inactive: tuple[tuple[str, str], ...]
    notes: Mapping[str, tuple[str, ...]]
    origins: Mapping[str, Mapping[str, str]]
    programs: Mapping[str, Program]
    plans: Mapping[str, Plan]


def compile_stack(
    path: str,
    *,
    profile: str | None = None,
    environ: Mapping[str, str],
    strict_files: bool = False,
    probes: Prober | None = None,
) -> Compiled:
    """Read an oxfile and complete it with what is known of its programs.

    Args:
        path: The file, as the user named it.
        profile: The profile to apply, if any.
        environ: The caller's environment.
        strict_files: Whether a missing env_file, or a missing engine, is an error.
        probes: Whoever knows what interpreters have; they are asked where this is None.

    Raises:
        ConfigError: The file is wrong; holds every problem.
    """
    loaded = load(path, profile=profile, environ=environ, strict_files=strict_files)
    found = list(loaded.warnings)
    errors: list[Problem] = []
    specs: list[ProcessSpec] = []
    notes: dict[str, tuple[str, ...]] = {}
    origins: dict[str, dict[str, str]] = {name: dict(settings) for name, settings in loaded.origins.items()}
    programs: dict[str, Program] = {}
    plans: dict[str, Plan] = {}
    asked = Probes() if probes is None else probes
    for spec in loaded.oxfile.processes:
        place = _place(loaded, spec.name)
        program = recognise(spec.command) if spec.command is not None else GENERIC
        changed, said = apply_program(spec, spec.set_keys)
        changed, located = _located(changed, environ)
        _program_origins(spec, changed, program, origins[spec.name])
        errors += _singleton(changed, program, loaded)
        plan = _plan(changed, program, environ, asked, strict=strict_files)
        if plan.spec.hosted:
            # Its shell is never run, so what was said of it does not hold.
            found = [item for item in found if item.code != "OX153" or item.key != f"{place.key}.command"]
        found += _advice(plan.spec, program, loaded)
        remarks = [remark.problem(_place(loaded, spec.name, *remark.keys)) for remark in plan.remarks]
        errors += [problem for problem in remarks if problem.severity == Severity.ERROR]
        found += [problem for problem in remarks if problem.severity != Severity.ERROR]
        found += _idle_keys(plan, program, loaded)
        origins[spec.name].update(plan.origins)
        specs.append(plan.spec)
        notes[spec.name] = (*said, *located, *plan.notes)
        programs[spec.name] = program
        plans[spec.name] = plan
    for spec, bind, owner, taken in collisions(specs):
        at = _place(loaded, spec.name, "bind", "socket", "command")
        errors.append(problems.same_address(at, bind, owner, taken))
    if errors:
        raise ConfigError(tuple(sorted((*errors, *found), key=_order)))
    return Compiled(
        oxfile=replace(loaded.oxfile, processes=tuple(specs)),
        warnings=tuple(sorted(found, key=_order)),
        inactive=loaded.inactive,
        notes=notes,
        origins=origins,
        programs=programs,
        plans=plans,
    )


def _plan(spec: ProcessSpec, program: Program, environ: Mapping[str, str], probes: Prober, *, strict: bool) -> Plan:
    if spec.app is not None:
        return plan_app(spec, environ, probes, strict=strict)
    return plan_command(spec, program, environ, probes, strict=strict)


def _order(problem: Problem) -> tuple[str, int, str]:
    return (problem.file, problem.line, problem.code)


def _place(loaded: Loaded, name: str, *keys: str) -> Place:
    places = loaded.places[name]
    return next((places[key] for key in keys if key in places), places[""])


def _advice(spec: ProcessSpec, program: Program, loaded: Loaded) -> list[Problem]:
    place = _place(loaded, spec.name, "command")
    advice = [problems.program_advice(place, item.message, hint=item.hint) for item in program.advice]
    if program.behind_shell and not spec.hosted:
        advice.append(problems.behind_shell(place, program.title))
    return advice


def _singleton(spec: ProcessSpec, program: Program, loaded: Loaded) -> list[Problem]:
    if not (spec.singleton and program.singleton and spec.instances > 1):
        return []
    place = _place(loaded, spec.name, "instances", "command")
    return [problems.singleton_instances(place, program.title, spec.instances)]


def _idle_keys(plan: Plan, program: Program, loaded: Loaded) -> list[Problem]:
    """Say which settings of workers do nothing, since the command runs by itself."""
    spec = plan.spec
    if spec.app is not None or spec.hosted:
        return []
    idle = sorted(HOSTED_ONLY & loaded.local[spec.name])
    if spec.type is ProcessType.SCHEDULED:
        idle = [key for key in idle if key != "timeout"]
    why = f" ({plan.untouched})" if plan.untouched else ""
    said = program.title if program is not GENERIC else "a program that brings no workers Oxherd could run"
    found = []
    for key in idle:
        message = f"{key} is for workers of Oxherd, and this command runs {said}{why}"
        hint = "remove it"
        if key == "timeout":
            hint = "for a service write stop_timeout, or timeout_secs under health_check"
        found.append(problems.no_effect(_place(loaded, spec.name, key), message, hint=hint))
    return found


def _located(spec: ProcessSpec, environ: Mapping[str, str]) -> tuple[ProcessSpec, tuple[str, ...]]:
    """Return the spec with a bare program name made exact where PATH would not find the one that is meant."""
    command = spec.command
    if command is None or command.shell or "/" in command.argv[0]:
        return spec, ()
    program = find_program(spec, environ)
    if program is None or program.reason == "found on PATH":
        return spec, ()
    exact = replace(command, argv=(program.path, *command.argv[1:]))
    return replace(spec, command=exact), (f"{command.argv[0]} is {program.path}: {program.reason}",)


def _program_origins(before: ProcessSpec, after: ProcessSpec, program: Program, origins: dict[str, str]) -> None:
    if before.stop.timeout != after.stop.timeout:
        origins["stop_timeout"] = f"default for {program.title}"
    if before.stop.signal != after.stop.signal:
        origins["stop_signal"] = f"default for {program.title}"
    if before.singleton != after.singleton:
        origins["singleton"] = f"default for {program.title}"
