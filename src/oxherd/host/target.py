"""The app a job names: imported, found, and told apart (ASGI or WSGI) by looking at it."""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import os
import sys
import traceback
import types
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .engines.base import App

if TYPE_CHECKING:
    from types import ModuleType, TracebackType

__all__ = ["TargetError", "find", "interface_of", "own_traceback"]

_HERE = os.path.dirname(os.path.abspath(__file__))
_CALL = "()"
_DUNDER_CALL = "__call__"
_NAMES = {"receive", "environ", "env", "start_response"}


class TargetError(Exception):
    """The app cannot be imported, is not there, or is none.

    Attributes:
        text: What, where, what was found and what to do, in one line.
        traceback: The traceback as Python would print it, from the app's first frame on; "" where there is none.
    """

    def __init__(self, text: str, trace: str = "") -> None:
        """Say what."""
        super().__init__(text)
        self.text = text
        self.traceback = trace


def find(target: str, *, factory: bool = False, interface: str = "auto") -> App:
    """Import the app of ``module:attr`` and return it.

    Args:
        target: ``module:attr``; the attr may be dotted, and ``module:create_app()`` names a factory.
        factory: Whether the attr is called to get the app.
        interface: "auto", "asgi" or "wsgi"; what is said is believed.

    Raises:
        TargetError: Always with a text for the person who wrote the target.
    """
    name, colon, attr = target.partition(":")
    if not colon or not name or not attr:
        raise TargetError(f"{target!r} names no app; expected module:attr, as in main:app")
    if attr.endswith(_CALL):
        attr, factory = attr.removesuffix(_CALL), True
    if not all(part.isidentifier() for part in attr.split(".")):
        raise TargetError(
            f"{target!r} names no app: after the colon comes a name, as in main:app, or a factory without arguments,"
            " as in main:create_app()"
        )
    module = _import(name, attr)
    call = _look_up(module, name, attr)
    if factory:
        call = _called(call, target)
    elif _is_plain_factory(call):
        # As uvicorn does; a function that takes nothing can be nothing else.
        call = _called(call, target)
    if interface in {"asgi", "wsgi"}:
        if not callable(call):
            raise TargetError(f"{target} is {_article(type(call).__name__)}, no app: it cannot be called")
        return App(call=call, interface=interface, label=target)
    return App(call=call, interface=_told_apart(call, target), label=target)


