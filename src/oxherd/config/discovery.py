"""Which oxfile applies, and why: ``--config``, then ``./oxfile.toml``, then the user's own.

A file under the older name of the program, ``~/.config/oxmgr/oxfile.toml``, is found last.
"""

from __future__ import annotations

import os

from oxherd.config import problems
from oxherd.errors import ConfigError, Problem
from oxherd.records import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Discovered", "discover", "user_oxfile"]

_NAME = "oxfile.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovered:
    """The oxfile that applies.

    Attributes:
        path: As the user would name it: relative where the user's own words or the current folder lead to it.
        reason: Why this one, as a phrase.
    """

    path: str
    reason: str


def _config_folder(environ: Mapping[str, str], program: str) -> str:
    home = environ.get("HOME") or os.path.expanduser("~")
    base = environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    return os.path.join(base, program)


def user_oxfile(environ: Mapping[str, str]) -> str:
    """Return the path of the user's own oxfile, whether it is there or not."""
    return os.path.join(_config_folder(environ, "oxherd"), _NAME)


def discover(explicit: str | None, cwd: str, environ: Mapping[str, str]) -> Discovered:
    """Return the oxfile that applies.

    Args:
        explicit: What ``--config`` says; a folder means the oxfile in it.
        cwd: The current folder.
        environ: The caller's environment.

    Raises:
        ConfigError: There is none; every place that was looked at is named, with why it is none.
    """
    if explicit is not None:
        return _explicit(explicit, cwd)
    candidates = (
        (_NAME, "in the current folder"),
        (user_oxfile(environ), "the user's own"),
        (os.path.join(_config_folder(environ, "oxmgr"), _NAME), "the user's own, under the older name"),
    )
    tried: list[Problem] = []
    for path, reason in candidates:
        why_not = _why_not(os.path.join(cwd, path))
        if not why_not:
            return Discovered(path=path, reason=reason)
        shown = os.path.join(cwd, path) if path == _NAME else path
        tried.append(problems.unreadable(shown, why_not))
    raise ConfigError(tuple(tried))


def _explicit(explicit: str, cwd: str) -> Discovered:
    path = os.path.join(explicit, _NAME) if os.path.isdir(os.path.join(cwd, explicit)) else explicit
    why_not = _why_not(os.path.join(cwd, path))
    if why_not:
        raise ConfigError((problems.unreadable(path, why_not, hint="correct the path after --config"),))
    return Discovered(path=path, reason="named with --config")


def _why_not(path: str) -> str:
    """Return why a file cannot be the oxfile, or an empty string."""
    if not os.path.exists(path):
        return "no such file"
    if os.path.isdir(path):
        return "it is a folder"
    return "" if os.access(path, os.R_OK) else "permission denied"
