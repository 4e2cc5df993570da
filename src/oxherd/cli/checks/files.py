"""What has to be there for a process to start: its directory, program, interpreter and user."""

from __future__ import annotations

import grp
import os
import pwd

from oxherd.cli.checks.finding import ok, problem, warning
from oxherd.programs.interpreter import find_interpreter, find_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from oxherd.cli.checks.finding import Examination, Finding
    from oxherd.config.model import ProcessSpec

__all__ = ["check_programs", "check_users"]

# Packages behind the recognised programs, to be found in the site-packages of their interpreter.
_PACKAGES = {
    "uvicorn": "uvicorn",
    "gunicorn": "gunicorn",
    "hypercorn": "hypercorn",
    "granian": "granian",
    "daphne": "daphne",
    "celery-worker": "celery",
    "celery-beat": "celery",
    "celery-flower": "flower",
    "django-runserver": "django",
    "flask-run": "flask",
}


def check_programs(examination: Examination) -> Iterator[Finding]:
    """Look for the directory, the program and the Python packages of each process."""
    for spec in examination.processes:
        if not os.path.isdir(spec.working_dir):
            yield problem(
                f"working_dir {spec.working_dir} is not there",
                where=spec.name,
                advice=f"make it, or correct working_dir of [processes.{spec.name}]",
            )
        elif not os.access(spec.working_dir, os.X_OK):
            yield problem(f"working_dir {spec.working_dir} may not be entered", where=spec.name, advice="chmod u+x it")
        else:
            yield from _program(examination, spec)


def _program(examination: Examination, spec: ProcessSpec) -> Iterator[Finding]:
    if spec.command is None:
        return
    found = find_program(spec, examination.environ)
    if found is None:
        name = spec.command.argv[0]
        where = os.path.join(spec.working_dir, name) if "/" in name else f"{name} on PATH"
        there = "/" in name and os.path.exists(os.path.join(spec.working_dir, name))
        yield problem(
            f"{where} {'is not executable' if there else 'was not found'}",
            where=spec.name,
            advice="install it into the virtual environment, or write its whole path in command",
        )
        return
    interpreter = find_interpreter(spec, examination.environ)
    if interpreter.reason.startswith("no other"):
        return
    if not os.access(interpreter.path, os.X_OK):
        yield problem(
            f"{found.path} is run by {interpreter.path}, which is not there",
            where=spec.name,
            advice="make the virtual environment anew: it was moved, or its Python was removed",
        )
        return
    yield from _package(examination, spec, interpreter.path)


def _package(examination: Examination, spec: ProcessSpec, interpreter: str) -> Iterator[Finding]:
    """Look whether the server is installed beside its interpreter; version and folders come from the environment."""
    venv = os.path.dirname(os.path.dirname(interpreter))
    version = _venv_version(venv)
    package = _PACKAGES.get(spec.program)
    if version is None or package is None:
        return
    folder = os.path.join(venv, "lib", f"python{'.'.join(version.split('.')[:2])}", "site-packages")
    if not os.path.isdir(folder):
        yield warning(
            f"{folder} is not there, though {venv} says it is for Python {version}",
            where=spec.name,
            advice="make the virtual environment anew",
        )
    elif not os.path.exists(os.path.join(folder, package)) and not _elsewhere(folder):
        yield problem(
            f"{package} is not installed in {venv}", where=spec.name, advice=f"{interpreter} -m pip install {package}"
        )
    else:
        yield ok(f"{examination.program(spec).title} in {venv} (Python {version})", where=spec.name)


def _elsewhere(folder: str) -> bool:
    """Whether a .pth file or system packages may bring packages from other folders."""
    return any(name.endswith(".pth") and name != "distutils-precedence.pth" for name in os.listdir(folder))


def _venv_version(venv: str) -> str | None:
    """Return the Python version of a virtual environment, or None where it is none."""
    try:
        with open(os.path.join(venv, "pyvenv.cfg"), encoding="utf-8", errors="replace") as file:
            lines = [line.partition("=") for line in file]
    except OSError:
        return None
    values = {key.strip().lower(): value.strip() for key, _, value in lines}
    if values.get("include-system-site-packages", "").lower() == "true":
        return None
    return values.get("version") or values.get("version_info")


def check_users(examination: Examination) -> Iterator[Finding]:
    """Look whether privileges can be dropped as the oxfile says."""
    for spec in examination.processes:
        if (spec.user or spec.group) and examination.euid != 0:
            yield problem(
                "user and group need root, and you are not",
                where=spec.name,
                advice="run oxherd as root, or as that user and without the keys",
            )
        if spec.user and not spec.user.isdigit():
            try:
                pwd.getpwnam(spec.user)
            except KeyError:
                yield problem(f"there is no user {spec.user}", where=spec.name, advice=f"useradd --system {spec.user}")
        if spec.group and not spec.group.isdigit():
            try:
                grp.getgrnam(spec.group)
            except KeyError:
                yield problem(
                    f"there is no group {spec.group}", where=spec.name, advice=f"groupadd --system {spec.group}"
                )
        if not spec.user and examination.euid == 0 and examination.binds(spec):
            yield warning(
                "it serves requests as root",
                where=spec.name,
                advice=f'write user = "..." under [processes.{spec.name}]',
            )
