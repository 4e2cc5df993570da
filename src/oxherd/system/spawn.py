"""Starts programs.

Two ways, one result. Nearly every start is a vfork and an exec, posix_spawn(3): a tenth of a millisecond, whatever the size
of the supervisor, and errors are known at once. A start that has to change who or where the program is (user, group, limits,
cgroups) execs `oxherd.system.launcher` first, which does that and execs the program in its own place.

Either way the child is the leader of a session of its own, its standard input is ``/dev/null``, it has no descriptor
but those it was given, and its signals are as at login. Every descriptor of a supervisor is close-on-exec: what it made, and
what it was started with (`own_descriptors`). It is never a Python function between fork and exec
(``preexec_fn``): that copies the supervisor's page tables and may deadlock on a lock another thread held.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import errno
import fcntl
import marshal
import os
import signal
import sys

from oxherd.records import dataclass
from oxherd.system import launcher
from oxherd.system.nameless import nameless
from oxherd.system.spawn_errors import Stage, phrase_of_warning, spawn_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from oxherd.errors import SpawnError

__all__ = ["Launch", "LaunchRequest", "Outcome", "launch", "own_descriptors"]

# Errors of the descriptors and of fork(2), as opposed to errors of the exec itself.
_NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})
_NO_PROCESS = frozenset({errno.EAGAIN, errno.ENOMEM})
_CHUNK = 65536
# A directory that is only returned to; macOS has no such way to open one.
_PLACE = os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
# What Python itself ignores and every start sets back; every other ignored signal would stay ignored over the exec.
_RESTORED = frozenset({signal.SIGPIPE, signal.SIGXFSZ})
_INHERITED = tuple(number for number in range(1, signal.NSIG) if number not in _RESTORED)


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchRequest:
    """Everything about one start.

    Attributes:
        argv: The command line; a program without a slash is looked up in the PATH of ``env``.
        cwd: Working directory; relative programs and relative entries of PATH count from it.
        env: The whole environment.
        stdout, stderr: Descriptors that become 1 and 2; they may be the same.
        pass_fds: Descriptors the program gets under their own numbers.
        listen_fds: Listening sockets that become 3, 4, ... in the program and are told of as systemd does it:
            LISTEN_FDS, LISTEN_PID and LISTEN_FDNAMES (sd_listen_fds(3)). None of ``pass_fds`` may have such a number.
        listen_names: Their names for LISTEN_FDNAMES, without colons; "unknown" where there is none.
        user: Name or number of the user to become, with its supplementary groups.
        group: Name or number of the group, instead of the user's own.
        umask: File mode creation mask, or None to keep the supervisor's.
        nice: Niceness from -20 to 19.
        nofile: Limit of open files, soft and hard.
        cgroups: Files (``cgroup.procs``, ``tasks``) to write itself into.
        no_new_privs: Whether set-user-ID programs lose their effect for good; prctl(2), PR_SET_NO_NEW_PRIVS.
        oom_score_adj: From -1000 to 1000; proc(5).
    """

    argv: tuple[str, ...]
    cwd: str
    env: Mapping[str, str]
    stdout: int
    stderr: int
    pass_fds: tuple[int, ...] = ()
    listen_fds: tuple[int, ...] = ()
    listen_names: tuple[str, ...] = ()
    user: str | None = None
    group: str | None = None
    umask: int | None = None
    nice: int | None = None
    nofile: int | None = None
    cgroups: tuple[str, ...] = ()
    no_new_privs: bool = False
    oom_score_adj: int | None = None

    @property
    def path(self) -> str:
        """The PATH programs are looked up in."""
        return self.env.get("PATH", os.defpath)

    @property
    def needs_launcher(self) -> bool:
        """Whether more than an exec is asked for."""
        wishes = (self.user, self.group, self.nice, self.nofile, self.oom_score_adj)
        # LISTEN_PID is the program's own pid, which nobody knows before the fork.
        return (
            self.no_new_privs or bool(self.cgroups) or bool(self.listen_fds) or any(wish is not None for wish in wishes)
        )

    def error(self, stage: Stage, number: int, subject: str, text: str = "") -> SpawnError:
        """Return the error of a stage of this start."""
        return spawn_error(stage, number, subject, cwd=self.cwd, path=self.path, text=text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the launcher reported.

    Attributes:
        error: Why the program was not exec'd, or None if it was.
        warnings: What could not be done and was not worth failing for, one line each.
    """

    error: SpawnError | None = None
    warnings: tuple[str, ...] = ()


