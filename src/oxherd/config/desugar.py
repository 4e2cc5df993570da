"""From a parsed TOML document in either dialect to one `Draft`.

Here keys are recognised, types are checked and values are read once, in every layer of the file, so that a mistake in a
profile that nobody asked for today is reported today.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import shlex
import signal

from oxherd.config import keys, problems
from oxherd.config.draft import Draft, DraftProcess, EnvSetting, Layer, Setting
from oxherd.config.keys import PROCESS, SUBTABLES, Key, Section
from oxherd.config.kinds import COMMAND, OPTIONS, SIGNAL, STRINGS
from oxherd.config.positions import nearest_line
from oxherd.config.problems import Place
from oxherd.config.redact import redact_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeGuard

    from oxherd.errors import Problem

    KeyPath = tuple[str | int, ...]

__all__ = ["Desugarer", "has_reference"]

_PROCESS_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}\Z")
_ENV_NAME = re.compile(r"[^=\0]+\Z")
_TABLES = ("processes", "apps", "defaults", "logging", "deploy", "webhook")
_SERVER_OPTIONS = Key(
    name="server_options",
    canonical="server_options",
    kind=OPTIONS,
    default="none",
    meaning="App processes: options of the engine, such as proxy_headers or root_path",
)


def has_reference(value: object) -> bool:
    """Return whether a value holds a dollar sign, so that it can only be read after expansion."""
    if isinstance(value, str):
        return "$" in value
    if isinstance(value, list):
        return any(has_reference(item) for item in value)
    return False


class Desugarer:
    """Reads one document; everything that is wrong is appended to ``problems``."""

    def __init__(self, file: str, lines: Mapping[KeyPath, int], found: list[Problem]) -> None:
        """Take the file's name as the user wrote it, the line of each key path and the list to report to."""
        self.file = file
        self.lines = lines
        self.problems = found

    def read(self, document: dict[str, object]) -> Draft:
        """Return what the document says."""
        top = self._top(document)
        defaults = self._defaults(document)
        processes: list[DraftProcess] = []
        dialect = "apps" if "apps" in document and "processes" not in document else "processes"
        if "apps" in document and "processes" in document:
            self.problems.append(problems.dialects_mixed(self.place(("apps",))))
        tables = self._table(document, ("processes",))
        for key, item in tables.items():
            if self._is_table(item, ("processes", key)):
                processes.append(self._process(key, item, ("processes", key)))
        processes += self._apps(document)
        named: dict[str, DraftProcess] = {}
        for process in processes:
            self._check_name(process, named)
        if not processes and not self.problems:
            self.problems.append(problems.no_processes(Place(file=self.file, line=1)))
        webhook = Layer()
        self._section(self._table(document, ("webhook",)), ("webhook",), keys.WEBHOOK, webhook, local=True)
        name = top.settings.get("name")
        return Draft(
            name=str(name.value) if name else None,
            dialect=dialect,
            defaults=defaults,
            processes=tuple(processes),
            deploys=self._deploys(document),
            webhook=webhook,
        )

    def place(self, path: KeyPath) -> Place:
        """Return where a key path stands; elements of arrays are shown as ``apps[0]``."""
        text = ""
        for part in path:
            if isinstance(part, int):
                text += f"[{part}]"
            else:
                shown = part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else f'"{part}"'
                text += f".{shown}" if text else shown
        return Place(file=self.file, line=nearest_line(self.lines, path), key=text)

    def _top(self, document: dict[str, object]) -> Layer:
        layer = Layer()
        for name, value in document.items():
            if name in keys.TOP.keys:
                self._setting(keys.TOP.keys[name], value, (name,), layer, local=True)
            elif name not in _TABLES:
                elsewhere = (
                    f"{name} belongs into a process: put it under [processes.NAME]" if name in PROCESS.keys else ""
                )
                known = [*keys.TOP.keys, *_TABLES]
                self.problems.append(problems.unknown_key(self.place((name,)), name, known, elsewhere=elsewhere))
        return layer

    def _defaults(self, document: dict[str, object]) -> Layer:
        layer = Layer()
        self._process_table(self._table(document, ("defaults",)), ("defaults",), layer, local=False)
        self._section(self._table(document, ("logging",)), ("logging",), keys.LOGS, layer, local=False)
        return layer

    def _table(self, parent: Mapping[str, object], path: KeyPath) -> dict[str, object]:
        value = parent.get(str(path[-1]), {})
        if isinstance(value, dict):
            return value
        self.problems.append(problems.wrong_type(self.place(path), value, "a table", hint=_table_hint(path)))
        return {}

    def _apps(self, document: dict[str, object]) -> list[DraftProcess]:
        items = document.get("apps", [])
        if not isinstance(items, list):
            hint = "write [[apps]] with two brackets on each side, once for each app"
            self.problems.append(problems.wrong_type(self.place(("apps",)), items, "an array of tables", hint=hint))
            return []
        indexed = [(item, ("apps", index)) for index, item in enumerate(items)]
        return [self._app(item, path) for item, path in indexed if self._is_table(item, path)]

    def _is_table(self, item: object, path: KeyPath) -> TypeGuard[dict[str, object]]:
        if not isinstance(item, dict):
            self.problems.append(problems.wrong_type(self.place(path), item, "a table", hint=_table_hint(path)))
        return isinstance(item, dict)

    def _app(self, item: dict[str, object], path: KeyPath) -> DraftProcess:
        name = item.get("name", "")
        if not isinstance(name, str):
            self.problems.append(problems.wrong_type(self.place((*path, "name")), name, "a string"))
            name = ""
        process = self._process(name, {key: value for key, value in item.items() if key != "name"}, path)
        if name:
            return process
        command = str(item.get("command", item.get("app", ""))).split()
        guess = re.sub(r"[^A-Za-z0-9_.-]", "-", os.path.basename(command[0])) if command else ""
        name = guess.strip(".-") or f"app-{path[-1]}"
        return DraftProcess(name=name, place=process.place, layer=process.layer, profiles=process.profiles)

    def _check_name(self, process: DraftProcess, named: dict[str, DraftProcess]) -> None:
        if not _PROCESS_NAME.match(process.name):
            expected = "letters, digits, dots, hyphens and underscores, beginning with a letter or digit, 64 at most"
            self.problems.append(problems.bad_value(process.place, process.name, expected))
        first = named.setdefault(process.name, process)
        if first is not process:
            self.problems.append(problems.duplicate_name(process.place, process.name, first.place.line))

    def _process(self, name: str, item: dict[str, object], path: KeyPath) -> DraftProcess:
        layer = Layer()
        profiles: dict[str, Layer] = {}
        self._process_table(item, path, layer, local=True)
        for profile, table in self._table(item, (*path, "profiles")).items():
            inner = (*path, "profiles", profile)
            profiles[profile] = Layer()
            if self._is_table(table, inner):
                self._process_table(table, inner, profiles[profile], local=True, profile=profile)
        return DraftProcess(name=name, place=self.place(path), layer=layer, profiles=profiles)

    def _process_table(
        self, table: dict[str, object], path: KeyPath, layer: Layer, *, local: bool, profile: str = ""
    ) -> None:
        # A profile cannot hold profiles, nor can the defaults of all processes.
        outer = local and not profile
        for name, value in table.items():
            inner = (*path, name)
            if name in SUBTABLES:
                self._section(self._table(table, inner), inner, SUBTABLES[name], layer, local=local, profile=profile)
            elif name == "env":
                self._env(self._table(table, inner), inner, layer, profile=profile)
            elif name == "server_options":
                self._setting(_SERVER_OPTIONS, value, inner, layer, local=local, profile=profile)
            elif name in PROCESS.keys:
                self._setting(PROCESS.keys[name], value, inner, layer, local=local, profile=profile)
            elif name != "profiles" or not outer:
                known = [*PROCESS.keys, *SUBTABLES, "env", "server_options", *(["profiles"] if outer else [])]
                elsewhere = next((_belongs(name, section) for section in _SECTIONS if name in section.keys), "")
                self.problems.append(problems.unknown_key(self.place(inner), name, known, elsewhere=elsewhere))

    def _section(
        self,
        table: dict[str, object],
        path: KeyPath,
        section: Section,
        layer: Layer,
        *,
        local: bool,
        profile: str = "",
    ) -> None:
        for name, value in table.items():
            inner = (*path, name)
            key = section.keys.get(name)
            if key is not None:
                self._setting(key, value, inner, layer, local=local, profile=profile)
                continue
            elsewhere = f"{name} belongs into the process itself, above this table" if name in PROCESS.keys else ""
            place = self.place(inner)
            self.problems.append(problems.unknown_key(place, name, section.keys, elsewhere=elsewhere))

    def _setting(self, key: Key, value: object, path: KeyPath, layer: Layer, *, local: bool, profile: str = "") -> None:
        place = self.place(path)
        if type(value) not in key.kind.types:
            hint = _type_hint(key, value)
            self.problems.append(problems.wrong_type(place, value, key.kind.expected, hint=hint))
            return
        if not has_reference(value):
            try:
                key.kind.read(value)
            except ValueError as error:
                self.problems.append(problems.bad_value(place, value, str(error), hint=_nearest_word(key, value)))
                return
        origin = f"{os.path.basename(self.file)}:{place.line}{f' (profile {profile})' if profile else ''}"
        rank = 2 if profile else int(local)
        setting = Setting(key=key, value=value, place=place, origin=origin, rank=rank)
        other = layer.settings.get(key.canonical)
        if other is not None and not _agree(other, setting):
            message = f"{other.key.name} (line {other.place.line}) and {key.name} are two spellings of one setting"
            self.problems.append(
                problems.conflict(place, message, expected="one of them", hint="remove one of the two")
            )
            return
        layer.settings[key.canonical] = setting

    def _env(self, table: dict[str, object], path: KeyPath, layer: Layer, *, profile: str) -> None:
        for name, value in table.items():
            place = self.place((*path, name))
            if not _ENV_NAME.match(name):
                self.problems.append(problems.bad_value(place, name, "the name of a variable, without = in it"))
                continue
            if not isinstance(value, (str, int)) or (isinstance(value, int) and abs(value) >= 10**30):
                # A float would lose its zeros: 3.10 is 3.1.
                expected = "a string, an integer or a boolean"
                self.problems.append(problems.wrong_type(place, value, expected, hint=f'write {name} = "…" in quotes'))
                continue
            if isinstance(value, str) and "\0" in value:
                self.problems.append(problems.bad_value(place, value, "a string without NUL bytes"))
                continue
            text = _env_text(value)
            origin = f"{os.path.basename(self.file)}:{place.line}{f' (profile {profile})' if profile else ''}"
            layer.env[name] = EnvSetting(value=text, place=place, origin=origin)

    def _deploys(self, document: dict[str, object]) -> dict[str, Layer]:
        deploys: dict[str, Layer] = {}
        for name, item in self._table(document, ("deploy",)).items():
            path = ("deploy", name)
            deploys[name] = Layer()
            if not self._is_table(item, path):
                continue
            for written, value in item.items():
                key = keys.DEPLOY.keys.get(written.replace("-", "_"))
                place = self.place((*path, written))
                if key is None:
                    self.problems.append(problems.unknown_key(place, written, keys.DEPLOY.keys))
                else:
                    self._setting(key, value, (*path, written), deploys[name], local=True)
        return deploys


