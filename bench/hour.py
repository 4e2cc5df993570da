"""An hour of a supervisor's life in a minute or two: what has grown when it is over."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import programs
from frame import Figure, Measure
from frame.processes import children, descriptors, rss, wait_for
from herd import Herd, HerdKind, Logs
from herds import HERDS

__all__ = ["hour"]

LINES = 6000  # of each instance: a hundred a second in a minute
RESTARTS = 5  # minutes from one to the next
PATIENCE = 120.0

FIGURES = (
    Figure(name="memory grown in an hour", unit="MB", about="of the supervisor, from the tenth minute to the last"),
    Figure(name="descriptors grown in an hour", unit="descriptors"),
    Figure(name="children grown in an hour", unit="processes"),
    Figure(name="an hour took", unit="s", about="with all its commands, and twice until whoever was killed is back"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What a supervisor holds at one moment."""

    memory: float
    descriptors: int
    children: int


class Hour:
    """A program for each minute, which writes its lines when it starts and is killed in its minute."""

    def __init__(self, herd: Herd, minutes: int) -> None:
        """Start nothing."""
        self.herd = herd
        self.minutes = minutes
        self.gone: dict[int, int] = {}  # of each program that was killed or restarted, the last pid that had to go

    def live(self) -> dict[str, float]:
        """Let it pass; return the figures."""
        self.herd.start()
        self.herd.settled()
        self._await(range(self.minutes))
        time.sleep(2)  # what dies within a second of its start has not started to supervisord and PM2
        begun = time.monotonic()
        early = self.minutes // 6
        for minute in range(early):
            self._pass(minute)
        first = self._size()
        for minute in range(early, self.minutes):
            self._pass(minute)
        last, took = self._size(), time.monotonic() - begun
        return {
            "memory grown in an hour": last.memory - first.memory,
            "descriptors grown in an hour": last.descriptors - first.descriptors,
            "children grown in an hour": last.children - first.children,
            "an hour took": took,
        }

    def _pass(self, minute: int) -> None:
        """Let one minute happen: a crash, a look at the status, now and then a restart."""
        os.kill(self._going(minute), signal.SIGKILL)
        self.herd.status()
        if minute % RESTARTS == RESTARTS - 1:
            # Half an hour away from its crash, so that one is over before the other.
            other = (minute + self.minutes // 2) % self.minutes
            self._going(other)
            self.herd.restart(other)

    def _going(self, index: int) -> int:
        """Return the pid of a program that has to go now, once it has written."""
        self.gone[index] = self._await([index])[index]
        return self.gone[index]

    def _await(self, indexes: Sequence[int]) -> dict[int, int]:
        """Wait until of each program another instance than the last that had to go has written; return their pids."""
        pids: dict[int, int] = {}

        def back() -> bool:
            marks = self.herd.marks.latest()
            for index in indexes:
                mark = marks.get(programs.END + index)
                if mark is None or mark.pid == self.gone.get(index):
                    return False
                pids[index] = mark.pid
            return True

        wait_for(back, "the lines", deadline=PATIENCE, every=0.005)
        return pids

    def _size(self) -> Size:
        """Return what it holds, once everybody is back and nothing more happens."""
        herd = self.herd
        self._await(range(self.minutes))
        herd.expect(self.minutes)
        time.sleep(2)
        return Size(memory=rss(herd.pid), descriptors=descriptors(herd.pid), children=len(children(herd.pid)))


def live(kind: HerdKind, *, minutes: int) -> dict[str, float]:
    """Let an hour pass, of as many minutes as asked, as fast as the supervisor lets it."""
    writer = programs.writer()

    def commands(marks: Path) -> list[list[str]]:
        # What it waits for before it writes is there.
        return [[str(writer), str(marks), str(index), str(marks.parent), str(LINES)] for index in range(minutes)]

    with kind.open(commands, logs=Logs()) as herd:
        return Hour(herd, minutes).live()


def hour(*, quick: bool) -> Measure:
    """Return the measure; quick: of six minutes."""
    return Measure(name="an hour", figures=FIGURES, peers=HERDS, run=partial(live, minutes=6 if quick else 60))
