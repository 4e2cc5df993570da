"""What a folder holds that Oxherd could run: web apps, Celery, the virtual environment. Reads, never imports.

The answer also says where it looked, so that "not found" can be checked by the person who reads it.
"""

from __future__ import annotations

import os

from oxherd.cli.project_files import Venv, find_venv, procfile, requirements, tools
from oxherd.cli.project_source import AppFound, HealthRoute, SourceFacts, read_source
from oxherd.records import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["CeleryApp", "HealthFound", "Project", "WebApp", "inspect_project", "read_facts"]

_SKIPPED = {
    "node_modules",
    "__pycache__",
    "site-packages",
    "tests",
    "test",
    "testing",
    "migrations",
    "build",
    "dist",
    "docs",
}
_DEPTH = 2
_MAX_FILES = 2000
_MAX_BYTES = 1 << 20
_LIKELY_FILES = ("main", "app", "asgi", "wsgi", "api", "server", "web", "application", "__init__")
_LIKELY_NAMES = ("app", "application", "api")


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthFound:
    """A health route: its path, where it stands, and why it may not answer there ("" if nothing speaks against it)."""

    path: str
    place: str
    doubt: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebApp:
    """A web app and how to find it.

    Attributes:
        framework, interface: "FastAPI", "asgi".
        target: ``main:app``; for a factory ``main:create_app``.
        place: ``main.py:12``.
        factory: The target is called to get the app.
        health: Its health route, or None.
    """

    framework: str
    interface: str
    target: str
    place: str
    factory: bool = False
    health: HealthFound | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CeleryApp:
    """A Celery app: what ``-A`` takes, where it stands, and what makes beat necessary."""

    target: str
    place: str
    schedule: str = ""
    database_scheduler: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """What a folder holds.

    Attributes:
        folder: Absolute.
        root: Where its modules are imported from, relative to the folder: "." or "src" or the folder of manage.py.
        web: The web apps, the likeliest first.
        celery: The Celery apps, the likeliest first.
        venv: Its virtual environment, or None.
        files: How many Python files were read.
        unreadable: Files that could not be read, with the reason.
        requirements: Lower-case names of the packages it asks for.
        tools: "poetry", "uv", "pipenv": what seems to manage its environment.
        procfile: The lines of a Procfile.
        env_file: Whether there is a ``.env`` file.
    """

    folder: str
    root: str = "."
    web: tuple[WebApp, ...] = ()
    celery: tuple[CeleryApp, ...] = ()
    venv: Venv | None = None
    files: int = 0
    unreadable: tuple[str, ...] = ()
    requirements: frozenset[str] = frozenset()
    tools: tuple[str, ...] = ()
    procfile: tuple[str, ...] = ()
    env_file: bool = False


@dataclass(slots=True)
class _Sources:
    """The files of a project by their path relative to it."""

    facts: dict[str, SourceFacts] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)


def inspect_project(folder: str, environ: Mapping[str, str]) -> Project:
    """Look into a folder.

    Args:
        folder: Absolute path.
        environ: For VIRTUAL_ENV: the environment that is active is taken where the folder has none.
    """
    sources = _read_files(folder)
    root = _import_root(folder, sources)
    return Project(
        folder=folder,
        root=root,
        web=tuple(_web_apps(folder, root, sources)),
        celery=tuple(_celery_apps(root, sources)),
        venv=find_venv(folder, environ),
        files=len(sources.facts),
        unreadable=tuple(sources.unreadable),
        requirements=frozenset(requirements(folder)),
        tools=tuple(tools(folder)),
        procfile=tuple(procfile(folder)),
        env_file=os.path.isfile(os.path.join(folder, ".env")),
    )


def read_facts(folder: str) -> Mapping[str, SourceFacts]:
    """Return what each Python file of a folder says, by its path relative to it; files that cannot be read are left out."""
    return _read_files(folder).facts


# -- reading --------------------------------------------------------------------------------------------------------


