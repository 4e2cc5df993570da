"""The supervisor and its directories: owners, modes, room for a socket, the version that runs."""

from __future__ import annotations

import os
import stat

from oxherd import __version__
from oxherd.cli.checks.finding import ok, problem, warning
from oxherd.control.client import Client
from oxherd.errors import NoSupervisorError, OxherdError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from oxherd.cli.checks.finding import Examination, Finding
    from oxherd.control.paths import Home

__all__ = ["check_directories", "check_supervisor"]

# sun_path of sockaddr_un holds 108 bytes with the closing zero; unix(7).
_LONGEST_SOCKET = 107


def check_directories(examination: Examination) -> Iterator[Finding]:
    """Look at the runtime and the state directory; nothing is made."""
    home = examination.home
    longest = home.run_socket("0" * 12)
    if len(os.fsencode(longest)) > _LONGEST_SOCKET:
        yield problem(
            f"the path is too long for a unix socket: {len(os.fsencode(longest))} bytes, at most {_LONGEST_SOCKET}",
            where=home.runtime,
            advice="set OXHERD_HOME to a shorter directory",
        )
    for path in dict.fromkeys((home.runtime, home.state)):
        yield _directory(path, examination.euid)


def _directory(path: str, euid: int) -> Finding:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        parent = _existing_parent(path)
        if os.access(parent, os.W_OK | os.X_OK):
            return ok("will be made by the first start", where=path)
        return problem(
            f"cannot be made: {parent} is not writable",
            where=path,
            advice="set OXHERD_HOME to a directory you may write to",
        )
    except OSError as error:
        return problem(
            f"cannot be looked at: {error.strerror}", where=path, advice="set OXHERD_HOME to another directory"
        )
    if not stat.S_ISDIR(status.st_mode):
        return problem("is no directory", where=path, advice="remove it, or set OXHERD_HOME to another directory")
    if status.st_uid != euid:
        return problem(
            f"belongs to uid {status.st_uid}, and you are uid {euid}",
            where=path,
            advice="run oxherd as that user, or set OXHERD_HOME to a directory of your own",
        )
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        return warning(f"is open to others (mode {mode:04o})", where=path, advice=f"chmod 700 {path}")
    return ok(f"private (mode {mode:04o})", where=path)


def _existing_parent(path: str) -> str:
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def check_supervisor(examination: Examination) -> Iterator[Finding]:
    """Ask the supervisor for its version."""
    home: Home = examination.home
    try:
        with Client.connect(home) as client:
            answer = client.request("ping", timeout=5)
    except NoSupervisorError:
        yield ok("none is running; `oxherd start` starts one", where="supervisor")
        return
    except OxherdError as error:
        yield problem(error.message, where="supervisor", advice=error.hint)
        return
    version, pid = answer.get("version"), answer.get("pid")
    if version != __version__:
        yield warning(
            f"pid {pid} is version {version}, this command is version {__version__}",
            where="supervisor",
            advice="`oxherd daemon stop`, then `oxherd start`, when a short stop is acceptable",
        )
    else:
        yield ok(f"pid {pid} runs, version {version} like this command", where="supervisor")
