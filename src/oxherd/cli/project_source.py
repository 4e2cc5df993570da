"""What one Python file says about a project: read as text, by its syntax tree, never imported.

Importing an app to look at it would run it: connect to its database, start its threads, need its packages.
"""

from __future__ import annotations

import ast

from oxherd.records import dataclass, field

__all__ = ["AppFound", "CeleryFound", "HealthRoute", "ScheduleFound", "SourceFacts", "read_source"]

# The classes that make an app: package, class, what people call it, interface.
_FRAMEWORKS = (
    ("fastapi", "FastAPI", "FastAPI", "asgi"),
    ("starlette", "Starlette", "Starlette", "asgi"),
    ("litestar", "Litestar", "Litestar", "asgi"),
    ("quart", "Quart", "Quart", "asgi"),
    ("flask", "Flask", "Flask", "wsgi"),
)
_ROUTERS = (("fastapi", "APIRouter"), ("flask", "Blueprint"), ("quart", "Blueprint"), ("starlette", "Router"))
_FACTORIES = {"create_app", "make_app", "get_app", "build_app", "app_factory", "create_application"}
_HEALTH_WORDS = {
    "health",
    "healthz",
    "healthcheck",
    "health-check",
    "health_check",
    "livez",
    "readyz",
    "ping",
    "up",
    "heartbeat",
}
_ROUTE_CALLS = {
    "get",
    "route",
    "api_route",
    "head",
    "add_api_route",
    "add_url_rule",
    "add_route",
    "Route",
    "path",
    "re_path",
}
_SCHEDULE_NAMES = {"beat_schedule", "CELERY_BEAT_SCHEDULE", "CELERYBEAT_SCHEDULE"}


@dataclass(frozen=True, slots=True, kw_only=True)
class AppFound:
    """A web app: a variable of the module, or a function that makes one."""

    framework: str
    interface: str
    name: str
    line: int
    factory: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthRoute:
    """A route that looks like a health check.

    Attributes:
        path: As the router has it.
        line: Where it stands.
        owner: The variable it is registered on, or "" for a plain list of routes.
        guarded: Whether the route has dependencies of its own, such as a login.
    """

    path: str
    line: int
    owner: str = ""
    guarded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CeleryFound:
    """A Celery app."""

    name: str
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleFound:
    """A sign of a beat schedule; ``database`` if it is kept by django-celery-beat."""

    line: int
    what: str
    database: bool = False


@dataclass(slots=True, kw_only=True)
class SourceFacts:
    """Everything found in one file.

    Attributes:
        apps, celery, schedules, health: What was found, in the order of the file.
        routers: Variables that hold a router, with its prefix where that is a literal.
        settings: Literal values of upper-case module variables (Django's settings), and DJANGO_SETTINGS_MODULE.
        visibility_timeout: Celery's, in seconds, where it is a literal.
    """

    apps: list[AppFound] = field(default_factory=list)
    celery: list[CeleryFound] = field(default_factory=list)
    schedules: list[ScheduleFound] = field(default_factory=list)
    health: list[HealthRoute] = field(default_factory=list)
    routers: dict[str, str | None] = field(default_factory=dict)
    settings: dict[str, object] = field(default_factory=dict)
    visibility_timeout: float | None = None


def read_source(text: str) -> SourceFacts:
    """Return what the source says.

    Raises:
        SyntaxError: It is not Python, or of a version this Python cannot read.
        ValueError: It holds null bytes.
    """
    tree = ast.parse(text)
    reader = _Reader(tree)
    reader.read(tree)
    return reader.facts


