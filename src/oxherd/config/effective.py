"""The effective settings of one process: layers merged, env_files read, references replaced, values in model units."""

from __future__ import annotations

import os

from oxherd.config import kinds, problems
from oxherd.config.commandline import SHELLS, CommandLineError, read_command, shell_reason
from oxherd.config.desugar import has_reference
from oxherd.config.envfile import EnvFileError, EnvLine, parse_env_file
from oxherd.config.expand import BadReferenceError, Expander
from oxherd.config.problems import Place
from oxherd.config.redact import holds_secret
from oxherd.records import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from oxherd.config.draft import Layer, Setting
    from oxherd.errors import Problem

__all__ = ["Effective", "Surroundings", "absolute"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What does not change from process to process.

    Attributes:
        file: The oxfile as the user named it.
        folder: Its absolute folder.
        dialect: "processes" or "apps".
        environ: The caller's environment.
        strict_files: Whether a missing env_file is an error.
        found: Where problems are reported to.
    """

    file: str
    folder: str
    dialect: str
    environ: Mapping[str, str]
    strict_files: bool
    found: list[Problem]


def absolute(path: str, folder: str, environ: Mapping[str, str]) -> str:
    """Return a path with ``~`` replaced and made absolute from ``folder``."""
    if path == "~" or path.startswith("~/"):
        path = (environ.get("HOME") or os.path.expanduser("~")) + path[1:]
    elif path.startswith("~"):
        path = os.path.expanduser(path)
    return os.path.normpath(os.path.join(folder, path))


def _expanded(value: object, expander: Expander) -> object:
    if isinstance(value, list):
        return [_expanded(item, expander) for item in value]
    return expander.text(value) if isinstance(value, str) else value


@dataclass(slots=True, kw_only=True)
class Effective:
    """The settings of one process, read.

    Attributes:
        name: The process.
        place: Where its table begins.
        layer: Its merged layer.
        around: What it stands in.
        values: By canonical name, in model units; only what was written and could be read.
        env: The final variables, by name.
        env_files: The files that were found, absolute.
        file_secrets: Of each of those that holds secrets, the line of the first one and the names of all.
        origins: By canonical name, and ``env.NAME`` for variables.
        lenient: Whether an env_file is missing, so that a variable without a value may yet come from it.
    """

    name: str
    place: Place
    layer: Layer
    around: Surroundings
    values: dict[str, object] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    env_files: tuple[str, ...] = ()
    file_secrets: dict[str, tuple[int, list[str]]] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    lenient: bool = False

    def __post_init__(self) -> None:
        """Read the env_files, then everything else."""
        files = self._read_env_files()
        raw = {name: item.value for name, item in self.layer.env.items()}
        self.origins.update({f"env.{name}": item.origin for name, item in self.layer.env.items()})
        self.env = {**files, **self._own_env(raw, files)}
        for canonical, setting in self.layer.settings.items():
            if canonical == "env_file":
                continue
            value = self._value(setting, self._expander(raw, files, setting.place))
            if value is not None:
                self.values[canonical] = value
                self.origins[canonical] = setting.origin

    def setting(self, canonical: str) -> Setting | None:
        """Return the setting as written, or None."""
        return self.layer.settings.get(canonical)

    def place_of(self, *canonicals: str) -> Place:
        """Return where the first of these that was written stands; the process's own place if none was."""
        return next((self.layer.settings[c].place for c in canonicals if c in self.layer.settings), self.place)

    def local(self, canonical: str) -> bool:
        """Return whether the process itself, and not the defaults, sets this."""
        setting = self.layer.settings.get(canonical)
        return setting is not None and setting.local

    def rank(self, canonical: str) -> int:
        """Return the layer that sets this: 0 the defaults, 1 the process, 2 its profile; -1 where none does."""
        return self.layer.settings[canonical].rank if canonical in self.values else -1

    def told(self, name: str) -> bool:
        """Return whether a key of this name was written and refused, or one that was meant to be it."""
        inside = f"{self.place.key}."
        return any(
            problem.key.startswith(inside)
            and (problem.key.rpartition(".")[2] == name or problem.hint == f'did you mean "{name}"?')
            for problem in self.around.found
        )

    def report(self, problem: Problem) -> None:
        """Add a problem."""
        self.around.found.append(problem)

    def _expander(self, raw: Mapping[str, str], files: Mapping[str, str], place: Place) -> Expander:
        def missing(name: str) -> str:
            problem = problems.missing_variable(place, name)
            if not self.lenient and problem not in self.around.found:
                self.report(problem)
            return ""

        short = self.around.dialect == "apps"
        return Expander(environ=self.around.environ, files=files, env=raw, short=short, missing=missing)

    def _own_env(self, raw: Mapping[str, str], files: Mapping[str, str]) -> dict[str, str]:
        own: dict[str, str] = {}
        for name, setting in self.layer.env.items():
            try:
                own[name] = self._expander(raw, files, setting.place).variable(name)
            except BadReferenceError as error:
                self.report(problems.bad_value(setting.place, setting.value, str(error)))
        return own

    def _value(self, setting: Setting, expander: Expander) -> object:
        """Return the value of a setting in model units, or None where a problem was reported."""
        kind = setting.key.kind
        try:
            if kind is kinds.COMMAND:
                return self._command(setting, expander)
            value = setting.value
            if has_reference(value) and kind is not kinds.COMMANDS:
                value = _expanded(value, expander)
                if value == "" and self.lenient:
                    return None
            read = kind.read(value)
        except (BadReferenceError, CommandLineError) as error:
            self.report(problems.bad_value(setting.place, setting.value, str(error)))
            return None
        except ValueError as error:
            # A value that has no reference in it was read, and reported, when the file was desugared.
            self.report(problems.bad_value(setting.place, setting.value, str(error), hint="after expansion of ${…}"))
            return None
        return self._absolute(read) if kind.path else read

    def _absolute(self, value: object) -> object:
        folder, environ = self.around.folder, self.around.environ
        if isinstance(value, tuple):
            return tuple(absolute(str(item), folder, environ) for item in value)
        return absolute(value, folder, environ) if isinstance(value, str) else value

    def _command(self, setting: Setting, expander: Expander) -> object:
        text = str(setting.value)
        command = read_command(text, expander.reference)
        if command.shell and setting.key.name == "command" and setting.key.canonical == "command":
            self.report(problems.needs_shell(setting.place, shell_reason(text)))
        if command.shell or command.argv[0].rpartition("/")[2] in SHELLS:
            self._check_shell_variables(setting, expander)
        return command

    def _check_shell_variables(self, setting: Setting, expander: Expander) -> None:
        """Warn of ``${NAME}`` that nothing sets; the shell would read it as empty without a word."""
        for piece in str(setting.value).split("${")[1:]:
            name, brace, _ = piece.partition("}")
            assigned = f"{name}=" in str(setting.value)
            if brace and name.isidentifier() and expander.lookup(name) is None and not assigned and not self.lenient:
                self.report(problems.unset_in_shell(setting.place, name))

    def _read_env_files(self) -> dict[str, str]:
        setting = self.layer.settings.get("env_file")
        if setting is None:
            return {}
        raw = {name: item.value for name, item in self.layer.env.items()}
        paths = self._value(setting, self._expander(raw, {}, setting.place))
        values: dict[str, str] = {}
        if not isinstance(paths, tuple):
            return values
        self.values["env_file"] = paths
        self.origins["env_file"] = setting.origin
        for path in paths:
            lines = self._read_env_file(str(path), setting)
            if lines is not None:
                self.env_files = (*self.env_files, str(path))
                self._take_env_lines(lines, str(path), values)
        return values

    def _read_env_file(self, path: str, setting: Setting) -> tuple[EnvLine, ...] | None:
        try:
            with open(path, encoding="utf-8") as file:
                return parse_env_file(file.read())
        except FileNotFoundError:
            self._env_file_absent(path, setting)
        except OSError as error:
            reason = error.strerror or "it cannot be read"
            self.report(problems.env_file_unreadable(setting.place, path, reason, hint="check its permissions"))
            self.lenient = True
        except UnicodeDecodeError:
            self.report(problems.env_file_unreadable(setting.place, path, "it is not UTF-8", hint="save it as UTF-8"))
            self.lenient = True
        except EnvFileError as error:
            place = Place(file=path, line=error.line, key=setting.place.key)
            hint = "write NAME=value, one in a line; quote values with spaces around them"
            self.report(problems.env_file_unreadable(place, path, error.reason, hint=hint))
            self.lenient = True
        return None

    def _env_file_absent(self, path: str, setting: Setting) -> None:
        self.lenient = True
        hint = ""
        working = self.layer.settings.get("working_dir")
        if working is not None and not has_reference(working.value):
            folder = absolute(str(working.value), self.around.folder, self.around.environ)
            other = os.path.join(folder, os.path.basename(path))
            hint = (
                f'did you mean "{other}"? Paths are relative to the oxfile\'s folder' if os.path.exists(other) else ""
            )
        if self.around.strict_files:
            self.report(problems.env_file_unreadable(setting.place, path, "no such file", hint=hint))
        else:
            self.report(problems.env_file_absent(setting.place, path, hint=hint))

    def _take_env_lines(self, lines: tuple[EnvLine, ...], path: str, values: dict[str, str]) -> None:
        for line in lines:
            place = Place(file=path, line=line.line, key=line.name)

            def missing(name: str, place: Place = place) -> str:
                self.report(problems.env_file_variable(place, name))
                return f"${{{name}}}"

            expander = Expander(environ=self.around.environ, files=values, env={}, short=False, missing=missing)
            value = line.value
            if not line.literal:
                try:
                    value = expander.text(value)
                except BadReferenceError:
                    value = line.value
            if holds_secret(line.name, line.value):
                self.file_secrets.setdefault(path, (line.line, []))[1].append(line.name)
            values[line.name] = value
            self.origins[f"env.{line.name}"] = f"env_file {os.path.basename(path)}:{line.line}"