class Launch:
    """A child that was started, and perhaps still has to report that its program was exec'd.

    Attributes:
        pid: Its pid, which is also its session and its process group.
        pidfd: Its pidfd, owned by whoever asked for the launch, or -1 where there is none.
        report_fd: Becomes readable when `outcome` has something to say; None where the program runs already, and
            after `outcome` has said it.
    """

    __slots__ = ("_report", "_request", "pid", "pidfd", "report_fd")

    def __init__(
        self, pid: int, pidfd: int, report_fd: int | None = None, request: LaunchRequest | None = None
    ) -> None:
        """Made by `launch`."""
        self.pid = pid
        self.pidfd = pidfd
        self.report_fd = report_fd
        self._request = request
        self._report = b""

    def outcome(self) -> Outcome | None:
        """Return how the launch ended, or None as long as that is not known. Does not block.

        The descriptor of the report is closed with the answer. A launcher that was killed before it could say
        anything has no error: its exit status says it.
        """
        if self.report_fd is None or self._request is None:
            return Outcome()
        while True:
            try:
                chunk = os.read(self.report_fd, _CHUNK)
            except BlockingIOError:
                return None
            if not chunk:
                break
            self._report += chunk
        os.close(self.report_fd)
        self.report_fd = None
        return _read_report(self._request, self._report)

    def close(self) -> None:
        """Give the descriptors back without waiting for the outcome."""
        for fd in (self.pidfd, self.report_fd):
            if fd is not None and fd >= 0:
                os.close(fd)
        self.pidfd, self.report_fd = -1, None


def launch(request: LaunchRequest) -> Launch:
    """Start a program.

    Returns:
        The child. The caller closes `Launch.pidfd` and reaps the pid.

    Raises:
        SpawnError: It could not be started; says the stage, the errno and what to do. Errors that only the launcher
            meets come with `Launch.outcome` instead.
    """
    if not request.argv or not request.argv[0]:
        raise request.error(Stage.ARGUMENTS, errno.EINVAL, "the program", "there is none")
    if request.needs_launcher or _signals_unclean():
        return _launch_through_launcher(request)
    program, trouble = launcher.find_program(
        os.fsencode(request.argv[0]), os.fsencode(request.path), os.fsencode(request.cwd)
    )
    if trouble:
        # A missing directory hides programs that are found relative to it: it is the cause, and named first.
        raise _directory_error(request) or request.error(Stage.LOOKUP, trouble, request.argv[0])
    argv = (os.fsdecode(program), *request.argv[1:])
    pid = _spawn(request, argv, request.env, request.cwd, request.pass_fds, umask=request.umask)
    return Launch(pid, _pidfd_of(pid))


def own_descriptors() -> None:
    """Have no program inherit what this process was started with, beside the standard streams.

    For the beginning of a process that starts programs. What Python opens it opens close-on-exec, but a shell or a service
    manager may have left more.
    """
    for name in os.listdir("/dev/fd"):
        fd = int(name)
        if fd > 2:
            try:
                os.set_inheritable(fd, False)
            except OSError:
                continue  # that of the listing itself, which is closed


# -- the two ways -----------------------------------------------------------------------------------------------------


def _launch_through_launcher(request: LaunchRequest) -> Launch:
    fds: list[int] = []
    try:
        try:
            for fd in request.listen_fds:
                os.fstat(fd)  # a start would blame the launcher for one that is closed
        except OSError as error:
            raise request.error(Stage.SOCKETS, error.errno or 0, "") from None
        try:
            job_fd = nameless(_job_of(request))
            fds.append(job_fd)
            report_read, report_write = os.pipe()
            fds += (report_read, report_write)
            os.set_blocking(report_read, False)
        except OSError as error:
            raise request.error(Stage.PIPES, error.errno or 0, "") from None
        except ValueError as error:
            raise request.error(Stage.ARGUMENTS, errno.EINVAL, request.argv[0], str(error)) from None
        # -I and -S: nothing of the app's environment, user site or working directory runs before privileges are gone.
        argv = (sys.executable, "-I", "-S", launcher.__file__, str(job_fd), str(report_write))
        inherited = (*request.pass_fds, *request.listen_fds, job_fd, report_write)
        pid = _spawn(request, argv, os.environ, "/", inherited, of_program=False)
        fds.remove(report_read)
        return Launch(pid, _pidfd_of(pid), report_read, request)
    finally:
        _give_back(fds)


