"""Whose something is: the texts of a refusal, and the user at the other end of a unix socket.

Part of the quick path of ``oxherd status``: what is needed for an error only is imported when there is one.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Peer(Protocol):
        """A connected unix socket: ``socket.socket``, or its C half."""

        def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
            """Return an option's bytes."""


__all__ = ["as_owner", "owner_of", "peer_uid", "user_text"]

# struct ucred is pid, uid, gid, four bytes each.
_UCRED = 12


def peer_uid(connection: Peer) -> int | None:
    """Return the uid at the other end of a connected unix socket, or None where the system does not tell; unix(7).

    Of a listener it is the user that called listen(2), of a client the one that called connect(2); nobody can claim to be
    somebody else.
    """
    import _socket  # noqa: PLC0415 - C, and imported by whoever has a socket

    option = getattr(_socket, "SO_PEERCRED", None)
    if option is None:
        return None
    credentials = connection.getsockopt(_socket.SOL_SOCKET, option, _UCRED)
    return int.from_bytes(credentials[4:8], sys.byteorder)


def owner_of(path: str) -> int | None:
    """Return the uid that a path belongs to, or the nearest directory above it that can be looked at."""
    while True:
        try:
            return os.stat(path).st_uid
        except OSError:
            above = os.path.dirname(path)
            if above == path:
                return None
            path = above


def user_text(uid: int) -> str:
    """Return ``alice (uid 1000)``, or ``uid 1000`` where the machine knows no name."""
    name = _name(uid)
    return f"{name} (uid {uid})" if name else f"uid {uid}"


def as_owner(uid: int) -> str:
    """Return the hint of a refusal: how to command what belongs to another user."""
    name = _name(uid)
    sudo = "sudo" if uid == 0 else f"sudo -u {name}"
    who = f"{name}: {sudo} oxherd ..." if name else f"that user: sudo -u '#{uid}' oxherd ..."
    return f"run oxherd as {who}; or set OXHERD_HOME to a directory of your own"


def _name(uid: int) -> str:
    import pwd  # noqa: PLC0415 - see the head of this module

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""
