"""Which oxfile and which supervisor a command is about.

Part of the quick path of ``status``: nothing slow is imported unless there is something to do about it.
"""

from __future__ import annotations

import os

from oxherd import jsons as json
from oxherd.control.client import Client
from oxherd.control.paths import stack_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from oxherd.control.paths import Home

__all__ = [
    "OXFILE",
    "UNKNOWN_STACK",
    "absolute",
    "connect",
    "every_supervisor",
    "foreground_of",
    "oxfile_here",
    "reach",
    "shown",
    "supervisor_died",
    "wanted_stacks",
]

OXFILE = "oxfile.toml"

# The code of the error by which a supervisor says that it was never told about a stack.
UNKNOWN_STACK = "OX210"


def absolute(path: str) -> str:
    """Return the oxfile that ``--config`` means: a directory stands for the oxfile in it."""
    path = os.path.abspath(path)
    return os.path.join(path, OXFILE) if os.path.isdir(path) else path


def shown(path: str) -> str:
    """Return a path as a person here would write it: ``oxfile.toml`` for the one of this directory."""
    try:
        folder = os.getcwd()
    except FileNotFoundError:  # the directory was removed under our feet
        return path
    return path[len(folder) + 1 :] if path.startswith(f"{folder}/") else path


def oxfile_here() -> str | None:
    """Return the oxfile of the current directory, or None."""
    try:
        path = os.path.join(os.getcwd(), OXFILE)
    except FileNotFoundError:  # the directory was removed under our feet
        return None
    return path if os.path.isfile(path) else None


def wanted_stacks(home: Home) -> list[str]:
    """Return the paths of the stacks that a supervisor of this home would bring up."""
    wanted = []
    root = os.path.join(home.state, "stacks")
    for name in sorted(os.listdir(root)) if os.path.isdir(root) else ():
        try:
            with open(os.path.join(root, name, "stack.json"), "rb") as file:
                record = json.loads(file.read())
        except (OSError, ValueError, RecursionError):
            continue  # the supervisor reports and sets aside what it cannot read
        if isinstance(record, dict) and record.get("wanted") is True:
            wanted.append(str(record.get("path", name)))
    return wanted


def supervisor_died(home: Home) -> bool:
    """Whether a supervisor ended without meaning to, with something wanted up or still on its way down.

    One that is told to stop removes its socket; a socket file that nobody answers on was left by one that was killed.
    """
    return os.path.exists(home.socket) and (bool(wanted_stacks(home)) or _left_running(home))


def _left_running(home: Home) -> bool:
    """Whether something that is not wanted any more may run on with nobody to see to its end."""
    from oxherd.daemon.journal import latest_records  # noqa: PLC0415 - only where no supervisor answers

    try:
        with open(os.path.join(home.state, "instances.jsonl"), "rb") as file:
            pids = [record.get("pid") for record in latest_records(file).values()]
    except OSError:
        return False
    # The supervisor that is started for it looks whether the pid still is what it was.
    return any(isinstance(pid, int) and os.path.exists(f"/proc/{pid}") for pid in pids)


def reach(home: Home) -> Client:
    """Connect to the supervisor in the background; none is started.

    Raises:
        NoSupervisorError: There is none.
        SystemFault: It belongs to somebody else.
    """
    try:
        return Client.connect(home)
    except Exception as error:
        if getattr(error, "exit_code", None) != 3 or (client := _found_again(home)) is None:  # 3: nobody listens
            raise
        return client


def _found_again(home: Home) -> Client | None:
    """Connect to a supervisor that runs although nobody listens: its socket, or the directory of it, was removed."""
    try:
        fd = os.open(home.lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        from oxherd.cli.bootstrap import call_back  # noqa: PLC0415 - rare, and not quick

        return call_back(home, fd)
    finally:
        os.close(fd)


def connect(home: Home, stack: str | None = None) -> Client:
    """Connect to the supervisor that has ``stack``: that of an ``oxherd run``, or the one in the background.

    If the one in the background died with stacks wanted up, a new one is started, which adopts them.

    Raises:
        NoSupervisorError: There is none.
        SystemFault: It belongs to somebody else, or a new one could not be started.
    """
    if stack is not None and (client := foreground_of(home, stack)) is not None:
        return client
    try:
        return reach(home)
    except Exception as error:
        if getattr(error, "exit_code", None) != 3 or not supervisor_died(home):  # 3: nobody listens
            raise
    from oxherd.cli.bootstrap import ensure_supervisor  # noqa: PLC0415 - rare, and not quick

    return ensure_supervisor(home)


def every_supervisor(home: Home, stacks: Sequence[str] = ()) -> Iterator[tuple[str | None, Client]]:
    """Connect to the supervisors of ``stacks``, or to all there are; each comes with the stack it is asked for.

    Raises:
        NoSupervisorError: (when the iteration gets there) there is none for a stack, or none at all.
    """
    if stacks:
        for stack in stacks:
            yield stack, connect(home, stack)
        return
    found = 0
    try:
        runtime = sorted(os.listdir(home.runtime))
    except OSError:
        runtime = []  # not there, or not ours to read: connecting below says which
    for name in runtime:
        if name.startswith("run-") and name.endswith(".sock"):
            client = _foreground(home, os.path.join(home.runtime, name))
            if client is not None:
                found += 1
                yield None, client
    try:
        client = connect(home)
    except Exception as error:
        if getattr(error, "exit_code", None) != 3 or not found:
            raise
    else:
        yield None, client


def foreground_of(home: Home, stack: str) -> Client | None:
    """Connect to the supervisor of the ``oxherd run`` of this stack, if there is one."""
    return _foreground(home, home.run_socket(stack_id(stack)))


def _foreground(home: Home, path: str) -> Client | None:
    """Connect to the supervisor of an ``oxherd run``, if it lives."""
    if not os.path.exists(path):
        return None
    try:
        return Client.connect(home, socket_path=path)
    except Exception as error:
        if getattr(error, "exit_code", None) != 3:
            raise
        return None
