"""The supervisor's view of one program that was passed its listeners: its private listener, and whether it accepts yet.

A program is an incarnation like any other; pid, pipes and end belong to the instance. This is what only one with passed
listeners has. It decides nothing.
"""

from __future__ import annotations

import os
import socket

from oxherd.system.listeners import close_private, open_private, queue_length, within_reach

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["PassedHandle"]

# sun_path holds 108 bytes with its end, unix(7).
_PATH_MAX = 107
_FOR_ALL = "/tmp"  # noqa: S108 - a folder of its own is made in it


class PassedHandle:
    """What belongs to one program with passed listeners beside its process.

    Args:
        sockets: The listeners it was given; they belong to the process.

    Attributes:
        sockets: The same.
        private: Path of the socket its own health checks go to, or "".
        accepts: Whether it has begun to accept, as far as that can be told.
        sized: Whether the queues have been given back the length they are to have.
    """

    __slots__ = ("_caller", "_folder", "_listener", "accepts", "private", "sized", "sockets")

    def __init__(self, sockets: Iterable[socket.socket]) -> None:
        """Have no private listener yet."""
        self.sockets = tuple(sockets)
        self.private = ""
        self.accepts = False
        self.sized = False
        self._listener: socket.socket | None = None
        self._folder = ""
        self._caller: socket.socket | None = None

    @property
    def inodes(self) -> list[int]:
        """What its listeners are known by in every process that has them."""
        return [os.fstat(sock.fileno()).st_ino for sock in self.sockets]

    @classmethod
    def again(cls, sockets: Iterable[socket.socket], private: str) -> PassedHandle:
        """Return the handle of a program that another supervisor has started, and that has long begun to accept.

        Args:
            sockets: The listeners it was given.
            private: Path of its private listener, or "".
        """
        self = cls(sockets)
        self.private = private
        self.accepts = self.sized = True
        folder = os.path.dirname(private)
        if folder.startswith(f"{_FOR_ALL}/oxherd-"):
            self._folder = folder
        return self

    # -- the private listener -----------------------------------------------------------------------------------

    def open(self, directory: str, name: str) -> int:
        """Make a private listener for a program that takes it as a descriptor, and return that.

        Args:
            directory: Where its file is; only the supervisor can enter it.
            name: The file's name, unique in the directory.

        Raises:
            ListenError: It cannot be made.
        """
        self._listener, self.private = open_private(directory, name)
        return self._listener.fileno()

    def reserve(self, directory: str, name: str, owner: tuple[int, int] | None) -> str:
        """Return a path where the program itself will make its private listener.

        It is in a folder of its own below ``/tmp`` where the program could not enter the supervisor's directory, or
        where that makes the path longer than the address of a unix socket can be.

        Args:
            directory: The supervisor's own directory for such files.
            name: A name nobody has in that directory.
            owner: User and group the program runs as; None where they are the supervisor's own.

        Raises:
            OSError: No room for it can be made.
        """
        path = os.path.join(directory, name)
        if owner is not None or len(os.fsencode(path)) > _PATH_MAX:
            # mkdir(2) fails where anything is in its place, so nobody can have prepared it.
            folder = os.path.join(_FOR_ALL, f"oxherd-{name}")
            os.mkdir(folder, mode=0o700)
            self._folder = folder
            if owner is not None:
                os.chown(folder, *owner)
            path = os.path.join(folder, name)
        self.private = path
        return path

    def answers(self) -> bool | None:
        """Whether the program has accepted a connection on its private listener; the first call makes one.

        None where there is no private listener to ask, or the kernel does not tell.
        """
        if self._listener is None:
            return None
        if self._caller is None:
            self._caller = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._caller.setblocking(False)
            try:
                with within_reach(self.private) as short:
                    self._caller.connect(short)
            except OSError:
                self._hang_up()
                return False
            return False
        left = queue_length(self._listener)
        if left is None:
            return None
        if left == 0:
            self._hang_up()
        return left == 0

    def _hang_up(self) -> None:
        if self._caller is not None:
            self._caller.close()
            self._caller = None

    def close(self) -> None:
        """Give everything back that is not the process's; idempotent."""
        self._hang_up()
        if self._listener is not None:
            close_private(self._listener, self.private)
            self._listener = None
        elif self.private:
            _remove(self.private)
        if self._folder:
            _remove_folder(self._folder)
            self._folder = ""
        self.private = ""


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _remove_folder(path: str) -> None:
    try:
        os.rmdir(path)
    except OSError:  # the program has put something of its own there
        return
