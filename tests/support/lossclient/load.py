"""What traffic is wanted: how many clients of each kind, and how fast."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Load"]

Range = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The whole traffic of a run. Times in seconds; a range is drawn from evenly.

    Attributes:
        address: ``host:port`` or ``unix:/path``.
        busy, busy_think: Kept-alive connections that ask again almost at once.
        idle, idle_think: Kept-alive connections that ask seldom, but sooner than a server may close them.
        silent, silent_wait: Connections that say nothing for a while, then ask once.
        single, single_think: Connections for one request each, which says `Connection: close`.
        slow, slow_take, slow_think: Requests the server takes that long for.
        post, post_size, post_pieces, post_pause: Bodies that are sent in pieces.
        stream, stream_chunks, stream_size, stream_pause: Answers the server sends in pieces.
        websocket, websocket_think: Websockets that send a text and wait for its echo.
        rest: Pause between requests of the kinds that name none, and after a failure.
        timeout: A request that takes longer, what the server was asked to take left out, is a failure.
        seed: Of the client's randomness.
    """

    address: str
    busy: int = 32
    busy_think: Range = (0.005, 0.015)
    idle: int = 32
    idle_think: Range = (1.5, 3.0)
    silent: int = 8
    silent_wait: Range = (0.5, 3.0)
    single: int = 4
    single_think: Range = (0.01, 0.05)
    slow: int = 4
    slow_take: Range = (0.3, 1.0)
    slow_think: Range = (0.05, 0.2)
    post: int = 2
    post_size: int = 4096
    post_pieces: int = 4
    post_pause: Range = (0.005, 0.05)
    stream: int = 2
    stream_chunks: int = 10
    stream_size: int = 1024
    stream_pause: float = 0.03
    websocket: int = 2
    websocket_think: Range = (0.02, 0.1)
    rest: Range = (0.02, 0.06)
    timeout: float = 5.0
    seed: int = 1

    @classmethod
    def parse(cls, fields: dict[str, object]) -> Load:
        """Return the load of a JSON object; an unknown name is an error."""
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()})  # type: ignore[arg-type]

    def counts(self) -> dict[str, int]:
        """Return the number of clients of each kind there are any of."""
        kinds = ("busy", "idle", "silent", "single", "slow", "post", "stream", "websocket")
        return {kind: count for kind in kinds if (count := getattr(self, kind))}
