"""Files without a name: data for a program that is about to be exec'd.

A pipe would do for little: it holds 64 KiB, and nobody reads it before the exec.
"""

from __future__ import annotations

import os

__all__ = ["nameless"]


def nameless(data: bytes, *, inheritable: bool = False) -> int:
    """Return a descriptor from whose beginning ``data`` can be read.

    In memory where the system has such files: in a container there may be no directory for temporary ones.

    Args:
        data: What is read.
        inheritable: Whether what this process becomes has the descriptor; whoever starts a child passes it on.

    Raises:
        OSError: There is no descriptor, no memory or no disk; nothing is left open.
    """
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("oxherd", os.MFD_CLOEXEC)
    else:
        name = os.path.join(os.environ.get("TMPDIR", "/tmp"), f"oxherd-{os.urandom(8).hex()}")  # noqa: S108 - O_EXCL
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.unlink(name)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.lseek(fd, 0, os.SEEK_SET)
        os.set_inheritable(fd, inheritable)
    except OSError:
        os.close(fd)
        raise
    return fd
