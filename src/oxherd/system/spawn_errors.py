"""Why a program could not be started: the stage, what the kernel said, and what a person can do about it.

The kernel answers an exec with one number for many causes. What the number means is looked up afterwards, where the
program lies: a script whose interpreter is gone, a file without ``#!``, a file system mounted noexec.
"""

from __future__ import annotations

import errno
import os
from enum import Enum

from oxherd.errors import SpawnError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Stage", "phrase_of_warning", "spawn_error"]

_HEAD = 4096
_ELF = b"\x7fELF"


class Stage(Enum):
    """What was being done when a start failed."""

    ARGUMENTS = "arguments"
    PIPES = "pipes"
    FORK = "fork"
    LAUNCHER = "launcher"
    SOCKETS = "sockets"
    CGROUP = "cgroup"
    NOFILE = "nofile"
    OOM_SCORE = "oom score"
    NICE = "nice"
    GROUPS = "groups"
    GROUP = "group"
    USER = "user"
    NO_NEW_PRIVS = "no new privileges"
    CHDIR = "chdir"
    LOOKUP = "lookup"
    EXEC = "exec"

    @property
    def phrase(self) -> str:
        """The words a message begins with, in front of the subject."""
        return _PHRASES[self]


_PHRASES: Mapping[Stage, str] = {
    Stage.ARGUMENTS: "reading the command line of",
    Stage.PIPES: "making the pipes of a new process",
    Stage.FORK: "starting a new process",
    Stage.LAUNCHER: "running the launcher",
    Stage.SOCKETS: "passing the listening sockets",
    Stage.CGROUP: "joining the cgroup",
    Stage.NOFILE: "setting the limit of open files to",
    Stage.OOM_SCORE: "setting oom_score_adj to",
    Stage.NICE: "setting the niceness to",
    Stage.GROUPS: "taking on the groups of user",
    Stage.GROUP: "switching to group",
    Stage.USER: "switching to user",
    Stage.NO_NEW_PRIVS: "ruling out new privileges",
    Stage.CHDIR: "changing directory to",
    Stage.LOOKUP: "executing",
    Stage.EXEC: "executing",
}

_HINTS: Mapping[Stage, str] = {
    Stage.PIPES: "raise the limit of open files of the supervisor (LimitNOFILE=, ulimit -n)",
    Stage.FORK: "the machine, the user or the cgroup has no room for more processes (pids.max, ulimit -u, memory)",
    Stage.LAUNCHER: "is the Python that runs Oxherd still there? `oxherd daemon upgrade` starts the supervisor anew",
    Stage.SOCKETS: "raise the limit of open files of the supervisor (LimitNOFILE=, ulimit -n)",
    Stage.CGROUP: "`oxherd doctor` says whether hard limits can work here; limits.hard = false does without",
    Stage.NOFILE: "raise the hard limit of the supervisor (LimitNOFILE=, docker run --ulimit), or lower limits.nofile",
    Stage.OOM_SCORE: "a negative value needs CAP_SYS_RESOURCE",
    Stage.NICE: "a negative value needs root or CAP_SYS_NICE",
    Stage.GROUPS: "give `group` beside `user`, since a number without an account has no group of its own",
    Stage.GROUP: "name a group of this machine (getent group), and run the supervisor as root",
    Stage.USER: "name a user of this machine (getent passwd), and run the supervisor as root",
    Stage.NO_NEW_PRIVS: "this needs Linux",
    Stage.CHDIR: "make that directory, or correct `working_dir` in the oxfile",
    Stage.LOOKUP: "write the full path of the program into `command`, or put its directory into PATH in `env`",
    Stage.EXEC: "try the command by hand, in the same directory and as the same user",
    Stage.ARGUMENTS: "correct `command` or `env` in the oxfile",
}

# What is known better than the stage's general hint.
_EXACT_HINTS: Mapping[tuple[Stage, int], str] = {
    (Stage.CHDIR, errno.EACCES): "the user the program runs as needs x permission on every directory of that path",
    (Stage.CHDIR, errno.ENOTDIR): "`working_dir` has to be a directory",
    (Stage.USER, errno.EPERM): "only root can switch users: run the supervisor as root, or leave `user` out",
    (Stage.GROUP, errno.EPERM): "only root can switch groups: run the supervisor as root, or leave `group` out",
    (Stage.GROUPS, errno.EPERM): "only root can switch groups: run the supervisor as root, or leave `user` out",
    (Stage.USER, errno.EAGAIN): "that user has as many processes as it may have (ulimit -u)",
    (Stage.LOOKUP, errno.EACCES): "make it executable: chmod +x",
    (Stage.EXEC, errno.E2BIG): "the arguments and the environment together are larger than the kernel takes",
    (Stage.EXEC, errno.ETXTBSY): "something is still writing that file",
    (Stage.EXEC, errno.ENOENT): "correct `command` in the oxfile; a relative path counts from `working_dir`",
    (Stage.EXEC, errno.EAGAIN): "the user has as many processes as it may have (ulimit -u)",
    (Stage.EXEC, errno.ENOMEM): "the machine is out of memory",
}

