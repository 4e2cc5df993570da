"""Hard limits: a cgroup for every incarnation of a process with ``limits.hard``, and OOM kills recognised."""

from __future__ import annotations

from oxherd.errors import OxherdError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oxherd.daemon.handles import InstanceHandle
    from oxherd.system.cgroups import CgroupHandle
    from oxherd.system.loop import Loop
    from oxherd.system.ports import System

__all__ = ["Cgroups"]

# An empty cgroup can be busy for a moment after its last process was reaped; cgroups(7).
_REMOVE_AGAIN = (0.01, 0.1, 1.0, 10.0)


class Cgroups:
    """Makes, joins and removes cgroups.

    Args:
        loop: For removing again later.
        system: Makes them, and counts OOM kills.
        on_trouble: Takes texts for the event log.
    """

    def __init__(self, loop: Loop, system: System, on_trouble: Callable[[str], None]) -> None:
        """Touch nothing yet."""
        self._loop = loop
        self._system = system
        self._on_trouble = on_trouble

    def join(self, handle: InstanceHandle) -> tuple[str, ...]:
        """Make the cgroup of the incarnation and return the files its launcher has to join by.

        Raises:
            OxherdError: ``hard = true`` and this machine cannot do it; the text says why and what to do.
        """
        if not handle.spec.limits.hard:
            return ()
        handle.cgroup = self._system.make_cgroup(handle.mark.replace("/", "-"), handle.spec.limits)
        return handle.cgroup.join_paths

    def oom_kills(self, handle: InstanceHandle) -> int | None:
        """Return how often the kernel killed for memory where this incarnation lives, or None if nobody counts."""
        if handle.cgroup is not None:
            return handle.cgroup.oom_kills()
        return self._system.oom_kills()

    def members(self, handle: InstanceHandle) -> list[int]:
        """Return the pids in the incarnation's cgroup, none where it has no cgroup."""
        return list(handle.cgroup.procs()) if handle.cgroup is not None else []

    def kill(self, handle: InstanceHandle) -> None:
        """Kill everything in the incarnation's cgroup, if it has one."""
        if handle.cgroup is not None:
            handle.cgroup.kill()

    def release(self, handle: InstanceHandle) -> None:
        """Remove the incarnation's cgroup, now or as soon as it is empty."""
        group, handle.cgroup = handle.cgroup, None
        if group is not None:
            self._remove(group, 0)

    def _remove(self, group: CgroupHandle, attempt: int) -> None:
        try:
            group.remove()
        except (OSError, OxherdError) as error:
            if attempt < len(_REMOVE_AGAIN):
                self._loop.call_later(_REMOVE_AGAIN[attempt], lambda: self._remove(group, attempt + 1))
            else:
                self._on_trouble(f"cannot remove the cgroup {group}: {error}")
