"""The programs that are supervised, and what they say of themselves."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from frame import Skipped
from frame.places import BENCH
from frame.processes import wait_for

__all__ = ["END", "Mark", "Marks", "compiled", "idle", "language", "writer"]

SOURCES = BENCH / "programs"
BUILT = BENCH / ".programs"
END = 1_000_000  # what lines.c adds to its index when it is done


@cache
def compiled(name: str) -> Path | None:
    """Return the static program made of ``programs/NAME.c``, None where there is no C compiler."""
    source, program = SOURCES / f"{name}.c", BUILT / name
    if program.exists() and program.stat().st_mtime >= source.stat().st_mtime:
        return program
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    BUILT.mkdir(exist_ok=True)
    subprocess.run([compiler, "-O2", "-static", "-o", program, source], check=True, capture_output=True)
    return program


def writer() -> Path:
    """Return the program that writes lines; it has no other form than the compiled one.

    Raises:
        Skipped: There is no C compiler.
    """
    program = compiled("lines")
    if program is None:
        raise Skipped("there is no C compiler (cc) to make the writer with")
    return program


def language() -> str:
    """Return what the idle programs are made of, for the report."""
    return "a static C program" if compiled("mark") else "/bin/sh"


def idle(marks: Path, index: int) -> list[str]:
    """Return the command of an idle program that marks its first instructions."""
    program = compiled("mark")
    if program:
        return [str(program), str(marks), str(index)]
    # exec keeps the pid; the time is taken by who reads the mark.
    return ["/bin/sh", "-c", f"echo {index} $$ 0 >> {shlex.quote(str(marks))}; exec sleep 1000000"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One first instruction: ``at`` is monotonic seconds."""

    index: int
    pid: int
    at: float


class Marks:
    """The file of marks, read as it grows."""

    def __init__(self, path: Path) -> None:
        """Read from a file that need not be there yet."""
        self.path = path
        self.all: list[Mark] = []
        self._read = 0

    def look(self) -> list[Mark]:
        """Return every mark so far. A mark without a time gets that of its reading."""
        if not self.path.exists():
            return self.all
        with self.path.open("rb") as file:
            file.seek(self._read)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            index, pid, at = (int(word) for word in line.split())
            self.all.append(Mark(index=index, pid=pid, at=at / 1e9 or time.monotonic()))
        return self.all

    def latest(self) -> dict[int, Mark]:
        """Return the newest mark of each program."""
        return {mark.index: mark for mark in self.look()}

    def wait(self, count: int, *, since: int = 0, deadline: float = 120.0) -> list[Mark]:
        """Wait until so many marks are there, those before ``since`` not counted, and return them."""
        every = 0.002  # the marks carry their own time: looking often would only take a processor from the measured
        if not compiled("mark"):
            every = 0.0005
        wait_for(lambda: len(self.look()) >= since + count, f"{count} programs", deadline=deadline, every=every)
        return self.all[since : since + count]