def _python_files(folder: str) -> Iterator[str]:
    for directory, names, files in os.walk(folder):
        relative = os.path.relpath(directory, folder)
        depth = 0 if relative == "." else relative.count(os.sep) + 1
        names[:] = sorted(
            name
            for name in names
            if depth < _DEPTH
            and name not in _SKIPPED
            and not name.startswith(".")
            and not os.path.exists(os.path.join(directory, name, "pyvenv.cfg"))
        )
        for name in sorted(files):
            if name.endswith(".py") and not name.startswith("test_") and name != "conftest.py":
                yield os.path.normpath(os.path.join(relative, name))


def _read_files(folder: str) -> _Sources:
    sources = _Sources()
    for number, path in enumerate(_python_files(folder)):
        if number >= _MAX_FILES:
            sources.unreadable.append(f"more than {_MAX_FILES} Python files: the others were not read")
            break
        try:
            with open(os.path.join(folder, path), "rb") as file:
                content = file.read(_MAX_BYTES)
            sources.facts[path] = read_source(content.decode("utf-8-sig"))
        except SyntaxError as error:
            sources.unreadable.append(f"{path}:{error.lineno or 1}: {error.msg}")
        except (OSError, ValueError, RecursionError) as error:
            sources.unreadable.append(f"{path}: {getattr(error, 'strerror', None) or error}")
    return sources


def _import_root(folder: str, sources: _Sources) -> str:
    """Return the folder that has to be on the import path, relative to the project."""
    manage = [path for path in sources.facts if os.path.basename(path) == "manage.py"]
    if manage:
        return os.path.dirname(min(manage, key=_depth)) or "."
    src = os.path.join(folder, "src")
    return "src" if os.path.isdir(src) and not os.path.exists(os.path.join(src, "__init__.py")) else "."


def _depth(path: str) -> int:
    return path.count(os.sep)


def _module(path: str, root: str) -> str:
    """Return the dotted name of a file: ``src/shop/web.py`` below ``src`` is ``shop.web``."""
    inside = os.path.relpath(path, root) if root != "." and path.startswith(root + os.sep) else path
    parts = inside.removesuffix(".py").split(os.sep)
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


# -- web apps -------------------------------------------------------------------------------------------------------


def _web_apps(folder: str, root: str, sources: _Sources) -> list[WebApp]:
    django = _django(folder, root, sources)
    found: list[tuple[tuple[int, ...], WebApp]] = []
    for path, facts in sources.facts.items():
        for app in facts.apps:
            module = _module(path, root)
            entry = WebApp(
                framework=app.framework,
                interface=app.interface,
                target=f"{module}:{app.name}",
                place=f"{path}:{app.line}",
                factory=app.factory,
                health=_health_of(path, app, sources),
            )
            found.append((_rank(path, app), entry))
    # FastAPI is a Starlette: where both are made, the Starlette one is mounted in the other.
    return [*django, *(app for _, app in sorted(found, key=lambda pair: pair[0]))]


def _rank(path: str, app: AppFound) -> tuple[int, ...]:
    stem = os.path.basename(path).removesuffix(".py")
    return (
        app.framework == "Starlette",
        app.factory,
        _depth(path),
        _LIKELY_FILES.index(stem) if stem in _LIKELY_FILES else len(_LIKELY_FILES),
        _LIKELY_NAMES.index(app.name) if app.name in _LIKELY_NAMES else len(_LIKELY_NAMES),
        app.line,
    )


def _health_of(path: str, app: AppFound, sources: _Sources) -> HealthFound | None:
    """Return the health route of an app: one on the app itself first, then one on a router."""
    own = sources.facts[path]
    candidates = [(path, own, route) for route in own.health]
    candidates += [
        (other, facts, route) for other, facts in sources.facts.items() if facts is not own for route in facts.health
    ]
    doubtful: HealthFound | None = None
    for place, facts, route in candidates:
        doubt = _doubt(facts is own, app, facts, route)
        prefix = facts.routers.get(route.owner) or ""
        found = HealthFound(path=f"{prefix}{route.path}", place=f"{place}:{route.line}", doubt=doubt)
        if not doubt:
            return found
        doubtful = doubtful or found
    return doubtful


