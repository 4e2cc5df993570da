"""Starting the supervisor in the background, once, however many commands want it at the same time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time

from oxherd.control.client import Client
from oxherd.control.paths import program_words
from oxherd.control.protocol import error_of
from oxherd.errors import NoSupervisorError, OxherdError, ProtocolError, SystemFault
from oxherd.system.identity import lock_holder
from oxherd.system.notify import SERVICE_VARIABLES
from oxherd.system.subreaper import subreaper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from oxherd.control.paths import Home

__all__ = [
    "Nascent",
    "call_back",
    "daemon_command",
    "ensure_supervisor",
    "nascent",
    "wait_for_session",
    "wait_for_the_end",
]

# Seconds a supervisor gets to open its socket. It takes about 40 ms; a machine that swaps takes longer.
_READY_SECONDS = 15.0

# The code of the error with which a supervisor says that another one holds the lock of its home.
_RUNNING_ALREADY = "OX430"

_LOG_LINES = 10


def daemon_command(*arguments: str) -> list[str]:
    """Return the command line of a supervisor, for a process that is a subreaper already.

    ``-P`` keeps the caller's directory out of ``sys.path``: a ``json.py`` beside an oxfile is no business of ours.
    """
    return [sys.executable, "-P", *program_words(), *arguments]


class Nascent:
    """A supervisor that has been started and is loading itself: it touches nothing before it is told to begin.

    It takes as long to load as an oxfile to be read, so the two are done side by side. Closed, or left behind by a command
    that ends, it ends too.

    Args:
        home: Its home, the directories of which are made.

    Raises:
        SystemFault: It cannot be started.
    """

    __slots__ = ("_home", "_process", "_socket")

    def __init__(self, home: Home) -> None:
        """Start it."""
        home.prepare()
        self._home = home
        self._socket, theirs = socket.socketpair()
        # Not first in the child, where only what is loaded already may be used.
        become = subreaper()
        try:
            with open(home.log, "ab", opener=_private) as log:
                process = subprocess.Popen(
                    daemon_command("--ready-fd", str(theirs.fileno())),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                    cwd="/",
                    env=_environment(os.environ),
                    preexec_fn=become,  # noqa: PLW1509 - one thread, which waits; an interpreter in between costs 60 ms
                )
        except OSError as error:
            self._socket.close()
            raise SystemFault(
                f"cannot start the supervisor: {error.strerror}: {error.filename or sys.executable}",
                hint="oxherd doctor looks at the directories and limits",
                code="OX620",
            ) from error
        finally:
            theirs.close()
        self._process = process

    def begin(self) -> Client:
        """Tell it to begin, and connect to it when it is ready.

        Raises:
            SystemFault: It does not come up; the end of its log is in the text.
            OxherdError: What the supervisor itself said.
        """
        # It outlives this process on purpose; without a code the destructor would warn of a child left behind.
        self._process.returncode = 0
        try:
            with contextlib.suppress(OSError):  # it has ended; what it said is read all the same
                self._socket.send(b"\n")
            _wait_ready(self._home, self._socket)
        finally:
            self.close()
        return _connect(self._home)

    def close(self) -> None:
        """Have no more to do with it; one that has not begun has ended then. Idempotent."""
        self._socket.close()
        self._process.wait()


def nascent(home: Home) -> Nascent | None:
    """Start the supervisor that a command will most likely need, before it knows; None where it will not, or cannot."""
    if os.path.lexists(home.socket):
        return None
    try:
        return Nascent(home)
    except OxherdError:
        return None  # whoever needs it will hear why


def ensure_supervisor(home: Home, early: Nascent | None = None) -> Client:
    """Return a connection to the background supervisor of ``home``, which is started if there is none.

    Of two callers at the same time both start one; the lock of the home lets one live, and both connect to it.

    Args:
        home: Its home.
        early: One that has been started already, and is told to begin if there is no other.

    Raises:
        SystemFault: It could not be started; the end of its log is in the text.
        OxherdError: What the supervisor itself said.
    """
    try:
        return Client.connect(home)
    except NoSupervisorError:
        return (early or Nascent(home)).begin()


def call_back(home: Home, lock: int) -> Client | None:
    """Have a supervisor that nobody can reach listen again, and connect to it.

    It holds its lock, so it runs; SIGHUP makes it look whether its socket is still there.

    Args:
        home: Its home.
        lock: Its lock file, open.

    Returns:
        The connection, or None where no supervisor holds the lock (any more) or it does not come back.
    """
    deadline = time.monotonic() + _READY_SECONDS
    called = 0
    while (holder := lock_holder(lock)) and time.monotonic() < deadline:
        if holder != called:
            home.prepare()
            try:
                os.kill(holder, signal.SIGHUP)
            except OSError:
                return None
            called = holder
        try:
            return Client.connect(home)
        except NoSupervisorError:
            time.sleep(0.01)
    return None


def wait_for_the_end(home: Home) -> None:
    """Wait until the supervisor that has just answered its last request is gone, socket and all.

    It holds the lock of its home as long as it lives, so waiting for the lock is waiting for its end.
    """
    try:
        fd = os.open(home.lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
    finally:
        os.close(fd)


def wait_for_session(home: Home, before: str) -> dict[str, object]:
    """Wait until the supervisor has become another version of itself; return what it says of itself then.

    It keeps its socket, which queues whoever connects meanwhile: the wait is for its answer.

    Raises:
        SystemFault: It does not come back.
    """
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        try:
            with Client.connect(home) as client:
                facts = client.request("ping", timeout=_READY_SECONDS)
            if facts.get("session") != before:
                return facts
        except (NoSupervisorError, ProtocolError):
            # It has hung up in the middle of the exec.
            facts = {}
        if time.monotonic() > deadline:
            raise _start_fault(home, "it did not answer after its upgrade")
        time.sleep(0.01)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _wait_ready(home: Home, ready: socket.socket) -> None:
    """Read what the supervisor says of itself: ready, or an error.

    Raises:
        OxherdError: The error.
    """
    said = bytearray()
    deadline = time.monotonic() + _READY_SECONDS
    while not said.endswith(b"\n"):
        readable, _, _ = select.select([ready], [], [], max(0.0, deadline - time.monotonic()))
        if not readable:
            raise _start_fault(home, f"it was not ready after {_READY_SECONDS:g} s")
        try:
            data = ready.recv(65536)
        except ConnectionResetError:
            data = b""  # it has ended without having read that it may begin
        if not data:
            raise _start_fault(home, "it ended at once")
        said += data
    try:
        message = json.loads(said)
    except ValueError:
        message = None
    if not isinstance(message, dict) or not message.keys() & {"ready", "error"}:
        raise _start_fault(home, "it said something else than that it is ready")
    error = message.get("error")
    if error is not None and not (isinstance(error, dict) and error.get("code") == _RUNNING_ALREADY):
        raise error_of(error)


def _connect(home: Home) -> Client:
    """Connect to the supervisor that is ready, or to the one that was quicker and may not listen yet."""
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        try:
            return Client.connect(home)
        except NoSupervisorError:
            if time.monotonic() > deadline:
                raise _start_fault(home, "nothing listens on its socket") from None
            time.sleep(0.01)


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the supervisor's own environment; its processes get the caller's, which travels with the request."""
    # A deployment that is itself a service of systemd must not have a supervisor in the background speak for it.
    env = {name: value for name, value in environ.items() if name not in SERVICE_VARIABLES}
    if env.get("OXHERD_HOME"):
        # The supervisor starts in /, where a relative path would mean something else.
        env["OXHERD_HOME"] = os.path.abspath(env["OXHERD_HOME"])
    return env


def _start_fault(home: Home, reason: str) -> OxherdError:
    try:
        with open(home.log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 8192))
            tail = file.read().decode("utf-8", "replace").splitlines()[-_LOG_LINES:]
    except OSError:
        tail = []
    text = "".join(f"\n    | {line}" for line in tail)
    return SystemFault(f"the supervisor did not start: {reason}{text}", hint=f"its log is {home.log}", code="OX621")
