"""The reader of oxfiles: a pipeline of steps, each in a module of its own.

::

    text ─parse─▶ document ─desugar─▶ Draft ─merge─▶ Layer ─expand, read─▶ Effective ─build─▶ ProcessSpec ─check─▶ Loaded
            └─positions─▶ lines ─┘   (both dialects)   (defaults, process, profile)   (defaults of the model)

Every step reports what is wrong to one list and goes on, so that a file with five mistakes is told all five at once.
"""

from __future__ import annotations

import os
import re
import tomllib

from oxherd.config import problems
from oxherd.config.build import build_process, build_webhook
from oxherd.config.checks import (
    check_exposure,
    check_paths,
    check_process,
    check_stack,
    check_tls,
    resolve_dependencies,
)
from oxherd.config.desugar import Desugarer
from oxherd.config.effective import Effective, Surroundings
from oxherd.config.keys import Since
from oxherd.config.merge import merge
from oxherd.config.model import DeploySpec, Oxfile, ProcessSpec
from oxherd.config.positions import key_lines
from oxherd.config.problems import Place
from oxherd.errors import ConfigError, Problem, Severity
from oxherd.records import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from oxherd.config.draft import Draft, DraftProcess, Layer

__all__ = ["Loaded", "load"]

_AT = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """An oxfile that was read without an error.

    Attributes:
        oxfile: The model.
        warnings: What is odd and does not refuse the file.
        inactive: Process and key of every key whose feature is not active yet; the process is "" for the whole stack.
        origins: For each process and canonical setting where its value comes from: ``oxfile.toml:12``,
            ``env_file .env:3``, ``default``. Variables are ``env.NAME``.
        places: For each process and canonical setting where it is written, for problems found later.
        local: For each process the canonical settings that it sets itself, and not the defaults for it.
    """

    oxfile: Oxfile
    warnings: tuple[Problem, ...]
    inactive: tuple[tuple[str, str], ...]
    origins: Mapping[str, Mapping[str, str]]
    places: Mapping[str, Mapping[str, Place]]
    local: Mapping[str, frozenset[str]]


def load(path: str, *, profile: str | None = None, environ: Mapping[str, str], strict_files: bool = False) -> Loaded:
    """Read an oxfile.

    Args:
        path: The file, as the user named it.
        profile: The profile to apply, if any.
        environ: The caller's environment, for ``${NAME}`` and ``~``.
        strict_files: Whether a missing env_file is an error (at a start) or a warning (when the file alone is validated).

    Raises:
        ConfigError: The file is wrong; holds every problem, warnings included.
    """
    found: list[Problem] = []
    text = _read(path)
    document = _parse(path, text)
    draft = Desugarer(path, key_lines(text), found).read(document)
    profiles = {name for process in draft.processes for name in process.profiles}
    if profile is not None and profile not in profiles:
        found.append(problems.unknown_profile(path, profile, profiles))
    around = Surroundings(
        file=path,
        folder=os.path.dirname(os.path.abspath(path)),
        dialect=draft.dialect,
        environ=environ,
        strict_files=strict_files,
        found=found,
    )
    settings = _settings(draft, profile, around)
    specs = _specs(list(settings.values()), settings, found)
    check_exposure(path, list(settings.values()), found)
    oxfile = _oxfile(path, draft, profile, specs, around)
    _raise_errors(found)
    return Loaded(
        oxfile=oxfile,
        warnings=tuple(found),
        inactive=_inactive(draft, settings),
        origins={name: dict(own.origins) for name, own in settings.items()},
        places={name: _places(own) for name, own in settings.items()},
        local={name: frozenset(key for key in own.values if own.local(key)) for name, own in settings.items()},
    )


