"""The files beside the source that say how a project is run: its environment, its requirements, a Procfile."""

from __future__ import annotations

import os
import tomllib

from oxherd.records import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["VENV_NAMES", "Venv", "find_venv", "procfile", "requirements", "tools"]

VENV_NAMES = (".venv", "venv", "env", ".env", "virtualenv")


@dataclass(frozen=True, slots=True, kw_only=True)
class Venv:
    """A virtual environment: ``path`` as a command may be written with it, and the programs it holds."""

    path: str
    programs: frozenset[str]
    active: bool = False


def find_venv(folder: str, environ: Mapping[str, str]) -> Venv | None:
    """Return the virtual environment of a folder: inside it, or the active one."""
    active = environ.get("VIRTUAL_ENV", "")
    for name in (*VENV_NAMES, *([active] if active else [])):
        path = os.path.join(folder, name)
        programs = os.path.join(path, "bin")
        if os.path.isfile(os.path.join(path, "pyvenv.cfg")) and os.path.isdir(programs):
            return Venv(path=name, programs=frozenset(os.listdir(programs)), active=os.path.isabs(name))
    return None


def requirements(folder: str) -> Iterator[str]:
    """Yield the lower-case names of the packages a project asks for, in requirements files and pyproject.toml."""
    for name in sorted(os.listdir(folder)):
        if name.startswith("requirements") and name.endswith(".txt"):
            with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as file:
                yield from (
                    _package(line) for line in file if line.strip() and not line.lstrip().startswith(("#", "-"))
                )
    for dependency in _pyproject_dependencies(folder):
        yield _package(dependency)


def _package(requirement: str) -> str:
    name = requirement.strip()
    for index, char in enumerate(name):
        if not (char.isalnum() or char in "-_."):
            name = name[:index]
            break
    return name.lower().replace("_", "-")


def _pyproject(folder: str) -> dict[str, object]:
    try:
        with open(os.path.join(folder, "pyproject.toml"), "rb") as file:
            return tomllib.load(file)
    except (OSError, ValueError):
        return {}


def _pyproject_dependencies(folder: str) -> list[str]:
    document = _pyproject(folder)
    project, tool = document.get("project"), document.get("tool")
    listed = project.get("dependencies") if isinstance(project, dict) else None
    poetry = tool.get("poetry") if isinstance(tool, dict) else None
    named = poetry.get("dependencies") if isinstance(poetry, dict) else None
    return [str(item) for item in (listed if isinstance(listed, list) else [])] + list(
        named if isinstance(named, dict) else {}
    )


def tools(folder: str) -> Iterator[str]:
    """Yield what seems to manage the project's environment: poetry, uv, pipenv, pdm."""
    tool = _pyproject(folder).get("tool")
    tables = tool if isinstance(tool, dict) else {}
    for name, file in (("poetry", "poetry.lock"), ("uv", "uv.lock"), ("pipenv", "Pipfile"), ("pdm", "pdm.lock")):
        if name in tables or os.path.exists(os.path.join(folder, file)):
            yield name


def procfile(folder: str) -> Iterator[str]:
    """Yield the lines of the Procfile, if there is one."""
    try:
        with open(os.path.join(folder, "Procfile"), encoding="utf-8", errors="replace") as file:
            yield from (line.strip() for line in file if ":" in line and not line.startswith("#"))
    except OSError:
        return
