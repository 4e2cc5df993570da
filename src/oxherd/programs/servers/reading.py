"""What the reader of a server's command line is given, and what it makes of it."""

from __future__ import annotations

import os

from oxherd.config.model import HostWay
from oxherd.programs.program import Bind
from oxherd.records import dataclass, field, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from oxherd.config.model import HostSpec
    from oxherd.programs.describing import Description
    from oxherd.programs.footing import Footing

__all__ = ["Line", "Reading", "absolute_bind", "passed", "untouched"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One command line to be read.

    Attributes:
        args: The server's own arguments, without its name.
        head: What stands before them: the program, with whatever wraps it.
        environ: The variables the server would see.
        working_dir: The directory it would run in, absolute.
        socket: The address the oxfile gives it instead of its own, or None.
        footing: Where the server stands.
        describe: Asks the server itself what its configuration says; None where nobody can be asked.
    """

    args: tuple[str, ...]
    head: tuple[str, ...]
    environ: Mapping[str, str]
    working_dir: str
    socket: str | None
    footing: Footing
    describe: Callable[[], Description | None]

    def path(self, path: str | None) -> str | None:
        """Return a path made absolute, or None for None."""
        return None if path is None else os.path.normpath(os.path.join(self.working_dir, path))


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One command line, read.

    Attributes:
        why_not: Why it has to run as it is; "" where it is hosted or passed its listeners.
        fields: Fields of the `HostSpec` that it decides.
        workers: How many workers it asks for; None is as many as there are CPUs to use.
        workers_from: Where that number comes from: ``--workers 4``, ``WEB_CONCURRENCY``, or "" where it is a default.
        graceful: Seconds it gives requests in flight, where it says so.
        graceful_from: The option that says so.
        preload: Whether it asks for the app to be imported once; None where it says nothing of it.
        user, group: Whom it would become, where it says so.
        notes: What is different where it is hosted.
        otherwise: What is made of it where its Python is too old for Oxherd's workers, or None: it runs as it is.
    """

    why_not: str = ""
    fields: Mapping[str, object] = field(default_factory=dict)
    workers: int | None = 1
    workers_from: str = ""
    graceful: float | None = None
    graceful_from: str = ""
    preload: bool | None = None
    user: str | None = None
    group: str | None = None
    notes: tuple[str, ...] = ()
    otherwise: Line | None = None

    @property
    def way(self) -> HostWay:
        """How the server gets its listeners."""
        return HostWay.PASSED if self.fields.get("way") is HostWay.PASSED else HostWay.HOSTED

    def onto(self, base: HostSpec) -> HostSpec:
        """Return the hosting with what this line decides put in."""
        return replace(base, **self.fields)  # type: ignore[arg-type] # each reader fills in what fits


def untouched(reason: str) -> Line:
    """Return what is made of a command line that runs as it is."""
    return Line(why_not=reason)


def passed(
    reading: Reading, engine: str, args: tuple[str, ...], binds: tuple[str, ...], *, overlap: bool = True
) -> Line:
    """Return what is made of a server that runs by itself and gets its listeners as descriptors.

    Args:
        reading: Its command line.
        engine: Its name.
        args: Its arguments, with ``{fd:0}``, ``{private}`` and ``{private_path}`` where descriptors and paths go.
        binds: The addresses to hold for it.
        overlap: Whether an old and a new one may run side by side.
    """
    fields: dict[str, object] = {
        "way": HostWay.PASSED,
        "engine": engine,
        "argv": (*reading.head, *args),
        "bind": (reading.socket,) if reading.socket is not None else binds,
        "balance": "shared",
        "overlap": overlap,
    }
    return Line(fields=fields)


def absolute_bind(bind: Bind, working_dir: str) -> str:
    """Return an address as the supervisor holds it, with an absolute path."""
    if bind.path:
        return Bind(path=os.path.normpath(os.path.join(working_dir, bind.path))).text()
    return bind.text()
