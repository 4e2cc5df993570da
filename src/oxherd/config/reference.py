"""The JSON Schema and the reference page of oxfiles, made of the key table.

``python -m oxherd.config.reference`` writes both files of a source tree; ``--check`` says whether they are in sync.
"""

from __future__ import annotations

import json
import os
import sys

from oxherd.config import keys
from oxherd.config.keys import Key, Section, Since

__all__ = ["reference_markdown", "schema", "schema_text"]

_ENV_SCHEMA: dict[str, object] = {
    "type": "object",
    "description": "Variables; they win over env_file, which wins over the caller's environment.",
    "additionalProperties": {"type": ["string", "integer", "boolean"]},
}


def _key_schema(key: Key) -> dict[str, object]:
    later = " (accepted and checked; not active yet)" if key.since is Since.LATER else ""
    entry = {**key.kind.schema, "description": f"{_plain(key.meaning)}{later}"}
    if key.default and key.default not in ("none", ""):
        entry["description"] = f"{entry['description']}. Default: {_plain(key.default)}"
    return entry


def _plain(text: str) -> str:
    return text.replace("`", "")


def _section_schema(section: Section) -> dict[str, object]:
    return {
        "type": "object",
        "description": _plain(section.meaning),
        "additionalProperties": False,
        "properties": {name: _key_schema(key) for name, key in section.keys.items()},
    }


def _reference(name: str) -> dict[str, object]:
    return {"$ref": f"#/$defs/{name}"}


def _process_schema(*, named: bool, profiles: bool) -> dict[str, object]:
    properties: dict[str, object] = {name: _key_schema(key) for name, key in keys.PROCESS.keys.items()}
    for name, section in keys.SUBTABLES.items():
        properties[name] = _reference(_definition(section))
    properties["env"] = _ENV_SCHEMA
    properties["server_options"] = {
        "type": "object",
        "description": "Options of the engine, checked by the engine itself",
    }
    if named:
        properties["name"] = {"type": "string", "description": "Name of the process"}
    if profiles:
        properties["profiles"] = {"type": "object", "additionalProperties": _reference("settings")}
    return {
        "type": "object",
        "description": _plain(keys.PROCESS.meaning),
        "additionalProperties": False,
        "properties": properties,
    }


def _definition(section: Section) -> str:
    return section.title.strip("[]").rpartition(".")[2]


def schema() -> dict[str, object]:
    """Return the JSON Schema of an oxfile in either dialect."""
    definitions: dict[str, object] = {
        _definition(section): _section_schema(section)
        for section in (keys.HEALTH, keys.LIMITS, keys.LOGS, keys.WEBHOOK)
    }
    definitions["deploy"] = {
        **_section_schema(keys.DEPLOY),
        "properties": {
            spelling: _key_schema(key)
            for name, key in keys.DEPLOY.keys.items()
            for spelling in dict.fromkeys((name, name.replace("_", "-")))
        },
    }
    definitions["settings"] = _process_schema(named=False, profiles=False)
    definitions["process"] = _process_schema(named=False, profiles=True)
    definitions["app"] = _process_schema(named=True, profiles=True)
    top: dict[str, object] = {name: _key_schema(key) for name, key in keys.TOP.keys.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "oxfile.toml",
        "description": "What Oxherd runs: [processes.NAME] tables, or [[apps]].",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            **top,
            "processes": {"type": "object", "additionalProperties": _reference("process")},
            "apps": {"type": "array", "items": _reference("app")},
            "defaults": _reference("settings"),
            "logging": _reference("logs"),
            "webhook": _reference("webhook"),
            "deploy": {"type": "object", "additionalProperties": _reference("deploy")},
        },
        "$defs": definitions,
    }


def schema_text() -> str:
    """Return the schema as the text of its file."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


_HEAD = """\
# The oxfile

<!-- Made by `python -m oxherd.config.reference` of the key table in `src/oxherd/config/keys.py`. Do not edit. -->

An `oxfile.toml` describes one stack. It is looked for at `--config`, then as `./oxfile.toml`, then as
`~/.config/oxherd/oxfile.toml` (`$XDG_CONFIG_HOME` is honoured). Unknown keys are errors.

```toml
[processes.web]
command = "uvicorn main:app --host 0.0.0.0 --port ${PORT:-8000}"
restart_on_exit = true

[processes.web.health_check]
endpoint = "http://localhost:8000/health"
```

Several spellings of one setting may not stand side by side in one table. A key marked *later* is accepted and checked,
and its feature is not active yet; `oxherd explain` names such keys.

