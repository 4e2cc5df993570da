"""Which program file and which Python interpreter a command means."""

from __future__ import annotations

import os
import sys

from oxherd.programs.arguments import is_python
from oxherd.records import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from oxherd.config.model import ProcessSpec

__all__ = ["Found", "find_interpreter", "find_program"]

_VENVS = (".venv", "venv")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A file that was found, and why it is the one."""

    path: str
    reason: str


def _executable(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)


def find_program(spec: ProcessSpec, environ: Mapping[str, str]) -> Found | None:
    """Return the file that the first word of a command names, or None where nothing fits.

    A bare name is looked for beside the interpreter that ``python`` names, then on PATH, then in the virtual
    environment of the working directory.

    Args:
        spec: A command process; a shell command means its shell.
        environ: The caller's environment; the process's own PATH wins over it.
    """
    if spec.command is None:
        return None
    name = spec.command.argv[0]
    if "/" in name:
        path = os.path.join(spec.working_dir, name)
        return Found(path=path, reason="the path in the command") if _executable(path) else None
    if spec.python is not None and _executable(path := os.path.join(os.path.dirname(spec.python), name)):
        return Found(path=path, reason="beside the interpreter that python names")
    search = dict(spec.env).get("PATH") or environ.get("PATH") or os.defpath
    for folder in search.split(os.pathsep):
        path = os.path.join(spec.working_dir, folder or ".", name)
        if _executable(path):
            return Found(path=path, reason="found on PATH")
    for venv in _VENVS:
        path = os.path.join(spec.working_dir, venv, "bin", name)
        if _executable(path):
            return Found(path=path, reason=f"found in {venv} of the working directory")
    return None


def find_interpreter(spec: ProcessSpec, environ: Mapping[str, str]) -> Found:
    """Return the Python interpreter of a process: the one named, the command's, the working directory's, or our own.

    Args:
        spec: A process of either kind.
        environ: The caller's environment.
    """
    if spec.python is not None:
        return Found(path=spec.python, reason="the oxfile names it")
    program = find_program(spec, environ)
    if program is not None:
        if os.path.basename(program.path).startswith(("python", "pypy")):
            return Found(path=program.path, reason="the command runs it")
        shebang = _shebang(program.path, dict(spec.env).get("PATH") or environ.get("PATH") or "")
        if shebang:
            return Found(path=shebang, reason=f"the first line of {program.path}")
    for venv in _VENVS:
        path = os.path.join(spec.working_dir, venv, "bin", "python")
        if _executable(path):
            return Found(path=path, reason=f"{venv} of the working directory")
    return Found(path=sys.executable, reason="no other was found, so it is Oxherd's own")


def _shebang(path: str, search: str) -> str:
    """Return the Python interpreter in the first line of a script, or an empty string; ``env`` looks on PATH."""
    try:
        with open(path, "rb") as file:
            head = file.read(512)
    except OSError:
        # An unreadable program tells nothing; that it cannot be run is told when it is started.
        return ""
    if not head.startswith(b"#!"):
        return ""
    words = os.fsdecode(head[2:].split(b"\n", 1)[0]).split()
    if words and os.path.basename(words[0]) == "env":
        name = next((word for word in words[1:] if word != "-S"), "")
        places = (os.path.join(folder, name) for folder in search.split(os.pathsep) if folder)
        return next((place for place in places if is_python(name) and _executable(place)), "")
    # Installers write "#!/bin/sh" and a polyglot second line where the path is too long for a first line; execve(2).
    if words and os.path.basename(words[0]) == "sh" and b"'''exec' " in head:
        words = os.fsdecode(head.split(b"'''exec' ", 1)[1].split(b"\n", 1)[0]).replace('"', "").split()
    return words[0] if words and os.path.basename(words[0]).startswith(("python", "pypy")) else ""
