"""The process title: what ``ps`` and ``htop`` show in place of the command line.

The kernel shows the bytes between ``arg_start`` and ``arg_end`` of a process, which are its own memory. They are
overwritten in place; the padding argument that boot was given makes the room. proc(5), prctl(2).
"""

from __future__ import annotations

import ctypes
import sys

__all__ = ["set_title"]

_PR_SET_NAME = 15
# Fields of /proc/self/stat counted from the state on, which is field 3: arg_start is 48, arg_end 49.
_ARG_START, _ARG_END = 48 - 3, 49 - 3


def set_title(title: str) -> bool:
    """Show ``title`` as this process's command line, and what fits into 15 bytes as its comm.

    Returns:
        Whether it is shown. A title is a courtesy: where it cannot be set nothing happens.
    """
    if not sys.platform.startswith("linux") or not title:
        return False
    raw = title.encode("utf-8", "replace").replace(b"\0", b" ")
    try:
        with open("/proc/self/stat", "rb") as file:
            stat = file.read()
        # The comm is in parentheses and may contain anything, parentheses too.
        fields = stat[stat.rindex(b")") + 2 :].split()
        start, end = int(fields[_ARG_START]), int(fields[_ARG_END])
    except (OSError, ValueError, IndexError):
        return False
    # The title is only ours to write where the kernel says the arguments are: without /proc/self/stat's addresses
    # (ptrace_scope, a hidden /proc) they read as 0.
    if start <= 0 or end <= start or end - start > 1 << 20 or not _is_own_command_line(start, end):
        return False
    room = end - start
    shown = raw[: room - 2]
    # A last byte that is not 0 tells the kernel that this is a title: it shows it up to the first 0 and no further.
    ctypes.memmove(start, shown + bytes(room - len(shown) - 1) + b".", room)
    try:
        ctypes.CDLL(None).prctl(_PR_SET_NAME, _cut(raw, 15), 0, 0, 0)
    except (OSError, AttributeError):
        return True  # the command line is set, and a C library without prctl has no comm
    return True


def _is_own_command_line(start: int, end: int) -> bool:
    """Tell whether the memory at these addresses is what the kernel shows, so that nothing else is overwritten."""
    try:
        with open("/proc/self/cmdline", "rb") as file:
            shown = file.read()
    except OSError:
        return False
    # string_at would crash on addresses that are not mapped; that the kernel could read as much from there says they are.
    return 0 < len(shown) <= end - start and ctypes.string_at(start, len(shown)) == shown


def _cut(raw: bytes, size: int) -> bytes:
    return raw[:size].decode("utf-8", "ignore").encode()
