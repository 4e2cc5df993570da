"""The program between fork and exec, for starts that need more than fork and exec.

The supervisor runs this file with ``python -I -S``, in the new session of the child. It joins cgroups, sets limits,
drops privileges, changes directory and execs the program in its own place, so the pid stays. What a hook between fork
and exec would do inside the supervisor's copied memory (slowly, and with its locks), a fresh interpreter does here.

It says how it went over a close-on-exec pipe, in records of four fields, each ended by a NUL byte: kind (``error`` or
``warning``), stage, errno, subject. The end of the pipe without an error means that the program was exec'd. The job
comes as `marshal` bytes, in an inherited descriptor: both sides are one interpreter, and ``json`` would double the 8 ms
that a launch takes.

Stages happen in this order, since each takes away what an earlier one needs: cgroup and limits need privileges; the
directory is entered as the user who will work in it.
"""

from __future__ import annotations

import errno
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Refused", "find_program", "listen_numbers", "main", "pack", "perform", "unpack"]

# sd_listen_fds(3): SD_LISTEN_FDS_START.
_FIRST_LISTENER = 3

# prctl(2), linux/prctl.h.
_PR_SET_NO_NEW_PRIVS = 38
_LAST_SIGNAL = 64


class Refused(Exception):  # noqa: N818 - the launcher's half of a SpawnError
    """A stage did not work.

    Args:
        stage: The name of the stage, as in `oxherd.system.spawn_errors.Stage`.
        errno: Why.
        subject: The path or name the stage worked on.
    """

    def __init__(self, stage: str, errno: int, subject: bytes = b"") -> None:
        """Keep the three."""
        super().__init__(stage, errno, subject)
        self.stage = stage
        self.errno = errno
        self.subject = subject


def pack(kind: bytes, stage: str, number: int, subject: bytes) -> bytes:
    """Return one record of the report."""
    return b"\0".join((kind, stage.encode(), b"%d" % number, subject.replace(b"\0", b"?"), b""))


def unpack(report: bytes) -> list[tuple[str, str, int, str]]:
    """Return the records of a report; one that was cut short is left out."""
    fields = report.split(b"\0")[:-1]
    whole = len(fields) // 4 * 4
    return [
        (fields[at].decode(), fields[at + 1].decode(), int(fields[at + 2]), os.fsdecode(fields[at + 3]))
        for at in range(0, whole, 4)
    ]


def find_program(name: bytes, path: bytes, cwd: bytes) -> tuple[bytes, int]:
    """Look a program up as execvp(3) does, in the PATH and from the directory of the child.

    A name with a slash is taken as it stands. A name found through PATH comes back as a full path, and that is also
    what the program gets as ``argv[0]``: a Python of a virtual environment finds the environment by it.

    Args:
        name: What the command line begins with.
        path: The child's PATH.
        cwd: The child's working directory, for entries of PATH that are relative or empty.

    Returns:
        The path and 0, or the name and the errno that says why there is none.
    """
    if b"/" in name:
        return name, 0
    trouble = errno.ENOENT
    for entry in path.split(b":") if name else ():
        candidate = os.path.join(cwd, entry, name)
        if os.path.isfile(candidate):
            if os.access(candidate, os.X_OK):
                return candidate, 0
            trouble = errno.EACCES
    return name, trouble


def listen_numbers(count: int) -> set[int]:
    """Return the numbers that listening sockets have in the program."""
    return set(range(_FIRST_LISTENER, _FIRST_LISTENER + count))


# -- stages -----------------------------------------------------------------------------------------------------------