_SECTIONS = (keys.HEALTH, keys.LIMITS, keys.LOGS, keys.WEBHOOK)


def _env_text(value: str | int) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _belongs(name: str, section: Section) -> str:
    return f"{name} belongs into {section.title}"


def _agree(first: Setting, second: Setting) -> bool:
    """Two spellings may stand side by side only where one is the plain switch of the other: restart_on_exit, restart."""
    if first.key.canonical != "restart":
        return False
    return restart_mode(first.value) == restart_mode(second.value)


def restart_mode(value: object) -> str:
    """Return the restart mode of ``restart``, ``restart_policy`` or ``restart_on_exit``."""
    if isinstance(value, bool):
        return "always" if value else "never"
    return str(value).replace("_", "-")


def _table_hint(path: KeyPath) -> str:
    header = ".".join(str(part) for part in path)
    return f"write [{header}] as a header of its own"


def _nearest_word(key: Key, value: object) -> str:
    """Return the word of a closed set that was probably meant."""
    words = key.kind.schema.get("enum", ())
    known = (
        [item.name for item in signal.Signals] if key.kind is SIGNAL else list(words) if isinstance(words, list) else []
    )
    written = str(value).upper() if key.kind is SIGNAL else str(value).lower()
    nearest = difflib.get_close_matches(written, known, n=1, cutoff=0.8)
    return f'did you mean "{nearest[0]}"?' if nearest else ""


