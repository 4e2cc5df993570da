"""Listeners that two processes of a stack claim: the supervisor can hold an address once."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from oxherd.config.model import ProcessSpec

__all__ = ["collisions", "overlap"]

_EVERYWHERE = frozenset({"", "0.0.0.0", "[::]", "*"})  # noqa: S104 - compared with, never bound


def collisions(specs: Iterable[ProcessSpec]) -> Iterator[tuple[ProcessSpec, str, str, str]]:
    """Yield each process that claims what an earlier one (or itself) has: it, its address, the other one and its address.

    Args:
        specs: The processes of a stack; those that are disabled claim nothing.
    """
    claimed: list[tuple[str, str]] = []
    for spec in specs:
        if spec.disabled or spec.host is None:
            continue
        for bind in spec.host.bind:
            other = next(((name, taken) for name, taken in claimed if overlap(bind, taken)), None)
            if other is not None:
                yield (spec, bind, *other)
            claimed.append((spec.name, bind))


def overlap(bind: str, other: str) -> bool:
    """Return whether two addresses cannot both be listened on: equal, or one port where a host is every address."""
    if bind.startswith("unix:") or other.startswith("unix:"):
        return bind == other
    host, _, port = bind.rpartition(":")
    other_host, _, other_port = other.rpartition(":")
    if port != other_port:
        return False
    hosts = {"127.0.0.1" if name.lower() == "localhost" else name.lower() for name in (host, other_host)}
    return len(hosts) == 1 or bool(hosts & _EVERYWHERE)
