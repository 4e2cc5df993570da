"""The script that is exec'd in the app's interpreter: ``PYTHON boot.py ROLE FD PADDING``.

ROLE is worker, zygote or describe; FD the number of the channel (``describe`` has none: its job comes on stdin); PADDING
is spaces, whose room in the argument vector the process title gets, see `title`. Everything here holds before the app's
first line runs: nothing of Oxherd may be importable by accident, and nothing the app relies on may look different from
``python -m``.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import socket
import sys

__all__ = ["NAME", "main"]

# The package's name in the app's process; a leading underscore and a name nobody else has.
NAME = "_oxherd_host"

_HERE = os.path.dirname(os.path.abspath(__file__))


def main(argv: list[str]) -> int:
    """Run a role and return the exit code.

    Args:
        argv: The role, the channel's descriptor, the padding.
    """
    role, fd = argv[0], int(argv[1]) if len(argv) > 1 and argv[1].strip() else -1
    if fd >= 0:
        # What the app starts must not hold the supervisor's channel open.
        os.set_inheritable(fd, False)
    if sys.version_info < (3, 10):
        return _too_old(fd)
    _forget_own_directory()
    _load_package()
    if role == "describe":
        return int(importlib.import_module(f"{NAME}.describe").main())
    return int(importlib.import_module(f"{NAME}.life").main(role, fd))


def _forget_own_directory() -> None:
    """Take this directory off ``sys.path``, where running a script puts it: ``import wire`` is the app's."""
    if sys.path and os.path.abspath(sys.path[0]) == _HERE:
        del sys.path[0]


def _load_package() -> None:
    spec = importlib.util.spec_from_file_location(
        NAME, os.path.join(_HERE, "__init__.py"), submodule_search_locations=[_HERE]
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = package
    spec.loader.exec_module(package)


def _too_old(fd: int) -> int:
    version = ".".join(map(str, sys.version_info[:3]))
    text = (
        f"{sys.executable} is Python {version}; Oxherd serves apps on 3.10 or newer. Set `python =` to a newer"
        " interpreter, or run the server yourself with `command =` and `adopt = false`"
    )
    sys.stderr.write(text + "\n")
    if fd >= 0:
        channel = socket.socket(fileno=fd)
        channel.send(json.dumps({"kind": "failed", "stage": "options", "text": text, "traceback": ""}).encode())
    return 3


# An app's own children started by multiprocessing's "spawn" import this file as ``__mp_main__``: nothing may happen then.
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