def _place_listeners(job: dict[str, Any], _warn: Callable[..., None]) -> None:
    """Move listening sockets to 3, 4, ... whatever their numbers are now, and say so in the environment."""
    given = job["listen_fds"]
    if not given:
        return
    numbers = listen_numbers(len(given))
    environ, names = job["env"], job["listen_names"]

    def move() -> None:
        # All of them out of the way first: one may lie where another has to go.
        copies = [_above(fd, max(numbers)) for fd in given]
        for fd in given:
            if fd not in numbers:
                os.set_inheritable(fd, False)
        for number, copy in zip(sorted(numbers), copies, strict=True):
            os.dup2(copy, number)

    _call("SOCKETS", b"", move)
    environ[b"LISTEN_FDS"] = b"%d" % len(given)
    environ[b"LISTEN_PID"] = b"%d" % os.getpid()  # the pid stays over the exec
    environ[b"LISTEN_FDNAMES"] = b":".join([*names, *[b"unknown"] * len(given)][: len(given)])


def _above(fd: int, highest: int) -> int:
    """Return a copy of a descriptor with a number above another one; it ends with the exec."""
    passed_over = []
    while (copy := os.dup(fd)) <= highest:
        passed_over.append(copy)
    for copy_below in passed_over:
        os.close(copy_below)
    return copy


def _join_cgroups(job: dict[str, Any], _warn: Callable[..., None]) -> None:
    for path in job["cgroups"]:
        try:
            _write(path, b"0")
        except OSError as error:
            raise Refused("CGROUP", error.errno or 0, path) from None


def _limit_files(job: dict[str, Any], warn: Callable[..., None]) -> None:
    wanted = job["nofile"]
    if wanted is None:
        return
    import resource  # noqa: PLC0415 - each import is paid for by every start

    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
    except (OSError, ValueError):
        # Containers without CAP_SYS_RESOURCE: as much as there is beats not to start.
        _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        warn("NOFILE", errno.EPERM, b"%d, it stays at %d" % (wanted, hard))


def _adjust_oom(job: dict[str, Any], warn: Callable[..., None]) -> None:
    wanted = job["oom_score_adj"]
    if wanted is None:
        return
    try:
        _write(b"/proc/self/oom_score_adj", b"%d" % wanted)
    except OSError as error:
        warn("OOM_SCORE", error.errno or 0, b"%d" % wanted)


def _renice(job: dict[str, Any], warn: Callable[..., None]) -> None:
    wanted = job["nice"]
    if wanted is None:
        return
    try:
        os.setpriority(os.PRIO_PROCESS, 0, wanted)
    except OSError as error:
        warn("NICE", error.errno or 0, b"%d" % wanted)


def _mask(job: dict[str, Any], _warn: Callable[..., None]) -> None:
    if job["umask"] is not None:
        os.umask(job["umask"])


def _rule_out_privileges(job: dict[str, Any], warn: Callable[..., None]) -> None:
    # Before the user changes: prctl(2) says that this concerns execve only, and the new user may not be able to read
    # the library ctypes lives in.
    if not job["no_new_privs"]:
        return
    import ctypes  # noqa: PLC0415 - prctl(2) has no other way in, and only this short-lived process pays for it

    try:
        done = ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    except (AttributeError, OSError):  # no such function in this C library
        done = False
    if not done:
        warn("NO_NEW_PRIVS", errno.ENOSYS, b"")


def _drop_privileges(job: dict[str, Any], _warn: Callable[..., None]) -> None:
    user, group = job["user"], job["group"]
    if user is None and group is None:
        return
    uid, gid, name = _account(user) if user is not None else (None, None, None)
    if group is not None:
        gid = _group(group)
    if gid is None:
        # A bare number without an account has no group; guessing one (0?) would give away the root group.
        raise Refused("GROUPS", errno.EINVAL, user.encode())
    if os.geteuid() == 0 and user is not None:
        subject = user.encode()
        _call("GROUPS", subject, lambda: os.initgroups(name, gid) if name else os.setgroups([gid]))
    if gid != os.getegid() or os.geteuid() == 0:
        _call("GROUP", (group or str(gid)).encode(), lambda: os.setgid(gid))
    if uid is not None and (uid != os.geteuid() or uid != os.getuid()):
        _call("USER", user.encode(), lambda: os.setuid(uid))