def _import(name: str, attr: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing == name or name.startswith(f"{missing}."):
            raise TargetError(_no_module(name, missing, attr)) from error
        raise TargetError(
            f"importing {name} failed: {_innermost(error)} imports {missing!r}, which {sys.executable} does not have;"
            f" install what provides it there, or set `python =` to the interpreter that has it",
            own_traceback(error),
        ) from error
    except SystemExit as error:
        raise TargetError(
            f"importing {name} ended the process: {_innermost(error)} raised SystemExit({error.code!r})",
            own_traceback(error),
        ) from error
    except Exception as error:
        said = traceback.format_exception_only(type(error), error)[-1].strip()
        raise TargetError(f"importing {name} failed at {_innermost(error)}: {said}", own_traceback(error)) from error


def _no_module(name: str, missing: str, attr: str) -> str:
    parent, _, child = missing.rpartition(".")
    if parent:
        places = list(getattr(sys.modules.get(parent), "__path__", ()))
        if not places:
            return f"there is no module {missing!r}: {parent} is a module, no package"
    else:
        places = [place or os.getcwd() for place in sys.path[:1]]
    there = sorted({found for place in places for found in _modules_in(place)})
    hint = ""
    if near := difflib.get_close_matches(child or missing, there, 1):
        meant = ".".join(filter(None, (parent, near[0], *name.split(".")[missing.count(".") + 1 :])))
        hint = f"; did you mean {meant}:{attr}?"
    elif there:
        hint = f"; there is {_list(there)}"
    looked = f"looked in {', '.join(places)} and what {sys.executable} has installed"
    return f"there is no module {missing!r}: {looked}{hint}"


def _modules_in(place: str) -> list[str]:
    try:
        with os.scandir(place) as entries:
            found = [
                entry.name.removesuffix(".py")
                for entry in entries
                if entry.name.endswith(".py") or (entry.is_dir() and os.path.exists(f"{entry.path}/__init__.py"))
            ]
    except OSError:
        return []
    return [name for name in found if name.isidentifier() and not name.startswith("__")]


def _look_up(module: ModuleType, name: str, attr: str) -> Any:
    value: Any = module
    for depth, part in enumerate(attr.split(".")):
        try:
            value = getattr(value, part)
        except AttributeError as error:
            within = ".".join([name, *attr.split(".")[:depth]])
            found = _candidates(value)
            near = difflib.get_close_matches(part, [one for one, _ in found] or _public(value), 1)
            hint = f"; did you mean {name}:{'.'.join([*attr.split('.')[:depth], near[0]])}?" if near else ""
            has = "; it has: " + ", ".join(f"{one} ({what})" for one, what in found[:12]) if found else ""
            raise TargetError(f"{within} has no attribute {part!r}{has}{hint}") from error
    return value


def _candidates(holder: object) -> list[tuple[str, str]]:
    """Return what in a module could be meant, apps first, each with what it is."""
    apps, functions = [], []
    for name in _public(holder):
        value = vars(holder)[name]
        if inspect.ismodule(value) or inspect.isclass(value) or not callable(value):
            continue
        home = getattr(value, "__module__", None)
        if inspect.isfunction(value) and home != getattr(holder, "__name__", None):
            continue  # imported from elsewhere
        interface = interface_of(value)
        if inspect.isfunction(value) and not _NAMES & set(inspect.signature(value).parameters):
            # Any function may take two things or three; one that is meant as an app has the customary names.
            interface = None
        match interface:
            case "asgi":
                apps.append((name, "an ASGI app"))
            case "wsgi":
                apps.append((name, "a WSGI app"))
            case _ if inspect.isfunction(value):
                functions.append((name, "a function"))
    return apps + functions


def _public(holder: object) -> list[str]:
    return [name for name in vars(holder) if not name.startswith("_")] if hasattr(holder, "__dict__") else []


def _called(factory: Any, target: str) -> Any:
    if not callable(factory):
        raise TargetError(f"{target} is {_article(type(factory).__name__)}, no factory: it cannot be called")
    try:
        made = factory()
    except Exception as error:
        said = traceback.format_exception_only(type(error), error)[-1].strip()
        raise TargetError(
            f"the factory {target} failed at {_innermost(error)}: {said}", own_traceback(error)
        ) from error
    if inspect.iscoroutine(made):
        made.close()
        raise TargetError(
            f"the factory {target} is a coroutine function; a factory returns the app without being awaited"
        )
    return made


def _told_apart(call: Any, target: str) -> str:
    found = interface_of(call)
    if found in {"asgi", "wsgi"}:
        return str(found)
    if inspect.ismodule(call):
        raise TargetError(f"{target} is a module, no app; an app is one of its attributes")
    if not callable(call):
        raise TargetError(f"{target} is {_article(type(call).__name__)}, no app: it cannot be called")
    if found == "asgi2":
        raise TargetError(
            f"{target} is an app of ASGI 2 (called with the scope alone); Oxherd serves ASGI 3 (scope, receive, send)."
            " Wrap it: asgiref.compatibility.guarantee_single_callable"
        )
    kind = f"{type(call).__module__}.{type(call).__qualname__}"
    if kind.startswith("aiohttp."):
        raise TargetError(
            f"{target} is an aiohttp application, which is neither ASGI nor WSGI; run it with its own server:"
            ' command = "gunicorn -k aiohttp.GunicornWebWorker ..."'
        )
    raise TargetError(
        f"{target} ({kind}) is neither an ASGI app (scope, receive, send) nor a WSGI app (environ, start_response)"
        f'{_signature_text(call)}; if it is one, say so: interface = "asgi" or "wsgi" in server_options'
    )


def interface_of(call: Any) -> str | None:
    """Tell what a callable is by looking at it, without calling it.

    Returns:
        "asgi", "wsgi", "asgi2" (an app of the scope alone, a class of it included), or None: not to be told.
    """
    if not callable(call):
        return None
    takes = _Takes.of(call)
    if inspect.isclass(call):
        # An app is an instance; a class that takes the scope is the old ASGI, and any other is a factory at best.
        return "asgi2" if takes is not None and takes.names == ["scope"] else None
    if _is_coroutine(call):
        return "asgi" if takes is None or takes.can_take(3) else None
    if takes is None:
        return None
    match takes.names:
        case [_, _, _] if "receive" in takes.names or "send" in takes.names:
            return "asgi"
        case [_, _]:
            return "wsgi"
        case ["scope"]:
            return "asgi2"
        case _:
            return None


@dataclass(frozen=True)
class _Takes:
    """What a callable takes: the positional parameters it needs, and how many at the most (None: any number)."""

    names: list[str]
    most: int | None

    @classmethod
    def of(cls, call: Any) -> _Takes | None:
        """Return it; None where it cannot be told."""
        try:
            parameters = list(inspect.signature(call).parameters.values())
        except Exception:  # noqa: BLE001 - a proxy again
            return None
        plain = [one for one in parameters if one.kind in {one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD}]
        any_number = any(one.kind is one.VAR_POSITIONAL for one in parameters)
        return cls([one.name for one in plain if one.default is one.empty], None if any_number else len(plain))

    def can_take(self, count: int) -> bool:
        """Tell whether so many positional arguments may be given."""
        return len(self.names) <= count and (self.most is None or count <= self.most)


def _is_coroutine(call: Any) -> bool:
    while isinstance(call, functools.partial):
        call = call.func
    # Of other objects only their type is asked: a proxy may raise what it likes for being looked at.
    if isinstance(call, (types.FunctionType, types.MethodType)):
        return inspect.iscoroutinefunction(call)
    return inspect.iscoroutinefunction(getattr(type(call), _DUNDER_CALL, None))


def _is_plain_factory(call: Any) -> bool:
    """Tell whether this is a function without parameters: called with a scope or an environ it could only fail."""
    if not inspect.isfunction(call) or inspect.iscoroutinefunction(call):
        return False
    return not inspect.signature(call).parameters


def own_traceback(error: BaseException) -> str:
    """Return the traceback as Python would print it, without the frames that led to the app's first line."""
    trace: TracebackType | None = error.__traceback__
    while trace is not None and _is_ours(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace))


def _innermost(error: BaseException) -> str:
    """Return file:line of the last frame that is the app's, or of the last of all."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_ours(frame.filename)]
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "its first line"


def _is_ours(filename: str) -> bool:
    return (
        filename.startswith("<frozen importlib")
        or os.path.dirname(os.path.abspath(filename)).startswith(_HERE)
        or filename == importlib.__file__
    )


def _signature_text(call: Any) -> str:
    try:
        return f": it takes {inspect.signature(call)}"
    except (ValueError, TypeError):
        return ""


def _article(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def _list(names: list[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
