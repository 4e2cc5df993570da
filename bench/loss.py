"""Lost requests of Oxherd and of plain servers, counted by the client of the loss suite: reload, recycle, crash, broken code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from frame.measure import WHETHER, Figure, Measure, Outcome
from loss_servers import KINDS, Kind
from loss_stories import STORIES

__all__ = ["PACKAGES", "measures"]

PACKAGES = ("oxherd", "uvicorn", "gunicorn", "uvicorn-worker", "granian", "hypercorn", "uvloop", "httptools")

# Of what a story counts: the figure, its unit, which way is better, and what it is. Every figure is of one round, as many
# reloads, kills or deploys as its story has.
MILLION = ("failures a million", "ppm", "less", "failed of all requests that ended in the story")
FAILED = ("failed", "requests", "less", "in the whole story")
REQUESTS = ("requests", "requests", "more", "that ended in the story: how much was at stake")
UNANNOUNCED = ("closed unannounced", "connections", "less", "without `Connection: close` in the last answer")
STALL = ("stall, ms", "ms", "less", "the longest time one request took")
GAP = ("gap, ms", "ms", "less", "the longest time in which nobody at all was answered")
SERVES = ("serves at the end", WHETHER, "more", "")
KEPT = ("old workers kept", WHETHER, "more", "no worker of the old release left")
NOTICED = (
    "exit code of the reload",
    "code",
    "more",
    "where reload is a command: not 0 says that the release is broken",
)
BROKEN = (FAILED, MILLION, REQUESTS, SERVES, KEPT, NOTICED, GAP)
RELOAD = (FAILED, MILLION, REQUESTS, UNANNOUNCED, STALL, GAP, ("seconds a reload", "s", "less", ""))
RECYCLE = (FAILED, MILLION, REQUESTS, UNANNOUNCED, STALL, GAP, ("workers seen", "workers", "more", ""))
CRASH = (
    ("in flight on the victim", "requests", "less", "nobody can answer these"),
    ("failed otherwise", "requests", "less", ""),
    GAP,
    ("kill to new worker, s", "s", "less", "until it has answered"),
    SERVES,
)
COLUMNS = {
    "reload": RELOAD,
    "reload, heavy app": RELOAD,
    "recycle": RECYCLE,
    "recycle, heavy app": RECYCLE,
    "crash": CRASH,
    "crash, heavy app": CRASH,
    "broken import": BROKEN,
    "broken import, heavy app": BROKEN,
    "broken startup": BROKEN,
}


HEAVY = ", heavy app"


def number(value: object) -> float | list[float] | None:
    """Return what a story says as numbers; None where it says nothing."""
    if isinstance(value, list):
        return [float(one) for one in value if one is not None] or None
    return None if value is None else float(value)  # type: ignore[arg-type]


def story(name: str, kind: Kind) -> Outcome:
    """Let one story happen to one server; return its figures by their names."""
    told = STORIES[name.partition(", ")[0]](kind).run()
    if "failed" in told and told["requests"]:
        told["failures a million"] = 1e6 * told["failed"] / told["requests"]  # type: ignore[operator]
    return {titled(name, column[0]): number(told.get(column[0])) for column in COLUMNS[name]}


def titled(name: str, key: str) -> str:
    """Return the name of the figure of what a story calls ``key``, which may end with its unit."""
    return f"{name}: {key.partition(', ')[0]}"


def heavy(kind: Kind) -> Kind:
    """Return the same server with the app that is heavy to import, which has nothing but short answers."""
    load = {"slow": 0, "post": 0, "stream": 0, "websocket": 0}
    return replace(kind, command=kind.command.replace("main:app", "heavy_app:app"), load={**kind.load, **load})


def peers(name: str) -> tuple[Kind, ...]:
    """Return to whom a story can happen."""
    able = [kind for kind in KINDS if kind.recycle or not name.startswith("recycle")]
    if name.endswith(HEAVY):
        return tuple(heavy(kind) for kind in able if not kind.wsgi)
    return tuple(kind for kind in able if not (name == "broken startup" and kind.wsgi))


def measures(*, quick: bool) -> list[Measure]:
    """Return the stories; quick: without recycling, which takes its minutes."""
    found = []
    for name, columns in COLUMNS.items():
        if quick and name.startswith("recycle"):
            continue
        run: Callable[[Kind], Outcome] = partial(story, name)
        figures = tuple(
            Figure(name=titled(name, title), unit=unit, better=better, about=about)  # type: ignore[arg-type]
            for title, unit, better, about in columns
        )
        found.append(Measure(name=name, figures=figures, peers=peers(name), run=run))
    return found