def _account(user: str) -> tuple[int, int | None, str | None]:
    import pwd  # noqa: PLC0415 - each import is paid for by every start

    try:
        entry = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    except KeyError:
        if user.isdigit():
            return int(user), None, None
        raise Refused("USER", errno.ENOENT, user.encode()) from None
    return entry.pw_uid, entry.pw_gid, entry.pw_name


def _group(group: str) -> int:
    import grp  # noqa: PLC0415 - each import is paid for by every start

    try:
        return int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise Refused("GROUP", errno.ENOENT, group.encode()) from None


def _enter_directory(job: dict[str, Any], _warn: Callable[..., None]) -> None:
    _call("CHDIR", job["cwd"], lambda: os.chdir(job["cwd"]))


def _clean_signals() -> None:
    """Give the program the signals of a fresh login: nothing blocked, nothing ignored (signal(7), execve(2))."""
    # The C half alone: the module in front of it imports enum, which takes half as long as the interpreter itself.
    import _signal  # type: ignore[import-not-found] # noqa: PLC0415

    for number in range(1, _LAST_SIGNAL + 1):
        try:
            if _signal.getsignal(number) == _signal.SIG_IGN:
                _signal.signal(number, _signal.SIG_DFL)
        except (OSError, ValueError):  # the C library keeps a few numbers for itself
            continue
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def _exec(job: dict[str, Any]) -> None:
    environ = job["env"]
    path = environ.get(b"PATH", os.fsencode(os.defpath))
    program, trouble = find_program(job["argv"][0], path, job["cwd"])
    if trouble:
        raise Refused("LOOKUP", trouble, program)
    _call("EXEC", program, lambda: os.execve(program, [program, *job["argv"][1:]], environ))


_STAGES = (
    _place_listeners,
    _join_cgroups,
    _limit_files,
    _adjust_oom,
    _renice,
    _mask,
    _rule_out_privileges,
    _drop_privileges,
    _enter_directory,
)


def _call(stage: str, subject: bytes, action: Callable[[], object]) -> None:
    try:
        action()
    except OSError as error:
        raise Refused(stage, error.errno or 0, subject) from None


def _write(path: bytes, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


# -- the program ------------------------------------------------------------------------------------------------------


def perform(job: dict[str, Any], say: Callable[[bytes], object]) -> None:
    """Do the job; return only if it did not work, and then it has been said why.

    Args:
        job: What `oxherd.system.spawn` packed.
        say: Takes the records of the report.
    """

    def warn(stage: str, number: int, subject: bytes) -> None:
        say(pack(b"warning", stage, number, subject))

    try:
        for stage in _STAGES:
            stage(job, warn)
        _clean_signals()
        _exec(job)
    except Refused as refused:
        say(pack(b"error", refused.stage, refused.errno, refused.subject))
    except Exception as error:  # noqa: BLE001 - whatever it is, it belongs into the report and not into the app's log
        say(pack(b"error", "LAUNCHER", 0, repr(error).encode(errors="replace")))


def main(arguments: list[str]) -> int:
    """Run the launcher.

    Args:
        arguments: The numbers of the descriptors of the job and of the report.
    """
    import marshal  # noqa: PLC0415 - built in

    job_fd, report_fd = map(int, arguments)
    os.set_inheritable(report_fd, False)
    with open(job_fd, "rb") as file:
        job = marshal.loads(file.read())  # noqa: S302 - written by the supervisor a moment ago
    if job["listen_fds"]:
        # What is said goes on being said when listening sockets take the low numbers.
        report_fd = _above(report_fd, max(listen_numbers(len(job["listen_fds"]))))
    perform(job, lambda record: os.write(report_fd, record))
    return 1


if __name__ == "__main__":
    # No interpreter shutdown: there is nothing to flush, and the supervisor waits.
    os._exit(main(sys.argv[1:]))
