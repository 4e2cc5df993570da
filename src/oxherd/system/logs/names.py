"""The names of a log's files.

``web.log`` is written to. Rotation renames it to ``web.log.N``, N counting upwards for ever, and compression makes
``web.log.N.gz`` of it. A name never changes its meaning, as it does where ``.1`` becomes ``.2``: a reader that has read
number 7 knows that number 8 comes next, whatever has happened meanwhile.
"""

from __future__ import annotations

import os

__all__ = [
    "COMPRESSED",
    "PARTIAL",
    "all_serials",
    "exists",
    "find_serials",
    "for_instance",
    "names_beside",
    "numbered",
    "rotated",
]

COMPRESSED = ".gz"
PARTIAL = ".gz.tmp"


def rotated(path: str, serial: int) -> str:
    """Return ``web.log.7``."""
    return f"{path}.{serial}"


def names_beside(path: str) -> list[str]:
    """Return the names in the directory of a log; none if it is not there."""
    try:
        return os.listdir(os.path.dirname(path) or ".")
    except OSError:
        return []


def numbered(name: str, suffix: str = COMPRESSED) -> tuple[str, int]:
    """Return ``web.log`` and 7 of ``web.log.7``, with or without the suffix; the name and 0 where there is no number."""
    base, _, number = name.removesuffix(suffix).rpartition(".")
    # No leading zeros: 7 and 07 would be two files with one number.
    if number.isascii() and number.isdigit() and number[0] != "0":
        return base, int(number)
    return name, 0


def find_serials(path: str, suffix: str = "") -> list[int]:
    """Return the numbers N for which ``path.N`` plus ``suffix`` exists, lowest first; none if the directory is not there.

    Args:
        path: The log.
        suffix: What comes behind the number.
    """
    prefix = os.path.basename(path)
    found = (numbered(name, suffix) for name in names_beside(path) if name.endswith(suffix))
    return sorted(serial for base, serial in found if serial and base == prefix)


def all_serials(path: str) -> set[int]:
    """Return the numbers N for which there is a ``path.N``, compressed or not."""
    prefix = os.path.basename(path)
    found = map(numbered, names_beside(path))
    return {serial for base, serial in found if serial and base == prefix}


def exists(path: str, serial: int) -> bool:
    """Return whether there is a ``path.N``, compressed or not."""
    name = rotated(path, serial)
    return os.path.lexists(name) or os.path.lexists(name + COMPRESSED)


def for_instance(path: str, index_path: str, slot: int) -> tuple[str, str]:
    """Return log and index path of an instance; ``{instance}`` in the log path gives every instance files of its own."""
    if "{instance}" not in path:
        return path, index_path
    root, extension = os.path.splitext(index_path)
    return path.replace("{instance}", str(slot)), f"{root}-{slot}{extension}"
