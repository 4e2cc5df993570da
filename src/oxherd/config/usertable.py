"""Adding a process to an oxfile as text, for ``oxherd start --name api -- uvicorn main:app``.

The rest of the file, its comments included, stays as it is.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import tempfile
import tomllib

from oxherd.config import problems
from oxherd.config.problems import Place
from oxherd.errors import ConfigError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["append_process"]

_HEADING = "# Processes of this user that belong to no project. Written by oxherd start --name; edit it as you like.\n"


def append_process(path: str, name: str, argv: Sequence[str], working_dir: str) -> None:
    """Append ``[processes.NAME]`` to an oxfile, which is made, readable by its owner only, if it is not there.

    Args:
        path: The oxfile.
        name: The new process.
        argv: Its command, one word an element; dollar signs are kept literal.
        working_dir: Its working directory, absolute.

    Raises:
        UsageError: The name is taken, or the command is empty.
        ConfigError: The file is there and is no oxfile in the [processes.NAME] dialect, or cannot be written.
    """
    if not argv or not argv[0]:
        raise UsageError("there is no command to start", hint="oxherd start --name api -- uvicorn main:app --port 8000")
    text = _existing(path)
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError((problems.syntax(Place(file=path), str(error)),)) from error
    processes = document.get("processes", {})
    if not isinstance(processes, dict) or "apps" in document:
        raise ConfigError((problems.dialects_mixed(Place(file=path)),))
    if name in processes:
        hint = f"oxherd restart {name}, another name, or oxherd delete {name} first"
        raise UsageError(f'there is already a process "{name}" in {path}', hint=hint)
    # shlex puts words with dollar signs in single quotes, where the reader of the oxfile leaves them alone.
    command = shlex.join(argv)
    table = f"[processes.{_key(name)}]\ncommand = {_string(command)}\nworking_dir = {_string(working_dir.replace('$', '$$'))}\n"
    separator = "" if not text else "\n" if text.endswith("\n") else "\n\n"
    _write(path, f"{text or _HEADING + chr(10)}{separator}{table}")


def _existing(path: str) -> str:
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError((problems.unreadable(path, str(error)),)) from error


def _key(name: str) -> str:
    return name if name.isascii() and name.replace("-", "").replace("_", "").isalnum() else _string(name)


def _string(text: str) -> str:
    # TOML's basic strings are JSON's, except for DEL, which TOML wants escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _write(path: str, text: str) -> None:
    """Replace the file in one step, so that a reader sees the old one or the new one."""
    folder = os.path.dirname(os.path.abspath(path))
    temporary = ""
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".oxfile-", dir=folder)  # made with mode 0600
        with open(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, os.path.realpath(path))
    except OSError as error:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        hint = "check the permissions of its folder"
        raise ConfigError((problems.unreadable(path, f"it cannot be written: {error.strerror}", hint=hint),)) from error