# errno values whose strerror says less than is known.
_TEXTS: Mapping[tuple[Stage, int], str] = {
    (Stage.USER, errno.ENOENT): "no such user",
    (Stage.GROUP, errno.ENOENT): "no such group",
    (Stage.GROUPS, errno.EINVAL): "no such account, so no group to switch to",
}


def spawn_error(stage: Stage, number: int, subject: str, *, cwd: str, path: str, text: str = "") -> SpawnError:
    """Return the error to raise.

    Args:
        stage: What was being done.
        number: The errno, or 0.
        subject: What the stage worked on: a directory, a user, the program.
        cwd: The child's working directory.
        path: The child's PATH.
        text: What is known instead of the errno's text.
    """
    hint = _EXACT_HINTS.get((stage, number), _HINTS[stage])
    text = text or _TEXTS.get((stage, number), "") or (os.strerror(number) if number else "it ended early")
    if stage is Stage.LOOKUP:
        text = f"not found in PATH ({path})" if number == errno.ENOENT else f"{text} (it is not executable)"
    elif stage is Stage.EXEC:
        found, better = _diagnose(os.path.join(cwd, subject), number)
        text, hint = found or text, better or hint
    error = SpawnError(stage.phrase, number, subject, text)
    error.hint = hint
    return error


def phrase_of_warning(stage: Stage, number: int, subject: str) -> str:
    """Return one line for something that did not work and does not stop the start."""
    what = f"{stage.phrase} {subject}" if subject else stage.phrase
    return f"{what}: {os.strerror(number)}; {_HINTS[stage]}"


# -- what an exec's errno means ---------------------------------------------------------------------------------------


def _diagnose(path: str, number: int) -> tuple[str, str]:
    """Return the text and the hint for a program that could not be exec'd; empty where nothing better is known."""
    match number:
        case errno.EACCES:
            return _why_no_permission(path)
        case errno.ENOENT if os.path.exists(path):
            return _missing_interpreter(path, _head(path))
        case errno.ENOEXEC:
            return _why_no_format(_head(path))
        case _:
            return "", ""


def _why_no_permission(path: str) -> tuple[str, str]:
    reason = os.strerror(errno.EACCES)
    if os.path.isdir(path):
        return f"{reason} (it is a directory)", "name the program inside it"
    interpreter = _shebang(_head(path))
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return "", "the user the program runs as needs x permission on every directory of that path"
    if not mode & 0o111:
        return f"{reason} (it is not executable)", f"make it executable: chmod +x {path}"
    if _noexec(path):
        return f"{reason} (its file system is mounted noexec)", "put it elsewhere, or mount that file system with exec"
    if interpreter and os.path.exists(interpreter) and not os.access(interpreter, os.X_OK):
        return f"its interpreter {interpreter}: {reason}", f"make it executable: chmod +x {interpreter}"
    return "", "the user the program runs as needs x permission on the file and on every directory of its path"


def _missing_interpreter(path: str, head: bytes) -> tuple[str, str]:
    reason = os.strerror(errno.ENOENT)
    interpreter = _shebang(head)
    if interpreter.endswith("\r"):
        return (
            f"its interpreter {interpreter!r}: {reason}",
            f"its #! line has a Windows line end: sed -i 's/\\r$//' {path}",
        )
    if interpreter:
        return (
            f"its interpreter {interpreter}: {reason}",
            "was the virtual environment moved, or its Python removed? Make it anew, or correct the #! line",
        )
    if head.startswith(_ELF):
        return f"its loader: {reason}", "it was built for another C library (glibc, musl) or another machine"
    return "", ""


def _why_no_format(head: bytes) -> tuple[str, str]:
    reason = os.strerror(errno.ENOEXEC)
    if head.startswith(_ELF):
        return (
            f"{reason} (another architecture?)",
            "it was built for another kind of machine: see `file` and `uname -m`",
        )
    if not head:
        return f"{reason} (it is empty)", "was it copied whole?"
    return (
        f"{reason} (no #! line?)",
        "begin it with a line such as #!/usr/bin/env python3, or name the interpreter in `command`",
    )


def _head(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_HEAD)
    except OSError:
        return b""


def _shebang(head: bytes) -> str:
    """Return the interpreter of a ``#!`` line, "" without one; a carriage return at its end is kept."""
    if not head.startswith(b"#!"):
        return ""
    words = head[2:].split(b"\n", 1)[0].strip(b" \t").replace(b"\t", b" ").split(b" ")
    return os.fsdecode(words[0])


def _noexec(path: str) -> bool:
    flag = getattr(os, "ST_NOEXEC", 0)
    try:
        return bool(os.statvfs(path).f_flag & flag)
    except OSError:
        return False
