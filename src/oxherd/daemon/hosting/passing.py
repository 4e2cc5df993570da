"""Programs that run by themselves and are passed their listeners: what they are started with, and when they accept.

The listeners are the process's and outlive every incarnation: what waits in their queues while a program is restarted is
served by the next one. They listen before the program is exec'd. Programs differ in whether they do that themselves, and
none minds that it is done already (listen(2) may be called again); whoever connects meanwhile waits instead of being refused.

That says nothing of the program, then: every generation shares the same sockets, and whoever asks one of them is answered by
any. So each incarnation gets a private listener beside them, where the program can take one. Without a health check of its
own it is ready when it has begun to accept, which is seen from outside (`oxherd.system.outside`), or when it has accepted a
connection that the supervisor made to its private listener.
"""

from __future__ import annotations

import os

from oxherd.core.instance import State
from oxherd.daemon.environment import substitute
from oxherd.daemon.handles import SETTLE
from oxherd.programs.hosting import private_endpoint, private_readiness
from oxherd.records import replace
from oxherd.system.listeners import parse_bind
from oxherd.system.passed_handle import PassedHandle

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from oxherd.config.model import HostSpec, ProcessSpec
    from oxherd.daemon.handles import InstanceHandle
    from oxherd.daemon.hosting.host import Host
    from oxherd.daemon.hosting.hosting import Hosting
    from oxherd.daemon.supervisor import Supervisor
    from oxherd.system.spawn import LaunchRequest

__all__ = ["Passing", "family", "others_live"]

# Seconds between two looks at a program that starts.
_PACE = 0.1


def family(supervisor: Supervisor, handle: InstanceHandle) -> list[int]:
    """Return the pids of an incarnation: its main process and everything below it; nothing where it has ended.

    Raises:
        OSError: There are no descriptors or no memory to look.
    """
    pid = handle.machine.pid
    return [] if pid is None else [pid, *supervisor.system.tree(pid)]


def others_live(handle: InstanceHandle) -> bool:
    """Whether a program of another instance of its process may be running."""
    return any(other is not handle and other.machine.alive for other in handle.process.everyone())


