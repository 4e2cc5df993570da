"""Oxfiles as they come with requests, made into specs: what has not changed since the last request is not made anew.

A command sends its whole stack, also where it is about one process of a thousand. To make a spec of what was sent takes most of
a millisecond, to see that it is the one of the last time some microseconds; and while it does either, the supervisor does
nothing else.
"""

from __future__ import annotations

from oxherd import jsons as json
from oxherd.config.codec import decode
from oxherd.config.model import Oxfile, ProcessSpec
from oxherd.records import replace

__all__ = ["Decoder"]


class Decoder:
    """Makes oxfiles of what `oxherd.config.codec.encode` has made of them."""

    def __init__(self) -> None:
        """Remember nothing yet."""
        self._known: dict[str, dict[bytes, ProcessSpec]] = {}

    def decode(self, table: dict[str, object]) -> Oxfile:
        """Return the oxfile; of a process that was sent just so the last time, the very spec of then.

        Raises:
            TypeError, ValueError, KeyError: It is not what `encode` makes.
        """
        processes = table.get("processes", [])
        if not isinstance(processes, list):
            raise TypeError(f"processes is no list: {processes!r:.60}")
        oxfile = decode(Oxfile, {**table, "processes": []})
        known = self._known.get(oxfile.path, {})
        now = {digest: known.get(digest) or decode(ProcessSpec, item) for digest, item in map(_digested, processes)}
        self._known[oxfile.path] = now
        return replace(oxfile, processes=tuple(now.values()))

    def forget(self, path: str) -> None:
        """A stack is known no more."""
        self._known.pop(path, None)


def _digested(item: object) -> tuple[bytes, dict[str, object]]:
    if not isinstance(item, dict):
        raise TypeError(f"not a process: {item!r:.60}")
    import _blake2  # noqa: PLC0415 - hashlib would load OpenSSL into the supervisor

    data = json.dumps(item, separators=(",", ":")).encode("utf-8", "surrogateescape")
    return _blake2.blake2b(data, digest_size=16).digest(), item
