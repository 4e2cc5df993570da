"""How each server's command line becomes a `HostSpec`: one module a server, one table of all."""

from __future__ import annotations

from oxherd.programs.servers.granian import read_granian
from oxherd.programs.servers.gunicorn import read_gunicorn
from oxherd.programs.servers.passed import read_daphne, read_hypercorn
from oxherd.programs.servers.uvicorn import read_uvicorn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oxherd.programs.servers.reading import Line, Reading

    Reader = Callable[[Reading], Line]

__all__ = ["reader_of"]


def reader_of(program: str) -> Reader | None:
    """Return what reads the command line of a recognised program, or None for a program that is no such server."""
    return _READERS.get(program)


# A server without a row here is run as its command says.
_READERS: dict[str, Reader] = {
    "daphne": read_daphne,
    "granian": read_granian,
    "gunicorn": read_gunicorn,
    "hypercorn": read_hypercorn,
    "uvicorn": read_uvicorn,
}