## Variables

`${NAME}` and `${NAME:-default}` are replaced in every string; `$$` is a literal dollar sign. A name is looked up in the
caller's environment, then in the env_files, then in the process's own `env`. A name without a value is an error. The
default also applies where the value is empty. `[[apps]]` knows `$NAME` too, except in commands.

In a command each reference is replaced inside its own argument, so a value with a space stays one argument; in single
quotes nothing is replaced. A command that needs a shell (a pipe, `&&`, a redirection, `$NAME`, a glob, `A=b cmd`, a
builtin such as `cd`) is run through `/bin/sh -c` and left to that shell entirely, `${NAME}` included: the shell has the
same variables in its environment. `bash -c '…'` is exec'd as it is, and left to bash in the same way.

A process runs with the caller's environment, over it the env_files in their order, over them `env`. `{instance}` is the
number of the copy, from 0.

In an env_file, `${NAME}` is replaced by the caller's environment and by lines above; what has no value is kept as it is
written. Single quotes are literal. Values in double quotes may span lines.

## Paths

`~` is your home. `working_dir`, `env_file`, `log_file`, `python` and TLS files are relative to the oxfile's folder,
`watch` to the working directory.

## Profiles

`[processes.NAME.profiles.PROFILE]` (or `[apps.profiles.PROFILE]`) takes the keys of a process. The order is
`[defaults]`, the process, the profile: later wins, and `env` merges by name.

## Date formats

`log_date_format` takes strftime (`%Y-%m-%d %H:%M:%S`) or the moment style (`YYYY-MM-DD HH:mm:ss.SSS`); text in square
brackets is literal there. Milliseconds are `SSS`, or `%3f`.
"""


def _section_markdown(section: Section) -> str:
    published = any(key.published for key in section.keys.values()) and section is keys.PROCESS
    native = [key for key in section.keys.values() if not (published and key.published)]
    lines = [
        f"## `{section.title}`" if section.title.startswith("[") else f"## {section.title}",
        "",
        section.meaning,
        "",
    ]
    lines += _rows(native)
    if published:
        lines += ["", "### Keys of the `[[apps]]` dialect", ""]
        lines += ["`version = 1`, `[defaults]`, `[[apps]]` with `name`. They may stand in `[processes.NAME]` too.", ""]
        lines += _rows([key for key in section.keys.values() if key.published])
    return "\n".join(lines)


def _rows(rows: list[Key]) -> list[str]:
    lines = ["| key | takes | default | meaning |", "|---|---|---|---|"]
    for key in rows:
        meaning = _cell(key.meaning) + (" *(later)*" if key.since is Since.LATER else "")
        lines.append(f"| `{key.name}` | {_cell(key.kind.name)} | {_cell(key.default)} | {meaning} |")
    return lines


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("[processes", "\\[processes")


def reference_markdown() -> str:
    """Return the reference page."""
    sections = (keys.TOP, keys.PROCESS, keys.HEALTH, keys.LIMITS, keys.LOGS, keys.WEBHOOK, keys.DEPLOY)
    env = (
        "## `[processes.NAME.env]`\n\nVariables: strings, integers or booleans. They win over `env_file`.\n\n"
        "## `[processes.NAME.server_options]`\n\n"
        "Options of the engine of an app process, under the engine's own names; it is the engine that checks them, when "
        "the\nprocess is started. `factory = true` says that the app is made by calling the attribute."
    )
    parts = [_HEAD.rstrip(), *(_section_markdown(section) for section in sections[:2]), env]
    parts += [_section_markdown(section) for section in sections[2:]]
    return "\n\n".join(parts) + "\n"


def main(arguments: list[str]) -> int:
    """Write the generated files, or with ``--check`` say whether they are in sync.

    Returns:
        0 when they are, or were made so; 1 when ``--check`` found a difference.
    """
    here = os.path.dirname(os.path.abspath(__file__))
    page = os.path.join(here, "..", "..", "..", "docs", "reference", "oxfile.md")
    files = {os.path.join(here, "oxfile.schema.json"): schema_text(), os.path.normpath(page): reference_markdown()}
    stale = [path for path, text in files.items() if _current(path) != text]
    for path in stale:
        if "--check" in arguments:
            sys.stderr.write(f"{path} is not in sync with the key table; run python -m oxherd.config.reference\n")
            continue
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(files[path])
    return 1 if stale and "--check" in arguments else 0


def _current(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