def _type_hint(key: Key, value: object) -> str:
    if key.kind is COMMAND and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return f"write it as one string: {key.name} = {json.dumps(shlex.join(redact_words(value)), ensure_ascii=False)}"
    if (
        isinstance(value, str)
        and bool in key.kind.types
        and value.lower() in ("true", "false", "yes", "no", "on", "off")
    ):
        return f"write {key.name} = {'true' if value.lower() in ('true', 'yes', 'on') else 'false'} without quotes"
    if isinstance(value, str) and int in key.kind.types and re.fullmatch(r"\s*\d+\s*", value):
        return f"write {key.name} = {value.strip()} without quotes"
    if (
        isinstance(value, str)
        and int in key.kind.types
        and re.fullmatch(r"\s*\d+(\.\d+)?\s*(ms|s|m|h|MB|M|G)\s*", value)
    ):
        twin = _twin(key)
        return f"write {twin} = {value!r}" if twin else f"write a plain number, in {key.kind.expected}"
    if isinstance(value, str) and key.kind.types == STRINGS.types[1:]:
        return f'write {key.name} = ["{value}"]'
    if isinstance(value, (int, float)) and not isinstance(value, bool) and str in key.kind.types:
        twin = _twin(key)
        return f"put it in quotes and give the unit{f', or use {twin}' if twin else ''}"
    return ""


def _twin(key: Key) -> str:
    """Return another key of the same setting that is written in the other way: with a unit, or without."""
    for section in (PROCESS, *_SECTIONS):
        if section.keys.get(key.name) is not key:
            continue
        for other in section.keys.values():
            if other.canonical == key.canonical and str in other.kind.types and str not in key.kind.types:
                return other.name
            if other.canonical == key.canonical and str not in other.kind.types and str in key.kind.types:
                return other.name
    return ""
