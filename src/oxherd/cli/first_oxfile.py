"""The first oxfile of a project, as text: what was found, commented, and what was not found, said."""

from __future__ import annotations

import json
import os
import shlex

from oxherd.cli.project_files import VENV_NAMES
from oxherd.records import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oxherd.cli.inspect_project import CeleryApp, Project, WebApp

__all__ = ["FirstOxfile", "Planned", "plan_oxfile"]

ADDRESS = "127.0.0.1:8000"
_ASGI_SERVERS = ("uvicorn", "hypercorn", "granian", "daphne")
_WSGI_SERVERS = ("gunicorn", "granian", "waitress-serve")
# What Oxherd's own workers serve apps with, and what it takes without being told.
_ENGINES = frozenset({"uvicorn", "gunicorn", "granian", "hypercorn"})
_DEFAULT_ENGINES = frozenset({"uvicorn", "gunicorn"})
# Where an interpreter is found without being named.
_FOUND = (".venv", "venv")


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One process of the new oxfile: its name, its command or app, and what it is, for the report."""

    name: str
    command: str = ""
    app: str = ""
    what: str
    health: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstOxfile:
    """The new oxfile.

    Attributes:
        text: The file; "" where nothing was found that could be run.
        processes: What it runs.
        missing: What was looked for and not found, or found and in doubt; one text each.
    """

    text: str
    processes: tuple[Planned, ...]
    missing: tuple[str, ...]


def plan_oxfile(project: Project, name: str) -> FirstOxfile:
    """Return the oxfile that runs what the project holds.

    Args:
        project: What was found.
        name: The name of the stack.
    """
    missing = list(_missing(project))
    sections: list[str] = []
    processes: list[Planned] = []
    if project.web:
        planned, section = _web(project, project.web[0], missing)
        processes.append(planned)
        sections.append(section)
    if project.celery:
        for planned, section in _celery(project, project.celery[0], missing):
            processes.append(planned)
            sections.append(section)
    if not processes:
        return FirstOxfile(text="", processes=(), missing=tuple(missing))
    head = [
        "# What runs here, for Oxherd. `oxherd validate` checks this file, `oxherd explain` shows every default,",
        "# `oxherd start` runs it.",
        f"name = {_toml(name)}",
    ]
    notes = [f"# {line}" for line in _other_lines(project)]
    text = "\n".join(head) + "\n\n" + "\n".join(sections) + ("\n" + "\n".join(notes) + "\n" if notes else "")
    return FirstOxfile(text=text, processes=tuple(processes), missing=tuple(missing))


def _missing(project: Project) -> list[str]:
    """Say what was looked for in vain, and where."""
    looked = f"read {project.files} Python file{'' if project.files == 1 else 's'}, two folders deep"
    missing = []
    if not project.web:
        missing.append(f"a web app (FastAPI, Starlette, Litestar, Quart, Django, Flask): {looked}")
    if "celery" in project.requirements and not project.celery:
        missing.append(f"the Celery app, though celery is required: no `x = Celery(...)` ({looked})")
    if project.venv is None:
        missing.append(f"a virtual environment: looked for {', '.join(VENV_NAMES)}; {_venv_advice(project)}")
    elif project.venv.active:
        missing.append(f"a virtual environment in this folder: the active one, {project.venv.path}, is used")
    missing += [f"{text} (not read)" for text in project.unreadable]
    return missing


def _venv_advice(project: Project) -> str:
    if "poetry" in project.tools:
        return "poetry keeps it elsewhere: write the path that `poetry env info --path` prints before the commands"
    if "uv" in project.tools:
        return "`uv sync` makes one"
    if "pipenv" in project.tools:
        return "pipenv keeps it elsewhere: write the path that `pipenv --venv` prints before the commands"
    return "the programs are looked up on PATH"


def _other_lines(project: Project) -> list[str]:
    lines = []
    if len(project.web) > 1:
        others = ", ".join(f"{app.target} ({app.place})" for app in project.web[1:])
        lines.append(f"Other web apps found: {others}")
    if len(project.celery) > 1:
        others = ", ".join(f"{app.target} ({app.place})" for app in project.celery[1:])
        lines.append(f"Other Celery apps found: {others}")
    if project.procfile:
        lines += ["The Procfile has:", *(f"    {line}" for line in project.procfile)]
    return lines


# -- programs -------------------------------------------------------------------------------------------------------


def _program(project: Project, name: str, missing: list[str]) -> str:
    """Return a program as the command names it: inside the virtual environment, if there is one."""
    venv = project.venv
    if venv is None:
        return name
    path = os.path.join(venv.path, "bin", name)
    if name not in venv.programs:
        missing.append(
            f"{name} in {venv.path}: install it with `{venv.path}/bin/python -m pip install {_package(name)}`"
        )
    if project.root != "." and not venv.active and project.root != "src":
        path = os.path.relpath(path, project.root)
    return shlex.quote(path)


def _package(program: str) -> str:
    return {"waitress-serve": "waitress", "python": ""}.get(program, program)


def _server(project: Project, interface: str) -> str:
    """Return the server to use: the first of the usual ones that is installed."""
    usual = _ASGI_SERVERS if interface == "asgi" else _WSGI_SERVERS
    programs = project.venv.programs if project.venv else frozenset()
    return next((name for name in usual if name in programs), usual[0])


def _serve(project: Project, app: WebApp, missing: list[str]) -> tuple[str, str]:
    """Return the server and the command line that serves the app."""
    server = _server(project, app.interface)
    program = _program(project, server, missing)
    host, _, port = ADDRESS.partition(":")
    called = f"'{app.target}()'" if app.factory else app.target
    factory = " --factory" if app.factory else ""
    commands = {
        "uvicorn": f"{program} {app.target}{factory} --host {host} --port {port}",
        "hypercorn": f"{program} --bind {ADDRESS} {called}",
        "granian": f"{program} --interface {app.interface}{factory} --host {host} --port {port} {app.target}",
        "daphne": f"{program} --bind {host} --port {port} {app.target}",
        "gunicorn": f"{program} {called} --bind {ADDRESS} --workers 2",
        "waitress-serve": f"{program} --listen={ADDRESS} {'--call ' if app.factory else ''}{app.target}",
    }
    return server, commands[server]


# -- sections -------------------------------------------------------------------------------------------------------


def _web(project: Project, app: WebApp, missing: list[str]) -> tuple[Planned, str]:
    what = f"{app.framework} app {app.target} ({app.place})"
    server = _server(project, app.interface)
    target = f"{app.target}()" if app.factory else app.target
    if project.venv is not None and server in _ENGINES and server in project.venv.programs:
        command, serving = "", _hosted(project, app, server, target)
    else:
        server, command = _serve(project, app, missing)
        target, serving = "", [f"command = {_toml(command)}"]
    lines = [f"# {what}.", "[processes.web]", *serving, *_common(project)]
    if app.framework == "Django":
        manage = f"{_program(project, 'python', missing)} manage.py migrate --noinput"
        lines.append(f"# pre_start = {_toml(manage)}    # migrate before each release")
    lines += [
        "",
        "# `oxherd start` waits for it, and a web that fails it is restarted.",
        "[processes.web.health_check]",
    ]
    health = app.health
    url = f"http://{ADDRESS}{health.path}" if health else ""
    if health and not health.doubt:
        lines.append(f"endpoint = {_toml(url)}    # {health.place}")
        said = f"GET {health.path} ({health.place})"
    else:
        lines.append(f"tcp = {_toml(ADDRESS)}")
        if health:
            missing.append(f"a sure health route: {health.path} ({health.place}) was left out, since {health.doubt}")
            lines.append(f"# endpoint = {_toml(url)}    # {health.place}, if it answers there: {health.doubt}")
        else:
            lines.append('# A route that asks the database says more: write endpoint = "http://..." in place of tcp.')
        said = f"tcp {ADDRESS}"
    lines += ["interval_secs = 15", ""]
    lines += ["# [processes.web.limits]", '# memory = "1G"    # over it: restarted gracefully', ""]
    return Planned(name="web", command=command, app=target, what=f"{what}, by {server}", health=said), "\n".join(lines)


def _hosted(project: Project, app: WebApp, server: str, target: str) -> list[str]:
    """Return the lines of an app that Oxherd's own workers serve."""
    lines = [f"app = {_toml(target)}", f"bind = {_toml(ADDRESS)}"]
    if app.interface == "wsgi":
        lines.append("workers = 2")
    else:
        lines.append('# workers = "auto"    # as many as there are CPUs; without it there is one')
    if server not in _DEFAULT_ENGINES:
        lines.append(f"server = {_toml(server)}")
    venv = project.venv
    # An interpreter of another name, or of another folder than the working directory, has to be named.
    if venv is not None and (venv.path not in _FOUND or project.root not in (".", "src")):
        lines.append(f"python = {_toml(os.path.join(venv.path, 'bin', 'python'))}")
    return lines


