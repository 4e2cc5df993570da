"""What a program that is over leaves behind, ended for good, also on a machine that cannot look for it just now.

Without descriptors or memory nobody can say what is there. Then the look is taken again until it succeeds: whoever took
"I could not look" for "there is nobody" would let an escapee live on for ever, beside its successor.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from oxherd.daemon.children import Children
    from oxherd.system.loop import Loop
    from oxherd.system.ports import System

__all__ = ["LOOK_AGAIN", "end_remains", "kill_branch"]

# Seconds until a look that failed is taken again.
LOOK_AGAIN = 1.0

_SIGKILL = 9


def kill_branch(system: System, children: Children, pid: int, pidfd: int) -> None:
    """SIGKILL a child and everything below it; what cannot be reached is left to `end_remains` and told.

    Args:
        system: The port.
        children: Told of trouble.
        pid: The child.
        pidfd: Its pidfd, or -1.
    """
    try:
        trouble = system.kill_all(system.tree(pid), _SIGKILL)
    except OSError as error:
        trouble = error
    if trouble is not None:
        children.trouble(f"cannot kill what {pid} has started: {trouble.strerror}; its remains are looked for later")
    try:
        system.signal(pid, pidfd, _SIGKILL)
    except OSError as error:
        children.trouble(f"cannot kill {pid}: {error.strerror}")


def end_remains(
    loop: Loop, system: System, children: Children, *, mark: str, main_pid: int, pipes: Collection[int] = ()
) -> None:
    """SIGKILL what a dead child has left behind, now or as soon as it can be looked for.

    Args:
        loop: For looking again.
        system: The port.
        children: Whose pids are never remains; told of trouble.
        mark: The OXHERD_MARK of what is over.
        main_pid: The pid it had.
        pipes: Inode numbers of its output pipes.
    """
    try:
        trouble = system.kill_all(system.leftovers(mark, main_pid, children.pids, pipes), _SIGKILL)
    except OSError as error:
        trouble = error
    if trouble is not None:
        children.trouble(f"cannot end what {mark} has left behind: {trouble.strerror}; trying again")
        # The pipes are closed by then, and their numbers may be somebody else's.
        loop.call_later(LOOK_AGAIN, lambda: end_remains(loop, system, children, mark=mark, main_pid=main_pid))