def _read(path: str) -> str:
    """Return the text of the file; what is no UTF-8 is a problem of its line."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        raise ConfigError((problems.unreadable(path, "no such file"),)) from None
    except OSError as error:
        hint = "name the file, not its folder" if isinstance(error, IsADirectoryError) else "check its permissions"
        raise ConfigError((problems.unreadable(path, error.strerror or str(error), hint=hint),)) from error
    except ValueError as error:
        raise ConfigError((problems.unreadable(path, "this is no path"),)) from error
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        place = Place(file=path, line=data.count(b"\n", 0, error.start) + 1)
        problem = problems.syntax(place, "the file is not UTF-8", hint="save the file as UTF-8")
        raise ConfigError((problem,)) from error


def _parse(path: str, text: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except ValueError as error:
        # TOMLDecodeError, or an integer of more digits than Python reads.
        detail = str(error)
        match = _AT.search(detail)
        line = int(match[1]) if match and match[1] else text.rstrip("\n").count("\n") + 1
        written = text.split("\n")[line - 1].strip() if line <= text.count("\n") + 1 else ""
        detail = _AT.sub("", detail)
        problem = problems.syntax(
            Place(file=path, line=line), detail[:1].lower() + detail[1:], hint=_syntax_hint(detail, written)
        )
        raise ConfigError((problem,)) from error
    except RecursionError as error:
        problem = problems.syntax(Place(file=path), "arrays or tables are nested too deeply")
        raise ConfigError((problem,)) from error


def _syntax_hint(detail: str, line: str) -> str:
    """Return what the usual mistakes look like, judged by the message and the line it names."""
    value = line.partition("=")[2].strip()
    if re.fullmatch(r"(True|False|TRUE|FALSE|yes|no|on|off|None|null)(\s*#.*)?", value):
        return "booleans are true and false, in lower case and without quotes; leave a key out to give it no value"
    if detail.startswith("Expected '=' after a key") and ":" in line:
        return 'TOML writes key = "value", with an equals sign'
    if "Cannot overwrite" in detail or "Cannot declare" in detail or "Cannot mutate" in detail:
        return "the same key or table stands in the file twice; keep one of them"
    if detail.startswith(("Invalid value", "Expected newline or end of document")) and value[:1] not in (
        '"',
        "'",
        "[",
        "{",
    ):
        return 'put text in quotes: key = "value"'
    if detail.startswith("Illegal character") or "Unterminated string" in detail:
        return "a quote is opened and not closed on its line"
    if "Unescaped '\\'" in detail or "hex value" in detail:
        return "in double quotes a backslash needs a second one; in single quotes it is literal: '\\d+'"
    if "{" in line and "}" not in line:
        return "an inline table stands on one line; for more lines write a table header such as [processes.web.env]"
    return ""


def _settings(draft: Draft, profile: str | None, around: Surroundings) -> dict[str, Effective]:
    settings: dict[str, Effective] = {}
    for process in draft.processes:
        layer = _merged(draft, process, profile)
        # A second process of the same name was reported; the first one goes on.
        if process.name not in settings:
            settings[process.name] = Effective(name=process.name, place=process.place, layer=layer, around=around)
    return settings


def _merged(draft: Draft, process: DraftProcess, profile: str | None) -> Layer:
    layers = [draft.defaults, process.layer]
    if profile is not None and profile in process.profiles:
        layers.append(process.profiles[profile])
    return merge(*layers)


def _specs(ordered: list[Effective], settings: dict[str, Effective], found: list[Problem]) -> list[ProcessSpec]:
    specs: list[ProcessSpec] = []
    for own in ordered:
        spec = build_process(own)
        check_process(spec, own)
        if spec.app is not None:
            check_tls(own)
        check_paths(spec, own)
        specs.append(spec)
    specs = resolve_dependencies(specs, settings, found)
    check_stack(specs, settings, found)

    def order(spec: ProcessSpec) -> int:
        value = settings[spec.name].values.get("start_order", 0)
        return value if isinstance(value, int) else 0

    return sorted(specs, key=order)


def _oxfile(path: str, draft: Draft, profile: str | None, specs: list[ProcessSpec], around: Surroundings) -> Oxfile:
    stack = Effective(name="", place=Place(file=path), layer=draft.webhook, around=around)
    return Oxfile(
        path=os.path.abspath(path),
        name=draft.name or os.path.basename(around.folder) or "root",
        dialect=draft.dialect,
        profile=profile,
        processes=tuple(specs),
        deploys=tuple(_deploy(name, layer, around.found) for name, layer in draft.deploys.items()),
        webhook=build_webhook(stack),
    )


def _deploy(name: str, layer: Layer, found: list[Problem]) -> DeploySpec:
    """Return a deploy table as it is written: its dollar signs are for the shell of another host."""
    options: list[tuple[str, object]] = []
    for canonical, setting in sorted(layer.settings.items()):
        try:
            options.append((canonical, setting.key.kind.read(setting.value)))
        except ValueError as error:
            found.append(problems.bad_value(setting.place, setting.value, str(error)))
    return DeploySpec(name=name, options=tuple(options))


def _raise_errors(found: list[Problem]) -> None:
    if any(problem.severity == Severity.ERROR for problem in found):
        # In the order of the file, so that a person can walk through it from the top.
        raise ConfigError(tuple(sorted(found, key=lambda problem: (problem.file, problem.line, problem.code))))


def _inactive(draft: Draft, settings: dict[str, Effective]) -> tuple[tuple[str, str], ...]:
    pairs: list[tuple[str, str]] = []
    for name, own in settings.items():
        pairs += [
            (name, setting.key.name if "." not in canonical else canonical)
            for canonical, setting in own.layer.settings.items()
            if setting.key.since is Since.LATER and (setting.local or canonical in own.values)
        ]
    pairs += [("", f"deploy.{name}") for name in draft.deploys]
    if draft.webhook.settings:
        pairs.append(("", "webhook"))
    return tuple(pairs)


def _places(own: Effective) -> dict[str, Place]:
    return {"": own.place, **{canonical: setting.place for canonical, setting in own.layer.settings.items()}}
