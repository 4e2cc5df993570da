"""Where a supervisor keeps its socket and its state.

``OXHERD_HOME`` puts everything below one directory. Otherwise root uses ``/run/oxherd`` and ``/var/lib/oxherd``, and a
user ``$XDG_RUNTIME_DIR/oxherd`` and ``$XDG_STATE_HOME/oxherd``.

`Home` is written out and the errors are imported late because ``dataclasses`` costs the quick path of ``oxherd
status`` 7 ms of its 20.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Home", "find_home", "program_words", "stack_id"]

# sun_path is 108 bytes with its NUL; unix(7). A home whose socket would not fit is refused before anything starts.
_SOCKET_PATH_MAX = 107


class Home:
    """The directories of one supervisor; a value, not to be changed.

    Attributes:
        runtime: Absolute directory of sockets and locks; gone after a reboot.
        state: Absolute directory of what is kept: wanted stacks, journal, logs.
    """

    __slots__ = ("runtime", "state")

    def __init__(self, *, runtime: str, state: str) -> None:
        """Name the two directories; nothing is created."""
        self.runtime = runtime
        self.state = state

    def __eq__(self, other: object) -> bool:
        """Two homes with the same directories are the same."""
        return isinstance(other, Home) and (self.runtime, self.state) == (other.runtime, other.state)

    def __hash__(self) -> int:
        """Hash by value."""
        return hash((self.runtime, self.state))

    def __repr__(self) -> str:
        """Name the directories."""
        return f"Home(runtime={self.runtime!r}, state={self.state!r})"

    @property
    def socket(self) -> str:
        """The control socket of the supervisor."""
        return os.path.join(self.runtime, "control.sock")

    @property
    def lock(self) -> str:
        """The file whose lock makes a supervisor the only one of its home.

        Beside the state, which is what two of them would fight over: the runtime directory can be removed below a
        supervisor that runs (at a logout, by a cleaner), and another XDG_RUNTIME_DIR is another one.
        """
        return os.path.join(self.state, "supervisor.lock")

    @property
    def log(self) -> str:
        """What the supervisor says of itself when it runs in the background."""
        return os.path.join(self.state, "supervisor.log")

    def stack(self, identity: str) -> str:
        """The state directory of one stack."""
        return os.path.join(self.state, "stacks", identity)

    def logs(self, identity: str) -> str:
        """The directory of one stack's own log files and of all its log indexes."""
        return os.path.join(self.stack(identity), "logs")

    def run_socket(self, identity: str) -> str:
        """The control socket of ``oxherd run`` for one stack, beside the background supervisor's."""
        return os.path.join(self.runtime, f"run-{identity}.sock")

    @property
    def spool(self) -> str:
        """The directory of log lines that are on their way."""
        return os.path.join(self.runtime, "spool")

    def run_spool(self, identity: str) -> str:
        """The same for ``oxherd run`` of one stack."""
        return os.path.join(self.runtime, f"run-{identity}.spool")

    def run_lock(self, identity: str) -> str:
        """The file whose lock makes an ``oxherd run`` the only one of its stack."""
        return os.path.join(self.state, f"run-{identity}.lock")

    def path_fault(self) -> Exception | None:
        """Return the error of a home whose path leaves no room for a socket's name, or None."""
        if len(os.fsencode(self.run_socket("0" * 12))) <= _SOCKET_PATH_MAX:
            return None
        from oxherd.errors import SystemFault  # noqa: PLC0415 - see the head of this module

        return SystemFault(
            f"the path {self.runtime} is too long for a unix socket ({_SOCKET_PATH_MAX} bytes with the socket's name)",
            hint="set OXHERD_HOME to a shorter directory",
            code="OX601",
        )

    def prepare(self) -> None:
        """Make the directories, only for their owner.

        Raises:
            SystemFault: A directory cannot be made, belongs to somebody else or lies in a directory of somebody else, or
                its path is too long for a socket.
        """
        fault = self.path_fault()
        if fault is not None:
            raise fault
        for directory in (self.runtime, self.state):
            _private_directory(directory)

    def refuse_foreign(self) -> None:
        """Refuse a home of another user, before anything is read or run on its behalf.

        Root may look at and stop what belongs to others. To start something it would read their oxfile and env_files,
        ask their interpreters and hand over its own environment, all with its own rights: their owner does that.

        Raises:
            SystemFault: A directory of the home is there and belongs to somebody else.
        """
        for directory in (self.runtime, self.state):
            try:
                owner = os.lstat(directory).st_uid
            except OSError:
                continue  # not there, or not to be looked at: whoever needs it will say so
            if owner != os.geteuid():
                raise _foreign_home(directory, owner)


