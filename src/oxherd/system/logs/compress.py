"""Compresses a retired log and its index; run as a program of its own: ``python -I -S compress.py web.log.7 web.idx.7``.

It is started by path, not as a module of the package, so that it is ready in milliseconds and imports nothing but the
standard library. The source is removed only when its compressed copy is complete and on the disk. A lock on the source
says that somebody works on it: it goes with its holder, however that dies, and what the dead one left is overwritten.
"""

from __future__ import annotations

import fcntl
import os
import stat
import sys
import zlib

__all__ = ["compress", "main"]

_CHUNK = 1024 * 1024
_GZIP = 31  # zlib's window bits for a gzip header


def compress(path: str) -> bool:
    """Replace ``path`` by ``path.gz``.

    Returns:
        Whether there was something to do: False if the file is gone, no regular file, or in somebody else's work.

    Raises:
        OSError: The disk is full, or something else failed; the source is as it was.
    """
    try:
        source = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        status = os.fstat(source)
        if not stat.S_ISREG(status.st_mode):
            return False
        try:
            fcntl.flock(source, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if not os.path.lexists(path):
            # Another one has finished between our open and our lock.
            return False
        _replace(source, status, path)
    finally:
        os.close(source)
    return True


def _replace(source: int, status: os.stat_result, path: str) -> None:
    partial = path + ".gz.tmp"
    if os.path.lexists(partial):
        # Its maker is dead, for we have the lock.
        os.unlink(partial)
    target = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            _copy(source, target)
            _keep_metadata(target, status)
            os.fsync(target)
        finally:
            os.close(target)
        os.rename(partial, path + ".gz")
    except BaseException:
        os.unlink(partial)
        raise
    # The name has to be on the disk before the source goes, or a power cut could take both.
    directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    try:
        os.unlink(path)
    except FileNotFoundError:
        # It was pruned while we worked: nobody knows its copy, and nobody would ever remove that.
        os.unlink(path + ".gz")


def _copy(source: int, target: int) -> None:
    packer = zlib.compressobj(6, zlib.DEFLATED, _GZIP)
    while chunk := os.read(source, _CHUNK):
        _write(target, packer.compress(chunk))
    _write(target, packer.flush())


def _write(target: int, data: bytes) -> None:
    while data:
        data = data[os.write(target, data) :]


def _keep_metadata(target: int, status: os.stat_result) -> None:
    if os.geteuid() == 0:
        os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    # Readers put files in order by it, and --since skips by it.
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def main(arguments: list[str]) -> int:
    """Compress the files that are named; 0 if there is nothing left to do, 1 if one failed."""
    os.nice(19)
    # The log last: that it is gone is what says that all is done.
    for path in reversed(arguments):
        try:
            compress(path)
        except OSError as error:
            sys.stderr.write(f"oxherd: cannot compress {path}: {error.strerror}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
