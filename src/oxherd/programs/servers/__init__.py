"""How each server's command line becomes a `HostSpec`: one module a server, one table of all."""

from __future__ import annotations

from oxherd.programs.servers.uvicorn import read_uvicorn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from oxherd.programs.servers.line import Line

    Reader = Callable[[tuple[str, ...], Mapping[str, str], str], Line]

__all__ = ["reader_of"]


def reader_of(program: str) -> Reader | None:
    """Return what reads the command line of a recognised program, or None for a program that is no such server."""
    return _READERS.get(program)


_READERS: dict[str, Reader] = {
    "uvicorn": read_uvicorn,
}
