"""The engines as the contract suite knows them: how each is asked for, and what it cannot do, with the reason.

`docs/reference/engines.md` is written from this table; ``python -m support.engines`` in ``tests/`` prints it.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

__all__ = ["KINDS", "Feature", "Kind", "kinds", "page"]


class Feature(Enum):
    """What an engine may have or not; the value is how the documentation says it."""

    LIFESPAN = "lifespan startup, shutdown and state"
    DISCONNECT = "`http.disconnect` heard by the app"
    WEBSOCKETS = "websockets, closed with 1012 after the linger"
    PIECES = "an upload reaches the app piece by piece"
    KEEP_ALIVE = "keep-alive, ended after `keepalive`"
    SILENT = "silent connections answered during the linger"
    PARALLEL = "several requests at once in one worker"
    HTTP2 = "HTTP/2, by TLS and by prior knowledge"
    TLS = "TLS"
    PROXY = "proxy headers"
    GIVES_UP = "what takes longer than `graceful_timeout` is given up, exit 0"
    HURRY = "a second SIGTERM skips the linger"
    IN_FLIGHT_CLOSE = "an answer in flight at the drain says `Connection: close`"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """An engine with an interface, and with gunicorn a worker class."""

    name: str
    engine: str
    interface: str
    options: dict[str, Any] = field(default_factory=dict)
    proxy: dict[str, Any] | None = None
    cannot: dict[Feature, str] = field(default_factory=dict)
    shown: bool = True

    @property
    def target(self) -> str:
        return "serving:wsgi" if self.interface == "wsgi" else "serving:app"


_WSGI = {
    Feature.LIFESPAN: "WSGI has none",
    Feature.DISCONNECT: "WSGI has no way to say it",
    Feature.WEBSOCKETS: "WSGI has none",
}
_AS_IT_BEGAN = {Feature.IN_FLIGHT_CLOSE: "what has begun before the drain ends as it began; the next answer says it"}
_UVICORN = {Feature.HTTP2: 'experimental there (`http2 = true`, `http = "zttp"`) and not tested here'}
_GUNICORN = {Feature.HTTP2: "beta there and not tested here"}
_UVICORN_WORKER = {Feature.HTTP2: "uvicorn-worker has no option for it"}

KINDS = (
    Kind(name="uvicorn asgi", engine="uvicorn", interface="asgi", proxy={}, cannot=_UVICORN),
    # Where uvloop is not installed: asyncio's own loop accepts and closes in other ways.
    Kind(
        name="uvicorn asgi on asyncio",
        engine="uvicorn",
        interface="asgi",
        options={"loop": "asyncio"},
        proxy={},
        cannot=_UVICORN,
        shown=False,
    ),
    Kind(
        name="uvicorn wsgi",
        engine="uvicorn",
        interface="wsgi",
        proxy={},
        cannot={
            **_WSGI,
            **_UVICORN,
            Feature.GIVES_UP: "Python waits for a2wsgi's threads at its end; the stop timeout ends it then",
        },
    ),
    Kind(
        name="gunicorn gthread",
        engine="gunicorn",
        interface="wsgi",
        options={"worker_class": "gthread", "threads": 4},
        proxy={},
        cannot={**_WSGI, **_GUNICORN, **_AS_IT_BEGAN},
    ),
    Kind(
        name="gunicorn sync",
        engine="gunicorn",
        interface="wsgi",
        options={"worker_class": "sync"},
        proxy={},
        cannot={
            **_WSGI,
            **_GUNICORN,
            Feature.KEEP_ALIVE: "every answer closes its connection, by design",
            Feature.SILENT: "one connection at a time: others wait in the backlog, for the successor",
            Feature.PARALLEL: "one request at a time, by design",
            Feature.HURRY: "it waits for nobody but the one it serves",
        },
    ),
    Kind(
        name="gunicorn asgi",
        engine="gunicorn",
        interface="asgi",
        options={"worker_class": "asgi"},
        proxy={},
        cannot=_GUNICORN,
    ),
    Kind(
        name="gunicorn uvicorn-worker",
        engine="gunicorn",
        interface="asgi",
        options={"worker_class": "uvicorn_worker.UvicornWorker"},
        proxy={},
        cannot=_UVICORN_WORKER,
    ),
    Kind(
        name="granian asgi",
        engine="granian",
        interface="asgi",
        proxy={"proxy_headers": True},
        cannot=_AS_IT_BEGAN,
    ),
    Kind(name="granian wsgi", engine="granian", interface="wsgi", proxy={"proxy_headers": True}, cannot=_WSGI),
    Kind(name="hypercorn asgi", engine="hypercorn", interface="asgi", proxy={"proxy_headers": True}),
    Kind(
        name="hypercorn wsgi",
        engine="hypercorn",
        interface="wsgi",
        cannot={
            **_WSGI,
            Feature.PIECES: "the whole upload is read before the app is called, at most `wsgi_max_body_size` (16 MiB)",
            Feature.PROXY: "its middleware is for ASGI; use one of the app's",
        },
    ),
)


def kinds(*needed: Feature) -> list[Kind]:
    """Return the kinds that have all of these features, of the engines Oxherd hosts."""
    return [
        kind
        for kind in KINDS
        if importlib.util.find_spec(f"oxherd.host.engines.{kind.engine}") and not set(needed) & set(kind.cannot)
    ]


def page() -> str:
    """Return docs/reference/engines.md."""
    shown = [kind for kind in KINDS if kind.shown]
    lines = [
        "# Engines",
        "",
        "<!-- Written by tests/support/engines.py, from the table its tests run on. -->",
        "",
        "What each engine does for an app, and where one cannot, why. Everything that is not listed here is the same on",
        "all of them, and tested on all of them: listeners that come and go without a lost connection, `started` only",
        "after the app's own startup, the lame duck, exit codes, meters, stacks of a blocked worker.",
        "",
        "| | " + " | ".join(kind.name for kind in shown) + " |",
        "|---|" + "---|" * len(shown),
    ]
    reasons: list[str] = []
    for feature in Feature:
        cells = []
        for kind in shown:
            reason = kind.cannot.get(feature)
            if reason is None:
                cells.append("yes")
                continue
            if reason not in reasons:
                reasons.append(reason)
            cells.append(f"no ({reasons.index(reason) + 1})")
        lines.append(f"| {feature.value} | " + " | ".join(cells) + " |")
    lines += ["", *(f"{number}. {reason[0].upper()}{reason[1:]}." for number, reason in enumerate(reasons, 1)), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    print(page(), end="")
