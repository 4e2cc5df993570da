"""As whom the interpreter of an app is asked something."""

from __future__ import annotations

import os

from oxherd.records import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Caller"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """As whom an interpreter is asked: with this environment, and as this user and group where they are not our own."""

    environ: Mapping[str, str]
    user: str | None = None
    group: str | None = None

    def identity(self) -> dict[str, object]:
        """Return what `subprocess` wants to drop privileges: code of another user's environment must not run as root."""
        if os.geteuid() != 0 or (self.user is None and self.group is None):
            return {}
        wanted: dict[str, object] = {"extra_groups": []}
        if self.user is not None:
            wanted["user"] = int(self.user) if self.user.isdigit() else self.user
        group = self.group if self.group is not None else _group_of(self.user)
        if group is not None:
            wanted["group"] = int(group) if group.isdigit() else group
        return wanted


def _group_of(user: str | None) -> str | None:
    import pwd  # noqa: PLC0415 - only where root asks for another user

    if user is None:
        return None
    try:
        entry = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    except KeyError:
        return None
    return str(entry.pw_gid)
