"""The socket that commands come to: made so that nobody else could ever connect to it, and told from any other.

It is one of ``_socket``, the C half of ``socket``, as that of the client is: the other half, which makes enums of every constant
that C has, is a fiftieth of the supervisor's memory.
"""

from __future__ import annotations

import _socket
import os

from oxherd.errors import SystemFault

__all__ = ["accept", "again", "inode", "listen"]


def listen(path: str) -> _socket.socket:
    """Return a listening socket at ``path`` that nobody else could ever connect to, not for an instant.

    Bound under another name with the final mode, then renamed: rename(2) replaces a stale socket in one step, and a
    client sees either the dead one or one that already listens.
    """
    temporary = os.path.join(os.path.dirname(path), f".{os.getpid()}")
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    previous = os.umask(0o177)
    try:
        listener.bind(temporary)
        listener.listen(_socket.SOMAXCONN)
        os.rename(temporary, path)
    except OSError as error:
        listener.close()
        raise SystemFault(
            f"cannot listen on {path}: {os.strerror(error.errno or 0) if error.errno else error}",
            hint="look at the directory's owner, mode and free space, or set OXHERD_HOME to another one",
            code="OX613",
        ) from error
    finally:
        os.umask(previous)
    listener.setblocking(False)
    return listener


def accept(listener: _socket.socket) -> _socket.socket:
    """Return the connection of the next client; see `socket.socket.accept` for what it raises."""
    fd, _ = listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001 - what the Python half calls
    return _socket.socket(fileno=fd)


def inode(path: str) -> int:
    """Return what tells a socket from another one at its path, or 0 if there is none."""
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0


def again(path: str, fd: int) -> _socket.socket:
    """Go on with a socket that listens already, unless its file is not there any more: then nobody would find it."""
    listener = _socket.socket(fileno=fd)
    if not os.path.exists(path):
        listener.close()
        return listen(path)
    listener.setblocking(False)
    return listener