def _doubt(same_file: bool, app: AppFound, facts: SourceFacts, route: HealthRoute) -> str:
    if route.guarded:
        return "it has dependencies, perhaps a login"
    if route.owner in facts.routers:
        return "it is on a router, which may be included under a prefix"
    if not same_file:
        return "it is in another file than the app"
    if route.owner and route.owner != app.name and not app.factory:
        return f'it is registered on "{route.owner}"'
    return ""


# -- Django ---------------------------------------------------------------------------------------------------------


def _django(folder: str, root: str, sources: _Sources) -> list[WebApp]:
    prefix = "" if root == "." else root + os.sep
    manage = sources.facts.get(f"{prefix}manage.py")
    module = manage.settings.get("DJANGO_SETTINGS_MODULE") if manage else None
    if not isinstance(module, str):
        return []
    settings_path = prefix + module.replace(".", os.sep) + ".py"
    settings = sources.facts.get(settings_path)
    known = settings.settings if settings else {}
    package = module.rpartition(".")[0]
    asgi = known.get("ASGI_APPLICATION")
    interface = "asgi" if isinstance(asgi, str) and "WSGI_APPLICATION" not in known else "wsgi"
    declared = known.get(f"{interface.upper()}_APPLICATION")
    target = declared if isinstance(declared, str) else ""
    if not target:
        # settings/base.py: the entry points stand beside the package, not in it.
        for base in (package, package.rpartition(".")[0]):
            if base and os.path.exists(os.path.join(folder, prefix + base.replace(".", os.sep), f"{interface}.py")):
                target = f"{base}.{interface}.application"
                break
    if not target:
        return []
    variable = target.rpartition(".")
    return [
        WebApp(
            framework="Django",
            interface=interface,
            target=f"{variable[0]}:{variable[2]}",
            place=f"{prefix}manage.py, settings {module}",
            health=_django_health(known, package, prefix, sources),
        )
    ]


def _django_health(settings: dict[str, object], package: str, prefix: str, sources: _Sources) -> HealthFound | None:
    urls = settings.get("ROOT_URLCONF")
    module = urls if isinstance(urls, str) else f"{package}.urls"
    path = prefix + module.replace(".", os.sep) + ".py"
    facts = sources.facts.get(path)
    if facts is None or not facts.health:
        return None
    route = facts.health[0]
    hosts, debug = settings.get("ALLOWED_HOSTS"), settings.get("DEBUG")
    allowed = isinstance(hosts, list) and ({"*", "127.0.0.1"} & set(hosts) or (not hosts and debug is True))
    doubt = "" if allowed else "Django answers 400 unless ALLOWED_HOSTS contains 127.0.0.1"
    return HealthFound(path=route.path, place=f"{path}:{route.line}", doubt=doubt)


# -- Celery ---------------------------------------------------------------------------------------------------------


def _celery_apps(root: str, sources: _Sources) -> list[CeleryApp]:
    schedule, database = _schedule(sources)
    found = []
    for path, facts in sources.facts.items():
        for app in facts.celery:
            module = _module(path, root)
            # Celery looks for `app` and `celery` in the module itself.
            target = module if app.name in {"app", "celery"} else f"{module}:{app.name}"
            entry = CeleryApp(target=target, place=f"{path}:{app.line}", schedule=schedule, database_scheduler=database)
            found.append(((_depth(path), "celery" not in path and "task" not in path, path), entry))
    return [app for _, app in sorted(found, key=lambda pair: pair[0])]


def _schedule(sources: _Sources) -> tuple[str, bool]:
    """Return where the first sign of a schedule stands, and whether a database holds the schedule."""
    signs = [(path, sign) for path, facts in sources.facts.items() for sign in facts.schedules]
    if not signs:
        return "", False
    path, sign = signs[0]
    return f"{path}:{sign.line}, {sign.what}", any(sign.database for _, sign in signs)