def _celery(project: Project, app: CeleryApp, missing: list[str]) -> list[tuple[Planned, str]]:
    program = _program(project, "celery", missing)
    worker = f"{program} -A {app.target} worker --loglevel=info"
    what = f"Celery app {app.target} ({app.place})"
    lines = [
        f"# {what}. At a stop its tasks have stop_timeout to finish.",
        "[processes.worker]",
        f"command = {_toml(worker)}",
        'stop_timeout = "5m"',
        *_common(project),
        "",
    ]
    planned = [(Planned(name="worker", command=worker, what=what), "\n".join(lines))]
    if app.schedule:
        beat = f"{program} -A {app.target} beat --loglevel=info"
        if app.database_scheduler:
            beat += " --scheduler django_celery_beat.schedulers:DatabaseScheduler"
        lines = [
            f"# The schedule ({app.schedule}). Oxherd never runs two of it.",
            "[processes.beat]",
            f"command = {_toml(beat)}",
            *_common(project),
            "",
        ]
        planned.append((Planned(name="beat", command=beat, what=f"a schedule ({app.schedule})"), "\n".join(lines)))
    return planned


def _common(project: Project) -> list[str]:
    lines = []
    if project.root == "src":
        lines.append('env = { PYTHONPATH = "src" }')
    elif project.root != ".":
        lines.append(f"working_dir = {_toml(project.root)}")
    if project.env_file:
        lines.append('env_file = ".env"')
    return lines


def _toml(text: str) -> str:
    """Return a TOML string; JSON's escapes are TOML's."""
    return json.dumps(text, ensure_ascii=False)
