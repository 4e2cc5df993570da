"""A supervisor's reading side, as a program that can be killed: ``spool_reader.py DIRECTORY PID``.

It goes on with the pipe that is stdout of that process, and ends when the output has come to its end.
"""

from __future__ import annotations

import os
import sys

from oxherd.config.model import LogFormat, LogSpec
from oxherd.system.logs.sink import LogSink
from oxherd.system.logs.spool import Spool
from oxherd.system.loop import Loop


def main(directory: str, pid: int, form: str) -> int:
    errors: list[BaseException] = []
    loop = Loop(errors.append)
    spool = Spool(os.path.join(directory, "spool"), sys.exit)
    sink = LogSink(
        loop=loop,
        path=os.path.join(directory, "web.log"),
        index_path=os.path.join(directory, "web.idx"),
        process="web",
        spec=LogSpec(max_bytes=100_000, max_files=10_000, compress=False, format=LogFormat(form)),
        stream="output",
        start_helper=lambda _: None,
        on_trouble=sys.exit,
        on_recovered=sys.exit,
        spool=spool,
    )
    fd = os.open(f"/proc/{pid}/fd/1", os.O_RDONLY | os.O_CLOEXEC)
    pipe = sink.attach(0, fd)
    os.write(1, b"r")
    while not pipe.closed and not errors:
        loop.run_once(1)
    sink.close()
    spool.close()
    sys.stderr.write("".join(f"{error!r}\n" for error in errors))
    return len(errors)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