class _Reader:
    def __init__(self, tree: ast.Module) -> None:
        self.facts = SourceFacts()
        self._origin = _import_map(tree)

    def read(self, tree: ast.Module) -> None:
        for statement in _top_statements(tree.body):
            match statement:
                case ast.Assign(targets=[ast.Name(id=name), *_], value=value):
                    self._assignment(name, value, statement.lineno)
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                    self._assignment(name, value, statement.lineno)
                case ast.FunctionDef(name=name) if name in _FACTORIES and not _needs_arguments(statement):
                    self._factory(statement)
        for node in ast.walk(tree):
            match node:
                case ast.Call():
                    self._call(node)
                case ast.Assign(targets=[ast.Attribute(attr="beat_schedule"), *_]):
                    self._schedule(node.lineno, "beat_schedule")
                case ast.Dict():
                    self._dictionary(node)

    def _qualified(self, node: ast.expr) -> str:
        """Return where a name comes from: ``fastapi.FastAPI``; "" for what was not imported."""
        match node:
            case ast.Name(id=name):
                return self._origin.get(name, "")
            case ast.Attribute(value=value, attr=attr):
                base = self._qualified(value)
                return f"{base}.{attr}" if base else ""
        return ""

    def _is(self, node: ast.expr, package: str, name: str) -> bool:
        origin = self._qualified(node)
        return origin.partition(".")[0] == package and origin.rpartition(".")[2] == name

    def _framework(self, node: ast.expr) -> tuple[str, str] | None:
        """Return framework and interface if the expression makes an app."""
        if isinstance(node, ast.Call):
            for package, name, title, interface in _FRAMEWORKS:
                if self._is(node.func, package, name):
                    return title, interface
        return None

    def _assignment(self, name: str, value: ast.expr, line: int) -> None:
        made = self._framework(value)
        if made is not None:
            self.facts.apps.append(AppFound(framework=made[0], interface=made[1], name=name, line=line))
        if isinstance(value, ast.Call):
            if self._is(value.func, "celery", "Celery"):
                self.facts.celery.append(CeleryFound(name=name, line=line))
            if any(self._is(value.func, package, router) for package, router in _ROUTERS):
                self.facts.routers[name] = _literal_keyword(value, "prefix", "url_prefix")
        if name in _SCHEDULE_NAMES:
            self._schedule(line, name)
        if name.isupper():
            self._setting(name, value, line)

    def _setting(self, name: str, value: ast.expr, line: int) -> None:
        try:
            self.facts.settings[name] = ast.literal_eval(value)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            self.facts.settings[name] = None  # computed: nothing that reading can tell
        if name == "INSTALLED_APPS" and any(
            isinstance(node, ast.Constant) and node.value == "django_celery_beat" for node in ast.walk(value)
        ):
            self._schedule(line, "django_celery_beat in INSTALLED_APPS", database=True)

    def _factory(self, function: ast.FunctionDef) -> None:
        for node in ast.walk(function):
            made = self._framework(node) if isinstance(node, ast.Call) else None
            if made is not None:
                framework, interface = made
                self.facts.apps.append(
                    AppFound(
                        framework=framework, interface=interface, name=function.name, line=function.lineno, factory=True
                    )
                )
                return

    def _call(self, node: ast.Call) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in _ROUTE_CALLS:
            self._route(node)
        if name == "add_periodic_task":
            self._schedule(node.lineno, "add_periodic_task")
        if name == "setdefault" and len(node.args) == 2:
            key, value = node.args
            if (
                isinstance(key, ast.Constant)
                and key.value == "DJANGO_SETTINGS_MODULE"
                and isinstance(value, ast.Constant)
            ):
                self.facts.settings["DJANGO_SETTINGS_MODULE"] = value.value
        for keyword in node.keywords:
            if keyword.arg == "beat_schedule":
                self._schedule(node.lineno, "beat_schedule")

    def _route(self, node: ast.Call) -> None:
        first = node.args[0] if node.args else None
        if not isinstance(first, ast.Constant) or not isinstance(first.value, str):
            return
        path = first.value.strip("^$")
        if path.strip("/").rpartition("/")[2].lower() not in _HEALTH_WORDS or any(char in path for char in "<{(*"):
            return
        owner = ""
        if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
            owner = node.func.value.id
        methods = next((keyword.value for keyword in node.keywords if keyword.arg == "methods"), None)
        if methods is not None and '"GET"' not in ast.unparse(methods).upper().replace("'", '"'):
            return
        guarded = any(keyword.arg == "dependencies" for keyword in node.keywords)
        slashed = path if path.startswith("/") else f"/{path}"
        self.facts.health.append(HealthRoute(path=slashed, line=node.lineno, owner=owner, guarded=guarded))

    def _schedule(self, line: int, what: str, *, database: bool = False) -> None:
        self.facts.schedules.append(ScheduleFound(line=line, what=what, database=database))

    def _dictionary(self, node: ast.Dict) -> None:
        for key, value in zip(node.keys, node.values, strict=True):
            match key, value:
                case ast.Constant(value="visibility_timeout"), ast.Constant(value=int() | float() as seconds):
                    self.facts.visibility_timeout = float(seconds)


def _import_map(tree: ast.Module) -> dict[str, str]:
    """Return what each imported name stands for."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                root = alias.name.partition(".")[0]
                names[alias.asname or root] = alias.name if alias.asname else root
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def _top_statements(body: list[ast.stmt]) -> list[ast.stmt]:
    """Return the statements that run at import, inside ``if`` and ``try`` too, but not under ``__main__``."""
    found: list[ast.stmt] = []
    for statement in body:
        match statement:
            case ast.If(test=test) if "__name__" in ast.dump(test):
                continue
            case ast.If() | ast.Try() | ast.With():
                found += _top_statements(statement.body)
                found += _top_statements(getattr(statement, "orelse", []))
            case _:
                found.append(statement)
    return found


def _needs_arguments(function: ast.FunctionDef) -> bool:
    arguments = function.args
    required = len(arguments.posonlyargs) + len(arguments.args) - len(arguments.defaults)
    return required > 0 or any(default is None for default in arguments.kw_defaults)


def _literal_keyword(call: ast.Call, *names: str) -> str | None:
    """Return the keyword's literal text, "" where it is not given, None where it is computed."""
    for keyword in call.keywords:
        if keyword.arg in names:
            value = keyword.value
            return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else None
    return ""
