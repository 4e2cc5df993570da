"""One connection of hypercorn's, and what can be told of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.protocol.h2 import H2Protocol

if TYPE_CHECKING:
    import asyncio

__all__ = ["Connection", "Server"]


class Server(TCPServer):  # type: ignore[misc]
    """Hypercorn's object for a connection."""

    async def _read_data(self) -> None:
        await super()._read_data()
        # Hypercorn keeps a connection whose client has hung up until the keep-alive timer fires. A drain would wait
        # for it, and the descriptor is needed.
        await self.idle_task.stop()


@dataclass(eq=False)
class Connection:
    """One accepted connection: hypercorn's object for it, and the task that serves it."""

    key: str
    server: Server
    task: asyncio.Task[None]
    told_to_go: float = 0.0

    @property
    def http2(self) -> Any:
        """Hypercorn's protocol where the connection speaks HTTP/2, else None."""
        # Not there before the connection's first step.
        protocol = getattr(getattr(self.server, "protocol", None), "protocol", None)
        return protocol if isinstance(protocol, H2Protocol) else None

    @property
    def busy(self) -> bool:
        """Whether a request is being answered, or a websocket is open."""
        if (http2 := self.http2) is not None:
            return not http2.idle
        protocol = getattr(getattr(self.server, "protocol", None), "protocol", None)
        return protocol is not None and protocol.stream is not None