def _spawn(
    request: LaunchRequest,
    argv: tuple[str, ...],
    env: Mapping[str, str],
    cwd: str,
    pass_fds: tuple[int, ...],
    *,
    umask: int | None = None,
    of_program: bool = True,
) -> int:
    """Return the pid of a child that runs ``argv``: the program that is asked for, or its launcher."""
    lifted: list[int] = []
    try:
        here = os.open(".", _PLACE)
        lifted.append(here)
        streams = [request.stdout, request.stderr]
        if not set(streams).isdisjoint((0, 1)):
            # One of them would be overwritten before it is copied.
            streams = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3) for fd in streams]
            lifted += streams
    except OSError as error:
        _give_back(lifted)
        raise request.error(Stage.PIPES, error.errno or 0, "") from None
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        *((os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(streams, start=1)),
        # A copy to itself is what the child keeps.
        *((os.POSIX_SPAWN_DUP2, fd, fd) for fd in pass_fds),
    ]
    previous = None
    try:
        try:
            os.chdir(cwd)
        except OSError as error:
            raise request.error(Stage.CHDIR, error.errno or 0, cwd) from None
        # Nobody else sees either meanwhile: the supervisor has one thread that uses them.
        previous = None if umask is None else os.umask(umask)
        return os.posix_spawn(argv[0], argv, env, file_actions=actions, setsid=True, setsigdef=_RESTORED)
    except OSError as error:
        number = error.errno or 0
        if number in _NO_DESCRIPTORS:
            raise request.error(Stage.PIPES, number, "") from None
        if number in _NO_PROCESS:
            raise request.error(Stage.FORK, number, "") from None
        if not of_program:
            raise request.error(Stage.LAUNCHER, number, argv[0]) from None
        raise request.error(Stage.EXEC, number, argv[0]) from None
    except ValueError as error:
        # A NUL character, or a "=" in the name of a variable: no exec can carry it.
        raise request.error(Stage.ARGUMENTS, errno.EINVAL, request.argv[0], str(error)) from None
    finally:
        if previous is not None:
            os.umask(previous)
        os.fchdir(here)
        _give_back(lifted)


def _give_back(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def _pidfd_of(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        # No pidfd on this platform or no descriptors left: SIGCHLD tells of this child.
        return -1


# -- the launcher's job and report ------------------------------------------------------------------------------------


def _job_of(request: LaunchRequest) -> bytes:
    strings = (*request.argv, *request.env, *request.env.values(), request.cwd)
    if any("\0" in text for text in strings):
        raise ValueError("embedded null byte")
    if any("=" in name for name in request.env):
        raise ValueError("illegal environment variable name")
    if taken := launcher.listen_numbers(len(request.listen_fds)) & set(request.pass_fds):
        raise ValueError(f"descriptor {min(taken)} is where a listening socket has to go")
    return marshal.dumps(
        {
            "argv": [os.fsencode(argument) for argument in request.argv],
            "cwd": os.fsencode(request.cwd),
            "env": {os.fsencode(name): os.fsencode(value) for name, value in request.env.items()},
            "listen_fds": list(request.listen_fds),
            "listen_names": [os.fsencode(name) for name in request.listen_names],
            "user": request.user,
            "group": request.group,
            "umask": request.umask,
            "nice": request.nice,
            "nofile": request.nofile,
            "cgroups": [os.fsencode(path) for path in request.cgroups],
            "no_new_privs": request.no_new_privs,
            "oom_score_adj": request.oom_score_adj,
        }
    )


def _read_report(request: LaunchRequest, report: bytes) -> Outcome:
    error: SpawnError | None = None
    warnings: list[str] = []
    for kind, name, number, subject in launcher.unpack(report):
        stage = Stage[name]
        if kind == "warning":
            warnings.append(phrase_of_warning(stage, number, subject))
        elif stage is Stage.LAUNCHER:
            error = request.error(stage, number, "", subject)
        else:
            error = request.error(stage, number, subject)
    return Outcome(error=error, warnings=tuple(warnings))


# -- looking closer ---------------------------------------------------------------------------------------------------


def _directory_error(request: LaunchRequest) -> SpawnError | None:
    """Return the error of the working directory, or None if it can be entered.

    Looked at where a program was not found: one that is relative is hidden by a directory that is not there.
    """
    try:
        fd = os.open(os.path.join(request.cwd, "."), os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError as error:
        if os.access(request.cwd, os.X_OK):
            return None
        return request.error(Stage.CHDIR, error.errno or 0, request.cwd)
    except OSError as error:
        return request.error(Stage.CHDIR, error.errno or 0, request.cwd)
    os.close(fd)
    return None


def _signals_unclean() -> bool:
    """Whether the child would inherit blocked or ignored signals.

    A supervisor under ``nohup`` or behind a shell's ``&`` ignores signals that its programs need; the launcher sets
    them back in the child, where nothing is lost by it.
    """
    if signal.pthread_sigmask(signal.SIG_BLOCK, ()):
        return True
    # The C half of the module: the other one makes an Enum of every answer, and this is asked for every start.
    return any(_signal.getsignal(number) == _signal.SIG_IGN for number in _INHERITED)