class Passing:
    """Starts programs with their listeners, and sees when they accept.

    Args:
        supervisor: Told when one is ready.
        hosting: Opens the listeners.
        directory: Where private listeners have their files.
    """

    def __init__(self, supervisor: Supervisor, hosting: Hosting, directory: str) -> None:
        """Nothing is passed."""
        self._supervisor = supervisor
        self._hosting = hosting
        self._directory = directory
        self._count = 0

    # -- the start ----------------------------------------------------------------------------------------------

    def outfit(self, handle: InstanceHandle, request: LaunchRequest) -> LaunchRequest:
        """Return a start with the listeners of its process in it; what else is made for it is in ``handle.passed``.

        Args:
            handle: The instance.
            request: Its start, as it would be without listeners.

        Raises:
            ListenError: An address cannot be had; says why, and who has it.
            OSError: There are no descriptors, or no room for a private listener.
        """
        spec = handle.spec
        assert spec.host is not None
        host = self._hosting.host(handle.process)
        self._hosting.open_listeners(host, handle)
        assert host.listeners is not None
        addresses = [parse_bind(text) for text in spec.host.bind]
        sockets = [sock for _, sock in host.listeners.of(handle.slot, addresses)]
        host.listeners.listen(handle.slot)
        self._set_blocking(handle, spec.host, sockets)
        handle.passed = PassedHandle(sockets)
        fds = tuple(sock.fileno() for sock in sockets)
        if not spec.host.argv:
            return replace(request, listen_fds=fds, listen_names=(spec.name,) * len(fds))
        return self._with_numbers(handle, handle.passed, request, fds)

    def _with_numbers(
        self, handle: InstanceHandle, passed: PassedHandle, request: LaunchRequest, fds: tuple[int, ...]
    ) -> LaunchRequest:
        """Return a start whose command line names the descriptors."""
        spec = handle.spec
        assert spec.host is not None
        words = spec.host.argv
        places = {f"{{fd:{index}}}": str(fd) for index, fd in enumerate(fds)}
        given = list(fds)
        if _mentions(words, "{private}"):
            private = passed.open(self._own_directory(), self._next_name())
            given.append(private)
            places["{private}"] = str(private)
        if _mentions(words, "{private_path}"):
            places["{private_path}"] = passed.reserve(self._own_directory(), self._next_name(), _owner(spec))
        argv = tuple(_filled(substitute(word, handle.slot), places) for word in words)
        return replace(request, argv=argv, pass_fds=tuple(given))

    def _own_directory(self) -> str:
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        return self._directory

    def _next_name(self) -> str:
        self._count += 1
        return f"{os.getpid():x}-p{self._count:x}"

    def _set_blocking(self, handle: InstanceHandle, host: HostSpec, sockets: Sequence[socket.socket]) -> None:
        """Hand the listeners over as the program expects them, unless others have them already.

        Who reads ``LISTEN_FDS`` may count on sockets that block, as systemd passes them (systemd.exec(5), NonBlocking=). It
        is a property of the socket, which all that have it share: nobody may change it below a program that runs.
        """
        if others_live(handle):
            return
        for sock in sockets:
            sock.setblocking(not host.argv)

    # -- readiness ----------------------------------------------------------------------------------------------

    def watch(self, handle: InstanceHandle) -> None:
        """A program was exec'd: see when it has begun to accept, unless its health check tells it better."""
        passed = handle.passed
        if passed is None:
            return
        if passed.private and (private_endpoint(handle.spec) or private_readiness(handle.spec)):
            passed.accepts = True
            return
        self._look(handle, passed, self._supervisor.loop.now())

    def _look(self, handle: InstanceHandle, passed: PassedHandle, since: float) -> None:
        if handle.passed is not passed or handle.machine.state is not State.STARTING:
            return
        if self._accepts(handle, passed, self._supervisor.loop.now() - since):
            passed.accepts = True
            self._supervisor.duties.ready(handle)
            return
        self._supervisor.loop.call_later(_PACE, lambda: self._look(handle, passed, since))

    def _accepts(self, handle: InstanceHandle, passed: PassedHandle, waited: float) -> bool:
        """Whether it accepts, as far as that can be told after so many seconds."""
        assert handle.spec.host is not None
        seen: list[bool | None]
        try:
            pids = family(self._supervisor, handle)
            seen = [self._supervisor.system.accepting(pids, os.fstat(sock.fileno()).st_ino) for sock in passed.sockets]
        except OSError:
            seen = [None]  # the machine does not let us look now; then it counts as ready when it lives, see below
        answers = passed.answers()
        if all(seen) or answers:
            return True
        if answers is False:
            return False
        # Nothing to be seen of it yet, or of a program that waits with select(2): it counts as ready when it lives.
        if None in seen:
            return waited >= SETTLE
        # It waits with epoll(7) for other things, and perhaps with select(2) for connections.
        return waited >= handle.spec.host.boot_timeout

    # -- what happens -------------------------------------------------------------------------------------------

    def changed(self, host: Host, handle: InstanceHandle) -> None:
        """An instance of a process with listeners has changed."""
        listeners, passed = host.listeners, handle.passed
        if listeners is None:
            return
        if handle.machine.state is State.RUNNING and passed is not None and not passed.sized:
            # Engines that call listen(2) themselves ask for the queue they are used to, which may be a short one.
            passed.sized = True
            assert handle.spec.host is not None
            listeners.resize(handle.spec.host.backlog)
        if handle.down and handle.retired and handle.process.spec.passed and not listeners.shared:
            listeners.trim(handle.process.wanted_instances)


def _mentions(words: Sequence[str], place: str) -> bool:
    return any(place in word for word in words)


def _filled(word: str, places: dict[str, str]) -> str:
    for place, value in places.items():
        word = word.replace(place, value)
    return word


def _owner(spec: ProcessSpec) -> tuple[int, int] | None:
    """Return user and group that a program will run as, where they are not the supervisor's."""
    if spec.user is None:
        return None
    import pwd  # noqa: PLC0415 - only stacks that drop privileges need it

    try:
        account = pwd.getpwuid(int(spec.user)) if spec.user.isdigit() else pwd.getpwnam(spec.user)
    except KeyError:
        return (int(spec.user), -1) if spec.user.isdigit() else None
    return account.pw_uid, account.pw_gid