def _private_directory(path: str) -> None:
    from oxherd.errors import SystemFault  # noqa: PLC0415 - see the head of this module

    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        status = os.lstat(path)
    except OSError as error:
        raise SystemFault(
            f"cannot make the directory {path}: {error.strerror}",
            hint="set OXHERD_HOME to a directory you may write to",
            code="OX602",
        ) from error
    if stat.S_ISDIR(status.st_mode) and status.st_uid != os.geteuid():
        raise _foreign_home(path, status.st_uid)
    if not stat.S_ISDIR(status.st_mode):
        raise SystemFault(
            f"{path} is not a directory",
            hint="remove it, or set OXHERD_HOME to a directory of your own",
            code="OX604",
        )
    _check_parent(path)
    if stat.S_IMODE(status.st_mode) & 0o077:
        os.chmod(path, 0o700)


def _foreign_home(path: str, owner: int) -> Exception:
    from oxherd.control.ownership import as_owner, user_text  # noqa: PLC0415 - see the head of this module
    from oxherd.errors import SystemFault  # noqa: PLC0415 - see the head of this module

    return SystemFault(
        f"{path} belongs to {user_text(owner)}: what runs there is not yours to command",
        hint=as_owner(owner),
        code="OX603",
    )


def _check_parent(path: str) -> None:
    """Refuse a directory that its neighbours could take away and put another one in its place, such as /tmp/oxherd-1000
    that somebody else made first.

    Root is not refused: a container's volume may well belong to a user of the host. `oxherd doctor` says it.
    """
    parent = os.path.dirname(path)
    status = os.stat(parent)
    foreign = status.st_uid not in {0, os.geteuid()}
    open_to_all = status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX
    if os.geteuid() == 0 or not (foreign or open_to_all):
        return
    from oxherd.control.ownership import user_text  # noqa: PLC0415 - see the head of this module
    from oxherd.errors import SystemFault  # noqa: PLC0415 - see the head of this module

    who = user_text(status.st_uid) if foreign else "everybody"
    raise SystemFault(
        f"{path} is not safe: {who} may replace it, since {parent} "
        f"{f'belongs to {who}' if foreign else 'is writable by all'}",
        hint="set OXHERD_HOME (or XDG_RUNTIME_DIR) to a directory of your own",
        code="OX605",
    )


def find_home(environ: Mapping[str, str]) -> Home:
    """Return the directories that apply to this user and environment; nothing is created."""
    home = environ.get("OXHERD_HOME")
    if home:
        base = os.path.abspath(home)
        return Home(runtime=os.path.join(base, "run"), state=os.path.join(base, "state"))
    uid = os.geteuid()
    if uid == 0:
        return Home(runtime="/run/oxherd", state="/var/lib/oxherd")
    runtime = environ.get("XDG_RUNTIME_DIR") or f"/tmp/oxherd-{uid}"  # noqa: S108 - ownership is checked by prepare()
    state = environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return Home(runtime=os.path.join(runtime, "oxherd"), state=os.path.join(state, "oxherd"))


def program_words() -> list[str]:
    """Return what an interpreter has to be told to run the supervisor's program.

    By its path where there is one: what ``-m`` needs to find a module would stay in the supervisor's memory. And without ``site``,
    which runs what any package of the environment wants to run in each interpreter; see `oxherd.deferred.site_when_needed`.
    """
    program = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "daemon", "__main__.py")
    return ["-S", program] if os.path.isfile(program) else ["-m", "oxherd.daemon"]


def stack_id(path: str) -> str:
    """Return the identity of the stack that the oxfile at this absolute path describes: 12 hex digits."""
    import _blake2  # noqa: PLC0415 - hashlib would load OpenSSL into the supervisor

    return str(_blake2.blake2b(os.fsencode(path), digest_size=6).hexdigest())
