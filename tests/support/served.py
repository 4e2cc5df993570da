"""Every way the loss suite has its apps served, and which kind of loss each cannot avoid: the table of tests and docs.

``docs/reference/lossless.md`` is written from it, so that what the docs admit is what the tests excuse, and nothing else;
``python -m support.served`` in ``tests/`` prints it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["SERVED", "Limit", "Served", "markdown"]


@dataclass(frozen=True, kw_only=True)
class Limit:
    """What a server cannot do.

    Attributes:
        kinds: The kinds of traffic it is about.
        outcomes: What becomes of them, of `Outcome`; empty where they are not served at all, so that none are sent.
        closes: Ends of connections that happen without a loss, of `Closed`.
        what, why: For the docs: what is lost or not sent, and why.
    """

    kinds: frozenset[str] = frozenset()
    outcomes: frozenset[str] = frozenset()
    closes: frozenset[str] = frozenset()
    what: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Served:
    """One way to serve.

    Attributes:
        name: For test ids.
        title: For the docs.
        oxfile: Lines of ``[processes.web]``, with {port} and {workers}.
        interface: asgi or wsgi.
        workers: How many there are.
        scales: Whether `oxherd scale` changes their number.
        hosted: Whether they are Oxherd's own workers, which it can recycle, kill and look into one by one.
        load: How its load differs.
        limits: What it cannot do.
    """

    name: str
    title: str
    oxfile: str
    interface: str = "asgi"
    workers: int = 2
    scales: bool = True
    hosted: bool = True
    load: dict[str, object] = field(default_factory=dict)
    limits: tuple[Limit, ...] = ()

    def lines(self, port: int) -> str:
        """Return its lines of the oxfile."""
        return self.oxfile.format(port=port, workers=self.workers)

    def traffic(self) -> dict[str, object]:
        """Return what of the load it can be sent."""
        left_out = {kind: 0 for limit in self.limits if not limit.outcomes for kind in limit.kinds}
        return {**self.load, **left_out}

    def excused(self, kind: str, outcome: str) -> bool:
        """Whether the table admits that a request of this kind ends like this."""
        return any(kind in limit.kinds and outcome in limit.outcomes for limit in self.limits)

    def closes(self, how: str) -> bool:
        """Whether the table admits that a connection ends like this."""
        return how == "polite" or any(how in limit.closes for limit in self.limits)


NO_WEBSOCKETS = Limit(kinds=frozenset({"websocket"}), what="websockets are not served", why="WSGI has none")
ONE_AT_A_TIME = Limit(
    kinds=frozenset({"silent", "stream"}),
    what="connections that are silent at first, and long streams, are not tested",
    why="a sync worker serves one connection at a time: whoever says nothing keeps a worker from all others, with or "
    "without a reload",
)
# One connection can lose one request a reload, its last; `Scene` insists on that.
_KEPT = frozenset({"busy", "idle", "slow", "post", "stream"})
NO_WARNING = Limit(
    kinds=_KEPT,
    outcomes=frozenset({"reset-reused-idle"}),
    closes=frozenset({"idle", "silent"}),
    what="the request that comes on a kept connection in the moment the old program closes it",
    why="only the program itself could say `Connection: close`, and it does not. Oxherd takes its listener from it, so that "
    "nothing new comes, and waits until its connections are done; one that is never done meets the end of "
    "`graceful_timeout`",
)
HYPERCORN_WEBSOCKETS = Limit(
    kinds=frozenset({"websocket"}),
    outcomes=frozenset({"reset-mid-response", "wrong-status"}),
    what="websockets end without a close frame, or with 1011",
    why="that is how hypercorn ends them; hosted by Oxherd (`app =`) it closes them with 1012",
)
HYPERCORN_IN_FLIGHT = Limit(
    kinds=_KEPT,
    outcomes=frozenset({"reset-mid-response"}),
    what="what is in flight at the end of `graceful_timeout` on all workers but the one that is done first",
    why="as soon as one of its workers has ended, hypercorn sends the others SIGTERM, which they do not handle; hosted by "
    "Oxherd (`app =`) each finishes what it has",
)
DAPHNE_IN_FLIGHT = Limit(
    kinds=_KEPT | {"websocket"},
    outcomes=frozenset({"reset-reused-idle", "reset-mid-response"}),
    what="what is in flight at the end of `graceful_timeout`, websockets among it",
    why="daphne ends at once when it is told to; on connections that are kept busy something always is in flight",
)

_APP = 'app = "{app}"\nserver = "{server}"\nbind = "127.0.0.1:{{port}}"\nworkers = {{workers}}\nkeepalive = "5s"\n'
_THREADS = "server_options = {{ worker_class = 'gthread', threads = 24 }}\n"
# One connection at a time: few clients that ask slowly, or all there is to see is the queue.
_SYNC_LOAD: dict[str, object] = {"busy": 8, "idle": 8, "slow": 1, "slow_take": [0.1, 0.3], "post": 1}


def _app(app: str, server: str, more: str = "") -> str:
    return _APP.format(app=app, server=server) + more


SERVED = (
    Served(name="uvicorn", title="`app =`, uvicorn", oxfile=_app("asgi_app:app", "uvicorn")),
    Served(
        name="gunicorn-gthread",
        title="`app =`, gunicorn gthread",
        oxfile=_app("wsgi_app:app", "gunicorn", _THREADS),
        interface="wsgi",
        limits=(NO_WEBSOCKETS,),
    ),
    Served(
        name="gunicorn-sync",
        title="`app =`, gunicorn sync",
        oxfile=_app("wsgi_app:app", "gunicorn", "server_options = {{ worker_class = 'sync' }}\n"),
        interface="wsgi",
        workers=3,
        load=_SYNC_LOAD,
        limits=(NO_WEBSOCKETS, ONE_AT_A_TIME),
    ),
    Served(name="granian-asgi", title="`app =`, granian, ASGI", oxfile=_app("asgi_app:app", "granian")),
    Served(
        name="granian-wsgi",
        title="`app =`, granian, WSGI",
        oxfile=_app("wsgi_app:app", "granian", "server_options = {{ blocking_threads = 24 }}\n"),
        interface="wsgi",
        limits=(NO_WEBSOCKETS,),
    ),
    Served(name="hypercorn", title="`app =`, hypercorn", oxfile=_app("asgi_app:app", "hypercorn")),
    Served(
        name="uvicorn-command",
        title="`uvicorn … --workers 4`",
        oxfile='command = "uvicorn main:app --host 127.0.0.1 --port {port} --workers {workers}"\n',
        workers=4,
    ),
    Served(
        name="gunicorn-command",
        title="`gunicorn … --threads 24`",
        oxfile='command = "gunicorn wsgi_app:app -b 127.0.0.1:{port} --workers {workers} --threads 24 --keep-alive 5"\n',
        interface="wsgi",
        limits=(NO_WEBSOCKETS,),
    ),
    Served(
        name="gunicorn-uvicorn-worker-command",
        title="`gunicorn … -k uvicorn_worker.UvicornWorker`",
        oxfile='command = "gunicorn main:app -k uvicorn_worker.UvicornWorker -b 127.0.0.1:{port} -w {workers} --keep-alive 5"\n',
    ),
    Served(
        name="hypercorn-command",
        title="`hypercorn …`",
        oxfile='command = "hypercorn main:app --bind 127.0.0.1:{port} --workers {workers}"\n',
        scales=False,
        hosted=False,
        limits=(NO_WARNING, HYPERCORN_IN_FLIGHT, HYPERCORN_WEBSOCKETS),
    ),
    Served(
        name="daphne-command",
        title="`daphne …`",
        oxfile='command = "daphne -b 127.0.0.1 -p {port} main:app"\n',
        workers=1,
        scales=False,
        hosted=False,
        limits=(NO_WARNING, DAPHNE_IN_FLIGHT),
    ),
)


def markdown() -> str:
    """Return the table of ``docs/concepts/lossless.md`` and its reasons."""
    reasons: list[Limit] = []
    rows = []
    for served in SERVED:
        said: dict[bool, list[str]] = {True: [], False: []}
        for limit in served.limits:
            if limit not in reasons:
                reasons.append(limit)
            said[bool(limit.outcomes)].append(f"({reasons.index(limit) + 1})")
        lost = " ".join(said[True]) or "nothing"
        rows.append(f"| {served.title} | {served.interface.upper()} | {lost} | {' '.join(said[False])} |")
    texts = (
        f"{number}. {limit.what[0].upper()}{limit.what[1:]}: {limit.why}." for number, limit in enumerate(reasons, 1)
    )
    return "\n".join(["| served by | | lost on purpose | not tested |", "|---|---|---|---|", *rows, "", *texts])
