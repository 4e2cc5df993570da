"""What root reads and runs while somebody else may write it: whoever may, becomes root.

A file is as safe as the weakest directory on the way to it, links included. What a process with ``user`` reads and runs
may belong to that user: it decides about nothing but itself. The oxfile, the supervisor's own directories and the
directories of log files decide about what root does, and are to be root's alone.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat

from oxherd.cli.checks.finding import Examination, warning
from oxherd.programs.interpreter import find_interpreter, find_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from oxherd.cli.checks.finding import Finding
    from oxherd.cli.output import Output
    from oxherd.config.model import ProcessSpec
    from oxherd.control.paths import Home
    from oxherd.programs.compiled import Compiled

__all__ = ["check_trust", "warn_of_trust", "weak_spot"]

_ROOT = frozenset({0})
# As many links as the kernel follows; path_resolution(7).
_MOST_LINKS = 40


def warn_of_trust(home: Home, compiled: Compiled, environ: Mapping[str, str], output: Output) -> None:
    """Print what `check_trust` finds, for a command that is about to start something."""
    examination = Examination(home=home, environ=environ, euid=os.geteuid(), compiled=compiled)
    for finding in check_trust(examination):
        output.warn(f"warning: {finding.where}: {finding.what}\n    hint: {finding.advice}")


def check_trust(examination: Examination) -> Iterator[Finding]:
    """Look who else may write what root reads and runs; nothing is found for any other user."""
    if examination.euid != 0:
        return
    spots: dict[tuple[str, str], list[str]] = {}
    for path, use, trusted in _relied_on(examination):
        spot = weak_spot(path, trusted)
        if spot is not None:
            uses = spots.setdefault(spot, [])
            if use not in uses:
                uses.append(use)
    for (path, reason), uses in spots.items():
        yield warning(
            f"{reason}, and root relies on it for {_listed(uses)}: whoever may write there can do what root can",
            where=path,
            advice=f'chown root:root {path} && chmod go-w {path}; or run it as its owner: user = "..."',
        )


def _relied_on(examination: Examination) -> Iterator[tuple[str, str, frozenset[int]]]:
    """Yield each path with what it is for and the users that may write it."""
    for path in (examination.home.runtime, examination.home.state):
        yield path, "the supervisor's own files", _ROOT
    if examination.oxfile is None:
        return
    yield examination.oxfile.path, "the oxfile", _ROOT
    for spec in examination.processes:
        for path, use in _files_of(spec, examination.environ):
            yield path, f"{use} of {spec.name}", _ROOT | _user(spec)
        for file in (spec.logs.file, spec.logs.error_file):
            if file is not None and not file.startswith("/dev/"):
                # Even where its user runs the process: a link there would lead root's appending anywhere.
                yield os.path.dirname(file), f"the log_file of {spec.name}", _ROOT


def _files_of(spec: ProcessSpec, environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    yield spec.working_dir, "the working_dir"
    for path in spec.env_files:
        yield path, "the env_file"
    program = find_program(spec, environ)
    if program is not None:
        yield program.path, "the program"
    if spec.app is not None or (program is not None and spec.host is not None):
        yield find_interpreter(spec, environ).path, "the interpreter"
    health = spec.health.command if spec.health is not None else None
    for command, use in ((spec.pre_start, "pre_start"), (spec.pre_reload, "pre_reload"), (health, "the health check")):
        if command is not None and "/" in command.argv[0]:
            yield os.path.join(spec.working_dir, command.argv[0]), use


def _user(spec: ProcessSpec) -> frozenset[int]:
    if spec.user is None:
        return frozenset()
    if spec.user.isdigit():
        return frozenset({int(spec.user)})
    try:
        return frozenset({pwd.getpwnam(spec.user).pw_uid})
    except KeyError:
        return frozenset()  # that there is no such user is another check's


def weak_spot(path: str, trusted: frozenset[int]) -> tuple[str, str] | None:
    """Return the first place on the way to a path that somebody who is not trusted may write, and why; or None.

    Args:
        path: Absolute. What is not there yet is as safe as the directory it would be made in.
        trusted: The uids that may.
    """
    links = 0
    here, parts = "/", [part for part in reversed(path.split("/")) if part]
    status = os.stat(here)
    while True:
        reason = _writable(status, trusted)
        if reason:
            return here, reason
        if not parts:
            return None
        part = parts.pop()
        sticky = bool(status.st_mode & stat.S_ISVTX)
        below = os.path.dirname(here) if part == ".." else os.path.join(here, part)
        try:
            status = os.lstat(below)
            if not stat.S_ISLNK(status.st_mode):
                here = below
                continue
            if sticky and status.st_uid not in trusted:
                return below, f"it belongs to {_name(status.st_uid)}"
            target = os.readlink(below)
            links += 1
            if links > _MOST_LINKS:
                return None
            parts += [piece for piece in reversed(target.split("/")) if piece and piece != "."]
            here = "/" if target.startswith("/") else here
            status = os.stat(here)
        except OSError:
            return None  # not there (yet), which others tell


def _writable(status: os.stat_result, trusted: frozenset[int]) -> str:
    """Return who besides the trusted may write a file, or put others in the place of what is in a directory; or ""."""
    mode = status.st_mode
    if status.st_uid not in trusted:
        return f"it belongs to {_name(status.st_uid)}"
    if stat.S_ISCHR(mode) or (stat.S_ISDIR(mode) and mode & stat.S_ISVTX):
        return ""
    if mode & stat.S_IWOTH:
        return "everybody may write it"
    if mode & stat.S_IWGRP and status.st_gid != 0 and not _members(status.st_gid) <= trusted:
        return f"group {_group(status.st_gid)} may write it"
    return ""


def _members(gid: int) -> set[int]:
    """Return the uids of everybody in a group; of /usr/local's on Debian that is nobody."""
    found = {entry.pw_uid for entry in pwd.getpwall() if entry.pw_gid == gid}
    try:
        names = grp.getgrgid(gid).gr_mem
    except KeyError:
        return found
    for name in names:
        try:
            found.add(pwd.getpwnam(name).pw_uid)
        except KeyError:
            continue
    return found


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _listed(uses: list[str]) -> str:
    return uses[0] if len(uses) == 1 else f"{', '.join(uses[:-1])} and {uses[-1]}"
