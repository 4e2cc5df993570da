"""What can only be seen with all processes side by side: dependencies, files that two of them claim."""

from __future__ import annotations

import os
import stat

from oxherd.config import problems
from oxherd.config.model import DependencyCondition, ProcessKind, ProcessSpec, ProcessType
from oxherd.config.problems import Place
from oxherd.config.redact import holds_secret, is_secret_key, redact_text
from oxherd.records import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oxherd.config.effective import Effective
    from oxherd.errors import Problem

__all__ = ["check_exposure", "check_paths", "check_process", "check_stack", "check_tls", "resolve_dependencies"]


def check_process(spec: ProcessSpec, settings: Effective) -> None:
    """Report what contradicts itself within one process."""
    if spec.singleton and spec.instances > 1 and "singleton" in settings.values:
        what = "a process with singleton = true"
        settings.report(problems.singleton_instances(settings.place_of("instances"), what, spec.instances))
    if spec.type is ProcessType.SCHEDULED and spec.instances > 1:
        message = "a scheduled job has one instance, which never overlaps itself"
        place = settings.place_of("instances")
        settings.report(problems.conflict(place, message, expected="instances = 1", hint="remove instances"))
    if spec.restart.delay > spec.restart.delay_max and {"restart_delay", "restart_delay_max"} <= settings.values.keys():
        message = "restart_delay_ms is above its ceiling restart_delay_max_ms"
        hint = "raise restart_delay_max_ms, or lower restart_delay_ms"
        settings.report(problems.conflict(settings.place_of("restart_delay_max"), message, hint=hint))


def check_tls(settings: Effective) -> None:
    """Report a certificate without its key, or a key without its certificate."""
    pair = ("ssl_certfile", "ssl_keyfile")
    there = [key for key in pair if key in settings.values]
    if len(there) == 1:
        missing = next(key for key in pair if key not in there)
        hint = f"add {missing}; where one file holds both, name it twice"
        settings.report(problems.missing_key(settings.place_of(there[0]), missing, expected="a path", hint=hint))


def resolve_dependencies(
    specs: list[ProcessSpec], settings: dict[str, Effective], found: list[Problem]
) -> list[ProcessSpec]:
    """Return the specs with the conditions of their dependencies settled; report those that cannot be met."""
    known = {spec.name: spec for spec in specs}
    resolved: list[ProcessSpec] = []
    for spec in specs:
        own = settings[spec.name]
        bare = _bare_names(own)
        kept: list[tuple[str, DependencyCondition]] = []
        for name, condition in spec.depends_on:
            target = known.get(name)
            if target is None:
                others = [other for other in known if other != spec.name]
                found.append(problems.unknown_dependency(own.place_of("depends_on"), name, others))
            elif target.disabled and not spec.disabled:
                message = f"{name} is disabled, so {spec.name} does not wait for it"
                hint = f"remove it from depends_on, or enable {name}"
                found.append(problems.no_effect(own.place_of("depends_on"), message, hint=hint))
            else:
                kept.append((name, _condition(condition, target, own, found, bare=name in bare)))
        resolved.append(replace(spec, depends_on=tuple(kept)))
    _check_cycles(resolved, settings, found)
    return resolved


def _bare_names(settings: Effective) -> set[str]:
    value = settings.values.get("depends_on")
    return {name for name, condition in value if not condition} if isinstance(value, tuple) else set()


def _condition(
    condition: DependencyCondition, target: ProcessSpec, own: Effective, found: list[Problem], *, bare: bool
) -> DependencyCondition:
    if bare and target.type is ProcessType.ONESHOT:
        return DependencyCondition.COMPLETED
    if bare and target.type is ProcessType.SCHEDULED:
        return DependencyCondition.STARTED
    if condition is DependencyCondition.COMPLETED and target.type is ProcessType.SERVICE:
        message = f"{target.name} is a service, which never completes"
        hint = f'write {target.name} = "ready", or give {target.name} type = "oneshot"'
        found.append(problems.conflict(own.place_of("depends_on"), message, expected="a oneshot or a job", hint=hint))
    return condition


