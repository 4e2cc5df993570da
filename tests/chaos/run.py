"""A run of chaos: steps chosen by a seed, and every promise looked at after each of them."""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chaos import vitals
from chaos.actions import ACTIONS
from chaos.report import growth
from chaos.traffic import HarnessError
from chaos.world import World
from oxherd.errors import OxherdError
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chaos.action import Done
    from chaos.traffic import Verdict

__all__ = ["Options", "Outcome", "Run", "Violation", "choose"]

# What is answered after each step by each service, all being well again.
AFTER = 60


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is wanted.

    Attributes:
        seed: Decides which action comes when, and what it does.
        steps: How many; 0 for as many as fit into ``minutes``.
        minutes: How long, if ``steps`` is 0.
        first: The step to begin with; those before it are left out.
        actions: Which; all if empty.
        without: Which not.
        keep_going: Whether to go on after a violation.
    """

    seed: int = 1
    steps: int = 0
    minutes: float = 1.0
    first: int = 1
    actions: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    keep_going: bool = False

    def chosen(self) -> list[str]:
        """Return the names of the actions there are to choose from, in the order of the table."""
        return [name for name in ACTIONS if (not self.actions or name in self.actions) and name not in self.without]


@dataclass(frozen=True, kw_only=True)
class Violation:
    """A promise that was not kept, or a harness that did not work.

    Attributes:
        step: Its number.
        action: What was done in it.
        whose: ``oxherd`` or ``harness``.
        text: What was seen.
    """

    step: int
    action: str
    whose: str
    text: str


@dataclass(kw_only=True)
class Outcome:
    """What a run has found.

    Attributes:
        actions: Those there were to choose from.
        base: The directory of the run.
        steps: One fact sheet a step.
        skipped: Actions that could not be done here, and why.
        violations: In their order.
        series: Descriptors and memory of the supervisor after each step.
        reports: Of the clients, by service.
        logs: What was found of each writer's lines.
        kept: The directory of a run that failed, which is kept.
        report: For people, of a run that failed: the last commands, events and log lines.
    """

    seed: int
    actions: tuple[str, ...] = ()
    base: str = ""
    steps: list[dict[str, Any]] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)
    series: list[dict[str, Any]] = field(default_factory=list)
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    logs: dict[str, dict[str, int]] = field(default_factory=dict)
    kept: str = ""
    report: str = ""


def choose(seed: int, number: int, names: list[str]) -> str:
    """Return the action of a step: each comes once before any comes again, in an order that the seed decides."""
    turn, place = divmod(number - 1, len(names))
    order = list(names)
    random.Random(f"{seed} order {turn}").shuffle(order)
    return order[place]


class Run:
    """One run.

    Args:
        options: What is wanted.
        tell: Is told what is done and what is found.
    """

    def __init__(self, options: Options, tell: Callable[[str], None]) -> None:
        """Start the world."""
        self.options, self.tell = options, tell
        self.outcome = Outcome(seed=options.seed, actions=tuple(options.chosen()))
        self.world = World(seed=options.seed)
        self.outcome.base = str(self.world.ox.base)
        self._seen_overlaps = 0
        self._baseline: dict[str, Counter[str]] = {}
        self._step, self._action = 0, "start"

    # -- steps ------------------------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Do all steps; return what was found. Whatever happens, nothing is left running."""
        try:
            self._settle(None, self._position(), {})
            for number, name in self._numbers():
                if self.outcome.violations and not self.options.keep_going:
                    break
                self._one(number, name)
            self._finish()
        except HarnessError as error:
            self._violated(str(error), "harness")
        finally:
            self._end()
        return self.outcome

    def _numbers(self) -> Iterator[tuple[int, str]]:
        """Return the steps: those that cannot be done here are left out and keep their numbers, so that a seed means the
        same everywhere.
        """
        names = self.options.chosen()
        for name in names:
            if reason := ACTIONS[name].needs(self.world):
                self.outcome.skipped[name] = reason
        end = time.monotonic() + 60 * self.options.minutes
        number = self.options.first
        while names and len(self.outcome.skipped) < len(names):
            if number >= self.options.first + self.options.steps if self.options.steps else time.monotonic() > end:
                break
            name = choose(self.options.seed, number, names)
            if name not in self.outcome.skipped:
                yield number, name
            number += 1

    def _one(self, number: int, name: str) -> None:
        self._step, self._action = number, name
        world = self.world
        world.traffic.mark(f"{number} {name}")
        position, begun = self._position(), time.monotonic()
        before = {"pids": world.ox.pids(), "supervisor": world.ox.supervisor}
        sheet: dict[str, Any] = {"step": number, "action": name, "failures": Counter()}
        self.outcome.steps.append(sheet)
        found = len(self.outcome.violations)
        try:
            done = ACTIONS[name].do(world, random.Random(f"{self.options.seed} {number}"))
        except (AssertionError, OxherdError) as error:
            self._violated(f"it could not be done: {error}")
            sheet["what"] = "not done"
            # What was begun may have left nobody to ask.
            world.ox.cli("start")
            world.new_era()
        else:
            sheet["what"] = done.what
            self._settle(done, position, before)
        sheet["seconds"] = round(time.monotonic() - begun, 2)
        sheet["violations"] = len(self.outcome.violations) - found
        self.tell(f"{self._step:4} {self._action}: {sheet['what']} ({sheet['seconds']} s)")
        for violation in self.outcome.violations[found:]:
            self.tell(f"     {violation.whose}: {violation.text}")

    def _position(self) -> int:
        return self.world.events.position()

    def _violated(self, text: str, whose: str = "oxherd") -> None:
        violation = Violation(step=self._step, action=self._action, whose=whose, text=text)
        self.outcome.violations.append(violation)

    # -- checks -----------------------------------------------------------------------------------------------------

    def _settle(self, done: Done | None, position: int, before: dict[str, Any]) -> None:
        """Wait until all is as it should be, and look at each promise."""
        for check in (
            lambda: self._converge(done),
            lambda: self._untouched(done, before),
            self._processes,
            self._serves,
            lambda: self._logs(done),
            self._alone,
            lambda: self._told(done, position),
            self._requests,
            self._costs,
        ):
            try:
                check()
            except (AssertionError, OxherdError) as error:
                self._violated(str(error))

    def _converge(self, done: Done | None) -> None:
        gone = done.gone if done is not None else frozenset()
        seen: list[str] = []

        def look() -> bool:
            self.world.ox.reap()
            rows = self.world.ox.rows()
            shown = gone & {row["pid"] for row in rows}
            seen[:] = self.world.stack.amiss(rows) + [f"pid {pid} is still shown" for pid in sorted(shown)]
            return not seen

        wait_until(look, lambda: f"the statuses: {'; '.join(seen)}")

    def _untouched(self, done: Done | None, before: dict[str, Any]) -> None:
        if done is None:
            return
        touched = done.touched | {"once", "job"}
        was, now = before["pids"], self.world.ox.pids()
        changed = [
            f"{label} was {pid} and is {now.get(label)}"
            for label, pid in was.items()
            if not {label, label.partition(":")[0]} & touched and now.get(label) != pid
        ]
        if changed:
            self._violated(f"not touched, and yet: {', '.join(changed)}")
        supervisor = self.world.ox.supervisor
        if not done.supervisor and supervisor != before["supervisor"]:
            self._violated(f"the supervisor was {before['supervisor']} and is {supervisor}")

    def _processes(self) -> None:
        world = self.world
        world.zygotes()

        def strays() -> list[str]:
            world.ox.reap()
            rows = world.ox.rows()
            return vitals.strays(world.ox, rows, {world.ox.supervisor}) + [
                f"{pid} is a zombie" for pid in vitals.zombies(world.ox.supervisor)
            ]

        wait_until(lambda: not strays(), lambda: f"no process to be left over; there are {strays()}")

    def _serves(self) -> None:
        self.world.traffic.answers(AFTER)

    def _logs(self, done: Done | None) -> None:
        for name, book in self.world.books.items():
            for pid in done.unread if done is not None else ():
                book.forgive(pid)
            written = book.written()
            wait_until(
                lambda book=book, written=written: not book.behind(written),
                lambda name=name, book=book, written=written: (
                    f"lines of {name} in its log: {book.behind(written)} are not there"
                ),
            )
            if done is not None and done.ring and name == "spiller":
                book.excuse()
            beyond = book.beyond()
            findings = book.findings[:5] + [f"{beyond} has more lines than were written"] * bool(beyond)
            book.findings.clear()
            if book.dropped == book.lost and name == "spiller":
                findings = [finding for finding in findings if "are missing" not in finding]
            for finding in findings:
                self._violated(f"log of {name}: {finding}")

    def _alone(self) -> None:
        overlaps = self.world.overlaps()
        for line in overlaps[self._seen_overlaps :]:
            self._violated(f"ran twice: {line}")
        self._seen_overlaps = len(overlaps)

    def _told(self, done: Done | None, position: int) -> None:
        events = self.world.events
        for kind, name, text in done.events if done is not None else ():
            wait_until(
                lambda kind=kind, name=name, text=text: events.matching(position, kind, name, text),
                f"an event {kind} of {name} that says {text!r}",
            )
        for event in events.since(position):
            if event["kind"] in {"internal-error", "ignored"}:
                self._violated(f"the supervisor said {event['kind']}: {event['text']}")

    def _requests(self) -> None:
        self._judge(self.world.traffic.verdicts())

    def _judge(self, verdicts: list[Verdict]) -> None:
        unlike: dict[tuple[str, ...], list[Verdict]] = {}
        for verdict in verdicts:
            if self.outcome.steps:
                self.outcome.steps[-1]["failures"][verdict.word] += 1
            if verdict.word != "allowed":
                key = (verdict.word, verdict.service, verdict.failure["class"])
                unlike.setdefault(key, []).append(verdict)
        for (word, *_), alike in unlike.items():
            more = f" (and {len(alike) - 1} more of its class)" if len(alike) > 1 else ""
            self._violated(f"{alike[0]}{more}", "harness" if word == "harness" else "oxherd")

    def _costs(self) -> None:
        """Insist on the descriptors that this supervisor had when the stack was in the same shape before."""
        world = self.world
        pid = world.ox.supervisor
        shape = world.shape()
        seen: list[Counter[str]] = []

        def look() -> bool:
            # A job has a pidfd and pipes while it runs, and so has a compressor.
            if world.ox.row("job")["pid"] is not None:
                return False
            seen[:] = [vitals.descriptors(pid)]
            # Whatever is open for a moment only is not open at some other look.
            self._baseline[shape] = seen[0] & self._baseline.get(shape, seen[0])
            return seen[0] == self._baseline[shape]

        try:
            wait_until(look, "the descriptors of before")
        except AssertionError:
            more = seen[0] - self._baseline[shape]
            self._violated(f"descriptors of the supervisor, more than in this shape before: {dict(more)}")
            self._baseline[shape] = seen[0]
        self.outcome.series.append(
            {
                "step": self._step,
                "era": world.era,
                "descriptors": sum(seen[0].values()),
                "resident_bytes": vitals.memory(pid),
            }
        )

    # -- the end ----------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        self._action = "end"
        self._judge(self.world.traffic.stop())
        self.outcome.reports = self.world.traffic.reports
        for era in growth(self.outcome):
            if not era["flat"]:
                self._violated(f"the supervisor grew: {era}")

    def _end(self) -> None:
        world = self.world
        self._action = "end"
        for name, book in world.books.items():
            self.outcome.logs[name] = {
                "lines": book.lines,
                "lost": book.lost,
                "doubled": book.doubled,
                "dropped": book.dropped,
                "unread": book.unread,
            }
        for text in world.close():
            self._violated(text)
        if self.outcome.violations:
            self.outcome.kept = world.keep()
            self.outcome.report = world.ox.report()
        else:
            world.remove()