def _check_cycles(specs: list[ProcessSpec], settings: dict[str, Effective], found: list[Problem]) -> None:
    edges = {spec.name: [name for name, _ in spec.depends_on] for spec in specs}
    done: set[str] = set()
    for start, first in edges.items():
        stack = [(start, iter(first))] if start not in done else []
        trail = [start] if stack else []
        while stack:
            name, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                done.add(name)
                stack.pop()
                trail.pop()
            elif following in trail:
                circle = [*trail[trail.index(following) :], following]
                found.append(problems.dependency_cycle(settings[following].place_of("depends_on"), circle))
            elif following not in done:
                stack.append((following, iter(edges[following])))
                trail.append(following)


def check_stack(specs: list[ProcessSpec], settings: dict[str, Effective], found: list[Problem]) -> None:
    """Report files that two processes claim."""
    files: dict[str, str] = {}
    for spec in specs:
        if spec.disabled:
            continue
        own = settings[spec.name]
        mine: set[str] = set()
        for canonical, path in (("logs.file", spec.logs.file), ("logs.error_file", spec.logs.error_file)):
            if path is None or path in mine or path.startswith("/dev/"):
                continue
            mine.add(path)
            if path in files:
                place = own.place_of(canonical, "logs.combined")
                found.append(problems.same_log_file(place, path, files[path]))
            files.setdefault(path, spec.name)


def check_paths(spec: ProcessSpec, settings: Effective) -> None:
    """Warn of paths that are not there; they may be by the time of the start."""
    # A process that is never started in this profile needs no paths.
    if spec.disabled or "{instance}" in spec.working_dir:
        return
    folder_there = os.path.isdir(spec.working_dir)
    if not folder_there:
        place = settings.place_of("working_dir")
        hint = "" if os.path.exists(spec.working_dir) is False else "it is a file; working_dir is a folder"
        settings.report(problems.path_absent(place, spec.working_dir, hint=hint))
    if spec.python is not None and not os.path.exists(spec.python):
        settings.report(problems.path_absent(settings.place_of("python"), spec.python))
    program = spec.command.argv[0] if spec.command is not None and not spec.command.shell else ""
    if "/" in program and "{instance}" not in program:
        path = os.path.join(spec.working_dir, program)
        # What is inside a folder that is not there was told with the folder.
        inside = path.startswith(os.path.join(spec.working_dir, ""))
        if not os.path.exists(path) and (folder_there or not inside):
            settings.report(problems.path_absent(settings.place_of("command"), path))
    for canonical in ("ssl_certfile", "ssl_keyfile"):
        path = str(settings.values.get(canonical, ""))
        if path and spec.kind is ProcessKind.APP and not os.path.exists(path):
            settings.report(problems.path_absent(settings.place_of(canonical), path))


def check_exposure(file: str, settings: list[Effective], found: list[Problem]) -> None:
    """Warn of an oxfile, or an env_file of it, that every user of the machine may read and that holds secrets."""
    names: list[str] = []
    line = 0
    for own in settings:
        for name, item in own.layer.env.items():
            # What is a reference is written somewhere else.
            if holds_secret(name, item.value) and "$" not in item.value and name not in names:
                names.append(name)
                line = line or item.place.line
        for canonical, setting in own.layer.settings.items():
            text = setting.value
            if not isinstance(text, str) or "$" in text or canonical in names:
                continue
            if is_secret_key(canonical) or redact_text(text) != text:
                names.append(canonical)
                line = line or setting.place.line
    if names and _open_to_all(file):
        found.append(problems.exposed_secrets(Place(file=file, line=line), names, own=True))
    files: dict[str, tuple[int, list[str]]] = {}
    for own in settings:
        files.update(own.file_secrets)
    for path, (first, there) in files.items():
        if _open_to_all(path):
            found.append(problems.exposed_secrets(Place(file=path, line=first), there, own=False))


def _open_to_all(path: str) -> bool:
    try:
        return bool(os.stat(path).st_mode & stat.S_IROTH)
    except OSError:
        # The file was read a moment ago; that it is gone now is not what this check is about.
        return False
